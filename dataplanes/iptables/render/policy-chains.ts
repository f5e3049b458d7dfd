import type { PolicyId, PolicyInfo, ProfileId, ProfileInfo, RuleInfo } from '../../policy.ts';
import { ruleMatch } from './match.ts';
import { policyChainName, profileChainName } from './names.ts';
import { comment, logPrefix, type LogSubject, logSubject, words } from './text.ts';
import type { Chain, ChainRule, Direction, RenderContext, TableName } from './types.ts';
import { ALLOW_CHAIN, denyTarget, PASS_CHAIN } from './verdicts.ts';

/** One direction of a policy: the chain that units and host endpoints of this table jump to. */
export function policyChain(
  id: PolicyId,
  policy: PolicyInfo,
  direction: Direction,
  table: TableName,
  ctx: RenderContext,
): Chain {
  const targets = policy.staged ? stagedTargets : enforcedTargets(table, logSubject(id, policy.tier), ctx);
  return {
    name: policyChainName(direction, id),
    rules: policy[direction].flatMap((rule) => chainRules(rule, targets, ctx)),
  };
}

/** As `policyChain`, of a profile. */
export function profileChain(
  id: ProfileId,
  profile: ProfileInfo,
  direction: Direction,
  table: TableName,
  ctx: RenderContext,
): Chain {
  const targets = enforcedTargets(table, { tier: '', kind: 'profile', name: id }, ctx);
  return {
    name: profileChainName(direction, id),
    rules: profile[direction].flatMap((rule) => chainRules(rule, targets, ctx)),
  };
}

/** What becomes of a packet that the rule matches: the target of the rule that counts, and of a second one with the same matches. */
interface Targets {
  readonly counted: string;
  readonly further?: string;
}

/** Without a target a rule only counts. */
const COUNT_ONLY = '';

function enforcedTargets(table: TableName, subject: LogSubject, { config }: RenderContext) {
  const log = `-j LOG --log-prefix "${logPrefix(config.logPrefix, subject)}" --log-level 5`;
  const { logRate } = config;
  return ({ action }: RuleInfo): Targets => {
    switch (action) {
      // A goto: when the chain that sets the mark ends, the packet is back behind the jump to the policy. One rule does for two.
      case 'allow':
        return { counted: `-g ${ALLOW_CHAIN}` };
      case 'pass':
        return { counted: `-g ${PASS_CHAIN}` };
      case 'deny':
        return { counted: denyTarget(table, config) };
      case 'log':
        if (logRate === undefined) return { counted: log };
        // The limit is a match: the rule that has it counts what was written, not what matched.
        return {
          counted: COUNT_ONLY,
          further: `-m limit --limit ${logRate.rate} --limit-burst ${logRate.burst} ${log}`,
        };
    }
  };
}

/** Rules are walked and counted as they would be in force, but a match only ends the walk. */
const stagedTargets = ({ action }: RuleInfo): Targets => ({ counted: action === 'log' ? COUNT_ONLY : '-j RETURN' });

function chainRules(rule: RuleInfo, targets: (rule: RuleInfo) => Targets, ctx: RenderContext): ChainRule[] {
  const found = ruleMatch(rule, ctx);
  if (found === undefined) return [];
  const { counted, further } = targets(rule);
  // The comment stands behind the other matches: the kernel asks one after the other, and it is asked of fewer packets there.
  const deciding: ChainRule = { text: words(found.match, comment(rule.id), counted), rule: rule.id };
  return [
    ...found.before.map((text) => ({ text })),
    deciding,
    ...(further === undefined ? [] : [{ text: words(found.match, further) }]),
  ];
}
