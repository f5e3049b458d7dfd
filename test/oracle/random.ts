/** Choices out of a stream of numbers between 0 and 1, so that a seed replays them. */
export class Random {
  readonly #next: () => number;

  constructor(next: () => number) {
    this.#next = next;
  }

  /** 0 to `count` - 1. */
  below(count: number): number {
    return Math.floor(this.#next() * count);
  }

  chance(probability: number): boolean {
    return this.#next() < probability;
  }

  pick<T>(from: readonly T[]): T {
    if (from.length === 0) throw new Error('nothing to pick from');
    return from[this.below(from.length)] as T;
  }

  /** One of the values, by weight. */
  weighted<T>(...choices: readonly (readonly [weight: number, value: T])[]): T {
    let left = this.#next() * choices.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, value] of choices) {
      left -= weight;
      if (left < 0) return value;
    }
    return this.pick(choices)[1];
  }

  /** `min` to `max` of the members, in their order, none twice. */
  some<T>(from: readonly T[], min: number, max: number): T[] {
    const count = Math.min(from.length, min + this.below(max - min + 1));
    const chosen = new Set<number>();
    while (chosen.size < count) chosen.add(this.below(from.length));
    return from.filter((_, index) => chosen.has(index));
  }

  /** `{ [key]: make() }` with this probability, else nothing: for optional fields. */
  maybe<K extends string, V>(probability: number, key: K, make: () => V): { [P in K]?: V } {
    return this.chance(probability) ? ({ [key]: make() } as { [P in K]: V }) : {};
  }
}
