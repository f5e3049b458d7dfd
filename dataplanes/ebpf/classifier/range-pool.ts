/**
 * Runs of slots of any length. Free runs that touch are joined; a run is cut from the smallest free one that is long enough, so space that
 * equal things leave is taken by equal things.
 */
export class RangePool {
  readonly #first: number;
  readonly #end: number;
  readonly #lengthAt = new Map<number, number>();
  readonly #startBefore = new Map<number, number>();
  readonly #startsOf = new Map<number, Set<number>>();
  #next: number;
  #used = 0;

  /** Slots `first` to `end` - 1. */
  constructor(first: number, end: number) {
    this.#first = first;
    this.#next = first;
    this.#end = end;
  }

  /** The first slot of `length` free ones in one run, if `left` more are free besides; else undefined. */
  take(length: number, left = 0): number | undefined {
    if (this.free < length + left) return undefined;
    let best = Infinity;
    if (this.#startsOf.has(length)) best = length;
    else for (const free of this.#startsOf.keys()) if (free > length && free < best) best = free;
    const [start] = this.#startsOf.get(best) ?? [];
    if (start === undefined) {
      if (this.#end - this.#next < length) return undefined;
      this.#next += length;
      this.#used += length;
      return this.#next - length;
    }
    this.#remove(start, best);
    if (best > length) this.#add(start + length, best - length);
    this.#used += length;
    return start;
  }

  give(start: number, length: number): void {
    this.#used -= length;
    let [from, size] = [start, length];
    const before = this.#startBefore.get(from);
    if (before !== undefined) {
      this.#remove(before, from - before);
      size += from - before;
      from = before;
    }
    const after = this.#lengthAt.get(from + size);
    if (after !== undefined) {
      this.#remove(from + size, after);
      size += after;
    }
    if (from + size === this.#next) this.#next = from;
    else this.#add(from, size);
  }

  /** How many slots are taken. */
  get used(): number {
    return this.#used;
  }

  /** How many slots are free, in runs of any length. */
  get free(): number {
    return this.#end - this.#first - this.#used;
  }

  #add(start: number, length: number): void {
    this.#lengthAt.set(start, length);
    this.#startBefore.set(start + length, start);
    const starts = this.#startsOf.get(length);
    if (starts === undefined) this.#startsOf.set(length, new Set([start]));
    else starts.add(start);
  }

  #remove(start: number, length: number): void {
    this.#lengthAt.delete(start);
    this.#startBefore.delete(start + length);
    const starts = this.#startsOf.get(length);
    starts?.delete(start);
    if (starts?.size === 0) this.#startsOf.delete(length);
  }
}
