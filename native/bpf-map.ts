import { bpfAddon, type RawMap } from './bpf-addon.ts';
import { BpfTypes } from './bpf-types.ts';
import { MappedArray } from './bpf-mapped-array.ts';
import type { NetnsRef } from './types.ts';

/** What a map is. `flags` are those of its creation, `type` is the kernel's number (linux/bpf.h, enum bpf_map_type). */
export interface MapShape {
  readonly name: string;
  readonly type: number;
  readonly keySize: number;
  /** Bytes of one value; a per-CPU map has one for each possible CPU. */
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
}

/** BPF_ANY: make or replace; BPF_NOEXIST: only make (`EEXIST`); BPF_EXIST: only replace (`ENOENT`). */
export type SetMode = 'any' | 'create' | 'replace';

/** One element of a map. */
export interface MapElement {
  readonly key: Uint8Array;
  /** A per-CPU map: all CPUs' values, `valueStride` apart. */
  readonly value: Uint8Array;
}

/** Elements back to back: key i is at i * keySize, value i at i * cpus * valueStride. */
export interface PackedElements {
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

const setFlags = { any: 0, create: 1, replace: 2 } as const satisfies Record<SetMode, number>;
/** The kernel sets it on device maps by itself: their values are not the program's to write. */
const BPF_F_RDONLY_PROG = 1 << 7;

/**
 * An open map. Single elements are handled at once (about a microsecond); whatever is about many of them uses a worker. It owns its
 * descriptor: dispose of it (`using`); one that was forgotten is closed by the garbage collector.
 */
export class BpfMap implements Disposable {
  readonly #raw: RawMap;
  /** As the kernel says. */
  readonly shape: MapShape;
  readonly id: number;
  /** How many values an element has: the possible CPUs for a per-CPU map, else 1. */
  readonly cpus: number;
  /** Bytes from one CPU's value to the next. */
  readonly valueStride: number;

  private constructor(raw: RawMap) {
    this.#raw = raw;
    const { id, cpus, fd: _, ...shape } = raw.info();
    this.shape = shape;
    this.id = id;
    this.cpus = cpus;
    this.valueStride = cpus === 1 ? shape.valueSize : Math.ceil(shape.valueSize / 8) * 8;
  }

  /** @internal */
  static own(raw: object): BpfMap {
    return new BpfMap(raw as RawMap);
  }

  /** The descriptor's number while the map is open; `EBADF` after. */
  get fd(): number {
    return this.#raw.info().fd;
  }

  /** The value under the key (all CPUs' values, `valueStride` apart), or undefined. */
  get(key: Uint8Array): Uint8Array | undefined {
    return this.#raw.get(key);
  }

  /**
   * Sets one element. Throws `E2BIG` or `ENOSPC` when the map is full. A device map takes the ifindexes of the namespace that the calling
   * thread is in, so one of another needs `netns`.
   */
  set(key: Uint8Array, value: Uint8Array, mode: SetMode = 'any', netns?: NetnsRef): void {
    this.#raw.set(key, value, setFlags[mode], netns);
  }

  /** Deletes one element; false when there was none. */
  delete(key: Uint8Array): boolean {
    return this.#raw.delete(key);
  }

  /**
   * All elements, on a worker. Not a snapshot: an element that comes or goes meanwhile may be in it or not; one that stays is in it once.
   */
  async entries(): Promise<MapElement[]> {
    const { count, keys, values } = await this.dump();
    const { keySize } = this.shape;
    const valueSize = this.cpus * this.valueStride;
    return Array.from({ length: count }, (_, i) => ({
      key: keys.subarray(i * keySize, (i + 1) * keySize),
      value: values.subarray(i * valueSize, (i + 1) * valueSize),
    }));
  }

  /** What `entries` has, without an object for each: for maps with very many elements. */
  async dump(): Promise<PackedElements & { readonly count: number }> {
    return await this.#raw.dump();
  }

  /**
   * Sets many elements on a worker, in order; on failure the error's `completed` says how many were set before. By one system call where the
   * map's type has batches and `mode` is `any` (the kernel's batches know no other), else by one for each.
   */
  async setMany(elements: readonly MapElement[] | PackedElements, mode: SetMode = 'any'): Promise<void> {
    const { keys, values } = isPacked(elements) ? elements : packed(elements);
    await this.#raw.setMany(keys, values, setFlags[mode]);
  }

  /**
   * Deletes many elements on a worker, in order, by batches where the map's type has them. Keys that aren't there are passed over. Returns how
   * many were there; on failure the error's `completed` says how many keys were dealt with before.
   */
  async deleteMany(keys: readonly Uint8Array[] | Uint8Array): Promise<number> {
    return await this.#raw.deleteMany(keys instanceof Uint8Array ? keys : joined(keys));
  }

  /**
   * The memory of an array that was made with BPF_F_MMAPABLE, to be read and written without system calls; programs see each write at once.
   * `EINVAL` for any other map, `EPERM` for a frozen one. The view outlives this handle.
   */
  mmap(): MappedArray {
    return new MappedArray(this.shape, this.#raw.mmap());
  }

  /** What keys and values consist of, as the object had it that made the map; undefined: it was made without types. `BAD_BTF`: not readable. */
  types(): BpfTypes | undefined {
    const raw = this.#raw.types();
    return raw === undefined ? undefined : new BpfTypes(raw);
  }

  /** Gives it a path on a bpf file system; it lives until that is removed. `EEXIST` when something is there. */
  pin(path: string): void {
    bpfAddon().bpfPin(this.fd, path);
  }

  [Symbol.dispose](): void {
    this.#raw.close();
  }
}

/**
 * The map pinned at a path, or undefined when nothing is. With `expected`, one of another type, key, value or flags is refused: `code`
 * `BPF_MAP_MISMATCH`, the message says what differs. Its size may differ: compare `shape.maxEntries`.
 */
export function openPinnedMap(path: string, expected?: MapShape): BpfMap | undefined {
  const raw = bpfAddon().bpfOpenPinned(path, 'map');
  if (raw === undefined) return undefined;
  const map = BpfMap.own(raw);
  const differences = expected === undefined ? [] : mapDifferences(map.shape, expected);
  if (differences.length === 0) return map;
  map[Symbol.dispose]();
  throw Object.assign(
    new Error(`the map pinned at ${path} is not ${expected?.name ?? 'it'}: ${differences.join(', ')}`),
    {
      code: 'BPF_MAP_MISMATCH',
      object: path,
    },
  );
}

/** In what two maps' shapes differ so that a program for one can't use the other; in words, empty when they don't. */
export function mapDifferences(found: MapShape, expected: MapShape): readonly string[] {
  const rows = [
    ['type', found.type, expected.type],
    ['key size', found.keySize, expected.keySize],
    ['value size', found.valueSize, expected.valueSize],
    ['flags', found.flags & ~BPF_F_RDONLY_PROG, expected.flags & ~BPF_F_RDONLY_PROG],
  ] as const;
  return rows
    .filter(([, is, wanted]) => is !== wanted)
    .map(([what, is, wanted]) => `${what} is ${is}, expected ${wanted}`);
}

function isPacked(elements: readonly MapElement[] | PackedElements): elements is PackedElements {
  return !Array.isArray(elements);
}

function packed(elements: readonly MapElement[]): PackedElements {
  return { keys: joined(elements.map(({ key }) => key)), values: joined(elements.map(({ value }) => value)) };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
