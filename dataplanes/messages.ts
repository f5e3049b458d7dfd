/**
 * What calc says to a dataplane, modelled on Calico Felix's messages (facts: felix protobuf; our own types).
 * All are plain frozen data. An update replaces what was said before under the same id; nothing refers to what was not announced.
 */
import type {
  FailsafePort,
  HostEndpointInfo,
  PolicyId,
  PolicyInfo,
  ProfileId,
  ProfileInfo,
  SetId,
  SetType,
  TierInfo,
} from './policy.ts';
import type { ServiceId, ServiceInfo } from './services.ts';

/** `<orchestrator>/<workload>/<endpoint>`, for example `k8s/default/web-1/eth0`. */
export type EndpointId = string & { readonly __brand?: 'EndpointId' };
/** An address with prefix length in canonical text, for example `10.65.0.3/32` or `fd00::3/128`. */
export type CidrText = string;
/** An address in canonical text, without a prefix length. */
export type IpText = string;

/** A pod's (or another container's) interface on this node, without its policy. */
export interface WorkloadDevice {
  /** The host's end of the veth. */
  readonly ifaceName: string;
  /** The MAC of the pod's end, lower case with colons. */
  readonly mac: string;
  /** The pod's addresses, /32 and /128. */
  readonly ipv4Nets: readonly CidrText[];
  readonly ipv6Nets: readonly CidrText[];
  /** Further sources it may send from (annotation allowedSourcePrefixes; only where the configuration allows it). */
  readonly allowedSourcePrefixes: readonly CidrText[];
}

/** A pod's (or another container's) interface on this node. */
export interface WorkloadEndpointInfo extends WorkloadDevice {
  /** Tiers with a policy that selects it, in order. */
  readonly tiers: readonly TierInfo[];
  /** Evaluated in this order when no tier has decided. One that was never announced denies. */
  readonly profiles: readonly ProfileId[];
}

/** A route that the node needs besides its own pods' /32s. */
export interface RouteInfo {
  readonly dst: CidrText;
  /** `remoteBlock`: reached over `nodeIp`. `localBlock`: our own block; unused addresses in it must not loop. `borrowed`: one address elsewhere. */
  readonly type: 'remoteBlock' | 'localBlock' | 'borrowed';
  readonly nodeName: string;
  /** The other node's address of the route's family; undefined for `localBlock`. */
  readonly nodeIp?: IpText;
}

/** An IP pool, as far as a dataplane cares. */
export interface PoolInfo {
  readonly cidr: CidrText;
  /** natOutgoing: what leaves the pools from here gets the node's address. */
  readonly masquerade: boolean;
}

/** Another (or this) node's addresses. */
export interface HostInfo {
  readonly ipv4?: IpText;
  readonly ipv6?: IpText;
}

/** A time in ms, or `auto`: as the kernel's connection tracking has it. */
export type FlowTimeout = number | 'auto';

/** How long a flow without packets is remembered, where the dataplane itself remembers flows (bpfConntrackTimeouts). */
export interface FlowTimeoutSettings {
  /** Whatever its state, since its first packet. */
  readonly creation: FlowTimeout;
  /** TCP before both ends have confirmed. */
  readonly tcpSynSent: FlowTimeout;
  readonly tcpEstablished: FlowTimeout;
  /** After the FINs of both ends. */
  readonly tcpFinsSeen: FlowTimeout;
  readonly tcpResetSeen: FlowTimeout;
  readonly udp: FlowTimeout;
  readonly icmp: FlowTimeout;
  /** All other protocols. */
  readonly generic: FlowTimeout;
}

/** Where XDP may be used: xdpEnabled, genericXDPEnabled, xdpRefreshInterval. */
export interface XdpSettings {
  readonly enabled: boolean;
  /** Also in the stack, where the device's driver runs no XDP programs. */
  readonly generic: boolean;
  /** Between comparisons; 0: none of its own. */
  readonly refreshIntervalMs: number;
}

/** How many entries tables have, where the dataplane has tables of its own (bpfMapSize*); `dataplanes/ebpf/sizes.ts` says which maps take what. */
export interface MapSizeSettings {
  /** Answered flows of one address family: bpfMapSizeConntrack. */
  readonly flows: number;
  /** For each CPU, in place of `flows` (bpfMapSizePerCpuConntrack); 0: `flows` holds. */
  readonly flowsPerCpu: number;
  /** Twice as many where they are nearly all in use: bpfMapSizeConntrackScaling. */
  readonly doubleFlows: boolean;
  /** Services' addresses and ports: bpfMapSizeNATFrontend. */
  readonly frontends: number;
  /** bpfMapSizeNATBackend. */
  readonly backends: number;
  /** Single addresses of which something is known: bpfMapSizeRoute. */
  readonly addresses: number;
  /** Networks of which something is known: bpfMapSizeIPSets. */
  readonly networks: number;
  /** Pod devices of this node: bpfMapSizeIfState. */
  readonly devices: number;
}

/** The settings a dataplane acts on; FelixConfiguration merged with the environment. */
export interface DataplaneConfig {
  readonly interfacePrefixes: readonly string[];
  readonly ipv6Support: boolean;
  /** Route protocol number of pod routes (deviceRouteProtocol). */
  readonly deviceRouteProtocol: number;
  /** Metric of pod and block routes: ipv4NormalRoutePriority, ipv6NormalRoutePriority. */
  readonly routeMetricV4: number;
  readonly routeMetricV6: number;
  readonly removeExternalRoutes: boolean;
  readonly routeRefreshIntervalMs: number;
  readonly iptablesRefreshIntervalMs: number;
  readonly iptablesPostWriteCheckIntervalMs: number;
  readonly ipsetsRefreshIntervalMs: number;
  readonly iptablesBackend: 'auto' | 'legacy' | 'nft';
  readonly iptablesLockTimeoutS: number;
  readonly chainInsertMode: 'insert' | 'append';
  /** workloadSourceSpoofing: `any` lets pods use their allowedSourcePrefixes. */
  readonly workloadSourceSpoofing: 'disabled' | 'any';
  readonly natPortRange?: { readonly min: number; readonly max: number };
  readonly natOutgoingAddress?: IpText;
  readonly natOutgoingExclusions: 'IPPoolsOnly' | 'IPPoolsAndHostIPs';
  readonly maxIpsetSize: number;
  /** What becomes of traffic from a pod to its host after the pod's egress policy. */
  readonly endpointToHostAction: 'drop' | 'return' | 'accept';
  /** What becomes of traffic to the services' ranges that nobody has translated. */
  readonly serviceLoopPrevention: 'drop' | 'reject' | 'disabled';
  readonly filterAllowAction: 'accept' | 'return';
  readonly mangleAllowAction: 'accept' | 'return';
  readonly filterDenyAction: 'drop' | 'reject';
  /** The bits of the packet mark that may be used; at least 5 (checked by the dataplane, which says so). */
  readonly markMask: number;
  /** Prefix of what log rules write; may hold %t (tier), %k (kind), %n (name), %p (policy). */
  readonly logPrefix: string;
  /** As iptables' limit match takes it (`10/second`), with the burst. */
  readonly logRate?: { readonly rate: string; readonly burst: number };
  /** disableConntrackInvalidCheck: packets that conntrack calls invalid are judged like others instead of dropped. */
  readonly allowInvalid: boolean;
  readonly allowVxlanFromWorkloads: boolean;
  readonly allowIpipFromWorkloads: boolean;
  readonly vxlanPort: number;
  readonly failsafeInbound: readonly FailsafePort[];
  readonly failsafeOutbound: readonly FailsafePort[];
  readonly flowTimeouts: FlowTimeoutSettings;
  readonly mapSizes: MapSizeSettings;
  /** Untracked policy before the stack (eBPF dataplane). */
  readonly xdp: XdpSettings;
  /** A regular expression that the names of uplinks match (bpfDataIfacePattern); absent: uplinks are found by routes and addresses. */
  readonly uplinkPattern?: string;
}

export type DataplaneUpdate =
  | { readonly type: 'configUpdate'; readonly config: DataplaneConfig }
  | {
      readonly type: 'ipSetUpdate';
      readonly id: SetId;
      readonly setType: SetType;
      readonly members: readonly string[];
      /** What it stands for, for people: a selector's text, `named port http`, `service default/web`. */
      readonly about?: string;
    }
  /** Of a set that was announced; `added` were not in it and `removed` were. */
  | {
      readonly type: 'ipSetDelta';
      readonly id: SetId;
      readonly added: readonly string[];
      readonly removed: readonly string[];
    }
  | { readonly type: 'ipSetRemove'; readonly id: SetId }
  | { readonly type: 'policyUpdate'; readonly id: PolicyId; readonly policy: PolicyInfo }
  | { readonly type: 'policyRemove'; readonly id: PolicyId }
  | { readonly type: 'profileUpdate'; readonly id: ProfileId; readonly profile: ProfileInfo }
  | { readonly type: 'profileRemove'; readonly id: ProfileId }
  | { readonly type: 'hostEndpointUpdate'; readonly id: string; readonly endpoint: HostEndpointInfo }
  | { readonly type: 'hostEndpointRemove'; readonly id: string }
  /** The cluster's service addresses (BGPConfiguration serviceClusterIPs, serviceExternalIPs, serviceLoadBalancerIPs), for loop prevention. */
  | { readonly type: 'serviceRangesUpdate'; readonly cidrs: readonly CidrText[] }
  | { readonly type: 'serviceUpdate'; readonly id: ServiceId; readonly service: ServiceInfo }
  | { readonly type: 'serviceRemove'; readonly id: ServiceId }
  | { readonly type: 'workloadEndpointUpdate'; readonly id: EndpointId; readonly endpoint: WorkloadEndpointInfo }
  | { readonly type: 'workloadEndpointRemove'; readonly id: EndpointId }
  | { readonly type: 'routeUpdate'; readonly route: RouteInfo }
  | { readonly type: 'routeRemove'; readonly dst: CidrText }
  | { readonly type: 'poolUpdate'; readonly id: string; readonly pool: PoolInfo }
  | { readonly type: 'poolRemove'; readonly id: string }
  | { readonly type: 'hostUpdate'; readonly node: string; readonly host: HostInfo }
  | { readonly type: 'hostRemove'; readonly node: string }
  /** Everything that exists has been said at least once: what the kernel holds beyond it may go. */
  | { readonly type: 'inSync' };
