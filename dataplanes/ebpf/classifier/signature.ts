/** Which traits something has: sets that an address is in, ranges that a port is in. Compared by `key`. */
export interface Signature {
  /** Equal for equal traits. */
  readonly key: string;
  readonly traits: ReadonlySet<number>;
}

/** Traits that may come (true) or go (false). */
export type TraitChanges = ReadonlyMap<number, boolean>;

/**
 * What is remembered before all is forgotten: traits of signatures and of the steps between them, each some 30 bytes. Signatures are compared
 * by key, so to forget costs only time.
 */
const REMEMBERED_TRAITS = 1 << 19;

/** Makes signatures, and remembers the steps from one to the next, because thousands of addresses take the same. */
export class Signatures {
  readonly empty: Signature = { key: '', traits: new Set() };
  readonly #most: number;
  readonly #known = new Map<string, Signature>();
  readonly #steps = new Map<Signature, Map<string, Signature>>();
  #remembered = 0;

  /** `most`: how many traits are remembered at most. */
  constructor(most = REMEMBERED_TRAITS) {
    this.#most = most;
  }

  with(signature: Signature, trait: number): Signature {
    return this.changed(signature, new Map([[trait, true]]));
  }

  without(signature: Signature, trait: number): Signature {
    return this.changed(signature, new Map([[trait, false]]));
  }

  /** All changes in one step, so that nothing is made of what lies between. */
  changed(signature: Signature, changes: TraitChanges): Signature {
    const step = [...changes].map(([trait, comes]) => `${comes ? '+' : '-'}${trait}`).join('');
    return this.#step(signature, step, changes.size, () => {
      const traits = new Set(signature.traits);
      for (const [trait, comes] of changes) {
        if (comes) traits.add(trait);
        else traits.delete(trait);
      }
      return traits;
    });
  }

  union(one: Signature, other: Signature): Signature {
    if (one.traits.size === 0 || one.key === other.key) return other;
    if (other.traits.size === 0) return one;
    return this.#step(one, other.key, other.traits.size, () => new Set([...one.traits, ...other.traits]));
  }

  /** How many traits are remembered. */
  get remembered(): number {
    return this.#remembered;
  }

  #step(from: Signature, step: string, length: number, traits: () => Set<number>): Signature {
    const known = this.#steps.get(from)?.get(step);
    if (known !== undefined) return known;
    const next = this.#of(traits());
    this.#remember(length + 1);
    const steps = this.#steps.get(from) ?? new Map<string, Signature>();
    steps.set(step, next);
    this.#steps.set(from, steps);
    return next;
  }

  #of(traits: Set<number>): Signature {
    const sorted = [...traits].sort((a, b) => a - b);
    const key = sorted.join(',');
    if (key === '') return this.empty;
    let signature = this.#known.get(key);
    if (signature === undefined) {
      signature = { key, traits: new Set(sorted) };
      this.#remember(sorted.length);
      this.#known.set(key, signature);
    }
    return signature;
  }

  #remember(traits: number): void {
    if (this.#remembered + traits > this.#most) {
      this.#steps.clear();
      this.#known.clear();
      this.#remembered = 0;
    }
    this.#remembered += traits;
  }
}

/** The traits that something has by itself. Changes wait until somebody asks for the signature, and are one step then. */
export class OwnTraits {
  readonly #signatures: Signatures;
  #signature: Signature;
  #changes: Map<number, boolean> | undefined;

  constructor(signatures: Signatures) {
    this.#signatures = signatures;
    this.#signature = signatures.empty;
  }

  add(trait: number): void {
    this.#change(trait, true);
  }

  remove(trait: number): void {
    this.#change(trait, false);
  }

  get signature(): Signature {
    if (this.#changes !== undefined && this.#changes.size > 0) {
      this.#signature = this.#signatures.changed(this.#signature, this.#changes);
    }
    this.#changes = undefined;
    return this.#signature;
  }

  #change(trait: number, comes: boolean): void {
    if (this.#signature.traits.has(trait) === comes) this.#changes?.delete(trait);
    else (this.#changes ??= new Map<number, boolean>()).set(trait, comes);
  }
}

/** The traits that only one of them has. */
export function difference(one: Signature, other: Signature): number[] {
  if (one.key === other.key) return [];
  return [
    ...[...one.traits].filter((trait) => !other.traits.has(trait)),
    ...[...other.traits].filter((trait) => !one.traits.has(trait)),
  ];
}
