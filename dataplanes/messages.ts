/**
 * What calc says to a dataplane, modelled on Calico Felix's messages (facts: felix protobuf; our own types).
 * All are plain frozen data. An update replaces what was said before under the same id; nothing refers to what was not announced.
 */

/** `<orchestrator>/<workload>/<endpoint>`, for example `k8s/default/web-1/eth0`. */
export type EndpointId = string & { readonly __brand?: 'EndpointId' };
/** An address with prefix length in canonical text, for example `10.65.0.3/32` or `fd00::3/128`. */
export type CidrText = string;
/** An address in canonical text, without a prefix length. */
export type IpText = string;

/** A pod's (or another container's) interface on this node. */
export interface WorkloadEndpointInfo {
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
}

export type DataplaneUpdate =
  | { readonly type: 'configUpdate'; readonly config: DataplaneConfig }
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
