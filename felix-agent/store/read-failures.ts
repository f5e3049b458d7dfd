import type { Clock } from '#api/clock.ts';
import type { KindName } from '#api/kinds.ts';
import type { Log } from '../log.ts';
import { gatheredFailures } from './gathered-failures.ts';

/** Kinds fail together: what failed within this time is one line. In ms. */
const gatherMs = 500;

/** While it lasts, a line after this time, then after twice as long, and so on; in ms. */
const repeatMs = { first: 60_000, longest: 900_000 };

/** So many different reasons are in a line; the status has them all. */
const mostReasons = 5;

/** After the first kind can be read again, others try within this time, in ms: spread, so that they don't ask all at once. */
const wakeMs = 500;

/**
 * Which kinds can't be read at present, and the few lines that are logged about it: one when it begins, one now and then, one when all are read
 * again. Kinds share one datastore, so when one can be read again the others needn't wait for their next try.
 */
export class ReadFailures implements Disposable {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #failing = new Map<KindName, string>();
  readonly #wakers = new Set<() => void>();
  #since = 0;
  #isSaid = false;
  #repeatMs = repeatMs.first;
  #next: Disposable | undefined;

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  /** A kind can't be read, and why (`can't read KIND objects: ...`). What is known of it stays. */
  failed(kind: KindName, failure: string): void {
    if (this.#failing.size === 0) {
      this.#since = this.#clock.now();
      this.#next ??= this.#clock.after(gatherMs, () => this.#say());
    }
    this.#failing.set(kind, failure);
  }

  /** A kind is read again. */
  recovered(kind: KindName): void {
    if (!this.#failing.delete(kind)) return;
    for (const wake of this.#wakers) wake();
    if (this.#failing.size > 0) return;
    this.#next?.[Symbol.dispose]();
    this.#next = undefined;
    this.#repeatMs = repeatMs.first;
    if (!this.#isSaid) return;
    this.#isSaid = false;
    this.#log.info({ awayMs: this.#clock.now() - this.#since }, 'the datastore is read again');
  }

  /** A pause that ends early, within half a second, when another kind can be read again. */
  async pause(ms: number, signal: AbortSignal): Promise<void> {
    const early = new AbortController();
    const wake = () => early.abort();
    this.#wakers.add(wake);
    await this.#clock.sleep(ms, AbortSignal.any([signal, early.signal])).catch(() => {});
    this.#wakers.delete(wake);
    if (early.signal.aborted) await this.#clock.sleep(Math.random() * wakeMs, signal).catch(() => {});
  }

  [Symbol.dispose](): void {
    this.#next?.[Symbol.dispose]();
  }

  #say(): void {
    const failing = [...this.#failing].map(([kind, failure]) => ({ kind, failure }));
    const reasons = gatheredFailures(failing).slice(0, mostReasons);
    const awayMs = this.#clock.now() - this.#since;
    this.#log.warn({ reasons, awayMs }, 'datastore read failed; keeping what is known');
    this.#isSaid = true;
    this.#next = this.#clock.after(this.#repeatMs, () => this.#say());
    this.#repeatMs = Math.min(this.#repeatMs * 2, repeatMs.longest);
  }
}
