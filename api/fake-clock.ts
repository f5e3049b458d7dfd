import type { Clock } from './clock.ts';

interface Timer {
  readonly at: number;
  readonly action: () => void;
}

/**
 * A clock for tests: it only moves when it is told to, and timers run in the order in which they are due. With `sleepsPass` a `sleep`
 * moves the clock by itself and returns: for tests that don't care about pauses between tries.
 */
export class FakeClock implements Clock {
  readonly #sleepsPass: boolean;
  #now = 1_700_000_000_000;
  readonly #timers = new Set<Timer>();

  constructor(options: { readonly sleepsPass?: boolean } = {}) {
    this.#sleepsPass = options.sleepsPass ?? false;
  }

  now(): number {
    return this.#now;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#sleepsPass) {
      this.advance(ms);
      return;
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    using _timer = this.after(ms, resolve);
    const abort = (): void => reject(signal?.reason as Error);
    signal?.addEventListener('abort', abort);
    try {
      await promise;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  after(ms: number, action: () => void): Disposable {
    const timer = { at: this.#now + ms, action };
    this.#timers.add(timer);
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) };
  }

  /** How many timers and sleepers wait. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Milliseconds until the next one is due; undefined: none waits. */
  get nextInMs(): number | undefined {
    const next = this.#next();
    return next === undefined ? undefined : next.at - this.#now;
  }

  /** Lets `ms` pass and runs what becomes due, also what that starts anew. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (let due = this.#next(); due !== undefined && due.at <= end; due = this.#next()) {
      this.#timers.delete(due);
      this.#now = due.at;
      due.action();
    }
    this.#now = end;
  }

  #next(): Timer | undefined {
    return [...this.#timers].toSorted((a, b) => a.at - b.at)[0];
  }
}
