/** ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2): Kubernetes' own cluster-wide policy, before and after NetworkPolicies. */
import type { RulePort } from '#api/policy/ports.ts';
import { protocolNumbers } from '#api/policy/protocols.ts';
import type { SelectorNode } from '#api/selector/ast.ts';
import type { RuleAction } from '#dataplanes/policy.ts';
import type { CalcPolicy } from '../model.ts';
import { policyOf, type PolicyHead } from './policy.ts';
import { simplePorts, type Ports } from './ports.ts';
import { ConversionError } from './problem.ts';
import type { PeerParts, RuleParts } from './rule-parts.ts';
import { convertRules, type Direction } from './rules.ts';
import { podsIn, type LabelSelector } from './selectors.ts';
import { kubeAdminTier, kubeBaselineTier } from './tiers.ts';

interface ClusterPods {
  readonly namespaceSelector: LabelSelector;
  readonly podSelector: LabelSelector;
}

export interface ClusterPolicyPeer {
  readonly namespaces?: LabelSelector | undefined;
  readonly pods?: ClusterPods | undefined;
  readonly networks?: readonly string[] | undefined;
}

interface ProtocolPort {
  readonly destinationPort?:
    | {
        readonly number?: number | undefined;
        readonly range?: { readonly start: number; readonly end: number } | undefined;
      }
    | undefined;
}

export interface ClusterPolicyProtocol {
  readonly tcp?: ProtocolPort | undefined;
  readonly udp?: ProtocolPort | undefined;
  readonly sctp?: ProtocolPort | undefined;
  readonly destinationNamedPort?: string | undefined;
}

export interface ClusterPolicyRule {
  readonly name?: string | undefined;
  readonly action: 'Accept' | 'Deny' | 'Pass';
  readonly from?: readonly ClusterPolicyPeer[] | undefined;
  readonly to?: readonly ClusterPolicyPeer[] | undefined;
  readonly protocols?: readonly ClusterPolicyProtocol[] | undefined;
}

export interface ClusterPolicySpec {
  readonly tier: 'Admin' | 'Baseline';
  readonly priority: number;
  readonly subject: { readonly namespaces?: LabelSelector | undefined; readonly pods?: ClusterPods | undefined };
  readonly ingress?: readonly ClusterPolicyRule[] | undefined;
  readonly egress?: readonly ClusterPolicyRule[] | undefined;
}

const actions = { Accept: 'allow', Deny: 'deny', Pass: 'pass' } as const satisfies Record<string, RuleAction>;

/** Selects pods; a direction without rules is not touched (its tiers pass on what no rule decides). */
export function convertClusterPolicy(head: PolicyHead, spec: ClusterPolicySpec): CalcPolicy {
  return policyOf(head, {
    tier: spec.tier === 'Admin' ? kubeAdminTier : kubeBaselineTier,
    order: spec.priority,
    subject: () => podsNode(spec.subject, 'subject'),
    types: { ingress: (spec.ingress ?? []).length > 0, egress: (spec.egress ?? []).length > 0 },
    rules: (context, direction) =>
      convertRules(
        context,
        direction,
        spec[direction] ?? [],
        (rule) => actions[rule.action],
        (rule) => ruleParts(rule, direction),
      ),
  });
}

/** One rule for each protocol and peer. */
function ruleParts(rule: ClusterPolicyRule, direction: Direction): readonly RuleParts[] {
  const action = actions[rule.action];
  const ends = ((direction === 'ingress' ? rule.from : rule.to) ?? []).map(peerParts);
  if (ends.length === 0) {
    throw new ConversionError(`the rule has no peers in ${direction === 'ingress' ? 'from' : 'to'}`);
  }
  return byProtocol(rule.protocols ?? []).flatMap(({ protocol, ports }) =>
    ends.map((end): RuleParts =>
      direction === 'ingress'
        ? { action, protocol, source: end, destination: { ports } }
        : { action, protocol, destination: { ...end, ports } },
    ),
  );
}

/** What is not understood (nodes, domainNames, what comes later) must not be taken for "everybody". */
function peerParts(peer: ClusterPolicyPeer): PeerParts {
  return peer.networks === undefined || peer.networks.length === 0
    ? { selector: podsNode(peer, 'peer') }
    : { nets: peer.networks };
}

function podsNode({ namespaces, pods }: ClusterPolicySpec['subject'], what: string): SelectorNode {
  if (namespaces !== undefined) {
    return podsIn(namespaces);
  }
  if (pods !== undefined) {
    return podsIn(pods.namespaceSelector, pods.podSelector);
  }
  throw new ConversionError(`a ${what} has no field that is supported`);
}

interface ProtocolPorts {
  readonly protocol?: number;
  readonly ports?: Ports;
}

/** Ports of one protocol together, in the order of their numbers, then names of ports: those are of any protocol. No entry at all is everything. */
function byProtocol(entries: readonly ClusterPolicyProtocol[]): readonly ProtocolPorts[] {
  if (entries.length === 0) {
    return [{}];
  }
  const groups = new Map<number, RulePort[] | 'all'>();
  const add = (protocol: number, port: RulePort | 'all') => {
    const group = groups.get(protocol) ?? [];
    groups.set(protocol, port === 'all' || group === 'all' ? 'all' : [...group, port]);
  };
  for (const entry of entries) {
    const { destinationNamedPort } = entry;
    if (destinationNamedPort !== undefined) {
      for (const protocol of protocolsWithPorts) {
        add(protocol, { kind: 'name', name: destinationNamedPort });
      }
    } else {
      const { protocol, port } = numbered(entry);
      add(protocol, port);
    }
  }
  return [...groups]
    .sort(([a], [b]) => a - b)
    .map(([protocol, ports]) => (ports === 'all' ? { protocol } : { protocol, ports: simplePorts(ports) }));
}

const { TCP, UDP, SCTP } = protocolNumbers;
const protocolsWithPorts = [TCP, UDP, SCTP];

function numbered({ tcp, udp, sctp }: ClusterPolicyProtocol): {
  readonly protocol: number;
  readonly port: RulePort | 'all';
} {
  for (const [protocol, match] of [
    [TCP, tcp],
    [UDP, udp],
    [SCTP, sctp],
  ] as const) {
    if (match !== undefined) {
      return { protocol, port: match.destinationPort === undefined ? 'all' : portOf(match.destinationPort) };
    }
  }
  throw new ConversionError('a protocol is none of tcp, udp, sctp and destinationNamedPort');
}

function portOf({ number, range }: NonNullable<ProtocolPort['destinationPort']>): RulePort {
  const min = number ?? range?.start ?? 0;
  const max = number ?? range?.end ?? 0;
  if (min < 1 || max < min || max > 65535) {
    throw new ConversionError(`destinationPort is neither a port nor a range of ports (${min} to ${max})`);
  }
  return { kind: 'range', min, max };
}
