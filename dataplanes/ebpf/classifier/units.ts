import { isDeepStrictEqual } from 'node:util';
import type { DataplaneUpdate } from '../../messages.ts';
import type { PolicyId, PolicyInfo, ProfileId, ProfileInfo, SetId } from '../../policy.ts';
import { IdPool } from './id-pool.ts';
import type { SizedMap } from './classifier-maps.ts';
import type { UnitRows } from './records.ts';
import type { RuleCounters } from './rule-counters.ts';
import { unitKey, type UnitLists } from './unit-lists.ts';

type PolicyMessage = Extract<
  DataplaneUpdate,
  { type: 'policyUpdate' | 'policyRemove' | 'profileUpdate' | 'profileRemove' }
>;

/** Rules that some endpoints share. */
export interface Unit {
  /** Index into `tortie_units`; 0, which denies everything, where there is no room for it. It gets one later (`Classifier.onNumber`). */
  number: number;
  readonly lists: UnitLists;
  /** What its number points to; undefined: everything is denied. */
  published: UnitRows | undefined;
  /** Why everything is denied. */
  failure: string | undefined;
  users: number;
}

/** Why a unit denies everything, and what may help. */
export interface Failure {
  readonly text: string;
  /** The map that had no room, how much there was, and how much it takes; undefined: room doesn't help. */
  readonly full: { readonly map: SizedMap; readonly room: number; readonly need: number } | undefined;
  /** The sets that its rules name, as far as they were looked at. */
  readonly sets: ReadonlySet<SetId>;
}

/** Units by their lists, and which of them have to be made anew. */
export class Units {
  readonly policies = new Map<PolicyId, PolicyInfo>();
  readonly profiles = new Map<ProfileId, ProfileInfo>();
  /** They are made anew when room is asked for again (`takeDirty`): what is being freed is what they lack. Until then they stay as they are. */
  readonly postponed = new Set<Unit>();
  readonly #numbers: IdPool;
  readonly #byKey = new Map<string, Unit>();
  readonly #byPolicy = new Map<PolicyId, Set<Unit>>();
  readonly #byProfile = new Map<ProfileId, Set<Unit>>();
  readonly #unused = new Set<Unit>();
  readonly #failed = new Map<Unit, Failure>();
  readonly #byNumber = new Map<number, Unit>();
  readonly #counters: RuleCounters;
  readonly #numbered = new Set<Unit>();
  #dirty = new Set<Unit>();

  /** Numbers 1 to `end` - 1. */
  constructor(end: number, counters: RuleCounters) {
    this.#numbers = new IdPool(1, end);
    this.#counters = counters;
  }

  /** The unit of these lists, with one user more; a new one comes into force with the next flush. */
  acquire(lists: UnitLists): Unit {
    const key = unitKey(lists);
    let unit = this.#byKey.get(key);
    if (unit === undefined) {
      unit = { number: 0, lists, published: undefined, failure: undefined, users: 0 };
      this.#byKey.set(key, unit);
      this.#takeNumber(unit);
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

  /** Policies and profiles, as messages. */
  *said(): Generator<PolicyMessage, void, undefined> {
    for (const [id, profile] of this.profiles) yield { type: 'profileUpdate', id, profile };
    for (const [id, policy] of this.policies) yield { type: 'policyUpdate', id, policy };
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

  /**
   * Units to be made anew: first those in force, then new ones, then those that failed, the smallest first. `room`: how much a map has; who
   * failed for want of it is there again when it is more than it was. Without it they have to wait. One in force that names a policy which was
   * removed stays as it is: whom it judges goes over to another one, and until then nothing changes for him.
   */
  takeDirty(room?: (map: SizedMap) => number): Unit[] {
    const dirty = this.#dirty;
    this.#dirty = new Set();
    if (room !== undefined) {
      for (const unit of this.postponed) dirty.add(unit);
      this.postponed.clear();
    }
    for (const [unit, { full }] of this.#failed) {
      if (full !== undefined && room !== undefined && room(full.map) > full.room) dirty.add(unit);
    }
    const order = (unit: Unit): number => {
      if (unit.published !== undefined) return -1;
      const failure = this.#failed.get(unit);
      return failure === undefined ? 0 : (failure.full?.need ?? 1);
    };
    return [...dirty]
      .filter((unit) => unit.users > 0 && !this.#isLeft(unit))
      .sort((one, other) => order(one) - order(other));
  }

  /** The set was announced, changed or removed: who failed and names it is made anew. */
  onSet(id: SetId): void {
    for (const [unit, { sets }] of this.#failed) if (sets.has(id)) this.#dirty.add(unit);
  }

  /** All are to be made anew. */
  touchAll(): void {
    for (const unit of this.#byKey.values()) this.#dirty.add(unit);
  }

  /** True if it has a number, or gets one now. */
  hasNumber(unit: Unit): boolean {
    if (unit.number !== 0) return true;
    if (!this.#takeNumber(unit)) return false;
    this.#numbered.add(unit);
    return true;
  }

  /** Units that got their number later than they were made, since the last call. */
  takeNumbered(): Unit[] {
    const numbered = [...this.#numbered];
    this.#numbered.clear();
    return numbered;
  }

  /** The unit of a number; undefined: nobody has it. */
  at(number: number): Unit | undefined {
    return this.#byNumber.get(number);
  }

  get freeNumbers(): number {
    return this.#numbers.free;
  }

  /** Units that nobody uses any more, no more to be found. They have to be unpublished, and their numbers given back. */
  takeUnused(): Unit[] {
    const unused = [...this.#unused];
    this.#unused.clear();
    for (const unit of unused) {
      const { lists } = unit;
      this.#byKey.delete(unitKey(lists));
      this.#dirty.delete(unit);
      this.#failed.delete(unit);
      this.#numbered.delete(unit);
      this.#byNumber.delete(unit.number);
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
  setFailure(unit: Unit, failure: Failure | undefined): void {
    unit.failure = failure?.text;
    // One that is no more to be found isn't tried again.
    if (this.#byKey.get(unitKey(unit.lists)) !== unit) return;
    if (failure === undefined) this.#failed.delete(unit);
    else this.#failed.set(unit, failure);
  }

  get failed(): readonly Unit[] {
    return [...this.#failed.keys()];
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** A policy is removed with the last that it selects; a profile may be named by somebody, and be gone. */
  #isLeft({ published, lists }: Unit): boolean {
    return published !== undefined && lists.tiers.some(({ policies }) => policies.some((id) => !this.policies.has(id)));
  }

  #takeNumber(unit: Unit): boolean {
    const number = this.#numbers.take();
    if (number === undefined) return false;
    unit.number = number;
    this.#byNumber.set(number, unit);
    return true;
  }

  #setPolicy(id: PolicyId, policy: PolicyInfo | undefined): void {
    const before = this.policies.get(id);
    if (policy === undefined) this.policies.delete(id);
    else this.policies.set(id, policy);
    this.#counters.onRules(before, policy);
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
    this.#counters.onRules(before, profile);
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
