/** Kubernetes' NetworkPolicy (networking.k8s.io/v1), and the staged one of the same form. */
import { protocolNumber } from '#api/policy/protocols.ts';
import { parseRulePort, type RulePort } from '#api/policy/ports.ts';
import { effectivePolicyTypes } from '#api/policy/types-of.ts';
import type { CalcPolicy } from '../model.ts';
import { policyOf, type PolicyHead } from './policy.ts';
import { simplePorts, type Ports } from './ports.ts';
import { ConversionError } from './problem.ts';
import type { PeerParts, RuleParts } from './rule-parts.ts';
import { convertRules, type Direction } from './rules.ts';
import { podsIn, podsOf, type LabelSelector } from './selectors.ts';
import { defaultTier } from './tiers.ts';

/** One end of a rule: an address block, or pods. */
export interface KubernetesPeer {
  readonly podSelector?: LabelSelector | undefined;
  readonly namespaceSelector?: LabelSelector | undefined;
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] | undefined } | undefined;
}

export interface KubernetesPort {
  readonly protocol?: string | undefined;
  readonly port?: string | number | undefined;
  readonly endPort?: number | undefined;
}

export interface KubernetesRule {
  readonly from?: readonly KubernetesPeer[] | undefined;
  readonly to?: readonly KubernetesPeer[] | undefined;
  readonly ports?: readonly KubernetesPort[] | undefined;
}

export interface KubernetesPolicySpec {
  readonly podSelector?: LabelSelector | undefined;
  readonly policyTypes?: readonly ('Ingress' | 'Egress')[] | undefined;
  readonly ingress?: readonly KubernetesRule[] | undefined;
  readonly egress?: readonly KubernetesRule[] | undefined;
}

/** The order of all of them in their tier. */
const order = 1000;

/** Selects pods of its own namespace; all its rules allow. */
export function convertKubernetesPolicy(
  head: PolicyHead & { readonly namespace: string },
  spec: KubernetesPolicySpec,
  staged: boolean,
): CalcPolicy {
  return policyOf(head, {
    tier: defaultTier,
    order,
    subject: () => podsOf(head.namespace, spec.podSelector),
    types: effectivePolicyTypes(spec),
    staged,
    rules: (context, direction) =>
      convertRules(
        context,
        direction,
        spec[direction] ?? [],
        () => 'allow',
        (rule) => ruleParts(rule, direction, head.namespace),
      ),
  });
}

/** One rule for each protocol and peer. */
function ruleParts(rule: KubernetesRule, direction: Direction, namespace: string): readonly RuleParts[] {
  const peers = (direction === 'ingress' ? rule.from : rule.to) ?? [];
  // No peers are all, known or not.
  const ends = peers.length === 0 ? [undefined] : peers.map((peer) => peerParts(peer, namespace));
  return byProtocol(rule.ports ?? []).flatMap(({ protocol, ports }) =>
    ends.map((end): RuleParts =>
      direction === 'ingress'
        ? { action: 'allow', protocol, source: end, destination: { ports } }
        : { action: 'allow', protocol, destination: { ...end, ports } },
    ),
  );
}

function peerParts({ ipBlock, podSelector, namespaceSelector }: KubernetesPeer, namespace: string): PeerParts {
  if (ipBlock !== undefined) {
    if (podSelector !== undefined || namespaceSelector !== undefined) {
      throw new ConversionError('a peer has both ipBlock and a selector');
    }
    return { nets: [ipBlock.cidr], notNets: ipBlock.except };
  }
  if (namespaceSelector !== undefined) {
    return { selector: podsIn(namespaceSelector, podSelector) };
  }
  if (podSelector !== undefined) {
    return { selector: podsOf(namespace, podSelector) };
  }
  throw new ConversionError('a peer has none of podSelector, namespaceSelector and ipBlock');
}

interface ProtocolPorts {
  readonly protocol?: number;
  readonly ports?: Ports;
}

/** Ports of one protocol together, in the order of their numbers. No entry at all is everything; one without a port is all of its protocol. */
function byProtocol(entries: readonly KubernetesPort[]): readonly ProtocolPorts[] {
  if (entries.length === 0) {
    return [{}];
  }
  const groups = new Map<number, RulePort[] | 'all'>();
  for (const entry of entries) {
    const protocol = protocolOf(entry);
    const port = portOf(entry);
    const group = groups.get(protocol) ?? [];
    groups.set(protocol, port === undefined || group === 'all' ? 'all' : [...group, port]);
  }
  return [...groups]
    .sort(([a], [b]) => a - b)
    .map(([protocol, ports]) => (ports === 'all' ? { protocol } : { protocol, ports: simplePorts(ports) }));
}

function protocolOf({ protocol = 'TCP' }: KubernetesPort): number {
  const number = ['TCP', 'UDP', 'SCTP'].includes(protocol) ? protocolNumber(protocol) : undefined;
  if (number === undefined) {
    throw new ConversionError(`protocol ${JSON.stringify(protocol)} is none of TCP, UDP and SCTP`);
  }
  return number;
}

function portOf({ port, endPort }: KubernetesPort): RulePort | undefined {
  if (port === undefined) {
    if (endPort !== undefined) {
      throw new ConversionError(`endPort ${endPort} without a port`);
    }
    return undefined;
  }
  const parsed = typeof port === 'string' && port.includes(':') ? undefined : parseRulePort(port);
  const last = endPort === undefined ? undefined : parseRulePort(endPort);
  if (parsed === undefined) {
    throw new ConversionError(`${JSON.stringify(port)} is neither a port nor a port's name`);
  }
  if (endPort === undefined) {
    return parsed;
  }
  if (parsed.kind !== 'range' || last?.kind !== 'range' || last.min < parsed.min) {
    throw new ConversionError(`${JSON.stringify(port)} to ${endPort} is no range of ports`);
  }
  return { kind: 'range', min: parsed.min, max: last.min };
}
