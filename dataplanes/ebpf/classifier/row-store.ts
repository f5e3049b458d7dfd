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

/** A stored row: where it begins. */
export interface Row {
  readonly index: number;
  readonly users: Shared;
}

interface Chunk {
  readonly id: number;
  readonly users: Shared | undefined;
}

/** Rows and chunks by content: equal ones are stored once, for all units. */
export class RowStore {
  readonly #queue: WriteQueue;
  readonly #retirement: Retirement;
  readonly #sizes: MapSizes;
  readonly #chunkIds: IdPool;
  readonly #ranges: RangePool;
  readonly #chunks = new Map<string, Chunk>([
    [contentOf(new Uint32Array(CHUNK_WORDS)), { id: EMPTY_CHUNK, users: undefined }],
    [contentOf(new Uint32Array(CHUNK_WORDS).fill(0xffffffff)), { id: FULL_CHUNK, users: undefined }],
  ]);
  readonly #rows = new Map<string, Row>();

  constructor(sizes: MapSizes, queue: WriteQueue, retirement: Retirement) {
    this.#queue = queue;
    this.#retirement = retirement;
    this.#sizes = sizes;
    this.#chunkIds = new IdPool(FULL_CHUNK + 1, sizes.tortie_chunks.entries);
    this.#ranges = new RangePool(0, sizes.tortie_rowtab.entries);
    queue.push({ map: 'chunks', index: EMPTY_CHUNK, words: new Uint32Array(CHUNK_WORDS) });
    queue.push({ map: 'chunks', index: FULL_CHUNK, words: new Uint32Array(CHUNK_WORDS).fill(0xffffffff) });
  }

  /** A default row, of all of a unit's chunks (`CHUNK_WORDS` words each), with one user more. Throws `ClassifierFull`; what it took is in `claim`. */
  acquireDefault(bits: Uint32Array, claim: Claim): Row {
    return this.#acquire([], bits, 0, bits.length / CHUNK_WORDS, claim);
  }

  /**
   * As `acquireDefault` a row that has the window's chunks of its own, and whose others are those of another one (by `acquireDefault`); `undefined`:
   * of the record's default row.
   */
  acquire(bits: Uint32Array, { first, length }: Window, other: Row | undefined, claim: Claim): Row {
    const head = [(first | (length << ROW_LENGTH_SHIFT)) >>> 0, other?.index ?? ROW_DEFAULT];
    return this.#acquire(head, bits, first, length, claim, other);
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

  #acquire(head: readonly number[], bits: Uint32Array, first: number, length: number, claim: Claim, other?: Row): Row {
    const contents = Array.from({ length }, (_, index) => contentOf(chunkOf(bits, first + index)));
    // A chunk that isn't stored has no number, and then there is no such row.
    const known = this.#rows.get(`${head.join(',')}:${contents.map((each) => this.#chunks.get(each)?.id).join(',')}`);
    const row = known ?? this.#add(head, bits, first, contents, claim, other);
    row.users.acquire();
    claim.took(() => row.users.undoAcquire());
    return row;
  }

  #add(
    head: readonly number[],
    bits: Uint32Array,
    first: number,
    contents: readonly string[],
    claim: Claim,
    other?: Row,
  ): Row {
    // The row is a user of its chunks and of the other row, however many use the row.
    if (other !== undefined) {
      other.users.acquire();
      claim.took(() => other.users.undoAcquire());
    }
    const chunks = contents.map((content, index) =>
      this.#acquireChunk(content, () => chunkOf(bits, first + index).slice(), claim),
    );
    const ids = chunks.map(({ id }) => id);
    const words = [...head, ...ids];
    const { entries } = this.#sizes.tortie_rowtab;
    const index = this.#ranges.take(words.length, claim.leavesShare ? shareOf(entries) : 0);
    if (index === undefined) throw new ClassifierFull('tortie_rowtab', this.#sizes, words.length);
    const key = `${head.join(',')}:${ids.join(',')}`;
    const forget = () => {
      this.#rows.delete(key);
      this.#ranges.give(index, words.length);
    };
    const row: Row = {
      index,
      users: new Shared(this.#retirement, () => {
        forget();
        for (const chunk of chunks) chunk.users?.release();
        other?.users.release();
      }),
    };
    this.#rows.set(key, row);
    const queued = this.#queue.push({ map: 'rowtab', index, words });
    claim.took(() => {
      forget();
      this.#queue.cancel(queued);
    });
    return row;
  }

  #acquireChunk(content: string, words: () => Uint32Array, claim: Claim): Chunk {
    const known = this.#chunks.get(content);
    if (known !== undefined) {
      const { users } = known;
      users?.acquire();
      claim.took(() => users?.undoAcquire());
      return known;
    }
    const { entries } = this.#sizes.tortie_chunks;
    const id = this.#chunkIds.take(claim.leavesShare ? shareOf(entries) : 0);
    if (id === undefined) throw new ClassifierFull('tortie_chunks', this.#sizes);
    const forget = () => {
      this.#chunks.delete(content);
      this.#chunkIds.give(id);
    };
    const users = new Shared(this.#retirement, forget);
    users.acquire();
    const chunk: Chunk = { id, users };
    this.#chunks.set(content, chunk);
    const queued = this.#queue.push({ map: 'chunks', index: id, words: words() });
    claim.took(() => {
      forget();
      this.#queue.cancel(queued);
    });
    return chunk;
  }
}

const chunkOf = (bits: Uint32Array, chunk: number): Uint32Array =>
  bits.subarray(chunk * CHUNK_WORDS, (chunk + 1) * CHUNK_WORDS);

/** As a key: 32 characters. */
function contentOf(words: Uint32Array): string {
  const halves = new Uint16Array(words.buffer, words.byteOffset, words.length * 2);
  return String.fromCharCode.apply(null, halves as unknown as number[]);
}

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
