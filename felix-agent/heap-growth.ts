import { constants, PerformanceObserver } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import type { Clock } from '#api/clock.ts';

/** What a full collection is told as; more of them within the span, and the heap grows in large steps. */
const most = 3;
const spanMs = 1_000;
/** Steps are small again when there were few collections for so long. */
const quietMs = 5_000;

/**
 * How much V8's heap grows between two full collections. In small steps (`--optimize-for-size`: by a tenth) an idle agent is a tenth smaller; a large change
 * (10,000 rules) is then collected over and over, and takes twice the CPU. So steps are small, but while full collections follow each other closely.
 */
export class HeapGrowth implements Disposable {
  readonly #clock: Clock;
  readonly #setFlag: (flag: string) => void;
  readonly #observer: Disposable;
  #collections: number[] = [];
  #timer: Disposable | undefined;

  /** `observe` calls back for each full collection; both are for tests. */
  constructor(clock: Clock, observe = observeCollections, setFlag = setFlagsFromString) {
    this.#clock = clock;
    this.#setFlag = setFlag;
    setFlag('--optimize-for-size');
    this.#observer = observe(() => this.#onCollection());
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
    this.#observer[Symbol.dispose]();
  }

  #onCollection(): void {
    const now = this.#clock.now();
    this.#collections = [...this.#collections.filter((at) => now - at < spanMs), now];
    if (this.#collections.length <= most) return;
    if (this.#timer === undefined) this.#setFlag('--no-optimize-for-size');
    this.#timer?.[Symbol.dispose]();
    this.#timer = this.#clock.after(quietMs, () => {
      this.#timer = undefined;
      this.#setFlag('--optimize-for-size');
    });
  }
}

/** Full collections of this process as V8 tells them; they come in a turn of the event loop after them. */
function observeCollections(onCollection: () => void): Disposable {
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries() as { detail?: { kind?: number } }[]) {
      if (entry.detail?.kind === constants.NODE_PERFORMANCE_GC_MAJOR) onCollection();
    }
  });
  observer.observe({ entryTypes: ['gc'] });
  return { [Symbol.dispose]: () => observer.disconnect() };
}
