import { classifierConstants } from '../bpf-types.gen.ts';
import { type Claim, shareOf } from './claim.ts';
import { CHUNK_WORDS, type MapSizes } from './classifier-maps.ts';
import { ClassifierFull } from './full-error.ts';
import { IdPool } from './id-pool.ts';
import { RangePool } from './range-pool.ts';
import { type Retirement, Shared } from './retirement.ts';
import type { WriteQueue } from './write-queue.ts';

const { chunkEmpty: EMPTY_CHUNK, chunkFull: FULL_CHUNK } = classifierConstants;

/** A stored row: where its chunk numbers are. */
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

  /** The row of these bits (`CHUNK_WORDS` words a chunk), with one user more. Throws `ClassifierFull`; what it took is in `claim`. */
  acquire(bits: Uint32Array, claim: Claim): Row {
    const parts = Array.from({ length: bits.length / CHUNK_WORDS }, (_, index) =>
      bits.slice(index * CHUNK_WORDS, (index + 1) * CHUNK_WORDS),
    );
    const row = this.#rows.get(this.#keyOf(parts)) ?? this.#add(parts, claim);
    row.users.acquire();
    claim.took(() => row.users.undoAcquire());
    return row;
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

  /** Its chunks' numbers; a chunk that isn't stored has none, and then there is no such row. */
  #keyOf(parts: readonly Uint32Array[]): string {
    return parts.map((words) => this.#chunks.get(contentOf(words))?.id).join(',');
  }

  #add(parts: readonly Uint32Array[], claim: Claim): Row {
    // The row is a user of its chunks, however many use the row.
    const chunks = parts.map((words) => this.#acquireChunk(words, claim));
    const ids = chunks.map(({ id }) => id);
    const { entries } = this.#sizes.tortie_rowtab;
    const index = this.#ranges.take(ids.length, claim.leavesShare ? shareOf(entries) : 0);
    if (index === undefined) throw new ClassifierFull('tortie_rowtab', this.#sizes, ids.length);
    const key = ids.join(',');
    const forget = () => {
      this.#rows.delete(key);
      this.#ranges.give(index, ids.length);
    };
    const row: Row = {
      index,
      users: new Shared(this.#retirement, () => {
        forget();
        for (const chunk of chunks) chunk.users?.release();
      }),
    };
    this.#rows.set(key, row);
    const queued = this.#queue.push({ map: 'rowtab', index, chunks: ids });
    claim.took(() => {
      forget();
      this.#queue.cancel(queued);
    });
    return row;
  }

  #acquireChunk(words: Uint32Array, claim: Claim): Chunk {
    const content = contentOf(words);
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
    const queued = this.#queue.push({ map: 'chunks', index: id, words });
    claim.took(() => {
      forget();
      this.#queue.cancel(queued);
    });
    return chunk;
  }
}

/** As a key: 32 characters. */
function contentOf(words: Uint32Array): string {
  return String.fromCharCode(...new Uint16Array(words.buffer, words.byteOffset, words.length * 2));
}
