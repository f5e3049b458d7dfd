/**
 * What the renderer gives and takes. Every function of this folder is pure: equal arguments, equal rules.
 *
 * | file | functions |
 * |---|---|
 * | marks.ts | `parseMarks(markMask)` |
 * | names.ts | `policyChainName`, `profileChainName`, `unitOf`, `unitChainName`, `unitSetName`, `policySetName` |
 * | policy-chains.ts | `policyChain(id, policy, direction, table, ctx)`, `profileChain(...)` |
 * | unit-chains.ts | `unitChains(unit, known, ctx)`, `dispatchChains(units, ctx)` |
 * | host-chains.ts | `hostChains(hosts, known, ctx)`, `hostNeeds(hosts)` |
 * | static-chains.ts | `staticRules(needs, serviceRanges, ctx)` |
 * | uses.ts | `unitUses(unit)`, `hostUses(endpoint)`: the policies' and profiles' chains that are referred to, table by table |
 */
import type { Family } from '#native/types.ts';
import type { DataplaneConfig } from '../../messages.ts';
import type { HostEndpointInfo, PolicyId, PolicyInfo, ProfileId, RuleId, TierInfo } from '../../policy.ts';
import type { Hook } from '../../netfilter/table.ts';

export const TABLE_NAMES = ['raw', 'mangle', 'filter'] as const;
export type TableName = (typeof TABLE_NAMES)[number];

/** As policy says it: `ingress` is towards the endpoint. */
export type Direction = 'ingress' | 'egress';

/** One rule as iptables-restore takes it after `-A CHAIN`, without the comment that carries its hash. */
export interface ChainRule {
  readonly text: string;
  /** This rule's packet counter counts what this rule of a policy has matched. At most one rule of ours a packet and RuleId carries it. */
  readonly rule?: RuleId;
}

/** A chain of ours, whole. */
export interface Chain {
  readonly name: string;
  readonly rules: readonly ChainRule[];
}

/** Chains of one table, and what of ours goes into the kernel's chains of it (by name: `FORWARD`). */
export interface TableRules {
  readonly chains: readonly Chain[];
  readonly hooks: ReadonlyMap<string, Hook>;
}

/** The bits of the packet mark that we use: one bit each. */
export interface Marks {
  /** A policy has accepted the packet. */
  readonly accept: number;
  /** The packet goes on to the next tier. */
  readonly pass: number;
  /** The source (scratch0) or destination (scratch1) ports of the rule at hand match; meaningless outside it. */
  readonly scratch0: number;
  readonly scratch1: number;
  /** The packet has come in by a device, so it isn't the host's own: mangle POSTROUTING must not judge it as such. */
  readonly received: number;
}

/** What rules depend on besides policy. */
export interface RenderContext {
  readonly family: Family;
  readonly config: DataplaneConfig;
  readonly marks: Marks;
}

/** What has been announced, as far as chains that refer to policies and profiles need it. Maps will do. */
export interface KnownPolicies {
  readonly policies: { get(id: PolicyId): Pick<PolicyInfo, 'staged'> | undefined };
  readonly profiles: { has(id: ProfileId): boolean };
}

/** Endpoints with equal lists of tiers and profiles share a unit: its chains and its set of {address, device}. */
export interface PolicyUnit {
  /** 16 characters, the same for equal lists on any node at any time. */
  readonly id: string;
  readonly tiers: readonly TierInfo[];
  readonly profiles: readonly ProfileId[];
}

/** A host endpoint and the device that it stands for; `*`: every device that has no entry of its own. One entry a device. */
export interface HostDevice {
  readonly device: string;
  readonly endpoint: HostEndpointInfo;
}

/** Which kinds of policy the host endpoints of the node have: tables and chains that none needs are not hooked. */
export interface HostNeeds {
  /** Any host endpoint at all: ordinary policy in INPUT, OUTPUT and (what a service has translated) mangle POSTROUTING. */
  readonly normal: boolean;
  readonly forward: boolean;
  readonly preDnat: boolean;
  readonly untracked: boolean;
}

/** A policy's or profile's chain that a unit or host endpoint jumps to. */
export interface ChainUse {
  readonly table: TableName;
  readonly direction: Direction;
  readonly kind: 'policy' | 'profile';
  /** A PolicyId or a ProfileId. */
  readonly id: string;
}
