import type { SetId } from '../../policy.ts';
import type { Membership } from './membership.ts';
import type { Pieces } from './pieces.ts';
import type { TraitName } from './rule-conditions.ts';

/** The traits that the rules of one compiled unit name, each used once however often it is named. */
export class TraitClaim {
  readonly #membership: Membership;
  readonly #traits: number[] = [];
  /** The sets that were named, those included that are none. */
  readonly sets = new Set<SetId>();

  constructor(membership: Membership) {
    this.#membership = membership;
  }

  /** All that were named, each once. */
  get traits(): readonly number[] {
    return this.#traits;
  }

  /** The number of a trait. Throws `UnknownSet`, `BrokenSet`, and `RangeError` for a network that is none. */
  *number(name: TraitName): Pieces<number> {
    this.#note(name);
    const { id, isNew } = yield* this.#membership.traits.acquire(name, this);
    if (isNew) this.#traits.push(id);
    this.#membership.check(name);
    return id;
  }

  /** Names a trait by the number that it has in a unit in force; false: what its name means may have changed, and the name has to be asked again. */
  again(trait: number): boolean {
    const { traits } = this.#membership;
    let known: ReturnType<typeof traits.acquireAgain>;
    try {
      known = traits.acquireAgain(trait, this);
    } catch (error) {
      // Its set is what the unit fails for want of, and waits for.
      const name = traits.nameOf(trait);
      if (name !== undefined) this.#note(name);
      throw error;
    }
    if (known === undefined) return false;
    const { name, isNew } = known;
    if (!isNew) return true;
    this.#traits.push(trait);
    this.#note(name);
    this.#membership.check(name);
    return true;
  }

  /** Nobody follows the rules any more. */
  release(): void {
    for (const trait of this.#traits) this.#membership.traits.release(trait, this);
  }

  #note(name: TraitName): void {
    if (name.kind === 'set' || name.kind === 'ipPort') this.sets.add(name.set);
  }
}
