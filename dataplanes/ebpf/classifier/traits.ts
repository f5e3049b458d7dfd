import type { Pieces } from './pieces.ts';

/** Where a trait's members are. */
export interface TraitSource {
  /** Whose members they are: another source of the same name may be of something else. */
  readonly of: object;
  /** Its members get the trait. */
  activate(trait: number): Pieces<void>;
  /** Its members lose it. */
  deactivate(trait: number): Pieces<void>;
}

interface Trait {
  readonly name: string;
  readonly id: number;
  readonly source: TraitSource;
  users: number;
}

/**
 * What rules ask of addresses or of ports: to be in a set, in a range. A trait is a number while some unit's rules name it. When the last
 * one goes it stays with its members until somebody has time (`endUnused`), because a rule that names it may come back.
 */
export class Traits {
  readonly #byName = new Map<string, Trait>();
  readonly #byId = new Map<number, Trait>();
  readonly #unused = new Set<Trait>();
  #next = 1;

  /** The number of the trait, with one user more. `source` is asked each time: what the name means may have changed, or be gone. */
  *acquire(name: string, source: TraitSource): Pieces<number> {
    let trait = this.#byName.get(name);
    if (trait?.source.of !== source.of) {
      // Numbers don't come back, also where this fails in the middle: a double holds more than there will be.
      trait = { name, id: this.#next++, source, users: 0 };
      yield* source.activate(trait.id);
      this.#byName.set(name, trait);
      this.#byId.set(trait.id, trait);
    }
    trait.users++;
    this.#unused.delete(trait);
    return trait.id;
  }

  release(id: number): void {
    const trait = this.#byId.get(id);
    if (trait === undefined) return;
    trait.users--;
    if (trait.users === 0) this.#unused.add(trait);
  }

  /** Takes the traits that nobody uses from their members. */
  *endUnused(): Pieces<void> {
    for (const trait of this.#unused) {
      if (this.#byName.get(trait.name) === trait) this.#byName.delete(trait.name);
      this.#byId.delete(trait.id);
      yield* trait.source.deactivate(trait.id);
    }
    this.#unused.clear();
  }

  get hasUnused(): boolean {
    return this.#unused.size > 0;
  }

  get size(): number {
    return this.#byId.size;
  }
}
