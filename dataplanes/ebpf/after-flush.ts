import { Retirement } from './classifier/retirement.ts';

/**
 * What is free when no program can know of it any more: a grace period after the flush by which the classifier's maps name it no more.
 */
export class AfterFlush {
  readonly #retirement = new Retirement();
  #leaving: (() => void)[] = [];

  /** From the next flush on nothing names it; `free` is called a grace period after that. */
  add(free: () => void): void {
    this.#leaving.push(free);
  }

  /** Call just before a flush of the classifier, `done` when it has succeeded, `putBack` when it failed. */
  beginFlush(): { readonly done: () => void; readonly putBack: () => void } {
    const leaving = this.#leaving;
    this.#leaving = [];
    return {
      done: () => {
        for (const free of leaving) this.#retirement.add(free);
      },
      putBack: () => this.#leaving.push(...leaving),
    };
  }

  /** Waits for a grace period if anything waits for one, and frees that. */
  async settle(grace: () => Promise<void>): Promise<void> {
    const waiting = this.#retirement.take();
    if (waiting.length === 0) return;
    try {
      await grace();
    } catch (error) {
      for (const free of waiting) this.#retirement.add(free); // Not over: nothing may be freed yet.
      throw error;
    }
    for (const free of waiting) free();
  }
}
