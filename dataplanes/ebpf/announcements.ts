import type { NetnsRef } from '#native/types.ts';
import type { CidrText } from '../messages.ts';
import { type ElementMap, orFull } from './full-map.ts';
import { readSourceKey, readU32, sourceKey, u32Key } from './keys.ts';

/** The maps by which the pod programs know a device. */
export interface AnnouncementMaps {
  readonly devices: ElementMap;
  readonly sources: ElementMap;
  readonly counters: ElementMap;
}

/** Being there is the permission; the value says nothing. */
const permission = u32Key(1);

/**
 * Opens and closes devices: the driver of the pod programs' maps. A device is open while it has an element in `devices`; the kernel takes
 * that out itself when the device goes, so what is said of one device never holds for the next with its ifindex. What stays behind in
 * `sources` and `counters` is harmless without it, and is swept.
 *
 * Order: before a device opens, exactly its sources are in the map; it closes before they go. On an open device new sources come before
 * old ones go. A map that is full leaves the device as closed as it was: the error has `code` `BPF_MAP_FULL` and names the map.
 */
export class Announcements {
  readonly #maps: AnnouncementMaps;
  readonly #netns: NetnsRef | undefined;
  /** By ifindex and key text: what is in `sources`. */
  readonly #sources = new Map<number, Map<string, Uint8Array>>();
  /** By ifindex, what was announced last, with its keys: a change of policy announces the same again. */
  readonly #parsed = new Map<number, { readonly cidrs: readonly CidrText[]; readonly keys: SourceKeys }>();
  /** Ifindexes that have left something in one of the maps. */
  readonly #known = new Set<number>();

  constructor(maps: AnnouncementMaps, netns?: NetnsRef) {
    this.#maps = maps;
    this.#netns = netns;
  }

  /** Takes over what the maps hold, from an earlier agent or from somebody who changed them. */
  async read(): Promise<void> {
    const { devices, sources, counters } = this.#maps;
    const [open, permitted, counted] = await Promise.all([devices.entries(), sources.entries(), counters.entries()]);
    this.#sources.clear();
    this.#known.clear();
    for (const { key } of [...open, ...counted]) this.#known.add(readU32(key));
    for (const { key } of permitted) this.#remember(key.slice());
  }

  /** Every ifindex of which something is in a map. */
  get known(): readonly number[] {
    return [...this.#known];
  }

  isOpen(ifindex: number): boolean {
    return this.#maps.devices.get(u32Key(ifindex)) !== undefined;
  }

  /** True if the device is open with exactly these sources, as far as the last read and own writes tell. */
  matches(ifindex: number, cidrs: readonly CidrText[]): boolean {
    const has = this.#sources.get(ifindex) ?? new Map();
    const wanted = this.#keysOf(ifindex, cidrs);
    return this.isOpen(ifindex) && has.size === wanted.size && [...wanted.keys()].every((text) => has.has(text));
  }

  /** Opens a device for these sources, or changes an open one's. Throws as the class says, or NetlinkFailure (`EINVAL`: the device is gone). */
  announce(ifindex: number, cidrs: readonly CidrText[]): void {
    const wanted = this.#keysOf(ifindex, cidrs);
    this.#known.add(ifindex);
    if (this.isOpen(ifindex)) {
      this.#change(ifindex, wanted);
      return;
    }
    try {
      this.#makeCounters(ifindex);
      this.#removeSources(ifindex, wanted);
      this.#addSources(ifindex, wanted);
      orFull(this.#maps.devices, () => this.#maps.devices.set(u32Key(ifindex), u32Key(ifindex), 'any', this.#netns));
    } catch (error) {
      this.#removeSources(ifindex, new Map());
      throw error;
    }
  }

  /** Closes a device. Its counters stay as long as it does. */
  withdraw(ifindex: number): void {
    this.#maps.devices.delete(u32Key(ifindex));
    this.#removeSources(ifindex, new Map());
  }

  /** Sweeps what a device left that is gone. */
  forget(ifindex: number): void {
    this.withdraw(ifindex);
    this.#maps.counters.delete(u32Key(ifindex));
    this.#known.delete(ifindex);
    this.#parsed.delete(ifindex);
  }

  /** Throws `RangeError` for what is no network. */
  #keysOf(ifindex: number, cidrs: readonly CidrText[]): SourceKeys {
    const parsed = this.#parsed.get(ifindex);
    if (parsed?.cidrs.length === cidrs.length && parsed.cidrs.every((cidr, at) => cidr === cidrs[at]))
      return parsed.keys;
    const keys = keysOf(ifindex, cidrs);
    this.#parsed.set(ifindex, { cidrs, keys });
    return keys;
  }

  #change(ifindex: number, wanted: SourceKeys): void {
    let firstError: unknown;
    try {
      this.#addSources(ifindex, wanted);
    } catch (error) {
      firstError = error;
    }
    // Also when not all new ones fit: an address that was taken away must not be usable any longer.
    this.#removeSources(ifindex, wanted);
    if (firstError !== undefined) this.#addSources(ifindex, wanted);
  }

  /** An open device always has its counters: the programs need no second thought for it. */
  #makeCounters(ifindex: number): void {
    const { counters } = this.#maps;
    const key = u32Key(ifindex);
    if (counters.get(key) !== undefined) return;
    try {
      orFull(counters, () => counters.set(key, new Uint8Array(counters.cpus * counters.valueStride), 'create'));
    } catch (error) {
      // The first packet was faster.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }

  #addSources(ifindex: number, wanted: SourceKeys): void {
    const has = this.#sources.get(ifindex);
    for (const [text, key] of wanted) {
      if (has?.has(text) === true) continue;
      orFull(this.#maps.sources, () => this.#maps.sources.set(key, permission));
      this.#remember(key);
    }
  }

  #removeSources(ifindex: number, except: SourceKeys): void {
    const has = this.#sources.get(ifindex);
    for (const [text, key] of has ?? []) {
      if (except.has(text)) continue;
      this.#maps.sources.delete(key);
      has?.delete(text);
    }
    if (has?.size === 0) this.#sources.delete(ifindex);
  }

  #remember(key: Uint8Array): void {
    const { ifindex } = readSourceKey(key);
    let has = this.#sources.get(ifindex);
    if (has === undefined) this.#sources.set(ifindex, (has = new Map()));
    has.set(textOf(key), key);
    this.#known.add(ifindex);
  }
}

/** Keys of `sources` by their texts, so that two spellings of a prefix are one. */
type SourceKeys = ReadonlyMap<string, Uint8Array>;

const textOf = (key: Uint8Array): string => Buffer.from(key).toString('hex');

function keysOf(ifindex: number, cidrs: readonly CidrText[]): SourceKeys {
  return new Map(
    cidrs.map((cidr) => {
      const key = sourceKey(ifindex, cidr);
      return [textOf(key), key];
    }),
  );
}
