import { IdPool } from './id-pool.ts';
import { type Retirement, Shared } from './retirement.ts';
import type { Signature } from './signature.ts';

/** A class: everything with the same traits; while a change is under way there may be two of one signature. */
export interface ClassEntry {
  readonly id: number;
  readonly signature: Signature;
  /** Its number says more than a port: units that name no set of ports never ask for it. */
  readonly isNamed: boolean;
  /** Its users are elements. */
  readonly users: Shared;
}

/** Port tables have 16 bits for a class; what is named begins behind them. */
export const FIRST_NAMED_CLASS = 65_536;
const CLASSES_END = 2 ** 32;
const noClasses: ReadonlySet<ClassEntry> = new Set();

/** Classes of one kind, by number, by signature, by trait. Class 0 has no trait and is always there. */
export class ClassSpace {
  readonly zero: ClassEntry;
  readonly #retirement: Retirement;
  readonly #onFree: (entry: ClassEntry) => void;
  readonly #ids: IdPool;
  readonly #namedIds = new IdPool(FIRST_NAMED_CLASS, CLASSES_END);
  readonly #all = new Set<ClassEntry>();
  readonly #primary = new Map<string, ClassEntry>();
  readonly #byTrait = new Map<number, Set<ClassEntry>>();

  /** Unnamed classes have numbers below `end`. `onFree` is called when nothing can ask for a class any more. */
  constructor(empty: Signature, retirement: Retirement, end: number, onFree: (entry: ClassEntry) => void) {
    this.#retirement = retirement;
    this.#onFree = onFree;
    this.#ids = new IdPool(1, end);
    this.zero = { id: 0, signature: empty, isNamed: false, users: new Shared(retirement, () => undefined) };
    this.zero.users.acquire();
    this.#all.add(this.zero);
    this.#primary.set(primaryKey(empty, false), this.zero);
  }

  /** The class that new elements of the signature get. */
  primary(signature: Signature, isNamed: boolean): ClassEntry | undefined {
    return this.#primary.get(primaryKey(signature, isNamed));
  }

  /** A new class; undefined if there is no number for it. */
  create(signature: Signature, isNamed: boolean): ClassEntry | undefined {
    const ids = isNamed ? this.#namedIds : this.#ids;
    const id = ids.take();
    if (id === undefined) return undefined;
    const key = primaryKey(signature, isNamed);
    const users = new Shared(this.#retirement, () => {
      this.#all.delete(entry);
      if (this.#primary.get(key) === entry) this.#primary.delete(key);
      for (const trait of signature.traits) {
        const classes = this.#byTrait.get(trait);
        classes?.delete(entry);
        if (classes?.size === 0) this.#byTrait.delete(trait);
      }
      this.#onFree(entry);
      ids.give(id);
    });
    const entry: ClassEntry = { id, signature, isNamed, users };
    this.#all.add(entry);
    for (const trait of signature.traits) {
      const classes = this.#byTrait.get(trait);
      if (classes === undefined) this.#byTrait.set(trait, new Set([entry]));
      else classes.add(entry);
    }
    return entry;
  }

  /** From now on it is the one that new elements get, unless there is one. */
  promote(entry: ClassEntry): void {
    const key = primaryKey(entry.signature, entry.isNamed);
    if (!this.#primary.has(key)) this.#primary.set(key, entry);
  }

  isPrimary(entry: ClassEntry): boolean {
    return this.primary(entry.signature, entry.isNamed) === entry;
  }

  /** All classes that have the trait, and those that nothing is in any more but may still be asked for. */
  withTrait(trait: number): ReadonlySet<ClassEntry> {
    return this.#byTrait.get(trait) ?? noClasses;
  }

  /** Numbers for unnamed classes that are free. */
  get free(): number {
    return this.#ids.free;
  }

  /** Class 0 and all others. */
  get all(): ReadonlySet<ClassEntry> {
    return this.#all;
  }

  /** How many there are besides class 0. */
  get size(): number {
    return this.#ids.used + this.#namedIds.used;
  }
}

const primaryKey = (signature: Signature, isNamed: boolean): string => `${isNamed ? 'n' : 'p'}${signature.key}`;
