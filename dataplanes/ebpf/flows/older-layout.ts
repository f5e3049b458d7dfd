import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { type BpfMap, openPinnedMap } from '#native/bpf.ts';
import { type FamilyFlowMaps, flowShard } from './flow-maps.ts';
import { type FlowCodec, flowCodec } from './older-layout-codec.ts';

/** What a carry did, in elements (records and pointers). */
export interface CarryReport {
  readonly carried: number;
  /** For which there was no room. */
  readonly full: number;
  /** That could not be converted. */
  readonly unreadable: number;
  /** Why, each once; a map that can't be read at all counts no elements. */
  readonly reasons: readonly string[];
}

/** A map of flows that the programs to be entered don't use. */
interface Source {
  readonly path: string;
  readonly family: number;
  readonly isFresh: boolean;
  /** Absent: it could not be opened, for this reason. */
  readonly map: BpfMap | undefined;
  readonly failure?: string;
}

interface Element {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** Elements that are dealt with at a time: some ms of the main thread. */
const slice = 2048;
/** The programs' clock is coarse: a tick of 10 ms at most, and some for whoever was in the midst of something. */
const coarseNs = 50_000_000n;
/** What the kernel says when another try may succeed; pauses before it, in ms. */
const passing: ReadonlySet<unknown> = new Set(['ENOMEM', 'EBUSY', 'EAGAIN']);
const pauses = [1, 4, 16, 64];

/** Whether a map of this name holds records of flows, of whatever layout. */
export function isFlowMap(name: string): boolean {
  return /^tortie_(?:new|flow)[46]/.test(name);
}

/** Paths of all maps of flows that are pinned below `dir`, but for those in the directory `inUse` itself. */
export function* flowPins(dir: string, inUse?: string): Generator<string, void, undefined> {
  if (!existsSync(dir)) return;
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) yield* flowPins(path, inUse);
    else if (dir !== inUse && isFlowMap(entry.name) && !entry.name.endsWith('-new')) yield path;
  }
}

/**
 * Flows in maps that other programs still use, or did: of another layout, or of ours before its maps got another size or shape. Carried into the maps of
 * the programs to be entered: all of them before, and afterwards what packets have changed meanwhile. Which shape an older map has, its own types say.
 */
export class OlderFlows implements Disposable {
  #sources: readonly Source[];
  readonly #handles: DisposableStack;
  /** What had its last packet before has been carried. */
  #since: bigint | undefined;

  private constructor(sources: readonly Source[], handles: DisposableStack) {
    this.#sources = sources;
    this.#handles = handles;
  }

  /** Opens all that is pinned below `dir`, but for what `layout` has in use. */
  static find(dir: string, layout: string): OlderFlows {
    using handles = new DisposableStack();
    const sources = [...flowPins(dir, join(dir, layout))].map((path): Source => {
      const name = basename(path);
      const found = { path, family: Number(name.match(/[46]/)?.[0]), isFresh: name.startsWith('tortie_new') };
      try {
        const map = openPinnedMap(path);
        if (map === undefined) return { ...found, map, failure: 'it is gone' };
        return { ...found, map: handles.use(map) };
      } catch (error) {
        return { ...found, map: undefined, failure: (error as Error).message };
      }
    });
    return new OlderFlows(sources, handles.move());
  }

  get isEmpty(): boolean {
    return this.#sources.length === 0;
  }

  /**
   * Writes what isn't there, and what is newer than what is there. Each further call carries what had a packet since the last one that was whole began. Rejects with a
   * NetlinkFailure of the maps to be filled.
   */
  async carry(to: readonly FamilyFlowMaps[]): Promise<CarryReport> {
    const since = this.#since;
    const began = process.hrtime.bigint() - coarseNs;
    const tally = new Tally();
    // Answered flows first: what stands in both was promoted meanwhile.
    for (const source of [...this.#sources].sort((a, b) => Number(a.isFresh) - Number(b.isFresh))) {
      const target = to.find(({ family }) => family === source.family);
      if (source.map === undefined) tally.cannotRead(source, source.failure);
      else if (target !== undefined) await carryMap(source, source.map, target, since, tally);
    }
    // Not before: who is stopped half-way has to carry all of it again.
    this.#since = began;
    return tally.report;
  }

  /** What is pinned below `dir` is not carried any more. */
  forget(dir: string): void {
    const isGone = ({ path }: Source): boolean => path.startsWith(`${dir}/`);
    for (const { map } of this.#sources.filter(isGone)) map?.[Symbol.dispose]();
    this.#sources = this.#sources.filter((source) => !isGone(source));
  }

  /** There is nothing to be carried any more: the kernel frees a map that is neither pinned nor in a program's hands. */
  [Symbol.dispose](): void {
    this.#sources = [];
    this.#handles.dispose();
  }
}

/** What a carry has come to so far. */
class Tally {
  #carried = 0;
  #full = 0;
  #unreadable = 0;
  readonly #reasons = new Set<string>();

  carried(count: number): void {
    this.#carried += count;
  }

  full(count: number): void {
    this.#full += count;
  }

  unreadable(reason: string): void {
    this.#unreadable++;
    this.#reasons.add(reason);
  }

  cannotRead({ path }: Source, reason = 'unknown'): void {
    this.#reasons.add(`${path}: ${reason}`);
  }

  get report(): CarryReport {
    return {
      carried: this.#carried,
      full: this.#full,
      unreadable: this.#unreadable,
      reasons: [...this.#reasons],
    };
  }
}

async function carryMap(
  source: Source,
  map: BpfMap,
  target: FamilyFlowMaps,
  since: bigint | undefined,
  tally: Tally,
): Promise<void> {
  const types = target.fresh.types();
  let codec: FlowCodec;
  try {
    if (types === undefined) throw new TypeError(`${target.fresh.shape.name} has no types`);
    codec = flowCodec(map.types(), types);
  } catch (error) {
    tally.cannotRead(source, (error as Error).message);
    return;
  }
  const { keySize, valueSize } = map.shape;
  const { count, keys, values } = await map.dump();
  const now = process.hrtime.bigint();
  for (let first = 0; first < count; first += slice) {
    const byMap = new Map<BpfMap, Element[]>();
    for (let index = first; index < Math.min(count, first + slice); index++) {
      const key = keys.subarray(index * keySize, (index + 1) * keySize);
      const value = values.subarray(index * valueSize, (index + 1) * valueSize);
      const element = codec.isSame ? { key, value } : codec.convert(key, value, now);
      if (element.reason !== undefined) tally.unreadable(element.reason);
      else if (since === undefined || codec.lastSeen(element.value) >= since) {
        const into = source.isFresh ? target.fresh : target.shards[flowShard(element.key)];
        if (into === undefined) throw new RangeError('a flow has no hash');
        const list = byMap.get(into);
        if (list === undefined) byMap.set(into, [element]);
        else list.push(element);
      }
    }
    for (const [into, elements] of byMap) {
      await write(into, elements, codec, tally);
      // It was carried as an unanswered one before it was promoted.
      if (since !== undefined && !source.isFresh) await target.fresh.deleteMany(elements.map(({ key }) => key));
    }
    // Where nothing was to be written nobody has waited for anything.
    await setImmediate();
  }
}

/**
 * All at once, until one is there already or has no room: from there on one by one, since of a worker and of packing the rest again each of them would cost
 * some hundred times what it costs to look.
 */
async function write(into: BpfMap, elements: readonly Element[], codec: FlowCodec, tally: Tally): Promise<void> {
  let areApart = false;
  let tries = 0;
  for (let done = 0; done < elements.length;) {
    const before = done;
    try {
      if (!areApart) {
        await into.setMany(elements.slice(done), 'create');
        tally.carried(elements.length - done);
        return;
      }
      for (const element of elements.slice(done)) {
        writeOne(into, element, codec, tally);
        done++;
      }
    } catch (error) {
      const { code, completed = 0 } = error as { readonly code?: string; readonly completed?: number };
      tally.carried(completed);
      done += completed;
      if (done > before) tries = 0;
      if (!areApart && (code === 'EEXIST' || code === 'E2BIG')) areApart = true;
      else {
        const pause = passing.has(code) ? pauses[tries++] : undefined;
        if (pause === undefined) throw error;
        await setTimeout(pause);
      }
    }
  }
}

/** Whoever had the last packet is right: programs of before and of now never work on one flow for long. */
function writeOne(into: BpfMap, { key, value }: Element, codec: FlowCodec, tally: Tally): void {
  const present = into.get(key);
  if (present !== undefined && codec.lastSeen(present) >= codec.lastSeen(value)) return;
  try {
    into.set(key, value, present === undefined ? 'create' : 'any');
    tally.carried(1);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'E2BIG') tally.full(1);
    // A packet of this very moment has made it: none is newer.
    else if (code !== 'EEXIST') throw error;
  }
}
