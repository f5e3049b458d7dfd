import type { ApplyFailure } from '../contract.ts';
import type { SetFailure } from '../netfilter/ipsets.ts';
import type { SetId } from '../policy.ts';
import type { FamilyReport } from './family.ts';
import type { PolicyState } from './policy-state.ts';
import { policyChainName, profileChainName } from './render/names.ts';
import type { Direction, PolicyUnit } from './render/types.ts';
import type { SelectorSets } from './selector-sets.ts';
import type { EndpointMember } from './wl-source.ts';

/** What a cycle's failures mean for objects and endpoints. */
export interface CycleJudgement {
  /** By object: tables, policies, sets. */
  readonly failed: readonly ApplyFailure[];
  /** Some members were not taken out of their sets, or nobody knows. */
  readonly deletionsFailed: boolean;
  /** Why an endpoint of this unit with these members is not wholly in the kernel; undefined: it is. */
  reasonFor(unit: PolicyUnit | undefined, members: readonly EndpointMember[]): string | undefined;
}

const DIRECTIONS: readonly Direction[] = ['ingress', 'egress'];
const FINE: CycleJudgement = { failed: [], deletionsFailed: false, reasonFor: () => undefined };

/**
 * Whom failures concern: a table's every endpoint, a refused chain's those whose unit uses the policy, a set's those whose policies refer to
 * it, a member's its endpoint.
 */
export function judge(
  reports: readonly FamilyReport[],
  state: PolicyState,
  selectorSets: Pick<SelectorSets, 'describe'>,
): CycleJudgement {
  const setFailures = reports.flatMap((report) => report.setFailures);
  const tableFailures = reports.flatMap(({ family, tableFailures }) =>
    tableFailures.map((failure) => Object.assign({ family }, failure)),
  );
  if (setFailures.length + tableFailures.length === 0) return FINE;

  const names = namesOfChains(state);
  // By the policy's or profile's id.
  const refusedChains = new Map<string, string>();
  const failed: ApplyFailure[] = [];
  let forAll: string | undefined;
  for (const { object, chain, reason } of tableFailures) {
    const name = chain === undefined ? undefined : names.get(chain);
    if (name === undefined) {
      failed.push({ object, reason });
      forAll ??= `${object}: ${reason}`;
    } else {
      failed.push({ object: name.object, reason: `${object}, chain ${chain ?? ''}: ${reason}` });
      refusedChains.set(name.id, `${name.object}: ${reason}`);
    }
  }
  const badSets = new Map<SetId, string>();
  const refusedMembers = new Map<string, string>();
  for (const { set, failures } of bySet(setFailures)) {
    const known = selectorSets.describe(set);
    if (known !== undefined) {
      const object = `ipset ${set} (${known.about})`;
      const reason = summary(failures);
      badSets.set(known.id, `${object}: ${reason}`);
      failed.push({ object, reason });
      continue;
    }
    for (const { member, reason } of failures) {
      if (member !== undefined) {
        refusedMembers.set(`${set} ${member}`, reason);
        continue;
      }
      failed.push({ object: `ipset ${set}`, reason });
      forAll ??= `ipset ${set}: ${reason}`;
    }
  }
  return {
    failed,
    deletionsFailed: tableFailures.length > 0 || setFailures.some(isUnknown),
    reasonFor(unit, members) {
      if (forAll !== undefined) return forAll;
      const ofMember = members.map(({ set, member }) => refusedMembers.get(`${set} ${member}`)).find(Boolean);
      if (ofMember !== undefined || unit === undefined) return ofMember;
      const used = [...unit.tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress]), ...unit.profiles];
      const ofPolicy = used.map((id) => refusedChains.get(id)).find(Boolean);
      if (ofPolicy !== undefined || badSets.size === 0) return ofPolicy;
      return [...badSets].find(([id]) => state.usersOfSets(unit, new Set([id])).length > 0)?.[1];
    },
  };
}

function bySet(failures: readonly SetFailure[]): readonly { readonly set: string; readonly failures: SetFailure[] }[] {
  const sets = Map.groupBy(failures, ({ set }) => set);
  return [...sets].map(([set, ofSet]) => ({ set, failures: ofSet }));
}

/** A selector's set may have refused a hundred thousand members, for one reason: that is one thing to say. */
function summary(failures: readonly SetFailure[]): string {
  const members = failures.filter(({ member }) => member !== undefined).length;
  const first = failures.find(({ member }) => member === undefined) ?? failures[0];
  const more = members > 1 ? ` (${members} members are refused)` : '';
  return `${first?.reason ?? ''}${more}`;
}

/** A set that failed as a whole: what it holds isn't known. */
const isUnknown = ({ member }: SetFailure): boolean => member === undefined;

function namesOfChains(state: PolicyState): ReadonlyMap<string, { id: string; object: string }> {
  const names = new Map<string, { id: string; object: string }>();
  for (const direction of DIRECTIONS) {
    for (const id of state.policies.keys()) names.set(policyChainName(direction, id), { id, object: id });
    for (const id of state.profiles.keys()) names.set(profileChainName(direction, id), { id, object: `Profile ${id}` });
  }
  return names;
}
