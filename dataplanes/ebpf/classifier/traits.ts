import type { Pieces } from './pieces.ts';
import { type TraitName, traitKey } from './rule-conditions.ts';

/** Where traits' members are. */
export interface TraitMembers {
  /** Whose members a name's are: another of the same name may be of something else. Throws where nothing has the name. */
  ownerOf(name: TraitName): object;
  /** The owner's members get the trait. */
  activate(name: TraitName, owner: object, trait: number): Pieces<void>;
  /** The owner's members lose it. */
  deactivate(name: TraitName, owner: object, trait: number): Pieces<void>;
}

/** Traits that are ended between two yields. */
const SMALL = 32;

interface Trait {
  readonly name: TraitName;
  readonly key: string;
  readonly id: number;
  readonly owner: object;
  users: number;
  /** Who has become a user last: who asks for many traits asks for some again and again. */
  lastUser: object | undefined;
}

/**
 * What rules ask of addresses or of ports: to be in a set, in a range. A trait is a number while some unit's rules name it. When the last
 * one goes it stays with its members until somebody has time (`endUnused`), because a rule that names it may come back.
 */
export class Traits {
  readonly #members: TraitMembers;
  readonly #byKey = new Map<string, Trait>();
  readonly #byId = new Map<number, Trait>();
  readonly #unused = new Set<Trait>();
  #next = 1;

  constructor(members: TraitMembers) {
    this.#members = members;
  }

  /**
   * The number of the trait, which has `user` as its user from now on. The members' owner is asked each time: what the name means may have changed,
   * or be gone. `isNew`: it wasn't the last to become one, and has to release it.
   */
  *acquire(name: TraitName, user: object): Pieces<{ readonly id: number; readonly isNew: boolean }> {
    const key = traitKey(name);
    let trait = this.#byKey.get(key);
    if (trait !== undefined && trait.lastUser === user) return { id: trait.id, isNew: false };
    const owner = this.#members.ownerOf(name);
    if (trait?.owner !== owner) {
      // Numbers don't come back, also where this fails in the middle: a double holds more than there will be.
      trait = { name, key, id: this.#next++, owner, users: 0, lastUser: undefined };
      yield* this.#members.activate(name, owner, trait.id);
      this.#byKey.set(key, trait);
      this.#byId.set(trait.id, trait);
    }
    this.#use(trait, user);
    return { id: trait.id, isNew: true };
  }

  /**
   * As `acquire` for a number that somebody has: its name, where its name still means the same; undefined: it doesn't, and nothing has happened.
   * Throws what the owner of a name that means nothing does.
   */
  acquireAgain(id: number, user: object): { readonly name: TraitName; readonly isNew: boolean } | undefined {
    const trait = this.#byId.get(id);
    if (trait === undefined) return undefined;
    const { name, key, owner, lastUser } = trait;
    if (lastUser === user) return { name, isNew: false };
    if (this.#byKey.get(key) !== trait || this.#members.ownerOf(name) !== owner) return undefined;
    this.#use(trait, user);
    return { name, isNew: true };
  }

  /** What a trait that somebody has is called. */
  nameOf(id: number): TraitName | undefined {
    return this.#byId.get(id)?.name;
  }

  /** `user` is one of its users no more. */
  release(id: number, user: object): void {
    const trait = this.#byId.get(id);
    if (trait === undefined) return;
    trait.users--;
    if (trait.lastUser === user) trait.lastUser = undefined;
    if (trait.users === 0) this.#unused.add(trait);
  }

  /** Takes the traits that nobody uses from their members. */
  *endUnused(): Pieces<void> {
    let ended = 0;
    for (const trait of this.#unused) {
      if (++ended % SMALL === 0) yield;
      const { name, key, id, owner } = trait;
      if (this.#byKey.get(key) === trait) this.#byKey.delete(key);
      this.#byId.delete(id);
      yield* this.#members.deactivate(name, owner, id);
    }
    this.#unused.clear();
  }

  get hasUnused(): boolean {
    return this.#unused.size > 0;
  }

  get size(): number {
    return this.#byId.size;
  }

  #use(trait: Trait, user: object): void {
    trait.users++;
    trait.lastUser = user;
    this.#unused.delete(trait);
  }
}
