import { classifierConstants } from '../bpf-types.gen.ts';
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

  /** The row of these bits (`CHUNK_WORDS` words a chunk), with one user more. Throws `ClassifierFull`. */
  acquire(bits: Uint32Array): Row {
    const chunks: Chunk[] = [];
    try {
      for (let start = 0; start < bits.length; start += CHUNK_WORDS) {
        chunks.push(this.#acquireChunk(bits.subarray(start, start + CHUNK_WORDS)));
      }
      const ids = chunks.map(({ id }) => id);
      const key = ids.join(',');
      const known = this.#rows.get(key);
      const row = known ?? this.#add(key, ids, chunks);
      row.users.acquire();
      // The row is a user of its chunks, however many use the row.
      if (known !== undefined) for (const chunk of chunks) chunk.users?.release();
      return row;
    } catch (error) {
      for (const chunk of chunks) chunk.users?.release();
      throw error;
    }
  }

  /** Stored chunks besides the two constant ones. */
  get chunksUsed(): number {
    return this.#chunkIds.used;
  }

  /** Used entries of the row table. */
  get entriesUsed(): number {
    return this.#ranges.used;
  }

  #add(key: string, ids: readonly number[], chunks: readonly Chunk[]): Row {
    const index = this.#ranges.take(ids.length);
    if (index === undefined) throw new ClassifierFull('tortie_rowtab', this.#sizes);
    this.#queue.push({ map: 'rowtab', index, chunks: ids });
    const row: Row = {
      index,
      users: new Shared(this.#retirement, () => {
        this.#rows.delete(key);
        this.#ranges.give(index, ids.length);
        for (const chunk of chunks) chunk.users?.release();
      }),
    };
    this.#rows.set(key, row);
    return row;
  }

  #acquireChunk(words: Uint32Array): Chunk {
    const content = contentOf(words);
    const known = this.#chunks.get(content);
    if (known !== undefined) {
      known.users?.acquire();
      return known;
    }
    const id = this.#chunkIds.take();
    if (id === undefined) throw new ClassifierFull('tortie_chunks', this.#sizes);
    this.#queue.push({ map: 'chunks', index: id, words: words.slice() });
    const users = new Shared(this.#retirement, () => {
      this.#chunks.delete(content);
      this.#chunkIds.give(id);
    });
    users.acquire();
    const chunk: Chunk = { id, users };
    this.#chunks.set(content, chunk);
    return chunk;
  }
}

/** As a key: 32 characters. */
function contentOf(words: Uint32Array): string {
  return String.fromCharCode(...new Uint16Array(words.buffer, words.byteOffset, words.length * 2));
}
