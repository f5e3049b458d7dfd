/** The kernel's side of the classifier in memory: maps with their sizes, and the lookup of bpf/classify.h, step by step. */
import { bitsOf, type Family, parseIp } from '#api/cidr.ts';
import type { Counter } from '../../contract.ts';
import {
  classifierConstants,
  Dimension,
  dimensionCount,
  PortTable,
  portTableCount,
  RuleAction,
  type UnitRecord,
} from '../bpf-types.gen.ts';
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
  /** The rules that matched on the way, the deciding one last. */
  readonly matched: readonly number[];
  /** Something changed as often as it was looked at. */
  readonly isUnstable?: boolean;
}

/** Sizes for tests: `entries` each, unless said otherwise. The setting is called after the map. */
export function testSizes(entries: number, others: Partial<Record<SizedMap, number>> = {}): MapSizes {
  return Object.fromEntries(
    sizedMaps.map((map) => [map, { entries: others[map] ?? entries, setting: `${map}Size` }]),
  ) as unknown as MapSizes;
}

const NOTHING: AddressEntry = { class: 0, hop: 0 };
/** Times that a lookup reads a hash's element again because it was replaced meanwhile; then it denies. */
const STABLE_READS = 2;

interface AddressEntry {
  readonly class: number;
  readonly hop: number;
}

/** What a class may match: chunks of its own, and those of another row. */
interface TwinRow {
  readonly otherRow: number;
  readonly own: { readonly index: number; readonly first: number; readonly length: number } | undefined;
}

/** Memory of an element. */
interface Cell<V> {
  value: V;
}

/**
 * A hash whose elements are not preallocated: an update takes a new element and frees the old one, and what was freed last is taken first, by
 * any key, while somebody may still be reading it.
 */
class TwinHash<V> {
  readonly #cells = new Map<string, Cell<V>>();
  readonly #free: Cell<V>[] = [];

  cell(key: string): Cell<V> | undefined {
    return this.#cells.get(key);
  }

  put(key: string, value: V | undefined): void {
    const before = this.#cells.get(key);
    if (value === undefined) this.#cells.delete(key);
    else {
      const cell = this.#free.pop() ?? { value };
      cell.value = value;
      this.#cells.set(key, cell);
    }
    if (before !== undefined) this.#free.push(before);
  }

  get size(): number {
    return this.#cells.size;
  }
}

/** Maps and lookup. */
export class Twin implements ClassifierMaps {
  readonly sizes: MapSizes;
  readonly addresses = { 4: new TwinHash<AddressEntry>(), 6: new TwinHash<AddressEntry>() };
  /** Tries free by RCU: what was found stays what it was. */
  readonly networks = new Map<string, AddressEntry>();
  readonly named = { 4: new TwinHash<number>(), 6: new TwinHash<number>() };
  readonly rows = new TwinHash<number>();
  readonly ports = Array.from({ length: portTableCount }, () => new Uint16Array(65_536));
  readonly units = new Map<number, number>();
  readonly #rowtab = new Map<number, number>();
  readonly #chunks = new Map<number, Uint32Array>();
  readonly #rules = new Map<number, number>();
  readonly #hits = new Map<number, Counter>();
  readonly #records = new Map<number, UnitRecord>();
  /** Writes so far, in their order of map. */
  readonly counts = new Map<MapWrite['map'], number>();
  /** Called after each single write. */
  onWrite: (write: MapWrite) => void = () => undefined;
  /** Called when somebody waits for a grace period. */
  onGrace: () => void = () => undefined;
  /** The next writes fail, after so many, this often, with this. */
  failAfter = Infinity;
  failTimes = Infinity;
  failCode = 'ENOMEM';
  /** Writes for which there is never room, whatever the sizes say. */
  refuses: (write: MapWrite) => boolean = () => false;
  /** Lengths of networks that occur, the long ones first. */
  readonly #lengths: Record<Family, readonly number[]> = { 4: [], 6: [] };
  readonly #prefixes = { 4: new Map<number, number>(), 6: new Map<number, number>() };

  constructor(sizes: MapSizes) {
    this.sizes = sizes;
  }

  async write(writes: readonly MapWrite[]): Promise<void> {
    await Promise.resolve();
    for (const [made, write] of writes.entries()) {
      if (this.failAfter <= 0 && this.failTimes > 0) {
        this.failTimes--;
        throw new WriteFailure(made, Object.assign(new Error('the kernel says no'), { code: this.failCode }));
      }
      this.failAfter--;
      if (this.refuses(write)) {
        throw new WriteFailure(made, Object.assign(new Error('no room'), { code: 'E2BIG' }));
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

  hits(rule: number): Counter {
    return this.#hits.get(rule) ?? { packets: 0, bytes: 0 };
  }

  /** How many writes there were. */
  get writes(): number {
    return [...this.counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** What the unit says of the packet, in one moment. */
  classify(unit: number, packet: TwinPacket): TwinDecision {
    const steps = this.lookup(unit, packet);
    for (;;) {
      const { done, value } = steps.next();
      if (done === true) return value;
    }
  }

  /** As `classify`, and the rules that match count it. */
  count(unit: number, packet: TwinPacket, bytes: number): TwinDecision {
    const decision = this.classify(unit, packet);
    for (const rule of decision.matched) {
      const hits = this.hits(rule);
      this.#hits.set(rule, { packets: hits.packets + 1, bytes: hits.bytes + bytes });
    }
    return decision;
  }

  /** The lookup of bpf/classify.h. It stops after each read of a map: what is written then, the next read meets. */
  *lookup(unit: number, packet: TwinPacket): Generator<undefined, TwinDecision> {
    const number = this.units.get(unit) ?? 0;
    yield;
    const logs: number[] = [];
    const matched: number[] = [];
    const deny: TwinDecision = { action: 'deny', rule: undefined, logs, matched };
    const unstable: TwinDecision = { ...deny, isUnstable: true };
    const destination = yield* this.#find(packet.to);
    const record = this.#records.get(number);
    if (number === 0 || record === undefined) return deny;
    if (destination === undefined) return unstable;
    yield;
    const { mask } = record;
    const rows: (TwinRow | undefined)[] = [];
    const asks = (dimension: number) => (mask & (1 << dimension)) !== 0;
    if (asks(Dimension.source)) {
      const source = yield* this.#find(packet.from);
      if (source === undefined) return unstable;
      rows[Dimension.source] = yield* this.#row(number, record, Dimension.source, source.class);
    }
    if (asks(Dimension.destination)) {
      rows[Dimension.destination] = yield* this.#row(number, record, Dimension.destination, destination.class);
    }
    for (const dimension of [Dimension.service, Dimension.sourcePort]) {
      if (!asks(dimension)) continue;
      const found = yield* this.#service(packet, dimension, (mask & (1 << (8 + dimension))) !== 0);
      if (found === undefined) return unstable;
      rows[dimension] = yield* this.#row(number, record, dimension, found);
    }
    for (let chunk = 0; chunk < record.chunks;) {
      const bit = this.#firstBit(rows, mask, chunk);
      yield;
      if (bit === undefined) {
        chunk++;
        continue;
      }
      const rule = record.firstRule + chunk * CHUNK_RULES + bit;
      const word = this.#rules.get(rule) ?? 0;
      yield;
      matched.push(rule);
      switch (word & 0xff) {
        case RuleAction.allow:
          return { action: 'allow', rule, logs, matched };
        case RuleAction.undecided:
          return { action: 'undecided', rule, logs, matched };
        case RuleAction.log:
          logs.push(rule);
          chunk++;
          break;
        case RuleAction.pass:
          if (word >>> 8 <= chunk) throw new Error(`rule ${rule} passes back`);
          chunk = word >>> 8;
          break;
        case RuleAction.deny:
          return { action: 'deny', rule, logs, matched };
        default:
          throw new Error(`rule ${rule} has the word ${word}`);
      }
    }
    throw new Error(`record ${number} has no end`);
  }

  /** The next hop of an address. */
  hopOf(address: string): number {
    const steps = this.#find(address);
    for (;;) {
      const { done, value } = steps.next();
      if (done === true) return value?.hop ?? 0;
    }
  }

  /** What the address is; undefined: it changed as often as one looks. */
  *#find(text: string): Generator<undefined, AddressEntry | undefined> {
    const address = known(text);
    const { family } = address;
    const key = address.keyOf(bitsOf(family));
    for (let read = 0; read < STABLE_READS; read++) {
      const cell = this.addresses[family].cell(key);
      yield;
      if (cell !== undefined) {
        const { value } = cell;
        yield;
        if (this.addresses[family].cell(key) === cell) return value;
        continue;
      }
      const length = this.#lengths[family].find((each) => this.networks.has(address.keyOf(each)));
      const net = length === undefined ? undefined : this.networks.get(address.keyOf(length));
      yield;
      if (this.addresses[family].cell(key) === undefined) return net ?? NOTHING;
    }
    return undefined;
  }

  *#row(number: number, record: UnitRecord, dimension: number, entry: number): Generator<undefined, TwinRow> {
    const cell = this.rows.cell(`${number} ${dimension} ${entry}`);
    const defaultRow = record.defaultRow[dimension] ?? 0;
    yield;
    if (cell === undefined) return { otherRow: defaultRow, own: undefined };
    const { value } = cell;
    const window = this.#rowtab.get(value);
    const other = this.#rowtab.get(value + 1);
    if (window === undefined || other === undefined) throw new Error(`row ${value} is not there`);
    yield;
    const own = { index: value + 2, first: window & 0xffff, length: window >>> 16 };
    return { otherRow: other === classifierConstants.rowDefault ? defaultRow : other, own };
  }

  /** The class of one end's service; undefined: it changed as often as one looks. */
  *#service(packet: TwinPacket, dimension: number, isNamed: boolean): Generator<undefined, number | undefined> {
    const { from, to, protocol, port = 0, sourcePort = 0, icmp } = packet;
    const { family } = known(from);
    const isSource = dimension === Dimension.sourcePort;
    const tables = ({ 6: [0, 6], 17: [1, 7], 132: [2, 8] } as const)[protocol];
    if (tables !== undefined && isNamed) {
      const address = known(isSource ? from : to).value;
      const key = `${family} ${address} ${protocol} ${isSource ? sourcePort : port}`;
      for (let read = 0; ; read++) {
        if (read === STABLE_READS) return undefined;
        const cell = this.named[family].cell(key);
        yield;
        if (cell === undefined) break;
        const { value } = cell;
        yield;
        if (this.named[family].cell(key) === cell) return value;
      }
    }
    const ofPort = (table: number, number: number) => this.ports[table]?.[number] ?? 0;
    const icmpTable = family === 4 ? PortTable.icmp : PortTable.icmpv6;
    let found = 0;
    if (tables !== undefined) found = ofPort(tables[isSource ? 1 : 0], isSource ? sourcePort : port);
    else if (isSource) found = 0;
    else if (protocol === (family === 4 ? 1 : 58)) {
      found = ofPort(icmpTable, ((icmp?.type ?? 0) << 8) | (icmp?.code ?? 0));
    } else found = ofPort(PortTable.other, protocol);
    yield;
    return found;
  }

  #firstBit(rows: readonly (TwinRow | undefined)[], mask: number, chunk: number): number | undefined {
    const found = new Uint32Array(CHUNK_WORDS).fill(0xffffffff);
    for (let dimension = 0; dimension < dimensionCount; dimension++) {
      if ((mask & (1 << dimension)) === 0) continue;
      const { otherRow = 0, own } = rows[dimension] ?? {};
      const isOwn = own !== undefined && chunk >= own.first && chunk < own.first + own.length;
      const id = this.#rowtab.get(isOwn ? own.index + chunk - own.first : otherRow + chunk);
      const words = id === undefined ? undefined : this.#chunks.get(id);
      if (words === undefined) throw new Error(`row ${isOwn ? own.index : otherRow} has no chunk ${chunk}`);
      for (const [index, word] of words.entries()) found[index] = (found[index] ?? 0) & word;
    }
    for (const [index, word] of found.entries()) {
      if (word !== 0) return index * 32 + (31 - Math.clz32(word & -word));
    }
    return undefined;
  }

  #apply(write: MapWrite): void {
    switch (write.map) {
      case 'addresses': {
        const { family, address, prefix, value } = write;
        const map: SizedMap = `tortie_${prefix === bitsOf(family) ? 'addr' : 'net'}${family}`;
        const key = `${family} ${address}/${prefix}`;
        if (prefix === bitsOf(family)) this.addresses[family].put(key, value);
        else {
          const before = this.networks.size;
          put(this.networks, key, value);
          const lengths = this.#prefixes[family];
          lengths.set(prefix, (lengths.get(prefix) ?? 0) + this.networks.size - before);
          if (lengths.get(prefix) === 0) lengths.delete(prefix);
          this.#lengths[family] = [...lengths.keys()].sort((a, b) => b - a);
        }
        if (this.#countOf(family, map) > this.sizes[map].entries) throw new Error(`${map} has too many`);
        return;
      }
      case 'named': {
        const { family, address, protocol, port } = write;
        this.named[family].put(`${family} ${address} ${protocol} ${port}`, write.class);
        return this.#check(this.named[family].size - 1, `tortie_named${family}`);
      }
      case 'rows':
        this.rows.put(`${write.record} ${write.dimension} ${write.class}`, write.row);
        return this.#check(this.rows.size - 1, 'tortie_rows');
      case 'ports':
        this.ports[write.table]?.fill(write.class, write.min, write.max + 1);
        return;
      case 'rowtab':
        for (const [offset, word] of write.words.entries()) this.#rowtab.set(write.index + offset, word);
        return this.#check(write.index + write.words.length - 1, 'tortie_rowtab');
      case 'chunks':
        this.#chunks.set(write.index, write.words.slice());
        return this.#check(write.index, 'tortie_chunks');
      case 'rules':
        for (const [offset, word] of write.words.entries()) {
          this.#rules.set(write.index + offset, word);
          this.#hits.delete(write.index + offset);
        }
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
    if (map.startsWith('tortie_addr')) return this.addresses[family].size;
    return [...this.#prefixes[family].values()].reduce((sum, count) => sum + count, 0);
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
