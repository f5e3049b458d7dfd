/** FelixConfiguration: the eBPF dataplane. */
import { field } from './field.ts';
import { conntrackDefaultText, conntrackTimeouts, keyValues, portRange } from './structured-types.ts';
import {
  bool,
  cidrs,
  duration,
  int,
  interfacePatterns,
  oneOf,
  optional,
  optionalText,
  path,
  portNumber,
  regexp,
} from './types.ts';

const enabled = oneOf('Enabled', 'Disabled');
const mapSize = int(1, 0x7fffffff);

// A row a line, however long: it is read as a table.
// oxfmt-ignore
export const ebpfFields = {
  bpfEnabled: field('BPFEnabled', bool, 'false', 'The eBPF dataplane instead of iptables.'),
  bpfAttachType: field('BPFAttachType', oneOf('TCX', 'TC'), 'TCX', 'How programs are attached to devices; TCX falls back to TC.'),
  bpfDataIfacePattern: field('BPFDataIfacePattern', regexp, '^((en|wl|ww|sl|ib)[Popsx].*|(eth|wlan|wwan|bond).*)', 'Host devices that programs are attached to.'),
  bpfL3IfacePattern: field('BPFL3IfacePattern', optionalText(regexp), '', 'Further host devices without Ethernet headers (tunnels of others).'),
  bpfDisableUnprivileged: field('BPFDisableUnprivileged', bool, 'true', 'Forbids BPF to users without privileges.'),
  bpfJITHardening: field('BPFJITHardening', oneOf('Auto', 'Strict'), 'Auto', "Auto: relaxes the kernel's JIT hardening where it is at its slowest."),
  bpfEnforceRPF: field('BPFEnforceRPF', oneOf('Disabled', 'Strict', 'Loose'), 'Loose', 'Check of source addresses on host devices.'),
  bpfHostConntrackBypass: field('BPFHostConntrackBypass', bool, 'false', "Keeps workloads' traffic out of the kernel's conntrack."),
  bpfForceTrackPacketsFromIfaces: field('BPFForceTrackPacketsFromIfaces', interfacePatterns, 'docker+', "Devices whose traffic the kernel's conntrack must see."),
  bpfDisableGROForIfaces: field('BPFDisableGROForIfaces', optionalText(regexp), '', 'Devices whose receive offload is turned off.'),
  bpfRedirectToPeer: field('BPFRedirectToPeer', oneOf('Enabled', 'Disabled', 'L2Only'), 'Enabled', "Hands packets to the pod's end of its device at once; L2Only means Enabled."),
  cgroupV2Path: field('CgroupV2Path', optionalText(path), '', 'Where the cgroup hierarchy is mounted.'),

  // Services
  bpfConnectTimeLoadBalancing: field('BPFConnectTimeLoadBalancing', oneOf('TCP', 'Enabled', 'Disabled'), 'TCP', 'Which services are resolved when a local client connects.'),
  bpfConnectTimeLoadBalancingEnabled: field('BPFConnectTimeLoadBalancingEnabled', optional(bool), '', 'Older form of bpfConnectTimeLoadBalancing.'),
  bpfHostNetworkedNATWithoutCTLB: field('BPFHostNetworkedNATWithoutCTLB', enabled, 'Enabled', "Resolves services for the host's own traffic where connecting did not."),
  bpfExternalServiceMode: field('BPFExternalServiceMode', oneOf('Tunnel', 'DSR'), 'Tunnel', "DSR: answers to outside clients go out directly from the backend's node."),
  bpfDSROptoutCIDRs: field('BPFDSROptoutCIDRs', cidrs, '', 'Clients that are served as with Tunnel.'),
  bpfExtToServiceConnmark: field('BPFExtToServiceConnmark', int(0, 0xffffffff), '0', 'Mark set on connections from outside to a local service.'),
  bpfKubeProxyIptablesCleanupEnabled: field('BPFKubeProxyIptablesCleanupEnabled', bool, 'true', "Removes kube-proxy's rules; only where it does not run."),
  bpfKubeProxyMinSyncPeriod: field('BPFKubeProxyMinSyncPeriod', duration('seconds'), '1', "Shortest time between updates of services."),
  bpfKubeProxyEndpointSlicesEnabled: field('BPFKubeProxyEndpointSlicesEnabled', optional(bool), '', 'Without meaning: EndpointSlices are always used.'),
  bpfKubeProxyHealthzPort: field('BPFKubeProxyHealthzPort', portNumber, '10256', 'Port of the health server that load balancers ask; 0 for none.'),
  bpfPSNATPorts: field('BPFPSNATPorts', portRange, '20000:29999', 'Source ports that are used when one is taken.'),
  bpfExcludeCIDRsFromNAT: field('BPFExcludeCIDRsFromNAT', cidrs, '', 'Service addresses that are left to the host.'),
  bpfMaglevMaxEndpointsPerService: field('BPFMaglevMaxEndpointsPerService', int(1, 3000), '100', 'Most backends of a Maglev service.'),
  bpfMaglevMaxServices: field('BPFMaglevMaxServices', int(1, 3000), '100', 'Most Maglev services.'),

  // Conntrack and maps
  bpfConntrackMode: field('BPFConntrackCleanupMode', oneOf('Auto', 'Userspace', 'BPFProgram'), 'Auto', 'Who removes old conntrack records.'),
  bpfConntrackTimeouts: field('BPFConntrackTimeouts', conntrackTimeouts, conntrackDefaultText, 'How long conntrack records live without packets.'),
  bpfMapSizeConntrack: field('BPFMapSizeConntrack', mapSize, '512000', 'Conntrack records.'),
  bpfMapSizePerCpuConntrack: field('BPFMapSizePerCPUConntrack', int(0, 0x7fffffff), '0', 'Conntrack records per CPU; 0: bpfMapSizeConntrack holds.'),
  bpfMapSizeConntrackScaling: field('BPFMapSizeConntrackScaling', oneOf('Disabled', 'DoubleIfFull'), 'DoubleIfFull', 'What happens when the conntrack map is full.'),
  bpfMapSizeConntrackCleanupQueue: field('BPFMapSizeConntrackCleanupQueue', mapSize, '100000', 'Conntrack records that wait for removal.'),
  bpfMapSizeNATFrontend: field('BPFMapSizeNATFrontend', mapSize, '65536', 'Service addresses and ports.'),
  bpfMapSizeNATBackend: field('BPFMapSizeNATBackend', mapSize, '262144', 'Backends of services.'),
  bpfMapSizeNATAffinity: field('BPFMapSizeNATAffinity', mapSize, '65536', 'Clients with session affinity.'),
  bpfMapSizeRoute: field('BPFMapSizeRoute', mapSize, '262144', 'Routes.'),
  bpfMapSizeIPSets: field('BPFMapSizeIPSets', mapSize, '1048576', 'Members of IP sets.'),
  bpfMapSizeIfState: field('BPFMapSizeIfState', mapSize, '4096', 'Devices.', { differs: '1000: its entries are devices of one kind, ours bound every table by pod' }),

  // Logs
  bpfLogLevel: field('BPFLogLevel', oneOf('Off', 'Info', 'Debug'), 'Off', "What the programs write to the kernel's trace pipe."),
  bpfLogFilters: field('BPFLogFilters', keyValues, '', 'pcap filters by device, or all, weps, heps: what is logged.'),
  bpfCTLBLogFilter: field('BPFCTLBLogFilter', optionalText(oneOf('all')), '', 'all: logs connecting as well.'),
  bpfConntrackLogLevel: field('BPFConntrackLogLevel', oneOf('Off', 'Debug'), 'Off', 'What the removal of old records logs.'),
  bpfPolicyDebugEnabled: field('BPFPolicyDebugEnabled', bool, 'true', 'Keeps what is needed to explain policy programs.'),
  bpfProfiling: field('BPFProfiling', enabled, 'Disabled', 'Measures programs.'),
  bpfExportBufferSizeMB: field('BPFExportBufferSizeMB', int(1, 1024), '1', 'Buffer for events, in MiB.'),
};
