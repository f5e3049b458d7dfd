/** One action at a time for each handle, in the order in which they came. */
export class HandleTurns {
  readonly #last = new Map<string, Promise<unknown>>();

  /** True while an action of the handle is under way. */
  isBusy(handle: string): boolean {
    return this.#last.has(handle);
  }

  /** Runs the action after those of the same handle before it, however they end. */
  async run<T>(handle: string, action: () => Promise<T>): Promise<T> {
    const previous = this.#last.get(handle);
    const turn = (async () => {
      await previous?.catch(() => {}); // Its own caller has heard of it.
      return action();
    })();
    this.#last.set(handle, turn);
    try {
      return await turn;
    } finally {
      if (this.#last.get(handle) === turn) {
        this.#last.delete(handle);
      }
    }
  }

  /** When all that are under way now have ended. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#last.values());
  }
}
