/** Which traits something has: sets that an address is in, ranges that a port is in. Compared by `key`. */
export interface Signature {
  /** Equal for equal traits. */
  readonly key: string;
  readonly traits: ReadonlySet<number>;
  /** What it becomes with one trait more or less, and together with another; remembered, because thousands of addresses take the same step. */
  readonly steps: Map<string, Signature>;
}

/** Made signatures that are remembered before all are forgotten. They are compared by key, so that costs only time. */
const REMEMBERED = 65_536;

/** Makes signatures. */
export class Signatures {
  readonly #known = new Map<string, Signature>();
  #steps = 0;
  readonly empty: Signature = { key: '', traits: new Set(), steps: new Map() };

  with(signature: Signature, trait: number): Signature {
    return this.#step(signature, `+${trait}`, () => [...signature.traits, trait]);
  }

  without(signature: Signature, trait: number): Signature {
    return this.#step(signature, `-${trait}`, () => [...signature.traits].filter((other) => other !== trait));
  }

  union(one: Signature, other: Signature): Signature {
    if (one.traits.size === 0) return other;
    if (other.traits.size === 0) return one;
    return this.#step(one, other.key, () => [...one.traits, ...other.traits]);
  }

  #step(from: Signature, step: string, traits: () => number[]): Signature {
    const known = from.steps.get(step);
    if (known !== undefined) return known;
    const next = this.#of(traits());
    if (this.#steps++ > REMEMBERED) this.#forget();
    from.steps.set(step, next);
    return next;
  }

  #of(traits: number[]): Signature {
    const sorted = [...new Set(traits)].sort((a, b) => a - b);
    const key = sorted.join(',');
    if (key === '') return this.empty;
    let signature = this.#known.get(key);
    if (signature === undefined) {
      signature = { key, traits: new Set(sorted), steps: new Map() };
      this.#known.set(key, signature);
    }
    return signature;
  }

  #forget(): void {
    for (const { steps } of this.#known.values()) steps.clear();
    this.empty.steps.clear();
    this.#known.clear();
    this.#steps = 0;
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
