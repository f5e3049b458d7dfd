/** Work on one thing, one piece at a time, in the order of the calls. A piece that fails doesn't stop those behind it. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Starts `work` when everything before has ended; its result. */
  async run<Result>(work: () => Promise<Result>): Promise<Result> {
    const before = this.#last;
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    this.#last = ended;
    await before;
    try {
      return await work();
    } finally {
      resolve();
    }
  }
}
