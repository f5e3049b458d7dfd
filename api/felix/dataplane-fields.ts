/** FelixConfiguration: what both dataplanes do, iptables and nftables, overlays. */
import { field } from './field.ts';
import { failsafePorts, portRange, portRanges, routeTableRange, routeTableRanges } from './structured-types.ts';
import {
  address,
  bool,
  cidrs,
  duration,
  int,
  interfaceList,
  interfacePattern,
  interfacePrefixes,
  markMask,
  oneOf,
  optional,
  optionalText,
  path,
  regexp,
} from './types.ts';

const seconds = duration('seconds');
const mtu = int(0, 65535);
const priority = int(1, 2147483646);
const allowAction = oneOf('Accept', 'Return');
const denyAction = oneOf('Drop', 'Reject');
const enabled = oneOf('Enabled', 'Disabled');
const interfaceName = interfacePattern;

// A row a line, however long: it is read as a table.
// oxfmt-ignore
export const dataplaneFields = {
  // What both dataplanes do
  ipv6Support: field('Ipv6Support', bool, 'true', 'Handles IPv6.'),
  interfacePrefix: field('InterfacePrefix', interfacePrefixes, 'cali', "What workloads' host devices are called, as a prefix.", { fatal: true }),
  interfaceExclude: field('InterfaceExclude', interfaceList, 'kube-ipvs0', 'Devices that host endpoints never mean.'),
  interfaceRefreshInterval: field('InterfaceRefreshInterval', seconds, '90', 'Time between scans of all devices; 0 for none.'),
  mtuIfacePattern: field('MTUIfacePattern', regexp, '^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)', "Devices that the host's MTU is taken from."),
  requireMTUFile: field('RequireMTUFile', bool, 'false', 'Does not start without an MTU file.'),
  netlinkTimeout: field('NetlinkTimeoutSecs', seconds, '10', 'Longest wait for the kernel over netlink.'),
  ipForwarding: field('IPForwarding', enabled, 'Enabled', "Turns the host's IP forwarding on."),
  defaultEndpointToHostAction: field('DefaultEndpointToHostAction', oneOf('Drop', 'Return', 'Accept'), 'Drop', 'What becomes of traffic from a workload to its host after policy.', { fatal: true }),
  workloadSourceSpoofing: field('WorkloadSourceSpoofing', oneOf('Disabled', 'Any'), 'Disabled', 'Any: pods may send from the prefixes of their annotation allowedSourcePrefixes.'),
  serviceLoopPrevention: field('ServiceLoopPrevention', oneOf('Drop', 'Reject', 'Disabled'), 'Drop', 'What becomes of traffic to service addresses that nobody serves.'),
  floatingIPs: field('FloatingIPs', enabled, 'Disabled', 'Maps floating IPs to pods.'),
  disableConntrackInvalidCheck: field('DisableConntrackInvalidCheck', bool, 'false', "Lets packets pass that conntrack calls invalid."),
  failsafeInboundHostPorts: field('FailsafeInboundHostPorts', failsafePorts, 'tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667', 'Ports of the host that stay open whatever its policy says.', { fatal: true }),
  failsafeOutboundHostPorts: field('FailsafeOutboundHostPorts', failsafePorts, 'udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667', 'Ports that the host can reach whatever its policy says.', { fatal: true }),
  externalNodesList: field('ExternalNodesCIDRList', cidrs, '', 'Hosts outside the cluster that may send encapsulated traffic.', { fatal: true }),
  allowVXLANPacketsFromWorkloads: field('AllowVXLANPacketsFromWorkloads', bool, 'false', 'Pods may send VXLAN packets.'),
  allowIPIPPacketsFromWorkloads: field('AllowIPIPPacketsFromWorkloads', bool, 'false', 'Pods may send IPIP packets.'),

  // natOutgoing
  natPortRange: field('NATPortRange', optional(portRange), '', "Source ports for outgoing NAT; unset: the kernel's choice."),
  natOutgoingAddress: field('NATOutgoingAddress', optionalText(address(4)), '', "Source address for outgoing NAT; unset: that of the device."),
  natOutgoingExclusions: field('NATOutgoingExclusions', oneOf('IPPoolsOnly', 'IPPoolsAndHostIPs'), 'IPPoolsOnly', 'Destinations that outgoing NAT leaves alone.'),

  // Routes
  routeSource: field('RouteSource', oneOf('WorkloadIPs', 'CalicoIPAM'), 'CalicoIPAM', 'Where routes to other nodes come from: their pods, or their blocks.'),
  routeRefreshInterval: field('RouteRefreshInterval', seconds, '90', "Time between checks of all routes; 0 for none."),
  routeSyncDisabled: field('RouteSyncDisabled', bool, 'false', 'Leaves routes alone altogether.'),
  routeTableRange: field('RouteTableRange', optional(routeTableRange), '', 'Routing tables that may be used; routeTableRanges replaces it.', { fatal: true }),
  routeTableRanges: field('RouteTableRanges', routeTableRanges, '', 'Routing tables that may be used; unset: 1-250.', { fatal: true }),
  deviceRouteProtocol: field('DeviceRouteProtocol', int(0, 255), '3', "Protocol number of the routes to pods: marks them as ours."),
  deviceRouteSourceAddress: field('DeviceRouteSourceAddress', optionalText(address(4)), '', 'Source address hint of IPv4 routes to pods.'),
  deviceRouteSourceAddressIPv6: field('DeviceRouteSourceAddressIPv6', optionalText(address(6)), '', 'Source address hint of IPv6 routes to pods.'),
  removeExternalRoutes: field('RemoveExternalRoutes', bool, 'true', "Removes others' routes over workloads' devices."),
  programClusterRoutes: field('ProgramClusterRoutes', oneOf('Enabled', 'Disabled', 'EnabledIPIPOnly'), 'Enabled', 'Programs routes to other nodes for pools without VXLAN.', { differs: 'EnabledIPIPOnly: BIRD does the rest there, and there is none here' }),
  ipv4NormalRoutePriority: field('IPv4NormalRoutePriority', priority, '1024', 'Metric of IPv4 routes.'),
  ipv4ElevatedRoutePriority: field('IPv4ElevatedRoutePriority', priority, '512', 'Metric of IPv4 routes that must win while a machine migrates.'),
  ipv6NormalRoutePriority: field('IPv6NormalRoutePriority', priority, '1024', 'Metric of IPv6 routes.'),
  ipv6ElevatedRoutePriority: field('IPv6ElevatedRoutePriority', priority, '512', 'Metric of IPv6 routes that must win while a machine migrates.'),
  liveMigrationRouteConvergenceTime: field('LiveMigrationRouteConvergenceTime', seconds, '30', 'How long those routes win after a migration.'),
  localSubnetL2Reachability: field('LocalSubnetL2Reachability', enabled, 'Disabled', "Answers ARP and neighbour discovery for pods on the node's own subnet."),

  // iptables
  iptablesBackend: field('IptablesBackend', oneOf('Auto', 'Legacy', 'NFT'), 'Auto', 'Which iptables programs are used; Auto: the one that others use.'),
  iptablesRefreshInterval: field('IptablesRefreshInterval', seconds, '180', 'Time between checks of all rules; 0 for none.'),
  iptablesPostWriteCheckInterval: field('IptablesPostWriteCheckIntervalSecs', seconds, '5', 'Time after a write until rules are checked.'),
  iptablesLockFilePath: field('IptablesLockFilePath', path, '/run/xtables.lock', "iptables' lock file."),
  iptablesLockTimeout: field('IptablesLockTimeoutSecs', seconds, '0', "Longest wait for iptables' lock; 0 leaves it to the program."),
  iptablesLockProbeInterval: field('IptablesLockProbeIntervalMillis', duration('milliseconds'), '50', "Time between tries for iptables' lock."),
  iptablesFilterAllowAction: field('IptablesFilterAllowAction', allowAction, 'Accept', 'What an allowed packet meets in the filter table.', { fatal: true }),
  iptablesMangleAllowAction: field('IptablesMangleAllowAction', allowAction, 'Accept', 'What an allowed packet meets in the mangle table.', { fatal: true }),
  iptablesFilterDenyAction: field('IptablesFilterDenyAction', denyAction, 'Drop', 'What a denied packet meets.', { fatal: true }),
  iptablesMarkMask: field('IptablesMarkMask', markMask, '0xffff0000', 'Bits of the packet mark that may be used.', { fatal: true }),
  iptablesNATOutgoingInterfaceFilter: field('IptablesNATOutgoingInterfaceFilter', optionalText(interfacePattern), '', 'Devices that outgoing NAT is limited to.'),
  chainInsertMode: field('ChainInsertMode', oneOf('Insert', 'Append'), 'Insert', "Where our rules stand in the kernel's chains.", { fatal: true }),
  ipsetsRefreshInterval: field('IpsetsRefreshInterval', seconds, '90', 'Time between checks of all IP sets; 0 for none.'),
  maxIpsetSize: field('MaxIpsetSize', int(1, 0x7fffffff), '1048576', 'Most addresses in an IP set.'),
  kubeNodePortRanges: field('KubeNodePortRanges', portRanges, '30000:32767', 'Ports of node port services, for kube-proxy in IPVS mode.'),
  xdpEnabled: field('XDPEnabled', bool, 'true', 'Denies untracked traffic by XDP where it can.'),
  genericXDPEnabled: field('GenericXDPEnabled', bool, 'false', "XDP also where the device's driver has none."),
  xdpRefreshInterval: field('XDPRefreshInterval', seconds, '90', 'Time between checks of XDP programs; 0 for none.'),

  // nftables
  nftablesMode: field('NFTablesMode', oneOf('Enabled', 'Disabled', 'Auto'), 'Auto', 'Uses nftables itself instead of iptables.'),
  nftablesRefreshInterval: field('NftablesRefreshInterval', seconds, '180', 'Time between checks of all nftables rules; 0 for none.'),
  nftablesFilterAllowAction: field('NftablesFilterAllowAction', allowAction, 'Accept', 'What an allowed packet meets in the filter chains.', { fatal: true }),
  nftablesMangleAllowAction: field('NftablesMangleAllowAction', allowAction, 'Accept', 'What an allowed packet meets in the mangle chains.', { fatal: true }),
  nftablesFilterDenyAction: field('NftablesFilterDenyAction', denyAction, 'Drop', 'What a denied packet meets.', { fatal: true }),
  nftablesMarkMask: field('NftablesMarkMask', markMask, '0xffff0000', 'Bits of the packet mark that may be used with nftables.', { fatal: true }),
  nftablesFlowTableOffload: field('NftablesFlowTableOffload', enabled, 'Disabled', 'Forwards established flows by a flow table.'),

  // Overlays
  vxlanEnabled: field('VXLANEnabled', optional(bool), '', 'Makes the VXLAN device, or not; unset: where a pool needs it.'),
  vxlanPort: field('VXLANPort', int(1, 65535), '4789', 'UDP port of VXLAN.'),
  vxlanVNI: field('VXLANVNI', int(0, 0xffffff), '4096', 'Network identifier of VXLAN.'),
  vxlanMTU: field('VXLANMTU', mtu, '0', "MTU of the IPv4 VXLAN device; 0: from the host's."),
  vxlanMTUV6: field('VXLANMTUV6', mtu, '0', "MTU of the IPv6 VXLAN device; 0: from the host's."),
  ipipEnabled: field('IpInIpEnabled', optional(bool), '', 'Makes the IPIP device, or not; unset: where a pool needs it.'),
  ipipMTU: field('IpInIpMtu', mtu, '0', "MTU of the IPIP device; 0: from the host's."),
  wireguardEnabled: field('WireguardEnabled', bool, 'false', 'Encrypts IPv4 traffic between nodes.'),
  wireguardEnabledV6: field('WireguardEnabledV6', bool, 'false', 'Encrypts IPv6 traffic between nodes.'),
  wireguardListeningPort: field('WireguardListeningPort', int(1, 65535), '51820', 'UDP port of WireGuard over IPv4.'),
  wireguardListeningPortV6: field('WireguardListeningPortV6', int(1, 65535), '51821', 'UDP port of WireGuard over IPv6.'),
  wireguardRoutingRulePriority: field('WireguardRoutingRulePriority', int(1, 32765), '99', "Priority of WireGuard's routing rule."),
  wireguardInterfaceName: field('WireguardInterfaceName', interfaceName, 'wireguard.cali', 'Name of the IPv4 WireGuard device.'),
  wireguardInterfaceNameV6: field('WireguardInterfaceNameV6', interfaceName, 'wg-v6.cali', 'Name of the IPv6 WireGuard device.'),
  wireguardMTU: field('WireguardMTU', mtu, '0', "MTU of the IPv4 WireGuard device; 0: from the host's."),
  wireguardMTUV6: field('WireguardMTUV6', mtu, '0', "MTU of the IPv6 WireGuard device; 0: from the host's."),
  wireguardHostEncryptionEnabled: field('WireguardHostEncryptionEnabled', bool, 'false', "Encrypts the hosts' own traffic too."),
  wireguardKeepAlive: field('WireguardPersistentKeepAlive', seconds, '0', 'Time between keep-alives; 0 for none.'),
  wireguardThreadingEnabled: field('WireguardThreadingEnabled', bool, 'false', 'Threaded NAPI for WireGuard devices.'),
};
