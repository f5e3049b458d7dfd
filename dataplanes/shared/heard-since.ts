/**
 * Places in the kernel of which it tells while a batch is under way. What a sync remembers behind the batch's answer would be older than what it was told
 * of them meanwhile: there the events decide.
 */
export class HeardSince {
  #places: Set<string> | undefined;

  /** `work` sends a batch and works off its answer: what the kernel tells of from its beginning to its end is heard. */
  async during<Result>(work: () => Promise<Result>): Promise<Result> {
    this.#places = new Set();
    try {
      return await work();
    } finally {
      this.#places = undefined;
    }
  }

  /** The kernel has told of this place; kept only while somebody waits for an answer. */
  hear(place: string): void {
    this.#places?.add(place);
  }

  /** True if the kernel has told of it since the work under way began. */
  has(place: string): boolean {
    return this.#places?.has(place) ?? false;
  }
}
