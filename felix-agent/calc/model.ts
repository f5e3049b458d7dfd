/**
 * A policy as calc works with it: every source (projectcalico.org/v3, Kubernetes, ClusterNetworkPolicy) converted to one form, parsed
 * once per object. What differs per node (which sets are used, which members they have) is not in it.
 */
import type { Selector } from '#api/selector/selector.ts';
import type { CidrText } from '#dataplanes/messages.ts';
import type { PeerMatch, PolicyId, RuleInfo, SetId } from '#dataplanes/policy.ts';

/** A set of addresses that a rule refers to. `id` is stable: equal specs have equal ids, different ones different ids. */
export type SetSpec =
  /** Endpoints, host endpoints and network sets that the selector selects: type `net`. */
  | { readonly kind: 'selector'; readonly id: SetId; readonly selector: Selector }
  /** A list of networks of one rule: type `net`. Canonical, sorted, each once. */
  | { readonly kind: 'nets'; readonly id: SetId; readonly nets: readonly CidrText[] }
  /** {address, protocol, port} of endpoints that the selector selects and that name this port: type `ipPort`. */
  | {
      readonly kind: 'namedPort';
      readonly id: SetId;
      readonly selector: Selector;
      readonly port: string;
      readonly protocol: number;
    }
  /** What the EndpointSlices of a Service say: with ports type `ipPort`, without type `net`. */
  | {
      readonly kind: 'service';
      readonly id: SetId;
      readonly namespace: string;
      readonly name: string;
      readonly withPorts: boolean;
    };

/** What a rule asks of one end, with the sets themselves. */
export type CalcPeer = PeerMatch<SetSpec>;

/** A rule, with the sets themselves. */
export type CalcRule = RuleInfo<SetSpec>;

/** One policy, whatever it was written as. */
export interface CalcPolicy {
  readonly id: PolicyId;
  readonly tier: string;
  /** Infinity where none is given. Ties within a tier: by the text `name/namespace/kind` (`comparePolicies`). */
  readonly order: number;
  readonly name: string;
  readonly namespace?: string;
  readonly kind: string;
  /** Which endpoints: everything that limits it (namespace, service accounts, pods only) is in it. */
  readonly selector: Selector;
  readonly ingressType: boolean;
  readonly egressType: boolean;
  readonly staged: boolean;
  readonly applyOnForward: boolean;
  readonly doNotTrack: boolean;
  readonly preDnat: boolean;
  readonly ingress: readonly CalcRule[];
  readonly egress: readonly CalcRule[];
  /** What of the object could not be converted and is left out or replaced by a denial; for log, status and metric. */
  readonly problems: readonly string[];
}
