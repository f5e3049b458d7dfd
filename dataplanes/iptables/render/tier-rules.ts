import type { ProfileId, TierInfo } from '../../policy.ts';
import { notMarkedWith, setMark } from './marks.ts';
import { policyChainName, profileChainName } from './names.ts';
import { comment, words } from './text.ts';
import type { ChainRule, Direction, KnownPolicies, RenderContext, TableName } from './types.ts';
import { denyTarget, returnIfAccepted } from './verdicts.ts';

/** What is walked, and where. */
export interface TierWalk {
  readonly tiers: readonly TierInfo[];
  readonly direction: Direction;
  readonly table: TableName;
  /** `apply`: what no rule of a tier decides meets the tier's default action; `goOn`: it goes on (preDNAT and doNotTrack policy). */
  readonly endOfTier: 'apply' | 'goOn';
}

/**
 * Walks the policies in order and returns to the caller, with the accept mark set, once one has accepted. Falls through, the accept mark
 * clear, when all tiers are passed or skipped. A policy that was never announced counts as one that denies.
 */
export function tierRules(walk: TierWalk, known: KnownPolicies, ctx: RenderContext): ChainRule[] {
  const { marks } = ctx;
  return [
    { text: setMark(0, marks.accept + marks.pass) },
    ...walk.tiers
      .filter((tier) => tier[walk.direction].length > 0)
      .flatMap((tier, index) => [
        ...(index === 0 ? [] : [{ text: setMark(0, marks.pass) }]),
        ...oneTier(tier, walk, known, ctx),
      ]),
  ];
}

/** True if some policy of the direction is in force: not all are staged. */
export const isEnforced = (tiers: readonly TierInfo[], direction: Direction, { policies }: KnownPolicies): boolean =>
  tiers.some((tier) => tier[direction].some((id) => policies.get(id)?.staged !== true));

function oneTier(tier: TierInfo, walk: TierWalk, known: KnownPolicies, { marks, config }: RenderContext): ChainRule[] {
  const { direction, table, endOfTier } = walk;
  const ids = tier[direction];
  const deny = denyTarget(table, config);
  // A policy of the tier may have passed the packet on: then the others have no say.
  const unlessPassed = (about: string, target: string): ChainRule => ({
    text: words(notMarkedWith(marks.pass), comment(`tier ${tier.name}: ${about}`), target),
  });
  const missing = ids.find((id) => !known.policies.get(id));
  if (missing !== undefined) {
    // What stands before it might be decided; but then the order of messages is broken, and nothing may get through by that.
    return [unlessPassed(`${missing} is not known`, deny)];
  }
  const walked = ids.flatMap((id) => [
    unlessPassed(id, `-j ${policyChainName(direction, id)}`),
    ...(known.policies.get(id)?.staged === true ? [] : [returnIfAccepted(marks)]),
  ]);
  const denies = endOfTier === 'apply' && tier.defaultAction === 'deny' && isEnforced([tier], direction, known);
  return denies ? [...walked, unlessPassed('no policy allows it', deny)] : walked;
}

/**
 * The chains of staged policies alone, for their counters: no mark that others rely on changes. For places where nothing in force means
 * that the packet is left alone.
 */
export function stagedRules(tiers: readonly TierInfo[], direction: Direction): ChainRule[] {
  return tiers.flatMap((tier) =>
    tier[direction].map((id) => ({
      text: words(comment(`tier ${tier.name}: ${id}`), `-j ${policyChainName(direction, id)}`),
    })),
  );
}

/** What no tier has decided: the profiles in order, then denial. One that was never announced denies. */
export function profileRules(
  profiles: readonly ProfileId[],
  direction: Direction,
  table: TableName,
  known: KnownPolicies,
  { marks, config }: RenderContext,
): ChainRule[] {
  const missing = profiles.findIndex((id) => !known.profiles.has(id));
  const usable = missing < 0 ? profiles : profiles.slice(0, missing);
  const reason = missing < 0 ? 'no profile allows it' : `profile ${profiles[missing] ?? ''} is not defined`;
  return [
    ...usable.flatMap((id) => [
      { text: words(comment(`profile ${id}`), `-j ${profileChainName(direction, id)}`) },
      returnIfAccepted(marks),
    ]),
    { text: words(comment(reason), denyTarget(table, config)) },
  ];
}
