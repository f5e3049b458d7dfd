import { setImmediate, setTimeout } from 'node:timers/promises';
import { type ClassifierMaps, type MapWrite, WriteFailure, WRITES_SINGLY } from './classifier-maps.ts';
import type { Element } from './element.ts';

/** Writes that one call makes at most. */
const WRITES_PER_CALL = 8192;
/** Milliseconds to wait, one after the other, where a write has no memory; then its flush fails. */
const PAUSES = [1, 4, 16, 64];
/** What passes. Hashes and tries take memory from a small stock of each processor, which is filled up a moment later. */
const PASSES: ReadonlySet<string> = new Set(['ENOMEM', 'EAGAIN', 'EBUSY', 'EINTR']);
/** What doesn't: the map has no room, whatever was counted. */
const STAYS: ReadonlySet<string> = new Set(['ENOSPC', 'E2BIG']);

/** Row keys of one dimension of a record that nothing points to: many writes that go, fail and are refused one by one. */
export interface RowKeys {
  readonly record: number;
  readonly dimension: number;
  readonly classes: readonly number[];
  /** By class; undefined: the keys are deleted. */
  readonly rows: readonly number[] | undefined;
}

/** A write in the queue, or many of the same kind. */
export interface Queued {
  /** undefined: a grace period. */
  readonly write: MapWrite | undefined;
  readonly about: WriteAbout;
  state: 'waits' | 'made' | 'cancelled';
  /** Instead of a write. */
  readonly keys?: RowKeys;
  /** Of its keys, those that are made or refused: the first so many. */
  done?: number;
}

/** What a write is for. */
export interface WriteAbout {
  /** Whose entry it is. */
  readonly owner?: Element;
  /** It is in force. */
  readonly onMade?: () => void;
}

/** What becomes of a write that can't be made. */
export interface Refusal {
  /** Units that would say something wrong without it: they deny from now on, and what is queued for them does. */
  readonly deny: ReadonlySet<number>;
  /** What has to be made then, before everything that is queued; a grace period is between. */
  readonly after: readonly MapWrite[];
}

/** Writes in their order. What failed stays first in line, with everything behind it. */
export class WriteQueue {
  readonly #maps: ClassifierMaps;
  readonly #onRefused: (queued: Queued, error: WriteFailure) => Refusal;
  readonly #sleep: (ms: number) => Promise<unknown>;
  #queued: Queued[] = [];
  #draining: Promise<void> | undefined;
  /** How many were made since the start. */
  made = 0;

  /** `onRefused`: a map has no room for a write, so it is passed over. */
  constructor(
    maps: ClassifierMaps,
    onRefused: (queued: Queued, error: WriteFailure) => Refusal,
    sleep: (ms: number) => Promise<unknown> = setTimeout,
  ) {
    this.#maps = maps;
    this.#sleep = sleep;
    this.#onRefused = onRefused;
  }

  push(write: MapWrite, about: WriteAbout = NOTHING): Queued {
    const queued: Queued = { write, about, state: 'waits' };
    this.#queued.push(queued);
    return queued;
  }

  /** All of these keys, at the cost of one write that waits. */
  pushKeys(keys: RowKeys): Queued {
    const queued: Queued = {
      write: undefined,
      about: NOTHING,
      state: keys.classes.length === 0 ? 'made' : 'waits',
      keys,
      done: 0,
    };
    if (queued.state === 'waits') this.#queued.push(queued);
    return queued;
  }

  /** What is pushed from now on waits for a grace period. */
  pushGrace(): void {
    this.#queued.push({ write: undefined, about: NOTHING, state: 'waits' });
  }

  /** It needn't be made any more. */
  cancel(queued: Queued): void {
    if (queued.state === 'waits') queued.state = 'cancelled';
  }

  /** True if all that were pushed are made. */
  get isEmpty(): boolean {
    return this.#queued.length === 0 && this.#draining === undefined;
  }

  /** Makes all that were pushed before the call. Throws what the map says; the next call goes on there. */
  async drain(): Promise<void> {
    while (this.#draining !== undefined) await this.#draining.catch(() => undefined);
    if (this.#queued.length === 0) return;
    this.#draining = this.#run();
    try {
      await this.#draining;
    } finally {
      this.#draining = undefined;
    }
  }

  async #run(): Promise<void> {
    let line = this.#queued;
    this.#queued = [];
    let at = 0;
    let limit = WRITES_PER_CALL;
    let pauses = 0;
    try {
      while (at < line.length) {
        const first = line[at];
        if (first !== undefined && first.write === undefined && first.keys === undefined) {
          if (first.state === 'waits') await this.#maps.grace();
          at++;
          continue;
        }
        const { some, writes, next } = slice(line, at, limit);
        const failure = await this.#make(writes);
        const made = failure?.made ?? some.length;
        for (let index = 0; index < made; index++) {
          const queued = some[index];
          if (queued !== undefined) makeOne(queued);
        }
        this.made += made;
        const refused = some[made];
        if (failure === undefined || refused === undefined) {
          at = next;
          // Breath between calls that are made without a worker.
          if (limit === WRITES_SINGLY) await setImmediate();
          continue;
        }
        at = line.indexOf(refused, at);
        if (made > 0) pauses = 0;
        if (STAYS.has(failure.code)) {
          line = this.#refuse(refused, writes[made], failure, line.slice(at + 1));
          at = 0;
        } else if (PASSES.has(failure.code) && pauses < PAUSES.length) {
          limit = WRITES_SINGLY;
          await this.#sleep(PAUSES[pauses++] ?? 0);
        } else throw failure;
      }
    } finally {
      // What was pushed meanwhile comes after what is left.
      if (at < line.length) this.#queued = [...line.slice(at), ...this.#queued];
    }
  }

  async #make(writes: readonly MapWrite[]): Promise<WriteFailure | undefined> {
    if (writes.length === 0) return undefined;
    try {
      await this.#maps.write(writes);
      return undefined;
    } catch (error) {
      if (error instanceof WriteFailure) return error;
      throw error;
    }
  }

  /** What is to be made instead of `refused` and `behind`. */
  #refuse(refused: Queued, write: MapWrite | undefined, failure: WriteFailure, behind: readonly Queued[]): Queued[] {
    // Other keys than the one that was refused are made: what deletes them all is queued some day.
    if (refused.keys !== undefined) makeOne(refused);
    const isOver = refused.keys === undefined || refused.state === 'made';
    if (refused.keys === undefined) refused.state = 'cancelled';
    const { deny, after } = this.#onRefused({ ...refused, write }, failure);
    const { owner } = refused.about;
    const denying = (queued: Queued): Queued => {
      const { write } = queued;
      const isDenied = write?.map === 'units' && write.record !== 0 && deny.has(write.index);
      return isDenied ? { ...queued, write: { ...write, record: 0 } } : queued;
    };
    // What the same entry was to become later is told by what follows.
    const isOfOwner = ({ about }: Queued) => owner !== undefined && about.owner === owner;
    const left = [...(isOver ? [] : [refused]), ...behind, ...this.#queued]
      .filter((queued) => !isOfOwner(queued))
      .map(denying);
    this.#queued = [];
    const queue = (write: MapWrite | undefined): Queued => ({ write, about: NOTHING, state: 'waits' });
    return [
      ...[...deny].map((index) => queue({ map: 'units', index, record: 0 })),
      ...(after.length > 0 ? [queue(undefined), ...after.map(queue)] : []),
      ...left,
    ];
  }
}

const NOTHING: WriteAbout = {};

/** It is in force, or one key of it is. */
function makeOne(queued: Queued): void {
  if (queued.keys !== undefined) {
    queued.done = (queued.done ?? 0) + 1;
    if (queued.done < queued.keys.classes.length) return;
  }
  queued.state = 'made';
  queued.about.onMade?.();
}

/**
 * The next writes up to a grace period, at most `limit`, without those that were cancelled; whose they are; and what comes behind them. What has many
 * keys may be there many times, and may be what comes next, too.
 */
function slice(line: readonly Queued[], from: number, limit: number) {
  const some: Queued[] = [];
  const writes: MapWrite[] = [];
  let next = from;
  for (; next < line.length && some.length < limit; next++) {
    const queued = line[next];
    if (queued === undefined || queued.state === 'cancelled') continue;
    if (queued.keys !== undefined) {
      const { record, dimension, classes, rows } = queued.keys;
      let key = queued.done ?? 0;
      for (; key < classes.length && some.length < limit; key++) {
        some.push(queued);
        writes.push({ map: 'rows', record, dimension, class: classes[key] ?? 0, row: rows?.[key] });
      }
      if (key < classes.length) break;
      continue;
    }
    if (queued.write === undefined) break;
    some.push(queued);
    writes.push(queued.write);
  }
  return { some, writes, next };
}
