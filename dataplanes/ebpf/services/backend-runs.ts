import type { Family } from '#api/cidr.ts';
import type { MappedArray } from '#native/bpf.ts';
import { RangePool } from '../classifier/range-pool.ts';
import { type Retirement, Shared } from '../classifier/retirement.ts';
import { type BackendAddress, readBackend, type RunReference } from './service-codec.ts';

/** Backends that stand one after the other in the array. Nothing of it changes while a frontend refers to it, or a lookup may. */
export interface Run {
  readonly first: number;
  readonly count: number;
  /** Its bytes, as text of one character for each. */
  readonly content: string;
  readonly users: Shared;
}

/** The array of backends of one family: equal runs are there once, and their place is free a grace period after the last user went. */
export class BackendRuns implements Disposable {
  readonly #family: Family;
  readonly #memory: MappedArray;
  readonly #retirement: Retirement;
  readonly #pool: RangePool;
  readonly #byContent = new Map<string, Run>();
  /** How often place has become free: what didn't fit needs no other try before it changes. */
  freed = 0;

  constructor(family: Family, memory: MappedArray, retirement: Retirement) {
    this.#family = family;
    this.#memory = memory;
    this.#retirement = retirement;
    this.#pool = new RangePool(0, memory.length);
  }

  /** Bytes from one backend to the next. */
  get stride(): number {
    return this.#memory.stride;
  }

  /** Backends that stand in the array, those that wait for a grace period included. */
  get used(): number {
    return this.#pool.used;
  }

  get free(): number {
    return this.#memory.length - this.#pool.used;
  }

  /** The run of these backends (not none; `stride` apart), written, with one user more; undefined when no free place is long enough. */
  acquire(bytes: Uint8Array): Run | undefined {
    const content = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
    let run = this.#byContent.get(content);
    if (run === undefined) {
      const count = bytes.byteLength / this.stride;
      const first = this.#pool.take(count);
      if (first === undefined) return undefined;
      this.#memory.bytes.set(bytes, first * this.stride);
      run = { first, count, content, users: new Shared(this.#retirement, () => this.#free(content, first, count)) };
      this.#byContent.set(content, run);
    }
    run.users.acquire();
    return run;
  }

  /** The longest piece of a run that has none but these backends: what may still be used of it. */
  longestPiece(run: Run, bytes: Uint8Array): RunReference {
    const wanted = new Set(this.#elementsOf(Buffer.from(bytes).toString('latin1')));
    let [best, length] = [0, 0];
    let start = 0;
    for (const [index, element] of this.#elementsOf(run.content).entries()) {
      if (!wanted.has(element)) start = index + 1;
      else if (index + 1 - start > length) [best, length] = [start, index + 1 - start];
    }
    return length === 0 ? { first: 0, count: 0 } : { first: run.first + best, count: length };
  }

  /** What stands there; what is outside of the array is left out, as programs do. */
  read({ first, count }: RunReference): readonly BackendAddress[] {
    return Array.from({ length: Math.max(Math.min(count, this.#memory.length - first), 0) }, (_, index) =>
      readBackend(this.#family, this.#memory.value(first + index)),
    );
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }

  #elementsOf(content: string): readonly string[] {
    return Array.from({ length: content.length / this.stride }, (_, index) =>
      content.slice(index * this.stride, (index + 1) * this.stride),
    );
  }

  #free(content: string, first: number, count: number): void {
    this.#byContent.delete(content);
    this.#pool.give(first, count);
    this.freed++;
  }
}
