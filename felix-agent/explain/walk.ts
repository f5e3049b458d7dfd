import type { RuleId, RuleInfo, TierInfo } from '#dataplanes/policy.ts';
import type { Packet } from './packet.ts';
import type { PolicyView } from './policy-view.ts';
import { mismatch } from './rule-match.ts';

export type Direction = 'ingress' | 'egress';

/** One rule that was looked at, in order. */
export interface Step {
  readonly tier: string | null;
  readonly rule: RuleId;
  readonly action: RuleInfo['action'];
  readonly matched: boolean;
  /** Why it did not match; what a staged rule would have done; empty where it matched. */
  readonly note: string;
}

/** What one endpoint's policy says about a packet in one direction. */
export interface Judgement {
  readonly verdict: 'allow' | 'deny';
  /** The rule that decides; undefined where the end of a tier or of the profiles does. */
  readonly rule: RuleId | null;
  /** One sentence. */
  readonly reason: string;
  readonly steps: readonly Step[];
}

/**
 * Walks an endpoint's tiers and profiles as a dataplane does. Order and meaning: tiers in order; in each the policies of the direction;
 * allow and deny decide, pass goes to the next tier, log goes on; a tier with a policy that is not staged ends with its default
 * action; then the profiles in order, of which one that is not defined denies; then deny. A tier with a policy that is not known denies as a whole.
 */
export function walk(
  view: PolicyView,
  endpoint: { readonly tiers: readonly TierInfo[]; readonly profiles: readonly string[] },
  direction: Direction,
  packet: Packet,
): Judgement {
  const steps: Step[] = [];
  for (const tier of endpoint.tiers) {
    const judgement = walkTier(view, tier, direction, packet, steps);
    if (judgement !== undefined) return judgement;
  }
  return walkProfiles(view, endpoint.profiles, direction, packet, steps);
}

function walkTier(
  view: PolicyView,
  tier: TierInfo,
  direction: Direction,
  packet: Packet,
  steps: Step[],
): Judgement | undefined {
  let enforced = 0;
  const missing = tier[direction].find((id) => view.policy(id) === undefined);
  if (missing !== undefined) {
    return { verdict: 'deny', rule: null, reason: `${missing} of tier ${tier.name} is not known yet`, steps };
  }
  for (const policy of tier[direction].flatMap((id) => view.policy(id) ?? [])) {
    if (policy.staged) {
      noteStaged(policy[direction], tier.name, packet, view, steps);
      continue;
    }
    enforced++;
    const decisive = firstMatch(policy[direction], tier.name, packet, view, steps);
    if (decisive === undefined) continue;
    if (decisive.action === 'pass') return undefined;
    return decided(decisive, ` of tier ${tier.name}`, steps);
  }
  if (enforced === 0 || tier.defaultAction === 'pass') return undefined;
  const reason = `no rule matched in tier ${tier.name}, whose default action is Deny (${enforced} ${enforced === 1 ? 'policy' : 'policies'} there)`;
  return { verdict: 'deny', rule: null, reason, steps };
}

function walkProfiles(
  view: PolicyView,
  profiles: readonly string[],
  direction: Direction,
  packet: Packet,
  steps: Step[],
): Judgement {
  for (const id of profiles) {
    const profile = view.profile(id);
    if (profile === undefined) {
      const reason = `no tier decides, and profile ${id} is not defined`;
      return { verdict: 'deny', rule: null, reason, steps };
    }
    const decisive = firstMatch(profile[direction], null, packet, view, steps);
    if (decisive === undefined || decisive.action === 'pass') continue; // From a profile it passes to the next one.
    return decided(decisive, '', steps);
  }
  const which = profiles.length === 0 ? 'there is no profile' : `no profile (${profiles.join(', ')}) allows it`;
  return { verdict: 'deny', rule: null, reason: `no tier decides, and ${which}`, steps };
}

/** The first rule that matches and is no log rule; every rule looked at becomes a step. */
function firstMatch(
  rules: readonly RuleInfo[],
  tier: string | null,
  packet: Packet,
  view: PolicyView,
  steps: Step[],
): RuleInfo | undefined {
  for (const rule of rules) {
    const why = mismatch(rule, packet, view);
    steps.push({ tier, rule: rule.id, action: rule.action, matched: why === undefined, note: why ?? '' });
    if (why === undefined && rule.action !== 'log') return rule;
  }
  return undefined;
}

function noteStaged(rules: readonly RuleInfo[], tier: string, packet: Packet, view: PolicyView, steps: Step[]): void {
  const rule = rules.find((each) => each.action !== 'log' && mismatch(each, packet, view) === undefined);
  if (rule === undefined) return;
  const note = `staged: it would ${rule.action}, and decides nothing`;
  steps.push({ tier, rule: rule.id, action: rule.action, matched: true, note });
}

function decided(rule: RuleInfo, where: string, steps: Step[]): Judgement {
  const verdict = rule.action === 'allow' ? 'allow' : 'deny';
  return { verdict, rule: rule.id, reason: `rule ${rule.id}${where} says ${rule.action}`, steps };
}
