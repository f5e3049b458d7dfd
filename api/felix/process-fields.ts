/** FelixConfiguration: the process itself (logs, health, metrics, reports), integrations, debugging. */
import { field } from './field.ts';
import { dscp, keyValueText, timeouts } from './structured-types.ts';
import {
  anyText,
  bool,
  duration,
  hostAddress,
  int,
  oneOf,
  optional,
  optionalText,
  path,
  portNumber,
  regexp,
  text,
} from './types.ts';

const seconds = duration('seconds');
const severity = optionalText(oneOf('Trace', 'Debug', 'Info', 'Warning', 'Error', 'Fatal'));
const enabled = oneOf('Enabled', 'Disabled');

// A row a line, however long: it is read as a table.
// oxfmt-ignore
export const processFields = {
  // Process
  useInternalDataplaneDriver: field('UseInternalDataplaneDriver', bool, 'true', 'Programs the kernel by itself instead of through an external driver.'),
  dataplaneDriver: field('DataplaneDriver', optionalText(path), '', 'File name of an external dataplane driver.', { differs: 'calico-iptables-plugin: there are no external drivers' }),
  dataplaneWatchdogTimeout: field('DataplaneWatchdogTimeout', seconds, '90', 'Longest that the dataplane may be silent before it counts as not alive; healthTimeoutOverrides replaces it.'),
  featureDetectOverride: field('FeatureDetectOverride', keyValueText, '', 'Forces or denies features of the kernel that would be detected.'),
  featureGates: field('FeatureGates', keyValueText, '', 'Turns features on that are not finished.'),
  goGCThreshold: field('GoGCThreshold', int(-1, 0x7fffffff), '40', "The Go runtime's collection threshold."),
  goMemoryLimitMB: field('GoMemoryLimitMB', int(-1, 0x7fffffff), '-1', "The Go runtime's memory limit, in MiB; -1 for none."),
  goMaxProcs: field('GoMaxProcs', int(-1, 0x7fffffff), '-1', "The Go runtime's number of threads; -1 for its own choice."),
  usageReportingEnabled: field('UsageReportingEnabled', bool, 'false', "Reports version and cluster size to Calico's makers.", { differs: 'true: nothing is ever reported' }),
  usageReportingInitialDelay: field('UsageReportingInitialDelaySecs', seconds, '300', 'Time before the first usage report.'),
  usageReportingInterval: field('UsageReportingIntervalSecs', seconds, '86400', 'Time between usage reports.'),

  // Logs
  logFilePath: field('LogFilePath', optionalText(path), '', 'Log file; none writes no file.', { differs: '/var/log/calico/felix.log: logs go to stderr' }),
  logSeverityFile: field('LogSeverityFile', severity, 'Info', 'Lowest severity that goes to the file.'),
  logSeverityScreen: field('LogSeverityScreen', severity, 'Info', 'Lowest severity that goes to stderr.'),
  logSeveritySys: field('LogSeveritySys', severity, 'Info', 'Lowest severity that goes to syslog.'),
  logDebugFilenameRegex: field('LogDebugFilenameRegex', optionalText(regexp), '', 'Source files whose debug messages are logged.'),
  logPrefix: field('LogPrefix', text(/^[a-zA-Z0-9%: /_-]*$/, "letters, digits, blanks and %:/_-"), 'calico-packet', 'Prefix of what Log rules write; %t tier, %k kind, %n name, %p namespace and name.'),
  logActionRateLimit: field('LogActionRateLimit', optionalText(text(/^[1-9]\d{0,3}\/(second|minute|hour|day)$/, 'a rate, e.g. 10/second')), '', 'How often Log rules write.'),
  logActionRateLimitBurst: field('LogActionRateLimitBurst', int(0, 9999), '5', 'Messages that Log rules may write beyond their rate.'),

  // Health and metrics
  healthEnabled: field('HealthEnabled', bool, 'true', 'Serves /liveness and /readiness.', { differs: 'false: its manifest turns it on' }),
  healthHost: field('HealthHost', hostAddress, 'localhost', 'Address that the health server listens on.'),
  healthPort: field('HealthPort', portNumber, '9099', 'Port of the health server.'),
  healthTimeoutOverrides: field('HealthTimeoutOverrides', timeouts, '', 'Longest silence of single parts before they count as not alive.'),
  prometheusMetricsEnabled: field('PrometheusMetricsEnabled', bool, 'true', 'Serves metrics.', { differs: 'false: without metrics nobody sees what a node does' }),
  prometheusMetricsHost: field('PrometheusMetricsHost', optionalText(hostAddress), '', 'Address that the metrics server listens on; unset: every one.'),
  prometheusMetricsPort: field('PrometheusMetricsPort', portNumber, '9091', 'Port of the metrics server.'),
  prometheusMetricsCAFile: field('PrometheusMetricsCAFile', optionalText(path), '', "Certificates that clients of the metrics server must be signed by."),
  prometheusMetricsCertFile: field('PrometheusMetricsCertFile', optionalText(path), '', "The metrics server's certificate."),
  prometheusMetricsKeyFile: field('PrometheusMetricsKeyFile', optionalText(path), '', "The metrics server's key."),
  prometheusMetricsClientAuth: field('PrometheusMetricsClientAuth', oneOf('RequireAndVerifyClientCert', 'RequireAnyClientCert', 'VerifyClientCertIfGiven', 'NoClientCert'), 'NoClientCert', "What the metrics server asks of clients' certificates."),
  prometheusGoMetricsEnabled: field('PrometheusGoMetricsEnabled', bool, 'true', "The runtime's own metrics."),
  prometheusProcessMetricsEnabled: field('PrometheusProcessMetricsEnabled', bool, 'true', "The process's own metrics."),
  prometheusWireGuardMetricsEnabled: field('PrometheusWireGuardMetricsEnabled', bool, 'true', 'Metrics of WireGuard devices.'),

  // Reports
  reportingInterval: field('ReportingIntervalSecs', seconds, '30', 'Time between status reports to the datastore; 0 for none.'),
  reportingTTL: field('ReportingTTLSecs', seconds, '90', 'How long a status report is valid.'),
  endpointReportingEnabled: field('EndpointReportingEnabled', bool, 'false', "Reports endpoints' status to the datastore."),
  endpointReportingDelay: field('EndpointReportingDelaySecs', seconds, '1', "Time between reports of one endpoint's status."),
  endpointStatusPathPrefix: field('EndpointStatusPathPrefix', optionalText(path), '/var/run/calico', 'Directory under which a file says which endpoints are programmed.'),
  policySyncPathPrefix: field('PolicySyncPathPrefix', optionalText(path), '', 'Directory of the socket that tells others of policies.'),
  flowLogsFlushInterval: field('FlowLogsFlushInterval', seconds, '300', 'Time between exports of flow logs.'),
  flowLogsCollectorDebugTrace: field('FlowLogsCollectorDebugTrace', bool, 'false', "Logs all of the flow collector's work."),
  flowLogsGoldmaneServer: field('FlowLogsGoldmaneServer', optionalText(anyText), '', 'Server that flow logs are sent to.'),
  flowLogsLocalReporter: field('FlowLogsLocalReporter', enabled, 'Disabled', 'A local socket for flow logs.'),
  flowLogsPolicyEvaluationMode: field('FlowLogsPolicyEvaluationMode', oneOf('None', 'Continuous'), 'Continuous', 'Whether flows are judged again when policies change.'),

  // Integrations
  awsSrcDstCheck: field('AWSSrcDstCheck', oneOf('DoNothing', 'Enable', 'Disable'), 'DoNothing', "The EC2 instance's source/destination check."),
  istioAmbientMode: field('IstioAmbientMode', enabled, 'Disabled', "Works together with Istio's ambient mode."),
  istioDSCPMark: field('IstioDSCPMark', dscp, '23', 'DSCP value that marks traffic for the mesh.'),
  sidecarAccelerationEnabled: field('SidecarAccelerationEnabled', bool, 'false', 'Short cut between a pod and its side car.'),
  metadataAddr: field('MetadataAddr', optionalText(text(/^[a-zA-Z0-9_.-]+$/, 'a host name or IPv4 address')), '127.0.0.1', 'OpenStack: the metadata server.', { fatal: true }),
  metadataPort: field('MetadataPort', portNumber, '8775', "OpenStack: the metadata server's port.", { fatal: true }),
  openstackRegion: field('OpenstackRegion', optionalText(text(/^[a-z0-9]([-a-z0-9]{0,44}[a-z0-9])?$/, 'a DNS label')), '', 'OpenStack: the region of this node.', { fatal: true }),
  windowsManageFirewallRules: field('WindowsManageFirewallRules', enabled, 'Disabled', 'Windows: opens its firewall for the metrics port.'),

  // Debugging
  debugHost: field('DebugHost', hostAddress, 'localhost', 'Address that the debug server listens on.'),
  debugPort: field('DebugPort', optional(portNumber), '', 'Port of the debug server.'),
  debugMemoryProfilePath: field('DebugMemoryProfilePath', optionalText(path), '', 'Where a memory profile is written.'),
  debugDisableLogDropping: field('DebugDisableLogDropping', bool, 'false', 'Waits for the log rather than dropping messages.'),
  debugSimulateCalcGraphHangAfter: field('DebugSimulateCalcGraphHangAfter', seconds, '0', 'Tests the watchdog: the calculation hangs after this time.'),
  debugSimulateDataplaneHangAfter: field('DebugSimulateDataplaneHangAfter', seconds, '0', 'Tests the watchdog: the dataplane hangs after this time.'),
  debugSimulateDataplaneApplyDelay: field('DebugSimulateDataplaneApplyDelay', seconds, '0', 'Adds this to every dataplane operation.'),
};
