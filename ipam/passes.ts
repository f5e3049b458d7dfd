import type { Clock } from '#api/clock.ts';

/** Waiting a little lets one pass carry the requests of a burst. */
const gatherMs = 10;
const firstRetryMs = 100;
const maxRetryMs = 10_000;

/** Runs a pass when there is something to do, one at a time, and again after a growing delay when it failed. */
export class Passes {
  readonly #clock: Clock;
  readonly #pass: () => Promise<readonly unknown[]>;
  readonly #onFailure: (failures: readonly unknown[], retryAfterMs: number) => void;
  #running: Promise<void> | undefined;
  #isRequested = false;
  #isStopped = false;
  #timer: Disposable | undefined;
  #failures = 0;

  /** `pass` returns what failed, and does not throw. */
  constructor(
    clock: Clock,
    pass: () => Promise<readonly unknown[]>,
    onFailure: (failures: readonly unknown[], retryAfterMs: number) => void,
  ) {
    this.#clock = clock;
    this.#pass = pass;
    this.#onFailure = onFailure;
  }

  /** Asks for a pass soon; `now`: without waiting for more to do. */
  request(options: { readonly now: boolean }): void {
    if (this.#running !== undefined) {
      this.#isRequested = true;
    } else if (this.#isStopped || this.#failures > 0) {
      return; // After a failure the next try is scheduled already.
    } else if (options.now) {
      this.#begin();
    } else {
      this.#timer ??= this.#clock.after(gatherMs, () => this.#begin());
    }
  }

  /** A whole pass that begins after this call. Rejects with its first failure. */
  async flush(): Promise<void> {
    await this.#running?.catch(() => {}); // The pass below meets the same failure, if it lasts.
    this.#begin();
    await this.#running;
  }

  /** No more passes, except by `flush`. */
  stop(): void {
    this.#isStopped = true;
    this.#timer?.[Symbol.dispose]();
  }

  #begin(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    if (this.#running === undefined) {
      this.#running = this.#run();
      this.#running.catch(() => {}); // Told to `onFailure` and scheduled again by then; `flush` sees it too.
    }
  }

  async #run(): Promise<void> {
    try {
      do {
        this.#isRequested = false;
        const failures = await this.#pass();
        if (failures.length > 0) {
          this.#retryLater(failures);
          throw failures[0];
        }
        this.#failures = 0;
      } while (this.#isRequested);
    } finally {
      // In the same turn as the look at #isRequested: no request is lost between the two.
      this.#running = undefined;
    }
  }

  #retryLater(failures: readonly unknown[]): void {
    const delay = Math.min(maxRetryMs, firstRetryMs * 2 ** Math.min(this.#failures++, 10));
    this.#onFailure(failures, delay);
    if (!this.#isStopped) {
      this.#timer = this.#clock.after(delay, () => this.#begin());
    }
  }
}
