/**
 * Policy as calc says it to a dataplane: flattened, resolved to sets of addresses, in the order of evaluation. Plain frozen data.
 * Facts: felix protobuf; semantics of Calico's tiers, policies and profiles.
 */
import type { CidrText, IpText } from './messages.ts';

/** Names a set of addresses. Two sets of the same meaning (same canonical selector, same list of nets) have the same id, so rules share them. */
export type SetId = string;
/** `<kind> [<namespace>/]<name>`, for example `NetworkPolicy default/allow-web` or `KubernetesNetworkPolicy default/web`; also what users read. */
export type PolicyId = string;
/** `kns.<namespace>` (allows all) or `ksa.<namespace>.<service account>` (labels only), or a HostEndpoint's profile. */
export type ProfileId = string;
/**
 * `<policy id> <ingress|egress> <index>` or `Profile <profile id> <ingress|egress> <index>`; the index counts the object's own rules from 0, with `.k` where one
 * of them became several (a Kubernetes rule with ports of two protocols).
 */
export type RuleId = string;

/**
 * `net`: members are addresses and networks in canonical text with prefix length (`10.65.0.3/32`, `fd00::/8`), of both families; they may overlap.
 * `ipPort`: members are `<address>,<protocol number>:<port>`, for example `10.65.0.3,6:8080`, `fd00::3,17:53`.
 */
export type SetType = 'net' | 'ipPort';

/** Both ends belong to it. */
export interface PortRange {
  readonly min: number;
  readonly max: number;
}

/** What a rule asks of one end of a packet. Everything given must hold; an empty list asks nothing. `S`: how sets are referred to. */
export interface PeerMatch<S = SetId> {
  /** The address is in this network; a list of several is a set. */
  readonly net?: CidrText;
  /** It is not in this one. Addresses of the other family don't match either: a rule that names a network is of its family. */
  readonly notNet?: CidrText;
  /** `net` sets: the address is in every one. */
  readonly sets: readonly S[];
  /** `net` sets: the address is in none. */
  readonly notSets: readonly S[];
  /** The port is in one of these ranges, or {address, protocol, port} is in one of `portSets` (named ports). */
  readonly ports: readonly PortRange[];
  readonly portSets: readonly S[];
  /** The port is in none of these ranges, and {address, protocol, port} in none of `notPortSets`. */
  readonly notPorts: readonly PortRange[];
  readonly notPortSets: readonly S[];
  /** `ipPort` sets of services: {address, protocol, port} is in every one. */
  readonly ipPortSets: readonly S[];
}

/** An ICMP type, and a code if it matters. Of the family that the rule's protocol (1 or 58) says. */
export interface IcmpMatch {
  readonly type: number;
  readonly code?: number;
}

/** `pass`: on to the next tier, after the last one to the profiles. `log`: say so and go on with the next rule. */
export type RuleAction = 'allow' | 'deny' | 'pass' | 'log';

/** One rule. Everything given must hold. */
export interface RuleInfo<S = SetId> {
  readonly id: RuleId;
  readonly action: RuleAction;
  readonly ipVersion?: 4 | 6;
  /** IP protocol numbers. */
  readonly protocol?: number;
  readonly notProtocol?: number;
  readonly icmp?: IcmpMatch;
  readonly notIcmp?: IcmpMatch;
  readonly source: PeerMatch<S>;
  readonly destination: PeerMatch<S>;
}

/** A policy that some endpoint of this node uses. */
export interface PolicyInfo {
  readonly tier: string;
  /** Its rules are evaluated and counted and decide nothing. */
  readonly staged: boolean;
  readonly ingress: readonly RuleInfo[];
  readonly egress: readonly RuleInfo[];
}

/** A profile's rules: what counts when no tier has decided; what none of them allows is denied. */
export interface ProfileInfo {
  readonly ingress: readonly RuleInfo[];
  readonly egress: readonly RuleInfo[];
}

/**
 * One tier of one endpoint: the policies that select it and have the direction, in order. Where a list has at least one policy that is
 * not staged, what none of its rules decides meets `defaultAction`; an empty (or wholly staged) list skips the tier in that direction.
 */
export interface TierInfo {
  readonly name: string;
  readonly defaultAction: 'deny' | 'pass';
  readonly ingress: readonly PolicyId[];
  readonly egress: readonly PolicyId[];
}

/** A host's own interface, or all of them. Traffic of the host through it is denied unless allowed; what is forwarded meets `forwardTiers` only. */
export interface HostEndpointInfo {
  /** A device's name; `*`: every device that no other host endpoint of the node names; absent: devices that have one of `expectedIps`. */
  readonly ifaceName?: string;
  readonly expectedIps: readonly IpText[];
  readonly profiles: readonly ProfileId[];
  /** Ordinary policies: to and from the host itself. */
  readonly tiers: readonly TierInfo[];
  /** applyOnForward policies, for what passes through; they stand in `tiers` too. */
  readonly forwardTiers: readonly TierInfo[];
  /** preDNAT policies: ingress before any destination translation; no match: go on. */
  readonly preDnatTiers: readonly TierInfo[];
  /** doNotTrack policies: before connection tracking, both directions; no match: go on. */
  readonly untrackedTiers: readonly TierInfo[];
}

/** A port of the host that stays open whatever policy says; `net` limits the other end. */
export interface FailsafePort {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly port: number;
  readonly net?: CidrText;
}
