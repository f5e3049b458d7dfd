import type { ClassifierMaps, MapWrite } from './classifier-maps.ts';

/** Writes that one call makes at most: what a failure makes again. */
const WRITES_PER_CALL = 8192;

/** Writes in their order. What failed stays first in line, with everything behind it. */
export class WriteQueue {
  readonly #maps: ClassifierMaps;
  #writes: MapWrite[] = [];
  #draining: Promise<void> | undefined;
  /** How many were made since the start. */
  made = 0;

  constructor(maps: ClassifierMaps) {
    this.#maps = maps;
  }

  push(write: MapWrite): void {
    this.#writes.push(write);
  }

  /** True if all that were pushed are made. */
  get isEmpty(): boolean {
    return this.#writes.length === 0 && this.#draining === undefined;
  }

  /** Makes all that were pushed before the call. Throws what the map says; the next call goes on there. */
  async drain(): Promise<void> {
    while (this.#draining !== undefined) await this.#draining.catch(() => undefined);
    if (this.#writes.length === 0) return;
    this.#draining = this.#run();
    try {
      await this.#draining;
    } finally {
      this.#draining = undefined;
    }
  }

  async #run(): Promise<void> {
    const writes = this.#writes;
    this.#writes = [];
    let done = 0;
    try {
      while (done < writes.length) {
        const some = writes.slice(done, done + WRITES_PER_CALL);
        await this.#maps.write(some);
        done += some.length;
        this.made += some.length;
      }
    } finally {
      // What was pushed meanwhile comes after what is left.
      if (done < writes.length) this.#writes = [...writes.slice(done), ...this.#writes];
    }
  }
}
