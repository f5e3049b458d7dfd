import { setTimeout as delay } from 'node:timers/promises';

/** Time, as a seam: tests inject one that they move by hand. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Resolves after `ms`; rejects with the signal's reason when it aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `action` once after `ms`, unless disposed of before. Does not keep the process alive. */
  after(ms: number, action: () => void): Disposable;
}
export const Clock = Symbol.for('Clock');

/** The real time. */
export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) => delay(ms, undefined, signal === undefined ? {} : { signal }),
  after: (ms, action) => {
    const timer = setTimeout(action, ms).unref();
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};
