/** Pauses that double and are spread, so that many clients that were cut off at once don't come back at once. */
export class Backoff {
  readonly #firstMs: number;
  readonly #longestMs: number;
  #nextMs: number;

  constructor(firstMs: number, longestMs: number) {
    this.#firstMs = firstMs;
    this.#longestMs = longestMs;
    this.#nextMs = firstMs;
  }

  /** The pause before the next try, in ms: three to five quarters of what is due. */
  next(): number {
    const ms = this.#nextMs;
    this.#nextMs = Math.min(ms * 2, this.#longestMs);
    return ms * (0.75 + Math.random() / 2);
  }

  /** It worked. */
  reset(): void {
    this.#nextMs = this.#firstMs;
  }
}
