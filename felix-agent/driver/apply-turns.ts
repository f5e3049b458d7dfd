import type { Clock } from '#api/clock.ts';
import type { ApplyFailure, ApplyRequest } from '#dataplanes/contract.ts';

/** First pause before what failed is tried again, and the longest one, in ms. */
const retryMs = { first: 100, longest: 10_000 };

/**
 * When a programmer has to be applied, and what it could not do last. News is applied at once; what failed has pauses of its own, which grow, and
 * which news neither ends nor prolongs. They begin anew when something fails that didn't before.
 */
export class ApplyTurns implements Disposable {
  readonly #clock: Clock;
  readonly #onDue: () => void;
  #wanted: ApplyRequest | undefined;
  #failures: readonly ApplyFailure[] = [];
  #pauseMs = retryMs.first;
  #timer: Disposable | undefined;

  /** `onDue`: a pause is over; `take` says so. */
  constructor(clock: Clock, onDue: () => void) {
    this.#clock = clock;
    this.#onDue = onDue;
  }

  /** Everything that failed at the last try. */
  get failures(): readonly ApplyFailure[] {
    return this.#failures;
  }

  /** To be applied: for news alone, or for what failed as well. */
  want(request: ApplyRequest): void {
    this.#wanted = { retry: request.retry || this.#wanted?.retry === true };
  }

  /** What is wanted now, and from now on isn't; undefined: nothing. */
  take(): ApplyRequest | undefined {
    const wanted = this.#wanted;
    this.#wanted = undefined;
    if (wanted?.retry === true) this.#stopTimer();
    return wanted;
  }

  /** What an apply could not do. */
  done({ retry }: ApplyRequest, failed: readonly ApplyFailure[]): void {
    const before = new Set(this.#failures.map(({ object }) => object));
    this.#failures = failed;
    if (failed.length === 0) {
      this.#stopTimer();
      this.#pauseMs = retryMs.first;
      return;
    }
    const isNew = failed.some(({ object }) => !before.has(object));
    if (isNew) this.#pauseMs = retryMs.first;
    if (retry || isNew) this.#startTimer();
  }

  [Symbol.dispose](): void {
    this.#stopTimer();
  }

  #startTimer(): void {
    this.#stopTimer();
    this.#timer = this.#clock.after(this.#pauseMs, () => {
      this.#timer = undefined;
      this.want({ retry: true });
      this.#onDue();
    });
    this.#pauseMs = Math.min(this.#pauseMs * 2, retryMs.longest);
  }

  #stopTimer(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
  }
}
