/**
 * Places in the kernel of which it tells while a batch is under way. What a sync remembers behind the batch's answer would be older than what it was told
 * of them meanwhile: there the events decide.
 */
export class HeardSince {
  #places: Set<string> | undefined;

  /** A batch is about to be sent. */
  begin(): void {
    this.#places = new Set();
  }

  /** The kernel has told of this place; kept only while somebody waits for an answer. */
  hear(place: string): void {
    this.#places?.add(place);
  }

  /** True if the kernel has told of it since `begin`. */
  has(place: string): boolean {
    return this.#places?.has(place) ?? false;
  }

  /** The answer has been worked off, or there is none. */
  end(): void {
    this.#places = undefined;
  }
}
