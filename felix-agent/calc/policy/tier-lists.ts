/** The policies of one endpoint, in order of evaluation, as lists per tier and direction. */
import type { TierInfo } from '#dataplanes/policy.ts';
import type { CalcPolicy } from '../model.ts';
import type { CalcTier } from '../convert/convert.ts';

/** The lists that host endpoints have; workloads have `tiers` only. */
export interface HostTiers {
  readonly tiers: readonly TierInfo[];
  readonly forwardTiers: readonly TierInfo[];
  readonly preDnatTiers: readonly TierInfo[];
  readonly untrackedTiers: readonly TierInfo[];
}

type TierOf = (name: string) => CalcTier;

/** Does the policy have a say about pods and other workloads? What is judged before connection tracking or translation has not. */
export function appliesToWorkloads({ doNotTrack, preDnat, ingressType, egressType }: CalcPolicy): boolean {
  return !doNotTrack && !preDnat && (ingressType || egressType);
}

export function appliesToHosts({ preDnat, ingressType, egressType }: CalcPolicy): boolean {
  return ingressType || (egressType && !preDnat);
}

/** `sorted`: the policies that select the endpoint, in order. */
export function workloadTiers(sorted: readonly CalcPolicy[], tierOf: TierOf): readonly TierInfo[] {
  return tiersOf(sorted.filter(appliesToWorkloads), tierOf);
}

/** A policy with applyOnForward stands in two lists, one with doNotTrack or preDNAT only in its own. */
export function hostTiers(sorted: readonly CalcPolicy[], tierOf: TierOf): HostTiers {
  const ordinary = sorted.filter(({ doNotTrack, preDnat }) => !doNotTrack && !preDnat);
  return {
    tiers: tiersOf(ordinary, tierOf),
    forwardTiers: tiersOf(
      ordinary.filter(({ applyOnForward }) => applyOnForward),
      tierOf,
    ),
    preDnatTiers: tiersOf(
      sorted.filter(({ preDnat }) => preDnat),
      tierOf,
      false,
    ),
    untrackedTiers: tiersOf(
      sorted.filter(({ doNotTrack, preDnat }) => doNotTrack && !preDnat),
      tierOf,
    ),
  };
}

function tiersOf(sorted: readonly CalcPolicy[], tierOf: TierOf, withEgress = true): readonly TierInfo[] {
  const lists: { readonly name: string; readonly ingress: string[]; readonly egress: string[] }[] = [];
  for (const { id, tier, ingressType, egressType } of sorted) {
    const hasEgress = egressType && withEgress;
    if (!ingressType && !hasEgress) continue;
    let last = lists.at(-1);
    if (last?.name !== tier) lists.push((last = { name: tier, ingress: [], egress: [] }));
    if (ingressType) last.ingress.push(id);
    if (hasEgress) last.egress.push(id);
  }
  return lists.map((list) => ({ ...list, defaultAction: tierOf(list.name).defaultAction }));
}
