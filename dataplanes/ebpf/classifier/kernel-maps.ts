import { setTimeout } from 'node:timers/promises';
import { bitsOf, type Family } from '#api/cidr.ts';
import { bpfGrace, type BpfMap, type MappedArray } from '#native/bpf.ts';
import { AddressInfo, NamedKey4, NamedKey6, NetKey4, NetKey6, RowKey, RuleHits, UnitRecord } from '../bpf-types.gen.ts';
import type { Dimension } from '../bpf-types.gen.ts';
import { u32Key, writeAddress } from '../keys.ts';
import type { Counter } from '../../contract.ts';
import {
  type AddressValue,
  type ClassifierMaps,
  type MapSizes,
  type MapWrite,
  sizedMaps,
  WriteFailure,
  WRITES_SINGLY,
} from './classifier-maps.ts';

const arrays = [
  'tortie_ports',
  'tortie_units',
  'tortie_records',
  'tortie_rowtab',
  'tortie_chunks',
  'tortie_rules',
  'tortie_hits',
] as const;
type ArrayName = (typeof arrays)[number];
/** Classes that a port's 16 bits have room for. */
const PORT_CLASSES = 65_536;

/** What the kernel says when another try may succeed: no memory in reach of a CPU (it is brought by an interrupt), a bucket's lock is taken. */
const passing: ReadonlySet<unknown> = new Set(['ENOMEM', 'EBUSY', 'EAGAIN']);
/** Pauses before an element is tried again, in ms; after the last the write has failed. */
const PAUSES = [1, 4, 16, 64];

/** What is used of an open map. */
export type ClassifierMap = Pick<BpfMap, 'shape' | 'set' | 'delete' | 'setMany' | 'deleteMany' | 'mmap'>;

/** How writes are made. */
export interface WriteManner {
  /** Elements in one call that are made one by one. 0: all by workers. */
  readonly singly?: number;
  /** Waits, in ms. */
  readonly pause?: (milliseconds: number) => Promise<unknown>;
}

/** Elements of one map that are all set or all deleted. */
interface Batch {
  readonly map: ClassifierMap;
  readonly keys: Uint8Array[];
  /** Empty: deleted. */
  readonly values: Uint8Array[];
  /** Which of the call's writes they are. */
  readonly writes: number[];
}

/** The classifier's maps in the kernel (bpf/classify.h). Owns its views of the arrays, not the maps. */
export class KernelMaps implements ClassifierMaps, Disposable {
  readonly sizes: MapSizes;
  readonly #mapOf: (name: string) => ClassifierMap;
  readonly #singly: number;
  readonly #pause: (milliseconds: number) => Promise<unknown>;
  readonly #arrays: Readonly<Record<ArrayName, MappedArray>>;

  /** `mapOf`: the open map of a name. `settingOf`: which setting says how large it is. Throws `RangeError` for sizes that don't fit together. */
  constructor(
    mapOf: (name: string) => ClassifierMap,
    settingOf: (name: string) => string,
    { singly = WRITES_SINGLY, pause = setTimeout }: WriteManner = {},
  ) {
    this.#mapOf = mapOf;
    this.#singly = singly;
    this.#pause = pause;
    this.sizes = Object.fromEntries(
      sizedMaps.map((name) => [
        name,
        {
          entries: entriesOf(name, mapOf(name)),
          setting: settingOf(name),
        },
      ]),
    ) as unknown as MapSizes;
    const [rules, hits] = [mapOf('tortie_rules').shape.maxEntries, mapOf('tortie_hits').shape.maxEntries];
    if (hits < rules) throw new RangeError(`tortie_hits has ${hits} entries, and tortie_rules ${rules}`);
    this.#arrays = Object.fromEntries(arrays.map((name) => [name, mapOf(name).mmap()])) as Record<
      ArrayName,
      MappedArray
    >;
  }

  async write(writes: readonly MapWrite[]): Promise<void> {
    let batch: Batch | undefined;
    for (const [index, write] of writes.entries()) {
      const element = this.#elementOf(write);
      if (element === undefined) {
        // What nothing refers to yet may be stored before elements that wait; what packets see may not.
        if (write.map === 'units' || write.map === 'ports') {
          await this.#put(batch);
          batch = undefined;
        }
        try {
          this.#store(write);
        } catch (error) {
          await this.#put(batch);
          throw new WriteFailure(index, error);
        }
        continue;
      }
      const { map, key, value } = element;
      if (batch?.map !== map || batch.values.length > 0 !== (value !== undefined)) {
        await this.#put(batch);
        batch = { map, keys: [], values: [], writes: [] };
      }
      batch.keys.push(key);
      batch.writes.push(index);
      if (value !== undefined) batch.values.push(value);
    }
    await this.#put(batch);
  }

  async grace(): Promise<void> {
    await bpfGrace();
  }

  hits(rule: number): Counter {
    const { buffer, byteOffset } = this.#arrays.tortie_hits.value(rule);
    const { packets, bytes } = RuleHits.read(new DataView(buffer, byteOffset));
    return { packets: Number(packets), bytes: Number(bytes) };
  }

  [Symbol.dispose](): void {
    for (const array of Object.values(this.#arrays)) array[Symbol.dispose]();
  }

  #elementOf(
    write: MapWrite,
  ): { readonly map: ClassifierMap; readonly key: Uint8Array; readonly value: Uint8Array | undefined } | undefined {
    switch (write.map) {
      case 'addresses': {
        const { family, prefix, value } = write;
        const address = addressBytes(family, write.address);
        const isWhole = prefix === bitsOf(family);
        const net = family === 4 ? NetKey4 : NetKey6;
        return {
          map: this.#mapOf(`tortie_${isWhole ? 'addr' : 'net'}${family}`),
          key: isWhole ? address : net.encode({ prefixLen: prefix, address }),
          value: value === undefined ? undefined : AddressInfo.encode(value),
        };
      }
      case 'named': {
        const { family, port, protocol } = write;
        const named = family === 4 ? NamedKey4 : NamedKey6;
        return {
          map: this.#mapOf(`tortie_named${family}`),
          key: named.encode({ address: addressBytes(family, write.address), port, protocol }),
          value: write.class === undefined ? undefined : u32Key(write.class),
        };
      }
      case 'rows': {
        const { record, dimension } = write;
        return {
          map: this.#mapOf('tortie_rows'),
          key: RowKey.encode({ record, dimension: dimension as Dimension, class: write.class }),
          value: write.row === undefined ? undefined : u32Key(write.row),
        };
      }
      default:
        return undefined;
    }
  }

  /** Makes all of a batch, in order. */
  async #put(batch: Batch | undefined): Promise<void> {
    if (batch === undefined) return;
    const { keys, writes } = batch;
    let done = 0;
    try {
      while (done < keys.length) {
        if (keys.length - done > this.#singly) {
          const { made, error } = await byWorker(batch, done);
          done += made;
          if (error === undefined) continue;
          if (!isPassing(error)) throw error;
        }
        // What a batch has no memory for single calls mostly have: each lets the interrupt in that brings more.
        const end = Math.min(keys.length, done + Math.max(this.#singly, 1));
        for (; done < end; done++) await this.#putOne(batch, done);
      }
    } catch (error) {
      throw new WriteFailure(writes[done] ?? 0, error);
    }
  }

  async #putOne({ map, keys, values }: Batch, index: number): Promise<void> {
    const [key, value] = [keys[index] ?? new Uint8Array(), values[index]];
    for (let tries = 0; ; tries++) {
      try {
        if (value === undefined) map.delete(key);
        else map.set(key, value);
        return;
      } catch (error) {
        const pause = PAUSES[tries];
        if (pause === undefined || !isPassing(error)) throw error;
        await this.#pause(pause);
      }
    }
  }

  #store(write: MapWrite): void {
    switch (write.map) {
      case 'ports': {
        const table = this.#arrays.tortie_ports.value(write.table);
        const classes = new Uint16Array(table.buffer, table.byteOffset, table.byteLength / 2);
        classes.fill(write.class, write.min, write.max + 1);
        return;
      }
      case 'rowtab':
        for (const [offset, word] of write.words.entries()) {
          this.#arrays.tortie_rowtab.store32(write.index + offset, 0, word);
        }
        return;
      case 'chunks': {
        const { buffer, byteOffset, byteLength } = write.words;
        this.#arrays.tortie_chunks.value(write.index).set(new Uint8Array(buffer, byteOffset, byteLength));
        return;
      }
      case 'rules':
        for (const [offset, word] of write.words.entries()) {
          this.#arrays.tortie_hits.value(write.index + offset).fill(0);
          this.#arrays.tortie_rules.store32(write.index + offset, 0, word);
        }
        return;
      case 'records':
        this.#arrays.tortie_records.value(write.index).set(UnitRecord.encode(write.record));
        return;
      case 'units':
        this.#arrays.tortie_units.store32(write.index, 0, write.record);
        return;
      default:
    }
  }
}

/** A trie that is full refuses updates of what it has (kernels before 6.13), so one entry stays free. */
function entriesOf(name: string, { shape }: ClassifierMap): number {
  if (name === 'tortie_ports') return PORT_CLASSES;
  return name.startsWith('tortie_net') ? shape.maxEntries - 1 : shape.maxEntries;
}

/** The batch from its element `first` on; how many were made, and what stopped it. */
async function byWorker(
  { map, keys, values }: Batch,
  first: number,
): Promise<{ readonly made: number; readonly error: unknown }> {
  try {
    const rest = keys.slice(first);
    await (values.length > 0
      ? map.setMany(values.slice(first).map((value, index) => ({ key: rest[index] ?? value, value })))
      : map.deleteMany(rest));
    return { made: rest.length, error: undefined };
  } catch (error) {
    const { completed } = error as { readonly completed?: number };
    return { made: completed ?? 0, error };
  }
}

function isPassing(error: unknown): boolean {
  return passing.has((error as { readonly code?: unknown } | undefined)?.code);
}

function addressBytes(family: Family, address: AddressValue): Uint8Array {
  const bytes = new Uint8Array(family === 4 ? 4 : 16);
  writeAddress(new DataView(bytes.buffer), 0, family, address);
  return bytes;
}
