import { readFile } from 'node:fs/promises';
import { loadAddon } from './addon.ts';
import { verifierSummary } from './bpf-log.ts';
import type { NetlinkFailure, NetnsRef } from './types.ts';

/**
 * bpf(2) by libbpf: objects, maps, programs, pins, probes. Errors are Errors with NetlinkFailure's fields. Handles own their file
 * descriptor: dispose of them (`using`); one that was forgotten is closed by the garbage collector.
 */

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

/** What is known of a refused program besides NetlinkFailure. */
export interface VerifierFailure extends NetlinkFailure {
  readonly program: string;
  /** The verifier's whole log; the message has its last useful lines. */
  readonly verifierLog: string;
}

interface RawMap {
  info(): MapShape & { readonly fd: number; readonly id: number; readonly cpus: number };
  get(key: Uint8Array): Uint8Array | undefined;
  set(key: Uint8Array, value: Uint8Array, flags: number, netns?: NetnsRef): void;
  delete(key: Uint8Array): boolean;
  dump(): Promise<{ readonly count: number; readonly keys: Uint8Array; readonly values: Uint8Array }>;
  setMany(keys: Uint8Array, values: Uint8Array): Promise<void>;
  close(): void;
}

interface RawProgram {
  info(): {
    readonly fd: number;
    readonly id: number;
    readonly type: number;
    readonly name: string;
    readonly tag: string;
    readonly mapIds: readonly number[];
  };
  testRun(request: TestRun): TestResult;
  close(): void;
}

interface BpfAddon {
  bpfLoad(request: {
    name: string;
    bytes: Uint8Array;
    maps: readonly { name: string; maxEntries?: number; fd?: number }[];
    config: readonly { name: string; bytes: Uint8Array }[];
  }): Promise<{ maps: Record<string, RawMap>; programs: Record<string, RawProgram> }>;
  bpfPin(fd: number, path: string): void;
  bpfOpenPinned(path: string, kind: 'map'): RawMap | undefined;
  bpfOpenPinned(path: string, kind: 'program'): RawProgram | undefined;
  bpfMount(path: string, source: string): void;
  bpfUnmount(path: string): void;
  bpfProbe(what: ProbeRequest): Promise<{ readonly answer: 'yes' | 'no' | 'unknown'; readonly reason: string }>;
}

const addon = (): BpfAddon => loadAddon<BpfAddon>();
const setFlags = { any: 0, create: 1, replace: 2 } as const satisfies Record<SetMode, number>;
/** The kernel sets it on device maps by itself: their values are not the program's to write. */
const BPF_F_RDONLY_PROG = 1 << 7;

/** An open map. Single elements are handled at once (about a microsecond); `entries` and `setMany` use a worker. */
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
  async entries(): Promise<{ readonly key: Uint8Array; readonly value: Uint8Array }[]> {
    const { count, keys, values } = await this.#raw.dump();
    const { keySize } = this.shape;
    const valueSize = this.cpus * this.valueStride;
    return Array.from({ length: count }, (_, i) => ({
      key: keys.subarray(i * keySize, (i + 1) * keySize),
      value: values.subarray(i * valueSize, (i + 1) * valueSize),
    }));
  }

  /** Sets many elements on a worker, in order. On failure the error's `completed` says how many were set. */
  async setMany(elements: readonly { readonly key: Uint8Array; readonly value: Uint8Array }[]): Promise<void> {
    await this.#raw.setMany(joined(elements.map(({ key }) => key)), joined(elements.map(({ value }) => value)));
  }

  /** Gives it a path on a bpf file system; it lives until that is removed. `EEXIST` when something is there. */
  pin(path: string): void {
    addon().bpfPin(this.fd, path);
  }

  [Symbol.dispose](): void {
    this.#raw.close();
  }
}

/** A packet for a program, without sending one (BPF_PROG_TEST_RUN). */
export interface TestRun {
  /** From the Ethernet header on. */
  readonly data: Uint8Array;
  /** `struct __sk_buff` or `struct xdp_md` as it should be. */
  readonly context?: Uint8Array;
  readonly repeat?: number;
  /** Where it pretends to be; its device is `lo` (ifindex 1) unless the context says another. */
  readonly netns?: NetnsRef;
}

export interface TestResult {
  /** What the program returned, signed. */
  readonly returned: number;
  readonly data: Uint8Array;
  readonly context: Uint8Array;
  /** Average of one run. */
  readonly nanoseconds: number;
}

/** A loaded program. */
export class BpfProgram implements Disposable {
  readonly #raw: RawProgram;
  readonly id: number;
  readonly name: string;
  /** The kernel's hash of the instructions. */
  readonly tag: string;
  readonly type: number;
  /** The maps it uses; read-only data is one of them. */
  readonly mapIds: readonly number[];

  private constructor(raw: RawProgram) {
    this.#raw = raw;
    const info = raw.info();
    this.id = info.id;
    this.name = info.name;
    this.tag = info.tag;
    this.type = info.type;
    this.mapIds = info.mapIds;
  }

  /** @internal */
  static own(raw: object): BpfProgram {
    return new BpfProgram(raw as RawProgram);
  }

  /** The descriptor's number while the program is open; `EBADF` after. */
  get fd(): number {
    return this.#raw.info().fd;
  }

  testRun(request: TestRun): TestResult {
    return this.#raw.testRun(request);
  }

  /** Gives it a path on a bpf file system; it lives until that is removed. `EEXIST` when something is there. */
  pin(path: string): void {
    addon().bpfPin(this.fd, path);
  }

  [Symbol.dispose](): void {
    this.#raw.close();
  }
}

/** What to load, as data. */
export interface ObjectSpec {
  /** At most 64 characters; the first seven become the prefix of the kernel's names for internal maps. */
  readonly name: string;
  /** The ELF file's path or content. */
  readonly elf: string | Uint8Array;
  /** Per map: another size, or a map that exists already and takes its place (its shape must match: see `openPinnedMap`). */
  readonly maps?: Readonly<Record<string, { readonly maxEntries?: number; readonly use?: BpfMap }>>;
  /** Values of read-only variables (`const volatile`), which the program then has as constants. */
  readonly config?: Readonly<Record<string, Uint8Array>>;
}

/** Maps and programs of one loaded object, by their names in C. Disposing closes all of them; what is pinned or attached stays. */
export class LoadedObject implements Disposable {
  readonly #maps: ReadonlyMap<string, BpfMap>;
  readonly #programs: ReadonlyMap<string, BpfProgram>;

  constructor(maps: ReadonlyMap<string, BpfMap>, programs: ReadonlyMap<string, BpfProgram>) {
    this.#maps = maps;
    this.#programs = programs;
  }

  map(name: string): BpfMap {
    return this.#maps.get(name) ?? missing('map', name, this.#maps);
  }

  program(name: string): BpfProgram {
    return this.#programs.get(name) ?? missing('program', name, this.#programs);
  }

  [Symbol.dispose](): void {
    for (const handle of [...this.#maps.values(), ...this.#programs.values()]) handle[Symbol.dispose]();
  }
}

function missing(kind: string, name: string, among: ReadonlyMap<string, unknown>): never {
  throw Object.assign(new Error(`the BPF object has no ${kind} ${name}, only ${[...among.keys()].join(', ')}`), {
    code: 'ENOENT',
  });
}

/**
 * Loads an object on a worker (10-500 ms). Throws a VerifierFailure when the verifier refuses a program, else NetlinkFailure with
 * libbpf's words (`code` `ERR_BPF_OBJECT` for a file that is no usable object). Nothing stays in the kernel when it fails.
 */
export async function loadObject(spec: ObjectSpec): Promise<LoadedObject> {
  const bytes = typeof spec.elf === 'string' ? await readFile(spec.elf) : spec.elf;
  try {
    const loaded = await addon().bpfLoad({
      name: spec.name,
      bytes,
      maps: Object.entries(spec.maps ?? {}).map(([name, wish]) => ({
        name,
        ...(wish.maxEntries === undefined ? {} : { maxEntries: wish.maxEntries }),
        ...(wish.use === undefined ? {} : { fd: wish.use.fd }),
      })),
      config: Object.entries(spec.config ?? {}).map(([name, value]) => ({ name, bytes: value })),
    });
    return new LoadedObject(
      new Map(Object.entries(loaded.maps).map(([name, raw]) => [name, BpfMap.own(raw)])),
      new Map(Object.entries(loaded.programs).map(([name, raw]) => [name, BpfProgram.own(raw)])),
    );
  } catch (error) {
    throw withVerifierWords(error);
  }
}

function withVerifierWords(error: unknown): unknown {
  const failure = error as Partial<VerifierFailure> & { message?: string };
  if (failure.verifierLog === undefined) return error;
  const words = verifierSummary(failure.verifierLog);
  if (words.length > 0) failure.message = `${failure.message}:\n${words.map((line) => `  ${line}`).join('\n')}`;
  return error;
}

/**
 * The map pinned at a path, or undefined when nothing is. With `expected`, one of another type, key, value or flags is refused: `code`
 * `BPF_MAP_MISMATCH`, the message says what differs. Its size may differ: compare `shape.maxEntries`.
 */
export function openPinnedMap(path: string, expected?: MapShape): BpfMap | undefined {
  const raw = addon().bpfOpenPinned(path, 'map');
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

/** The program pinned at a path, or undefined when nothing is. */
export function openPinnedProgram(path: string): BpfProgram | undefined {
  const raw = addon().bpfOpenPinned(path, 'program');
  return raw === undefined ? undefined : BpfProgram.own(raw);
}

/** Mounts a new bpf file system, readable by root alone; `source` is the name that mountinfo shows for it. */
export function mountBpffs(path: string, source: string): void {
  addon().bpfMount(path, source);
}

/** Unmounts it: `EBUSY` while it is in use. Pins in it go with the last mount of it. */
export function unmountBpffs(path: string): void {
  addon().bpfUnmount(path);
}

/** A device is tried in this namespace, or in a new one. */
interface DeviceProbe {
  readonly netns?: NetnsRef;
}

/**
 * What can be asked. Types of maps, programs, attachments and helpers are the kernel's numbers (linux/bpf.h). A map of this shape (of one entry,
 * or so many) can be
 * made; a program of this type loaded, with its type of attachment where it needs one; a helper called from a program of this type; programs
 * attached to a cgroup (nothing is attached: the list is read); clsact with BPF filters used; tcx links attached; XDP programs run
 * with frames that are sent on; a device of this kind made.
 */
export type ProbeRequest =
  | { readonly map: Omit<MapShape, 'name' | 'maxEntries'> & { readonly entries?: number } }
  | { readonly program: number; readonly attachType?: number; readonly sleepable?: boolean }
  | { readonly helper: number; readonly program: number }
  | { readonly cgroup: string; readonly attachType: number }
  | (DeviceProbe & { readonly clsact: true })
  | (DeviceProbe & { readonly tcx: true })
  | (DeviceProbe & { readonly liveFrames: true })
  | (DeviceProbe & { readonly link: 'veth' | 'vxlan' });

/** `unknown`: trying failed for another reason (rights, memory), given in `reason`; ask again, don't remember it. */
export type ProbeAnswer = { readonly answer: 'yes' } | { readonly answer: 'no' | 'unknown'; readonly reason: string };

/** Asks the running kernel by trying, on a worker; nothing stays. What needs a device is tried in a network namespace of its own. */
export async function probeBpf(what: ProbeRequest): Promise<ProbeAnswer> {
  const { answer, reason } = await addon().bpfProbe(what);
  return answer === 'yes' ? { answer } : { answer, reason };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
