import type { DataplaneUpdate } from '../../messages.ts';
import type { SetId, SetType } from '../../policy.ts';
import { each, type Pieces } from './pieces.ts';

type SetMessage = Extract<DataplaneUpdate, { type: 'ipSetUpdate' | 'ipSetDelta' | 'ipSetRemove' }>;

/** Who keeps members of one type of sets. */
interface MemberSink {
  addTrait(member: string, trait: number): void;
  removeTrait(member: string, trait: number): void;
}

interface KnownSet {
  readonly id: SetId;
  readonly type: SetType;
  readonly members: Set<string>;
  /** Members that are none, while it has a trait, and why. */
  readonly broken: Map<string, string>;
  /** False when it was removed and its members still have its trait. */
  isAnnounced: boolean;
  trait: number | undefined;
}

/** A rule names a set that isn't there, or one of the other type: its unit can't be made. */
export class UnknownSet extends Error {
  override readonly name = 'UnknownSet';
  readonly code = 'UNKNOWN_SET';
}

/** A set has a member that isn't one of its type: its other members are right, but who asks for it can't be answered. */
export class BrokenSet extends Error {
  override readonly name = 'BrokenSet';
  readonly code = 'BROKEN_SET';
}

/** The sets that were announced. Only members of those that a unit's rules name become addresses or named ports with a class. */
export class Sets {
  readonly #sinks: Readonly<Record<SetType, MemberSink>>;
  readonly #known = new Map<SetId, KnownSet>();
  readonly #newlyBroken = new Set<KnownSet>();

  constructor(sinks: Readonly<Record<SetType, MemberSink>>) {
    this.#sinks = sinks;
  }

  /** Takes a message in; a member that is none breaks its set, and nothing else. A set of another type replaces what was known under its id. */
  *onUpdate(message: SetMessage): Pieces<void> {
    switch (message.type) {
      case 'ipSetUpdate':
        yield* this.#replace(message.id, message.setType, message.members);
        return;
      case 'ipSetDelta': {
        const set = this.#known.get(message.id);
        if (set === undefined) throw new UnknownSet(`set ${message.id} changes, and was never announced`);
        yield* each(message.removed, (member) => this.#remove(set, member));
        yield* each(message.added, (member) => this.#add(set, member));
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

  /** For `Traits`: whose members they are. Throws `UnknownSet` if there is no such set of this type, `BrokenSet` if it is known to have a bad member. */
  source(id: SetId, type: SetType): object {
    const set = this.#known.get(id);
    if (set?.isAnnounced !== true || set.type !== type) {
      throw new UnknownSet(`set ${id} is ${set?.isAnnounced === true ? `not of type ${type}` : 'not known'}`);
    }
    this.#check(set);
    return set;
  }

  /** The members of what `source` returned get the trait. */
  *activate(source: object, trait: number): Pieces<void> {
    const set = source as KnownSet;
    set.trait = trait;
    yield* each(set.members, (member) => this.#addTrait(set, member, trait));
  }

  /** The members of what `source` returned lose it. */
  *deactivate(source: object, trait: number): Pieces<void> {
    const set = source as KnownSet;
    const { id, type, members, broken, isAnnounced } = set;
    set.trait = undefined;
    yield* each(members, (member) => {
      if (!broken.has(member)) this.#sinks[type].removeTrait(member, trait);
    });
    broken.clear();
    this.#newlyBroken.delete(set);
    if (!isAnnounced && this.#known.get(id) === set) this.#known.delete(id);
  }

  /** Throws `BrokenSet` where members of a set in use are none. */
  check(id: SetId): void {
    const set = this.#known.get(id);
    if (set !== undefined) this.#check(set);
  }

  /** The sets in use that have got a bad member since the last call, by trait. */
  takeBroken(): { readonly trait: number; readonly error: BrokenSet }[] {
    const broken = [...this.#newlyBroken].flatMap((set) => {
      const error = errorOf(set);
      return set.trait === undefined || error === undefined ? [] : [{ trait: set.trait, error }];
    });
    this.#newlyBroken.clear();
    return broken;
  }

  /** The announced sets, as messages that announce them. */
  *said(): Generator<SetMessage, void, undefined> {
    for (const { id, type, members, isAnnounced } of this.#known.values())
      if (isAnnounced) yield { type: 'ipSetUpdate', id, setType: type, members: [...members] };
  }

  get size(): number {
    return this.#known.size;
  }

  *#replace(id: SetId, type: SetType, members: readonly string[]): Pieces<void> {
    const next = new Set<string>();
    yield* each(members, (member) => next.add(member));
    const known = this.#known.get(id);
    if (known?.type !== type) {
      this.#known.set(id, { id, type, members: next, broken: new Map(), isAnnounced: true, trait: undefined });
      return;
    }
    known.isAnnounced = true;
    yield* each([...known.members], (member) => {
      if (!next.has(member)) this.#remove(known, member);
    });
    yield* each(next, (member) => this.#add(known, member));
  }

  #add(set: KnownSet, member: string): void {
    if (set.members.has(member)) return;
    set.members.add(member);
    if (set.trait !== undefined) this.#addTrait(set, member, set.trait);
  }

  #remove(set: KnownSet, member: string): void {
    if (!set.members.delete(member) || set.broken.delete(member)) return;
    if (set.trait !== undefined) this.#sinks[set.type].removeTrait(member, set.trait);
  }

  #addTrait(set: KnownSet, member: string, trait: number): void {
    try {
      this.#sinks[set.type].addTrait(member, trait);
    } catch (error) {
      set.broken.set(member, error instanceof Error ? error.message : String(error));
      this.#newlyBroken.add(set);
    }
  }

  #check(set: KnownSet): void {
    const error = errorOf(set);
    if (error !== undefined) throw error;
  }
}

function errorOf({ id, broken }: KnownSet): BrokenSet | undefined {
  const [first] = broken.values();
  return first === undefined ? undefined : new BrokenSet(`set ${id}: ${first}`);
}
