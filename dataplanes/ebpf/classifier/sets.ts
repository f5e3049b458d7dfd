import type { DataplaneUpdate } from '../../messages.ts';
import type { SetId, SetType } from '../../policy.ts';
import type { TraitSource } from './traits.ts';

type SetMessage = Extract<DataplaneUpdate, { type: 'ipSetUpdate' | 'ipSetDelta' | 'ipSetRemove' }>;

/** Who keeps members of one type of sets. */
interface MemberSink {
  addTrait(member: string, trait: number): void;
  removeTrait(member: string, trait: number): void;
}

interface KnownSet {
  readonly type: SetType;
  readonly members: Set<string>;
  /** False when it was removed and its members still have its trait. */
  isAnnounced: boolean;
  trait: number | undefined;
}

/** A rule names a set that isn't there, or one of the other type: its unit can't be made. */
export class UnknownSet extends Error {
  override readonly name = 'UnknownSet';
  readonly code = 'UNKNOWN_SET';
}

/** The sets that were announced. Only members of those that a unit's rules name become addresses or named ports with a class. */
export class Sets {
  readonly #sinks: Readonly<Record<SetType, MemberSink>>;
  readonly #known = new Map<SetId, KnownSet>();

  constructor(sinks: Readonly<Record<SetType, MemberSink>>) {
    this.#sinks = sinks;
  }

  /** Takes a message in. A set of another type replaces what was known under its id. */
  onUpdate(message: SetMessage): void {
    switch (message.type) {
      case 'ipSetUpdate':
        this.#replace(message.id, message.setType, message.members);
        return;
      case 'ipSetDelta': {
        const set = this.#known.get(message.id);
        if (set === undefined) throw new UnknownSet(`set ${message.id} changes, and was never announced`);
        for (const member of message.removed) this.#remove(set, member);
        for (const member of message.added) this.#add(set, member);
        return;
      }
      case 'ipSetRemove': {
        const set = this.#known.get(message.id);
        if (set === undefined) return;
        set.isAnnounced = false;
        if (set.trait === undefined) this.#known.delete(message.id);
      }
    }
  }

  /** For `Traits`. Throws `UnknownSet` if there is no such set of this type. */
  source(id: SetId, type: SetType): TraitSource {
    const set = this.#known.get(id);
    if (set?.isAnnounced !== true || set.type !== type) {
      throw new UnknownSet(`set ${id} is ${set?.isAnnounced === true ? `not of type ${type}` : 'not known'}`);
    }
    const sink = this.#sinks[type];
    return {
      activate: (trait) => {
        set.trait = trait;
        for (const member of set.members) sink.addTrait(member, trait);
      },
      deactivate: (trait) => {
        set.trait = undefined;
        for (const member of set.members) sink.removeTrait(member, trait);
        if (!set.isAnnounced && this.#known.get(id) === set) this.#known.delete(id);
      },
    };
  }

  get size(): number {
    return this.#known.size;
  }

  #replace(id: SetId, type: SetType, members: readonly string[]): void {
    const known = this.#known.get(id);
    if (known?.type !== type) {
      this.#known.set(id, { type, members: new Set(members), isAnnounced: true, trait: undefined });
      return;
    }
    known.isAnnounced = true;
    const next = new Set(members);
    for (const member of [...known.members]) if (!next.has(member)) this.#remove(known, member);
    for (const member of next) this.#add(known, member);
  }

  #add(set: KnownSet, member: string): void {
    if (set.members.has(member)) return;
    set.members.add(member);
    if (set.trait !== undefined) this.#sinks[set.type].addTrait(member, set.trait);
  }

  #remove(set: KnownSet, member: string): void {
    if (!set.members.delete(member)) return;
    if (set.trait !== undefined) this.#sinks[set.type].removeTrait(member, set.trait);
  }
}
