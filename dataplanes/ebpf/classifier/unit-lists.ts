import type { Family } from '#api/cidr.ts';
import type { PolicyId, ProfileId, TierInfo } from '../../policy.ts';

/**
 * What becomes of a packet that no rule decides. `endpoint`: the tiers' defaults, the profiles, then denial (pods, and hosts' own traffic).
 * `forward`: the tiers' defaults; what all pass on is left undecided (applyOnForward). `early`: tiers have no default (preDNAT, doNotTrack).
 */
export type UnitKind = 'endpoint' | 'forward' | 'early';

/** The lists of one direction of an endpoint in one family: all that says what a unit is. Endpoints with equal lists share it. */
export interface UnitLists {
  readonly kind: UnitKind;
  readonly direction: 'ingress' | 'egress';
  readonly family: Family;
  readonly tiers: readonly {
    readonly name: string;
    readonly defaultAction: TierInfo['defaultAction'];
    readonly policies: readonly PolicyId[];
  }[];
  /** Of an `endpoint`; else empty. */
  readonly profiles: readonly ProfileId[];
}

/** The lists of an endpoint's direction. Tiers without a policy of the direction are left out: they say nothing. */
export function unitLists(
  kind: UnitKind,
  direction: UnitLists['direction'],
  family: Family,
  { tiers, profiles }: { readonly tiers: readonly TierInfo[]; readonly profiles: readonly ProfileId[] },
): UnitLists {
  return {
    kind,
    direction,
    family,
    tiers: tiers.flatMap(({ name, defaultAction, [direction]: policies }) =>
      policies.length === 0 ? [] : [{ name, defaultAction, policies }],
    ),
    profiles: kind === 'endpoint' ? profiles : [],
  };
}

/** Equal for equal lists. */
export function unitKey({ kind, direction, family, tiers, profiles }: UnitLists): string {
  return JSON.stringify([
    kind,
    direction,
    family,
    tiers.map(({ name, defaultAction, policies }) => [name, defaultAction, policies]),
    profiles,
  ]);
}
