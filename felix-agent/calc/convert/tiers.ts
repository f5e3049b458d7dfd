/** Tiers, and the order in which tiers and the policies of one are evaluated. */
import { builtInTiers as settingsByName, tierSettings, type Tier, type TierSettings } from '#api/v3/tier.ts';
import type { CalcPolicy } from '../model.ts';

/** The part of a Tier object that counts. */
export type TierSource = Pick<Tier, 'metadata' | 'spec'>;

/** A tier as calc works with it. */
export interface CalcTier {
  readonly name: string;
  /** Infinity where none is given. */
  readonly order: number;
  /** What becomes of traffic that a tier's policies select and none of their rules decides. */
  readonly defaultAction: 'deny' | 'pass';
  /** False for a tier that policies name and that does not exist: it comes after all that do, whatever their order. */
  readonly exists: boolean;
}

/** The tier of policies that name none, and of Kubernetes' NetworkPolicies. */
export const defaultTier = 'default';
/** The tiers of ClusterNetworkPolicies. */
export const kubeAdminTier = 'kube-admin';
export const kubeBaselineTier = 'kube-baseline';

/** Tiers that exist without an object. One that is there says the same, so these may be known from the start. */
export const builtInTiers: readonly CalcTier[] = [...settingsByName].map(([name, settings]) =>
  existing(name, settings),
);

/** A Tier object, with what it leaves out. */
export function convertTier(tier: TierSource): CalcTier {
  return existing(tier.metadata.name, tierSettings(tier));
}

/** A tier that policies name and that has no object: theirs is the last word before the profiles, and it is a denial. */
export function missingTier(name: string): CalcTier {
  return { name, order: Infinity, defaultAction: 'deny', exists: false };
}

/** For sorting: by order, then name; tiers that don't exist come last. */
export function compareTiers(a: CalcTier, b: CalcTier): number {
  if (a.exists !== b.exists) {
    return a.exists ? -1 : 1;
  }
  return compare(a.order, b.order) || compare(a.name, b.name);
}

/**
 * For sorting the policies of one tier: by order, then by the text `name/namespace/kind`, as Calico does. So cluster-wide ones come first of
 * one name, and `a-b` comes before `a`: `-` and `.` are less than the slash.
 */
export function comparePolicies(a: CalcPolicy, b: CalcPolicy): number {
  return (
    compare(a.order, b.order) ||
    compare(`${a.name}/`, `${b.name}/`) ||
    compare(`${a.namespace ?? ''}/`, `${b.namespace ?? ''}/`) ||
    compare(a.kind, b.kind)
  );
}

/** By value, text by code units; a difference would be NaN for two infinite orders. */
function compare<T extends number | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function existing(name: string, { order, defaultAction }: TierSettings): CalcTier {
  return { name, order, defaultAction: defaultAction === 'Pass' ? 'pass' : 'deny', exists: true };
}
