import { classifierConstants } from '../bpf-types.gen.ts';
import { type Claim, shareOf } from './claim.ts';
import { CHUNK_WORDS, type MapSizes } from './classifier-maps.ts';
import { ClassifierFull } from './full-error.ts';
import { IdPool } from './id-pool.ts';
import { RangePool } from './range-pool.ts';
import { type Retirement, Shared } from './retirement.ts';
import type { WriteQueue } from './write-queue.ts';

const {
  chunkEmpty: EMPTY_CHUNK,
  chunkFull: FULL_CHUNK,
  rowDefault: ROW_DEFAULT,
  rowLengthShift: ROW_LENGTH_SHIFT,
} = classifierConstants;

/** Chunks that a row has of its own. */
export interface Window {
  readonly first: number;
  readonly length: number;
}

/** A stored row. */
export interface Row {
  /** Where it begins. */
  readonly index: number;
  readonly users: Shared;
  /** What stands there: for a class's row its head, then the numbers of its chunks. */
  readonly words: readonly number[];
  /** The row that has the others of its chunks; undefined: none, or the record's default row. */
  readonly other: Row | undefined;
  /** Another row whose words have the same hash. */
  next: Row | undefined;
}

interface Chunk {
  readonly id: number;
  readonly words: Uint32Array;
  readonly users: Shared | undefined;
  /** Another chunk whose words have the same hash. */
  next: Chunk | undefined;
}

/** Rows and chunks by content: equal ones are stored once, for all units. */
export class RowStore {
  readonly #queue: WriteQueue;
  readonly #retirement: Retirement;
  readonly #sizes: MapSizes;
  readonly #chunkIds: IdPool;
  readonly #ranges: RangePool;
  /** By a hash of their words. */
  readonly #chunks = new Map<number, Chunk>();
  readonly #rows = new Map<number, Row>();
  /** The chunks of the row that is looked for. */
  #found: (Chunk | undefined)[] = [];

  constructor(sizes: MapSizes, queue: WriteQueue, retirement: Retirement) {
    this.#queue = queue;
    this.#retirement = retirement;
    this.#sizes = sizes;
    this.#chunkIds = new IdPool(FULL_CHUNK + 1, sizes.tortie_chunks.entries);
    this.#ranges = new RangePool(0, sizes.tortie_rowtab.entries);
    for (const [id, word] of [
      [EMPTY_CHUNK, 0],
      [FULL_CHUNK, 0xffffffff],
    ] as const) {
      const words = new Uint32Array(CHUNK_WORDS).fill(word);
      put(this.#chunks, hashOf(words, 0), { id, words, users: undefined, next: undefined });
      queue.push({ map: 'chunks', index: id, words });
    }
  }

  /** A default row, of all of a unit's chunks (`CHUNK_WORDS` words each), with one user more. Throws `ClassifierFull`; what it took is in `claim`. */
  acquireDefault(bits: Uint32Array, claim: Claim): Row {
    const row = this.#rowOf(NO_HEAD, bits, claim, undefined);
    const { users } = row;
    users.acquire();
    claim.took(() => users.undoAcquire());
    return row;
  }

  /**
   * A row without a user more, which it has to have before anything else is asked: one that has the window's chunks of its own (`words`), and whose others are those of another one (by `acquireDefault`);
   * `undefined`: of the record's default row.
   */
  row(words: Uint32Array, { first, length }: Window, other: Row | undefined, claim: Claim): Row {
    const head = [(first | (length << ROW_LENGTH_SHIFT)) >>> 0, other?.index ?? ROW_DEFAULT];
    return this.#rowOf(head, words, claim, other);
  }

  /** Stored chunks besides the two constant ones. */
  get chunksUsed(): number {
    return this.#chunkIds.used;
  }

  /** Used entries of the row table. */
  get entriesUsed(): number {
    return this.#ranges.used;
  }

  /** Numbers of what is free, by map. */
  get free(): { readonly tortie_rowtab: number; readonly tortie_chunks: number } {
    return { tortie_rowtab: this.#ranges.free, tortie_chunks: this.#chunkIds.free };
  }

  #rowOf(head: readonly number[], bits: Uint32Array, claim: Claim, other: Row | undefined): Row {
    return this.#find(head, bits, other) ?? this.#add(head, bits, claim, other);
  }

  #find(head: readonly number[], bits: Uint32Array, other: Row | undefined): Row | undefined {
    const found = this.#found;
    found.length = 0;
    let hash = 0;
    for (const word of head) hash = mix(hash, word);
    let isKnown = true;
    for (let from = 0; from < bits.length; from += CHUNK_WORDS) {
      const chunk = this.#chunkOf(bits, from);
      found.push(chunk);
      // A chunk that isn't stored has no number, and then there is no such row.
      if (chunk === undefined) isKnown = false;
      else hash = mix(hash, chunk.id);
    }
    if (!isKnown) return undefined;
    let row = this.#rows.get(hash);
    while (row !== undefined && (row.other !== other || !isOf(row, head, found))) row = row.next;
    return row;
  }

  /** Behind `#find` of the same. */
  #add(head: readonly number[], bits: Uint32Array, claim: Claim, other: Row | undefined): Row {
    // The row is a user of its chunks and of the other row, however many use the row.
    if (other !== undefined) {
      other.users.acquire();
      claim.took(() => other.users.undoAcquire());
    }
    const chunks = this.#found;
    this.#found = [];
    const words = [...head];
    for (let place = 0; place < chunks.length; place++) {
      const chunk = this.#acquireChunk(chunks[place], bits, place * CHUNK_WORDS, claim);
      chunks[place] = chunk;
      words.push(chunk.id);
    }
    const { entries } = this.#sizes.tortie_rowtab;
    const index = this.#ranges.take(words.length, claim.leavesShare ? shareOf(entries) : 0);
    if (index === undefined) throw new ClassifierFull('tortie_rowtab', this.#sizes, words.length);
    const forget = () => {
      remove(this.#rows, hash, row);
      this.#ranges.give(index, words.length);
    };
    const users = new Shared(this.#retirement, () => {
      forget();
      for (const chunk of chunks) chunk?.users?.release();
      other?.users.release();
    });
    const row: Row = { index, words, users, other, next: undefined };
    let hash = 0;
    for (const word of words) hash = mix(hash, word);
    put(this.#rows, hash, row);
    const queued = this.#queue.push({ map: 'rowtab', index, words });
    claim.took(() => {
      forget();
      this.#queue.cancel(queued);
    });
    return row;
  }

  /** The stored chunk of these words; undefined: there is none. */
  #chunkOf(bits: Uint32Array, from: number): Chunk | undefined {
    let chunk = this.#chunks.get(hashOf(bits, from));
    while (chunk !== undefined && !isSame(chunk.words, bits, from)) chunk = chunk.next;
    return chunk;
  }

  #acquireChunk(found: Chunk | undefined, bits: Uint32Array, from: number, claim: Claim): Chunk {
    // A row may have a new chunk twice.
    const known = found ?? this.#chunkOf(bits, from);
    if (known !== undefined) {
      const { users } = known;
      users?.acquire();
      claim.took(() => users?.undoAcquire());
      return known;
    }
    const { entries } = this.#sizes.tortie_chunks;
    const id = this.#chunkIds.take(claim.leavesShare ? shareOf(entries) : 0);
    if (id === undefined) throw new ClassifierFull('tortie_chunks', this.#sizes);
    const hash = hashOf(bits, from);
    const forget = () => {
      remove(this.#chunks, hash, chunk);
      this.#chunkIds.give(id);
    };
    const users = new Shared(this.#retirement, forget);
    users.acquire();
    const chunk: Chunk = { id, words: bits.slice(from, from + CHUNK_WORDS), users, next: undefined };
    put(this.#chunks, hash, chunk);
    const queued = this.#queue.push({ map: 'chunks', index: id, words: chunk.words });
    claim.took(() => {
      forget();
      this.#queue.cancel(queued);
    });
    return chunk;
  }
}

const NO_HEAD: readonly number[] = [];

/** A hash goes on with a word. Hashes are whole numbers of 32 bits with a sign, which need no memory of their own. */
function mix(hash: number, word: number): number {
  const mixed = Math.imul((hash ^ word) + 0x9e3779b9, 0x85ebca6b);
  return mixed ^ (mixed >>> 15);
}

function hashOf(bits: Uint32Array, from: number): number {
  let hash = 0;
  for (let word = from; word < from + CHUNK_WORDS; word++) hash = mix(hash, bits[word] ?? 0);
  return hash;
}

function isSame(words: Uint32Array, bits: Uint32Array, from: number): boolean {
  for (let word = 0; word < CHUNK_WORDS; word++) if (words[word] !== bits[from + word]) return false;
  return true;
}

function isOf({ words }: Row, head: readonly number[], chunks: readonly (Chunk | undefined)[]): boolean {
  if (words.length !== head.length + chunks.length) return false;
  for (let place = 0; place < head.length; place++) if (words[place] !== head[place]) return false;
  for (let place = 0; place < chunks.length; place++) {
    if (words[head.length + place] !== chunks[place]?.id) return false;
  }
  return true;
}

interface Linked<T> {
  next: T | undefined;
}

function put<T extends Linked<T>>(all: Map<number, T>, hash: number, one: T): void {
  one.next = all.get(hash);
  all.set(hash, one);
}

function remove<T extends Linked<T>>(all: Map<number, T>, hash: number, one: T): void {
  let before = all.get(hash);
  if (before === one) {
    if (one.next === undefined) all.delete(hash);
    else all.set(hash, one.next);
    return;
  }
  while (before !== undefined && before.next !== one) before = before.next;
  if (before !== undefined) before.next = one.next;
}

/** Of a row's bits, those of the window's chunks. */
export const wordsIn = (bits: Uint32Array, { first, length }: Window): Uint32Array =>
  bits.subarray(first * CHUNK_WORDS, (first + length) * CHUNK_WORDS);

/** The chunks from the first to the last in which the bits differ from the default row's; undefined: in none. */
export function windowOf(bits: Uint32Array, defaultBits: Uint32Array): Window | undefined {
  let first = 0;
  while (first < bits.length && bits[first] === defaultBits[first]) first++;
  if (first === bits.length) return undefined;
  let last = bits.length - 1;
  while (bits[last] === defaultBits[last]) last--;
  const chunk = Math.floor(first / CHUNK_WORDS);
  return { first: chunk, length: Math.floor(last / CHUNK_WORDS) - chunk + 1 };
}
