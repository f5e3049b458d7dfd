/** Rows of FelixConfiguration: the one list of the settings that this version acts on. */
import { felixFieldNames, type FelixFieldName } from '../felix/felix-fields.ts';
import { kept, no, partly, yes, yesBut, type FieldSupport, type FieldTable } from './row.ts';

/** Every setting without a word to say; those of the eBPF dataplane are below. */
const actedOn: readonly FelixFieldName[] = [
  'allowIPIPPacketsFromWorkloads',
  'allowVXLANPacketsFromWorkloads',
  'defaultEndpointToHostAction',
  'deviceRouteProtocol',
  'endpointStatusPathPrefix',
  'failsafeInboundHostPorts',
  'failsafeOutboundHostPorts',
  'healthEnabled',
  'healthHost',
  'healthPort',
  'interfacePrefix',
  'ipsetsRefreshInterval',
  'iptablesBackend',
  'iptablesFilterAllowAction',
  'iptablesLockTimeout',
  'iptablesMarkMask',
  'iptablesPostWriteCheckInterval',
  'iptablesRefreshInterval',
  'ipv4NormalRoutePriority',
  'ipv6NormalRoutePriority',
  'ipv6Support',
  'logSeverityScreen',
  'natOutgoingAddress',
  'natOutgoingExclusions',
  'natPortRange',
  'prometheusMetricsEnabled',
  'prometheusMetricsHost',
  'prometheusMetricsPort',
  'removeExternalRoutes',
  'routeRefreshInterval',
  'serviceLoopPrevention',
  'workloadSourceSpoofing',
];

/** Settings with a word of their own. */
const noted: { readonly [K in FelixFieldName]?: FieldSupport } = {
  bpfEnabled: yesBut('switches a live node'),
  bpfConntrackTimeouts: yesBut('Auto: as the sysctls of nf_conntrack have it at the time'),
  bpfDataIfacePattern: yesBut('where it is not set, uplinks are found by routes and addresses'),
  bpfMapSizeConntrack: yesBut(
    'answered flows of each address family; for those that nobody has answered an eighth more',
  ),
  bpfMapSizePerCpuConntrack: yes,
  bpfMapSizeConntrackScaling: yesBut(
    'where a sweep leaves 90 % in use, the flows of both families get twice the places, up to 4 million; a restart keeps them',
  ),
  bpfMapSizeConntrackCleanupQueue: kept('nothing waits in a queue: old records go where they are found'),
  bpfMapSizeNATFrontend: yesBut('of each address family'),
  bpfMapSizeNATBackend: yesBut('of each address family'),
  bpfMapSizeNATAffinity: no('no session affinity yet'),
  bpfMapSizeRoute: yesBut(
    "single addresses of each family of which something is known, once each: pods, nodes, what IP sets name; not routes' networks",
  ),
  bpfMapSizeIPSets: yesBut(
    "networks of each family of which something is known, once each: what IP sets name, pools, other nodes' blocks; not single addresses",
  ),
  bpfMapSizeIfState: yesBut("pods' devices; Calico's default is 1000"),
  xdpEnabled: yesBut('by the eBPF dataplane; the iptables dataplane has no XDP'),
  genericXDPEnabled: yesBut('by the eBPF dataplane; the iptables dataplane has no XDP'),
  xdpRefreshInterval: yesBut('by the eBPF dataplane; the iptables dataplane has no XDP'),
  chainInsertMode: yesBut("the eBPF dataplane's rules are always first (and one last)"),
  disableConntrackInvalidCheck: yesBut('the eBPF dataplane judges such packets as new flows in any case'),
  iptablesFilterDenyAction: yesBut('by the iptables dataplane; the eBPF dataplane drops'),
  iptablesMangleAllowAction: yesBut('by the iptables dataplane; the eBPF dataplane has no rule of that kind'),
  logPrefix: yesBut('by the iptables dataplane; Log rules write nothing in the eBPF dataplane: `tortie flows`'),
  logActionRateLimit: yesBut(
    'by the iptables dataplane; Log rules write nothing in the eBPF dataplane: `tortie flows`',
  ),
  logActionRateLimitBurst: yesBut(
    'by the iptables dataplane; Log rules write nothing in the eBPF dataplane: `tortie flows`',
  ),
  maxIpsetSize: yesBut(
    "by the iptables dataplane; the eBPF dataplane's tables have sizes of their own (`tortie status`)",
  ),
  vxlanPort: partly('the port that pods may not send VXLAN to; there is no VXLAN device yet'),
  prometheusProcessMetricsEnabled: partly('they are always served'),
  nftablesMode: no('iptables is used, in its nft variant where others use that', 'Disabled'),
  programClusterRoutes: partly('routes to other nodes are always programmed'),
  bpfKubeProxyEndpointSlicesEnabled: kept('without meaning: EndpointSlices are always used'),
  usageReportingEnabled: kept('nothing is ever reported'),
  usageReportingInitialDelay: kept('nothing is ever reported'),
  usageReportingInterval: kept('nothing is ever reported'),
  goGCThreshold: kept('no Go program'),
  goMemoryLimitMB: kept('no Go program'),
  goMaxProcs: kept('no Go program'),
  prometheusGoMetricsEnabled: kept('no Go program'),
  windowsManageFirewallRules: kept('Linux only'),
  iptablesLockFilePath: no("the programs' own"),
  iptablesLockProbeInterval: no('the programs wait for the lock themselves'),
};

/** Why a setting is not acted on, and which ones that is. The first group that a name is in counts. */
const groups: readonly (readonly [reason: string, names: RegExp])[] = [
  ['no WireGuard yet', /^wireguard|^prometheusWireGuard/],
  ['no overlay yet', /^vxlan|^ipip|^externalNodesList$/],
  ['nftables is used by the nft variant of iptables only', /^nftables/],
  [
    "cluster IPs alone are the eBPF dataplane's, for pods and the node's own processes; all else of Services is kube-proxy's in this version",
    /^bpf(ConnectTime|HostNetworkedNAT|External|DSR|ExtToService|KubeProxy|PSNAT|Exclude|Maglev|CTLB)|^cgroupV2Path$|^kubeNodePortRanges$/,
  ],
  ['not in this version of the eBPF dataplane', /^bpf/],
  ['no floating IPs yet', /^floatingIPs$/],
  ['logs go to stderr', /^log/],
  ['metrics are served without TLS', /^prometheusMetrics/],
  ['no reports to the datastore', /^reporting|^endpointReporting/],
  ['no flow logs yet', /^flowLogs/],
  ['no socket for other programs', /^policySyncPathPrefix$/],
  ['no live migration yet', /ElevatedRoutePriority$|^liveMigration/],
  ['no integration of this kind', /^aws|^istio|^sidecar|^metadata|^openstack/],
  ['for debugging Calico', /^debug/],
  ['devices are watched, not scanned', /^interfaceRefreshInterval$/],
  ["the pods' MTU is set by the CNI configuration", /^mtuIfacePattern$|^requireMTUFile$/],
  ['no tables of our own', /^routeTableRange/],
  ['the kernel is asked what it can', /^featureDetectOverride$/],
  ['no features to turn on', /^featureGates$/],
  ['there are no external drivers', /^useInternalDataplaneDriver$|^dataplaneDriver$/],
  [
    'not acted on yet',
    /^(dataplaneWatchdogTimeout|healthTimeoutOverrides|interfaceExclude|netlinkTimeout|ipForwarding)$/,
  ],
  ['not acted on yet', /^(routeSource|routeSyncDisabled|deviceRouteSourceAddress(IPv6)?|localSubnetL2Reachability)$/],
  ['not acted on yet', /^iptablesNATOutgoingInterfaceFilter$/],
];

/** A setting's row. Throws for one that no list names: a new one has to be put somewhere. */
export function settingSupport(name: FelixFieldName): FieldSupport {
  if (actedOn.includes(name)) return yes;
  const row = noted[name] ?? reasonOf(name);
  if (row === undefined) throw new Error(`api/compatibility/settings.ts has no row for ${name}`);
  return row;
}

/** True for a setting of which nobody has to be warned: this version acts on it, or there is nothing to do for anyone. */
export function isActedOn(name: FelixFieldName): boolean {
  const { act } = settingSupport(name);
  return act === 'yes' || act === 'kept';
}

/** A FelixConfiguration's fields. */
export const settingsTable: FieldTable = Object.fromEntries(
  felixFieldNames.map((name) => [`spec.${name}`, settingSupport(name)]),
);

function reasonOf(name: FelixFieldName): FieldSupport | undefined {
  const reason = groups.find(([, names]) => names.test(name))?.[0];
  return reason === undefined ? undefined : no(reason);
}
