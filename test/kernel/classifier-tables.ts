/** Writes the classifier's tables by hand, so that tests of the lookup need no compiler. */
import {
  AddressInfo,
  Chunk,
  classifierConstants,
  type Dimension,
  dimensionCount,
  NamedKey4,
  NamedKey6,
  NetKey4,
  NetKey6,
  type PortTable,
  RowKey,
  type RuleAction,
  UnitRecord,
} from '#dataplanes/ebpf/bpf-types.gen.ts';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import { addressBytes, type ClassifierBed, versionOf } from './classifier-bed.ts';

const { chunkRules, chunkEmpty, chunkFull, rowDefault, rowHeadWords, rowLengthShift } = classifierConstants;

/** A unit as a test thinks of it. */
export interface HandUnit {
  readonly chunks: number;
  /** Rule words by their number in the unit. */
  readonly rules: Readonly<Record<number, number>>;
  /** The dimensions that are looked at, each with the rules that match an unknown class, and those that match other classes. */
  readonly rows?: Readonly<Partial<Record<Dimension, HandRows>>>;
  /** Dimensions for which named tuples are asked first. */
  readonly named?: readonly Dimension[];
}
export interface HandRows {
  readonly default: readonly number[] | 'all';
  readonly [cls: number]: readonly number[] | 'all';
}

/** A rule's word. */
export const word = (action: RuleAction, argument = 0): number => action | (argument << 8);

/** Who has the maps. */
type Tables = Pick<ClassifierBed, 'array' | 'map'>;

/** Numbers are given out one after the other and never again. */
export class HandTables {
  readonly #bed: Tables;
  #record = 1;
  #rule = 0;
  #row = 0;
  #chunk: number = chunkFull + 1;

  constructor(bed: Tables) {
    this.#bed = bed;
    bed.array('tortie_chunks').value(chunkFull).fill(0xff);
  }

  /** `prefix` unless it is a whole address. */
  address(address: string, info: AddressInfo, prefix?: number): void {
    const version = versionOf(address);
    const value = AddressInfo.encode(info);
    if (prefix === undefined) this.#bed.map(`tortie_addr${version}`).set(addressBytes(address), value);
    else {
      const key = { 4: NetKey4, 6: NetKey6 }[version].encode({ prefixLen: prefix, address: addressBytes(address) });
      this.#bed.map(`tortie_net${version}`).set(key, value);
    }
  }

  named(address: string, protocol: number, port: number, cls: number): void {
    const version = versionOf(address);
    const key = { 4: NamedKey4, 6: NamedKey6 }[version].encode({ address: addressBytes(address), port, protocol });
    this.#bed.map(`tortie_named${version}`).set(key, u32Key(cls));
  }

  port(table: PortTable, index: number, cls: number): void {
    const { buffer, byteOffset } = this.#bed.array('tortie_ports').value(table);
    new DataView(buffer, byteOffset).setUint16(2 * index, cls, true);
  }

  /** Publishes a unit; returns the number of its first rule's word. */
  unit(number: number, { chunks, rules, rows = {}, named = [] }: HandUnit): number {
    const record = this.#record++;
    const firstRule = this.#rule;
    this.#rule += Math.max(0, ...Object.keys(rules).map((index) => Number(index) + 1));
    for (const [index, value] of Object.entries(rules))
      this.#bed.array('tortie_rules').store32(firstRule + Number(index), 0, value);
    const defaultRow = Array<number>(dimensionCount).fill(0);
    let mask = 0;
    for (const dimension of named) mask |= 1 << (8 + dimension);
    for (const [key, { default: unknown, ...classes }] of Object.entries(rows)) {
      const dimension = Number(key) as Dimension;
      mask |= 1 << dimension;
      defaultRow[dimension] = this.#writeRow(chunks, unknown);
      for (const [cls, bits] of Object.entries(classes)) {
        const rowKey = RowKey.encode({ record, dimension, class: Number(cls) });
        this.#bed.map('tortie_rows').set(rowKey, u32Key(this.#writeOwnRow(chunks, bits)));
      }
    }
    const bytes = UnitRecord.encode({ chunks, firstRule, mask, defaultRow });
    this.#bed.array('tortie_records').value(record).set(bytes);
    this.publish(number, record);
    return firstRule;
  }

  publish(unit: number, record: number): void {
    this.#bed.array('tortie_units').store32(unit, 0, record);
  }

  /** Writes over a record's fields. The unit's newest record unless said. */
  patch(fields: Partial<UnitRecord>, record = this.#record - 1): void {
    const place = this.#bed.array('tortie_records').value(record);
    const view = new DataView(place.buffer, place.byteOffset);
    UnitRecord.write({ ...UnitRecord.read(view), ...fields }, view);
  }

  /** The next row begins here. */
  get nextRow(): number {
    return this.#row;
  }

  /** A chunk's number in a row. */
  patchRow(index: number, chunk: number): void {
    this.#bed.array('tortie_rowtab').store32(index, 0, chunk);
  }

  /** A class's row, with all chunks of its own. */
  #writeOwnRow(chunks: number, bits: readonly number[] | 'all'): number {
    const row = this.#row;
    this.#row += rowHeadWords;
    this.#bed.array('tortie_rowtab').store32(row, 0, chunks << rowLengthShift);
    this.#bed.array('tortie_rowtab').store32(row + 1, 0, rowDefault);
    this.#writeRow(chunks, bits);
    return row;
  }

  #writeRow(chunks: number, bits: readonly number[] | 'all'): number {
    const row = this.#row;
    this.#row += chunks;
    for (let i = 0; i < chunks; i += 1) {
      const some = bits === 'all' ? [] : bits.filter((bit) => Math.floor(bit / chunkRules) === i);
      const chunk = bits === 'all' ? chunkFull : this.#writeChunk(some.map((bit) => bit % chunkRules));
      this.#bed.array('tortie_rowtab').store32(row + i, 0, chunk);
    }
    return row;
  }

  #writeChunk(bits: readonly number[]): number {
    if (bits.length === 0) return chunkEmpty;
    const chunk = this.#chunk++;
    const words = Array<bigint>(Chunk.dims.words[0]).fill(0n);
    for (const bit of bits) words[bit >> 6] = (words[bit >> 6] ?? 0n) | (1n << BigInt(bit & 63));
    this.#bed.array('tortie_chunks').value(chunk).set(Chunk.encode({ words }));
    return chunk;
  }
}
