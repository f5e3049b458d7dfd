/** Numbers of slots: the lowest that were never used, or some that have come back. */
export class IdPool {
  readonly #first: number;
  readonly #end: number;
  readonly #free: number[] = [];
  #next: number;

  /** Numbers `first` to `end` - 1. */
  constructor(first: number, end: number) {
    this.#first = first;
    this.#end = end;
    this.#next = first;
  }

  /** A number that nobody has, if `left` more are free besides; else undefined. */
  take(left = 0): number | undefined {
    if (this.free <= left) return undefined;
    const returned = this.#free.pop();
    if (returned !== undefined) return returned;
    return this.#next < this.#end ? this.#next++ : undefined;
  }

  /** How many are free. */
  get free(): number {
    return this.#end - this.#first - this.used;
  }

  give(id: number): void {
    this.#free.push(id);
  }

  /** How many are taken. */
  get used(): number {
    return this.#next - this.#first - this.#free.length;
  }
}
