/** Work on one key at a time, in order of arrival; different keys don't wait for each other. */
export interface KeyedLocks {
  /** Waits for the key; disposing of the result gives it to the next. */
  acquire(key: string): Promise<Disposable>;
}

/** Inside one process. */
export class KeyedMutex implements KeyedLocks {
  /** The end of the queue per key; a key without work has no entry. */
  readonly #last = new Map<string, Promise<void>>();

  async acquire(key: string): Promise<Disposable> {
    const before = this.#last.get(key);
    const { promise: released, resolve } = Promise.withResolvers<void>();
    this.#last.set(key, released);
    await before;
    return {
      [Symbol.dispose]: () => {
        if (this.#last.get(key) === released) this.#last.delete(key);
        resolve();
      },
    };
  }
}
