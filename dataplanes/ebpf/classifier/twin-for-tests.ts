/** The kernel's side of the classifier in memory: maps with their sizes, and the lookup of bpf/classify.h, step by step. */
import { bitsOf, type Family, parseIp } from '#api/cidr.ts';
import type { Counter } from '../../contract.ts';
import { Dimension, dimensionCount, PortTable, portTableCount, RuleAction, type UnitRecord } from '../bpf-types.gen.ts';
import {
  type AddressValue,
  CHUNK_RULES,
  CHUNK_WORDS,
  type ClassifierMaps,
  type MapSizes,
  type MapWrite,
  type SizedMap,
  sizedMaps,
  WriteFailure,
} from './classifier-maps.ts';

/** The first packet of a flow. */
export interface TwinPacket {
  readonly from: string;
  readonly to: string;
  readonly protocol: number;
  readonly sourcePort?: number | undefined;
  readonly port?: number | undefined;
  readonly icmp?: { readonly type: number; readonly code: number } | undefined;
}

/** What the lookup says; `rule` is an index into the rule words, undefined where none decided. */
export interface TwinDecision {
  readonly action: 'allow' | 'deny' | 'undecided';
  readonly rule: number | undefined;
  readonly logs: readonly number[];
}

/** Sizes for tests: `entries` each, unless said otherwise. The setting is called after the map. */
export function testSizes(entries: number, others: Partial<Record<SizedMap, number>> = {}): MapSizes {
  return Object.fromEntries(
    sizedMaps.map((map) => [map, { entries: others[map] ?? entries, setting: `${map}Size` }]),
  ) as unknown as MapSizes;
}

const NOTHING = { class: 0, hop: 0 };

/** Maps and lookup. */
export class Twin implements ClassifierMaps {
  readonly sizes: MapSizes;
  readonly addresses = new Map<string, { readonly class: number; readonly hop: number }>();
  readonly named = new Map<string, number>();
  readonly rows = new Map<string, number>();
  readonly ports = Array.from({ length: portTableCount }, () => new Uint16Array(65_536));
  readonly units = new Map<number, number>();
  readonly #rowtab = new Map<number, number>();
  readonly #chunks = new Map<number, Uint32Array>();
  readonly #rules = new Map<number, number>();
  readonly #records = new Map<number, UnitRecord>();
  /** Writes so far, in their order of map. */
  readonly counts = new Map<MapWrite['map'], number>();
  /** Called after each single write. */
  onWrite: (write: MapWrite) => void = () => undefined;
  /** Called when somebody waits for a grace period. */
  onGrace: () => void = () => undefined;
  /** The next writes fail, after so many. */
  failAfter = Infinity;
  /** Prefix lengths that occur, the long ones first. */
  readonly #lengths: Record<Family, readonly number[]> = { 4: [], 6: [] };
  readonly #prefixes = { 4: new Map<number, number>(), 6: new Map<number, number>() };

  constructor(sizes: MapSizes) {
    this.sizes = sizes;
  }

  async write(writes: readonly MapWrite[]): Promise<void> {
    await Promise.resolve();
    for (const [made, write] of writes.entries()) {
      if (this.failAfter-- <= 0) {
        throw new WriteFailure(made, Object.assign(new Error('the kernel says no'), { code: 'ENOMEM' }));
      }
      this.#apply(write);
      this.counts.set(write.map, (this.counts.get(write.map) ?? 0) + 1);
      this.onWrite(write);
    }
  }

  async grace(): Promise<void> {
    this.onGrace();
    await Promise.resolve();
  }

  hits(): Counter {
    return { packets: 0, bytes: 0 };
  }

  /** How many writes there were. */
  get writes(): number {
    return [...this.counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** What the unit says of the packet. */
  classify(unit: number, packet: TwinPacket): TwinDecision {
    return this.follow(this.units.get(unit) ?? 0, packet);
  }

  /** What the record says: for a lookup that has read its number some time ago. */
  follow(number: number, packet: TwinPacket): TwinDecision {
    const record = this.#records.get(number);
    const logs: number[] = [];
    if (number === 0 || record === undefined) return { action: 'deny', rule: undefined, logs };
    const classes = this.#classesOf(packet, record.mask);
    const rows = classes.map(
      (entry, dimension) => this.rows.get(`${number} ${dimension} ${entry}`) ?? record.defaultRow[dimension] ?? 0,
    );
    for (let chunk = 0; chunk < record.chunks;) {
      const bit = this.#firstBit(rows, record.mask, chunk);
      if (bit === undefined) {
        chunk++;
        continue;
      }
      const rule = record.firstRule + chunk * CHUNK_RULES + bit;
      const word = this.#rules.get(rule) ?? 0;
      switch (word & 0xff) {
        case RuleAction.allow:
          return { action: 'allow', rule, logs };
        case RuleAction.undecided:
          return { action: 'undecided', rule, logs };
        case RuleAction.log:
          logs.push(rule);
          chunk++;
          break;
        case RuleAction.pass:
          if (word >>> 8 <= chunk) throw new Error(`rule ${rule} passes back`);
          chunk = word >>> 8;
          break;
        case RuleAction.deny:
          return { action: 'deny', rule, logs };
        default:
          throw new Error(`rule ${rule} has the word ${word}`);
      }
    }
    throw new Error(`record ${number} has no end`);
  }

  /** The next hop of an address. */
  hopOf(address: string): number {
    return this.#infoOf(address).hop;
  }

  #firstBit(rows: readonly number[], mask: number, chunk: number): number | undefined {
    const found = new Uint32Array(CHUNK_WORDS).fill(0xffffffff);
    for (let dimension = 0; dimension < dimensionCount; dimension++) {
      if ((mask & (1 << dimension)) === 0) continue;
      const id = this.#rowtab.get((rows[dimension] ?? 0) + chunk);
      const words = id === undefined ? undefined : this.#chunks.get(id);
      if (words === undefined) throw new Error(`row ${rows[dimension]} has no chunk ${chunk}`);
      for (const [index, word] of words.entries()) found[index] = (found[index] ?? 0) & word;
    }
    for (const [index, word] of found.entries()) {
      if (word !== 0) return index * 32 + (31 - Math.clz32(word & -word));
    }
    return undefined;
  }

  #classesOf(packet: TwinPacket, mask: number): number[] {
    const { from, to, protocol, port = 0, sourcePort = 0, icmp } = packet;
    const { family } = known(from);
    const classes: number[] = [];
    classes[Dimension.source] = this.#infoOf(from).class;
    classes[Dimension.destination] = this.#infoOf(to).class;
    const ofPort = (table: number, number: number) => this.ports[table]?.[number] ?? 0;
    const tables = ({ 6: [0, 6], 17: [1, 7], 132: [2, 8] } as const)[protocol];
    const isIcmp = protocol === (family === 4 ? 1 : 58);
    const icmpTable = family === 4 ? PortTable.icmp : PortTable.icmpv6;
    const service =
      tables !== undefined
        ? ofPort(tables[0], port)
        : isIcmp
          ? ofPort(icmpTable, ((icmp?.type ?? 0) << 8) | (icmp?.code ?? 0))
          : ofPort(PortTable.other, protocol);
    const namedOr = (dimension: number, address: string, number: number, other: number) =>
      (mask & (1 << (8 + dimension))) === 0 || tables === undefined
        ? other
        : (this.named.get(`${family} ${known(address).value} ${protocol} ${number}`) ?? other);
    classes[Dimension.service] = namedOr(Dimension.service, to, port, service);
    const source = tables === undefined ? 0 : ofPort(tables[1], sourcePort);
    classes[Dimension.sourcePort] = namedOr(Dimension.sourcePort, from, sourcePort, source);
    return classes;
  }

  #infoOf(text: string): { readonly class: number; readonly hop: number } {
    const address = known(text);
    for (const length of this.#lengths[address.family]) {
      const found = this.addresses.get(address.keyOf(length));
      if (found !== undefined) return found;
    }
    return NOTHING;
  }

  #apply(write: MapWrite): void {
    switch (write.map) {
      case 'addresses': {
        const { family, address, prefix, value } = write;
        const map: SizedMap = `tortie_${prefix === bitsOf(family) ? 'addr' : 'net'}${family}`;
        const key = `${family} ${address}/${prefix}`;
        const before = this.addresses.size;
        put(this.addresses, key, value);
        const lengths = this.#prefixes[family];
        lengths.set(prefix, (lengths.get(prefix) ?? 0) + this.addresses.size - before);
        if (lengths.get(prefix) === 0) lengths.delete(prefix);
        this.#lengths[family] = [...lengths.keys()].sort((a, b) => b - a);
        if (this.#countOf(family, map) > this.sizes[map].entries) throw new Error(`${map} has too many`);
        return;
      }
      case 'named':
        return put(this.named, `${write.family} ${write.address} ${write.protocol} ${write.port}`, write.class);
      case 'rows':
        put(this.rows, `${write.record} ${write.dimension} ${write.class}`, write.row);
        return this.#check(this.rows.size - 1, 'tortie_rows');
      case 'ports':
        this.ports[write.table]?.fill(write.class, write.min, write.max + 1);
        return;
      case 'rowtab':
        for (const [offset, chunk] of write.chunks.entries()) this.#rowtab.set(write.index + offset, chunk);
        return this.#check(write.index + write.chunks.length - 1, 'tortie_rowtab');
      case 'chunks':
        this.#chunks.set(write.index, write.words.slice());
        return this.#check(write.index, 'tortie_chunks');
      case 'rules':
        for (const [offset, word] of write.words.entries()) this.#rules.set(write.index + offset, word);
        return this.#check(write.index + write.words.length - 1, 'tortie_rules');
      case 'records':
        this.#records.set(write.index, write.record);
        return this.#check(write.index, 'tortie_records');
      case 'units':
        this.units.set(write.index, write.record);
        return this.#check(write.index, 'tortie_units');
    }
  }

  #check(index: number, map: SizedMap): void {
    if (index >= this.sizes[map].entries) throw new Error(`${map} has no slot ${index}`);
  }

  #countOf(family: Family, map: SizedMap): number {
    const lengths = this.#prefixes[family];
    const whole = lengths.get(bitsOf(family)) ?? 0;
    if (map.startsWith('tortie_addr')) return whole;
    return [...lengths.values()].reduce((sum, count) => sum + count, 0) - whole;
  }
}

interface KnownAddress {
  readonly family: Family;
  readonly value: AddressValue;
  /** Under which key its prefix of this length is in the maps. */
  keyOf(length: number): string;
}

/** The same few addresses are read millions of times. */
const addresses = new Map<string, KnownAddress>();
function known(text: string): KnownAddress {
  const found = addresses.get(text);
  if (found !== undefined) return found;
  const { family, value } = parseIp(text);
  const keys = Array.from(
    { length: bitsOf(family) + 1 },
    (_, length) => `${family} ${cut(family, value, length)}/${length}`,
  );
  const address: KnownAddress = { family, value, keyOf: (length) => keys[length] ?? '' };
  addresses.set(text, address);
  return address;
}

function put<K, V>(map: Map<K, V>, key: K, value: V | undefined): void {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}

function cut(family: Family, value: AddressValue, prefix: number): bigint {
  const rest = BigInt(bitsOf(family) - prefix);
  return (BigInt(value) >> rest) << rest;
}
