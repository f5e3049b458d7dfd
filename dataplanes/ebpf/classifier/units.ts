import { isDeepStrictEqual } from 'node:util';
import type { DataplaneUpdate } from '../../messages.ts';
import type { PolicyId, PolicyInfo, ProfileId, ProfileInfo } from '../../policy.ts';
import { IdPool } from './id-pool.ts';
import type { UnitRows } from './records.ts';
import { unitKey, type UnitLists } from './unit-lists.ts';

type PolicyMessage = Extract<
  DataplaneUpdate,
  { type: 'policyUpdate' | 'policyRemove' | 'profileUpdate' | 'profileRemove' }
>;

/** Rules that some endpoints share. */
export interface Unit {
  /** Index into `tortie_units`; 0, which denies everything, where there is no room for it. */
  readonly number: number;
  readonly lists: UnitLists;
  /** What its number points to; undefined: everything is denied. */
  published: UnitRows | undefined;
  /** Why everything is denied. */
  failure: string | undefined;
  users: number;
}

/** Units by their lists, and which of them have to be made anew. */
export class Units {
  readonly policies = new Map<PolicyId, PolicyInfo>();
  readonly profiles = new Map<ProfileId, ProfileInfo>();
  readonly #numbers: IdPool;
  readonly #byKey = new Map<string, Unit>();
  readonly #byPolicy = new Map<PolicyId, Set<Unit>>();
  readonly #byProfile = new Map<ProfileId, Set<Unit>>();
  readonly #unused = new Set<Unit>();
  readonly #failed = new Set<Unit>();
  #dirty = new Set<Unit>();

  /** Numbers 1 to `end` - 1. */
  constructor(end: number) {
    this.#numbers = new IdPool(1, end);
  }

  /** The unit of these lists, with one user more; a new one comes into force with the next flush. */
  acquire(lists: UnitLists): Unit {
    const key = unitKey(lists);
    let unit = this.#byKey.get(key);
    if (unit === undefined) {
      unit = { number: this.#numbers.take() ?? 0, lists, published: undefined, failure: undefined, users: 0 };
      this.#byKey.set(key, unit);
      for (const { policies } of lists.tiers) for (const id of policies) addTo(this.#byPolicy, id, unit);
      for (const id of lists.profiles) addTo(this.#byProfile, id, unit);
      this.#dirty.add(unit);
    }
    unit.users++;
    this.#unused.delete(unit);
    return unit;
  }

  /** A unit that nobody uses any more goes with the next flush. */
  release(unit: Unit): void {
    unit.users--;
    if (unit.users === 0) this.#unused.add(unit);
  }

  onUpdate(message: PolicyMessage): void {
    switch (message.type) {
      case 'policyUpdate':
        return this.#setPolicy(message.id, message.policy);
      case 'policyRemove':
        return this.#setPolicy(message.id, undefined);
      case 'profileUpdate':
        return this.#setProfile(message.id, message.profile);
      case 'profileRemove':
        return this.#setProfile(message.id, undefined);
    }
  }

  /** Units to be made anew. `withFailed`: those that failed as well. */
  takeDirty(withFailed: boolean): Unit[] {
    const dirty = this.#dirty;
    this.#dirty = new Set();
    if (withFailed) for (const unit of this.#failed) dirty.add(unit);
    return [...dirty].filter((unit) => unit.users > 0);
  }

  /** Units that nobody uses any more, no more to be found. Their numbers have to be given back. */
  takeUnused(): Unit[] {
    const unused = [...this.#unused];
    this.#unused.clear();
    for (const unit of unused) {
      const { lists } = unit;
      this.#byKey.delete(unitKey(lists));
      this.#dirty.delete(unit);
      this.#failed.delete(unit);
      for (const { policies } of lists.tiers) for (const id of policies) removeFrom(this.#byPolicy, id, unit);
      for (const id of lists.profiles) removeFrom(this.#byProfile, id, unit);
    }
    return unused;
  }

  /** Nothing refers to the number any more. */
  giveBack({ number }: Unit): void {
    if (number !== 0) this.#numbers.give(number);
  }

  /** States or clears why the unit denies everything. */
  setFailure(unit: Unit, failure: string | undefined): void {
    unit.failure = failure;
    if (failure === undefined) this.#failed.delete(unit);
    else this.#failed.add(unit);
  }

  get failed(): readonly Unit[] {
    return [...this.#failed];
  }

  get size(): number {
    return this.#byKey.size;
  }

  #setPolicy(id: PolicyId, policy: PolicyInfo | undefined): void {
    const before = this.policies.get(id);
    if (policy === undefined) this.policies.delete(id);
    else this.policies.set(id, policy);
    this.#touch(
      this.#byPolicy.get(id),
      before?.staged !== policy?.staged || (before === undefined) !== (policy === undefined),
      before,
      policy,
    );
  }

  #setProfile(id: ProfileId, profile: ProfileInfo | undefined): void {
    const before = this.profiles.get(id);
    if (profile === undefined) this.profiles.delete(id);
    else this.profiles.set(id, profile);
    this.#touch(this.#byProfile.get(id), (before === undefined) !== (profile === undefined), before, profile);
  }

  /** Only directions whose rules have changed matter: objects are announced again for all sorts of reasons. */
  #touch(
    users: ReadonlySet<Unit> | undefined,
    isOther: boolean,
    before: ProfileInfo | undefined,
    after: ProfileInfo | undefined,
  ): void {
    if (users === undefined) return;
    const changed = {
      ingress: isOther || !isDeepStrictEqual(before?.ingress, after?.ingress),
      egress: isOther || !isDeepStrictEqual(before?.egress, after?.egress),
    };
    for (const unit of users) if (changed[unit.lists.direction]) this.#dirty.add(unit);
  }
}

function addTo<K>(map: Map<K, Set<Unit>>, key: K, unit: Unit): void {
  const units = map.get(key);
  if (units === undefined) map.set(key, new Set([unit]));
  else units.add(unit);
}

function removeFrom<K>(map: Map<K, Set<Unit>>, key: K, unit: Unit): void {
  const units = map.get(key);
  units?.delete(unit);
  if (units?.size === 0) map.delete(key);
}
