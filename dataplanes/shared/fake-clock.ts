import type { Clock } from '#api/clock.ts';
import type { Logger } from '../logger.ts';

/** A clock that tests move by hand. `sleep` passes at once: what waits before a retry must not hold a test up. */
export class FakeClock implements Clock {
  #now = 0;
  #timers: { readonly at: number; readonly action: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  sleep(ms: number): Promise<void> {
    this.#now += ms;
    return Promise.resolve();
  }

  after(ms: number, action: () => void): Disposable {
    const timer = { at: this.#now + ms, action };
    this.#timers.push(timer);
    return { [Symbol.dispose]: () => (this.#timers = this.#timers.filter((other) => other !== timer)) };
  }

  /** Lets `ms` pass and runs what is due, in order. */
  advance(ms: number): void {
    this.#now += ms;
    for (const timer of this.#timers.filter(({ at }) => at <= this.#now).sort((a, b) => a.at - b.at)) {
      this.#timers = this.#timers.filter((other) => other !== timer);
      timer.action();
    }
  }

  /** How long until the next timer, or undefined. */
  get nextInMs(): number | undefined {
    return this.#timers.length === 0 ? undefined : Math.min(...this.#timers.map(({ at }) => at)) - this.#now;
  }
}

/** A logger that says nothing. */
export const silentLogger: Logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
