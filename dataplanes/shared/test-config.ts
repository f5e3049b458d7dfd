import type { DataplaneConfig, DataplaneUpdate, WorkloadEndpointInfo } from '../messages.ts';
import type { HostEndpointInfo, PeerMatch, RuleInfo } from '../policy.ts';

/** FelixConfiguration's defaults, for tests. */
export const TEST_CONFIG: DataplaneConfig = {
  interfacePrefixes: ['cali'],
  ipv6Support: true,
  deviceRouteProtocol: 3,
  routeMetricV4: 1024,
  routeMetricV6: 1024,
  removeExternalRoutes: true,
  routeRefreshIntervalMs: 90_000,
  iptablesRefreshIntervalMs: 180_000,
  iptablesPostWriteCheckIntervalMs: 5_000,
  ipsetsRefreshIntervalMs: 90_000,
  iptablesBackend: 'nft',
  iptablesLockTimeoutS: 5,
  chainInsertMode: 'insert',
  workloadSourceSpoofing: 'disabled',
  natOutgoingExclusions: 'IPPoolsOnly',
  maxIpsetSize: 1_048_576,
  endpointToHostAction: 'drop',
  serviceLoopPrevention: 'drop',
  filterAllowAction: 'accept',
  mangleAllowAction: 'accept',
  filterDenyAction: 'drop',
  markMask: 0xffff0000,
  logPrefix: 'calico-packet',
  allowInvalid: false,
  allowVxlanFromWorkloads: false,
  allowIpipFromWorkloads: false,
  vxlanPort: 4789,
  failsafeInbound: [],
  failsafeOutbound: [],
  flowTimeouts: {
    creation: 10_000,
    tcpSynSent: 20_000,
    tcpEstablished: 3_600_000,
    tcpFinsSeen: 30_000,
    tcpResetSeen: 40_000,
    udp: 60_000,
    icmp: 5000,
    generic: 600_000,
  },
  mapSizes: {
    flows: 512_000,
    flowsPerCpu: 0,
    doubleFlows: true,
    frontends: 65_536,
    backends: 262_144,
    addresses: 262_144,
    networks: 1_048_576,
    devices: 4096,
  },
  xdp: { enabled: true, generic: false, refreshIntervalMs: 90_000 },
};

/** Pod `n` on device `cali<n>` with one address of each family. */
export const testEndpoint = (n: number, more: Partial<WorkloadEndpointInfo> = {}): WorkloadEndpointInfo => ({
  ifaceName: `cali${n}`,
  mac: `02:00:00:00:00:${n.toString(16).padStart(2, '0')}`,
  ipv4Nets: [`10.65.0.${n}/32`],
  ipv6Nets: [`fd00:65::${n.toString(16)}/128`],
  allowedSourcePrefixes: [],
  tiers: [],
  profiles: [],
  ...more,
});

/** A host endpoint that stands for nothing and has no policy. */
export const testHostEndpoint = (more: Partial<HostEndpointInfo> = {}): HostEndpointInfo => ({
  expectedIps: [],
  profiles: [],
  tiers: [],
  forwardTiers: [],
  preDnatTiers: [],
  untrackedTiers: [],
  ...more,
});

/** Asks nothing of an end. */
export const ANY_PEER: PeerMatch = {
  sets: [],
  notSets: [],
  ports: [],
  portSets: [],
  notPorts: [],
  notPortSets: [],
  ipPortSets: [],
};

/** A rule that every packet matches. */
export const ANY_RULE: Omit<RuleInfo, 'id' | 'action'> = { source: ANY_PEER, destination: ANY_PEER };

/** The profile `kns.default`, which allows everything: what pods have in tests that aren't about policy. */
export const ALLOW_ALL: DataplaneUpdate = {
  type: 'profileUpdate',
  id: 'kns.default',
  profile: {
    ingress: [{ ...ANY_RULE, id: 'Profile kns.default ingress 0', action: 'allow' }],
    egress: [{ ...ANY_RULE, id: 'Profile kns.default egress 0', action: 'allow' }],
  },
};
