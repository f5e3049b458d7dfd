/** ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2): Kubernetes' own cluster-wide policy, before and after NetworkPolicies. */
import type { ClusterNetworkPolicy } from '#api/core/cluster-network-policy.ts';
import type { RulePort } from '#api/policy/ports.ts';
import { protocolNumbers } from '#api/policy/protocols.ts';
import type { SelectorNode } from '#api/selector/ast.ts';
import type { RuleAction } from '#dataplanes/policy.ts';
import type { CalcPolicy } from '../model.ts';
import { policyOf, type PolicyHead } from './policy.ts';
import type { ProtocolPort } from './ports.ts';
import { ConversionError } from './problem.ts';
import { combined, type PeerParts, type RuleParts } from './rule-parts.ts';
import { convertRules, type Direction } from './rules.ts';
import { podsIn } from './selectors.ts';
import { kubeAdminTier, kubeBaselineTier } from './tiers.ts';

type Spec = ClusterNetworkPolicy['spec'];
type IngressRule = NonNullable<Spec['ingress']>[number];
type EgressRule = NonNullable<Spec['egress']>[number];
type Rule = Pick<IngressRule, 'action' | 'protocols'>;
type Peer = IngressRule['from'][number] | EgressRule['to'][number];
type Protocol = NonNullable<Rule['protocols']>[number];
type Port = NonNullable<NonNullable<Protocol['tcp']>['destinationPort']>;

const actions: Readonly<Record<Rule['action'], RuleAction>> = { Accept: 'allow', Deny: 'deny', Pass: 'pass' };
const { TCP, UDP, SCTP } = protocolNumbers;
const protocolsWithPorts = [TCP, UDP, SCTP];

/** Selects pods; a direction without rules is not touched (its tiers pass on what no rule decides). */
export function convertClusterPolicy(head: PolicyHead, spec: Spec): CalcPolicy {
  return policyOf(head, {
    tier: spec.tier === 'Admin' ? kubeAdminTier : kubeBaselineTier,
    order: spec.priority,
    subject: () => podsNode(spec.subject),
    types: { ingress: (spec.ingress ?? []).length > 0, egress: (spec.egress ?? []).length > 0 },
    rules: (context, direction) =>
      direction === 'ingress'
        ? convertRules(context, direction, spec.ingress ?? [], actionOf, (rule) =>
            ruleParts(rule, rule.from, direction),
          )
        : convertRules(context, direction, spec.egress ?? [], actionOf, (rule) => ruleParts(rule, rule.to, direction)),
  });
}

function actionOf({ action }: Rule): RuleAction {
  return actions[action];
}

/** One rule for each protocol and peer. */
function ruleParts(rule: Rule, peers: readonly Peer[], direction: Direction): readonly RuleParts[] {
  return combined(actionOf(rule), direction, peers.map(peerParts), (rule.protocols ?? []).flatMap(portsOf));
}

function peerParts(peer: Peer): PeerParts {
  return 'networks' in peer && peer.networks !== undefined ? { nets: peer.networks } : { selector: podsNode(peer) };
}

/** Never "everybody": what is not supported (nodes, domainNames) or not known (a newer version's) has to fail. */
function podsNode({ namespaces, pods, ...others }: Peer): SelectorNode {
  if (namespaces !== undefined) {
    return podsIn(namespaces);
  }
  if (pods !== undefined) {
    return podsIn(pods.namespaceSelector, pods.podSelector);
  }
  const given = Object.keys(others).join(', ');
  throw new ConversionError(
    `peers are supported by namespaces, pods and networks, not by ${given === '' ? 'nothing' : given}`,
  );
}

/** A port's name is looked up for every protocol: the entry has none. */
function portsOf(entry: Protocol): readonly ProtocolPort[] {
  const { tcp, udp, sctp, destinationNamedPort: name, ...others } = entry;
  if (name !== undefined) {
    return protocolsWithPorts.map((protocol) => ({ protocol, port: { kind: 'name', name } }));
  }
  for (const [protocol, match] of [
    [TCP, tcp],
    [UDP, udp],
    [SCTP, sctp],
  ] as const) {
    if (match !== undefined) {
      return [{ protocol, port: match.destinationPort === undefined ? 'all' : portOf(match.destinationPort) }];
    }
  }
  const given = Object.keys(others).join(', ');
  throw new ConversionError(
    `protocols are supported by tcp, udp, sctp and destinationNamedPort, not by ${given === '' ? 'nothing' : given}`,
  );
}

function portOf({ number, range }: Port): RulePort {
  const min = number ?? range?.start;
  const max = number ?? range?.end;
  if (min === undefined || max === undefined) {
    throw new ConversionError('a destinationPort has neither number nor range');
  }
  return { kind: 'range', min, max };
}
