/** Kubernetes' NetworkPolicy (networking.k8s.io/v1), and the staged one of the same form. */
import type { KubernetesNetworkPolicy } from '#api/core/kubernetes-network-policy.ts';
import { protocolNumbers } from '#api/policy/protocols.ts';
import { effectivePolicyTypes } from '#api/policy/types-of.ts';
import type { RuleAction } from '#dataplanes/policy.ts';
import type { CalcPolicy } from '../model.ts';
import { policyOf, type PolicyHead } from './policy.ts';
import type { ProtocolPort } from './ports.ts';
import { combined, type PeerParts, type RuleParts } from './rule-parts.ts';
import { convertRules, type Direction } from './rules.ts';
import { podsIn, podsOf } from './selectors.ts';
import { defaultTier } from './tiers.ts';

type Spec = KubernetesNetworkPolicy['spec'];
type IngressRule = NonNullable<Spec['ingress']>[number];
type Rule = Pick<IngressRule, 'ports'>;
type Peer = NonNullable<IngressRule['from']>[number];
type Port = NonNullable<Rule['ports']>[number];

/** The order of all of them in their tier. */
const order = 1000;

/** Selects pods of its own namespace; all its rules allow. */
export function convertKubernetesPolicy(
  head: PolicyHead & { readonly namespace: string },
  spec: Spec,
  staged: boolean,
): CalcPolicy {
  return policyOf(head, {
    tier: defaultTier,
    order,
    subject: () => podsOf(head.namespace, spec.podSelector),
    types: effectivePolicyTypes(spec),
    staged,
    rules: (context, direction) =>
      direction === 'ingress'
        ? convertRules(context, direction, spec.ingress ?? [], allows, (rule) =>
            ruleParts(rule, rule.from ?? [], direction, head.namespace),
          )
        : convertRules(context, direction, spec.egress ?? [], allows, (rule) =>
            ruleParts(rule, rule.to ?? [], direction, head.namespace),
          ),
  });
}

function allows(): RuleAction {
  return 'allow';
}

/** One rule for each protocol and peer. No peers are all, known or not; no ports are all of all protocols. */
function ruleParts(
  { ports: entries = [] }: Rule,
  peers: readonly Peer[],
  direction: Direction,
  namespace: string,
): readonly RuleParts[] {
  const ends = peers.length === 0 ? [undefined] : peers.map((peer) => peerParts(peer, namespace));
  return combined('allow', direction, ends, entries.map(portOf));
}

/** Never "everybody": the schema refuses a peer that says nothing. */
function peerParts({ ipBlock, podSelector, namespaceSelector }: Peer, namespace: string): PeerParts {
  if (ipBlock !== undefined) {
    return { nets: [ipBlock.cidr], notNets: ipBlock.except };
  }
  return {
    selector: namespaceSelector === undefined ? podsOf(namespace, podSelector) : podsIn(namespaceSelector, podSelector),
  };
}

function portOf({ protocol, port, endPort }: Port): ProtocolPort {
  return {
    protocol: protocolNumbers[protocol],
    port:
      port === undefined
        ? 'all'
        : typeof port === 'string'
          ? { kind: 'name', name: port }
          : { kind: 'range', min: port, max: endPort ?? port },
  };
}
