import type { Counter } from '#dataplanes/contract.ts';
import type { EndpointId } from '#dataplanes/messages.ts';
import type { RuleId, RuleInfo, TierInfo } from '#dataplanes/policy.ts';
import type { PolicyView } from './policy-view.ts';
import { ruleText } from './rule-text.ts';
import type { Direction } from './walk.ts';

/** One rule of a policy or profile. */
export interface RuleReport {
  readonly id: RuleId;
  readonly text: string;
  /** Matches since the rule was programmed, by every endpoint of the node that uses it; null when the dataplane doesn't count it. */
  readonly counter: Counter | null;
}

/** One policy in one direction. */
export interface PolicyReport {
  readonly id: string;
  readonly staged: boolean;
  readonly rules: readonly RuleReport[];
}

/** One tier in one direction. */
export interface TierReport {
  readonly name: string;
  /** What becomes of what no rule matches; null when the tier is skipped then (only staged policies). */
  readonly endsWith: 'deny' | 'pass' | null;
  readonly policies: readonly PolicyReport[];
}

/** What judges one endpoint, in the order of evaluation. A stable shape. */
export interface EndpointPolicyReport {
  readonly endpoint: EndpointId;
  readonly device: string;
  readonly addresses: readonly string[];
  readonly ingress: { readonly tiers: readonly TierReport[]; readonly profiles: readonly PolicyReport[] };
  readonly egress: { readonly tiers: readonly TierReport[]; readonly profiles: readonly PolicyReport[] };
  /** What else a reader must know: what of it is not in force. */
  readonly notes: readonly string[];
}

/** `tortie policy show`: an endpoint's tiers, policies and rules with what each has matched; undefined when nobody announced it. */
export function reportPolicy(
  view: PolicyView,
  id: EndpointId,
  counters: ReadonlyMap<RuleId, Counter>,
  notes: readonly string[] = [],
): EndpointPolicyReport | undefined {
  const endpoint = view.endpoint(id);
  if (endpoint === undefined) return undefined;
  const rules = (infos: readonly RuleInfo[]): RuleReport[] =>
    infos.map((rule) => ({ id: rule.id, text: ruleText(rule, view), counter: counters.get(rule.id) ?? null }));
  const tier = (info: TierInfo, direction: Direction): TierReport => {
    const policies = info[direction].flatMap((policyId): PolicyReport[] => {
      const policy = view.policy(policyId);
      return policy === undefined ? [] : [{ id: policyId, staged: policy.staged, rules: rules(policy[direction]) }];
    });
    return { name: info.name, endsWith: policies.every(({ staged }) => staged) ? null : info.defaultAction, policies };
  };
  const side = (direction: Direction) => ({
    tiers: endpoint.tiers.filter((info) => info[direction].length > 0).map((info) => tier(info, direction)),
    profiles: endpoint.profiles.map((profile) => ({
      id: profile,
      staged: false,
      rules: rules(view.profile(profile)?.[direction] ?? []),
    })),
  });
  return {
    endpoint: id,
    device: endpoint.ifaceName,
    addresses: [...endpoint.ipv4Nets, ...endpoint.ipv6Nets],
    ingress: side('ingress'),
    egress: side('egress'),
    notes,
  };
}
