/** The classifier's programs in the kernel, both families on the same maps, and questions to them. */
import ipaddr from 'ipaddr.js';
import { type Decision, Judgement4, Judgement6, ParsedPacket4, ParsedPacket6 } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import { loadObject, type BpfMap, type LoadedObject, type MappedArray } from '#native/bpf.ts';
import type { Packet } from '#test/oracle/policy-model.ts';

export type Version = 4 | 6;
/** The maps that both families use. */
const shared = [
  'tortie_ports',
  'tortie_units',
  'tortie_records',
  'tortie_rows',
  'tortie_rowtab',
  'tortie_chunks',
  'tortie_rules',
  'tortie_hits',
] as const;
type SharedMap = (typeof shared)[number];

const elf = (version: Version) => new URL(`../../build/bpf/classify${version}.bpf.o`, import.meta.url).pathname;
/** An Ethernet header of an experimental protocol (IEEE 802), behind which the questions are. */
const questionHeader = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x88, 0xb5);
const words = { 4: Judgement4, 6: Judgement6 } as const;

export const addressBytes = (text: string): Uint8Array => Uint8Array.from(ipaddr.parse(text).toByteArray());
export const versionOf = (address: string): Version => (address.includes(':') ? 6 : 4);

/** ICMP's type and code as they stand for a destination port. */
export const icmpIndex = ({ type, code }: { readonly type: number; readonly code: number }): number =>
  (type << 8) | code;

/** What the parser says of a frame: the same fields for both families. */
export type ParsedPacket = ReturnType<(typeof ParsedPacket4 | typeof ParsedPacket6)['read']>;

/** Handles of all maps and programs; disposing closes them. */
export class ClassifierBed implements Disposable {
  readonly #objects: Readonly<Record<Version, LoadedObject>>;
  readonly #arrays = new Map<SharedMap, MappedArray>();

  private constructor(objects: Readonly<Record<Version, LoadedObject>>) {
    this.#objects = objects;
  }

  /** `sizes`: elements of maps, where the default isn't wanted. */
  static async load(sizes: Readonly<Record<string, number>> = {}): Promise<ClassifierBed> {
    const maps = Object.fromEntries(Object.entries(sizes).map(([name, maxEntries]) => [name, { maxEntries }]));
    const only = (version: Version) => Object.entries(maps).filter(([name]) => !name.endsWith(String(10 - version)));
    const first = await loadObject({ name: 'classify4', elf: elf(4), maps: Object.fromEntries(only(4)) });
    try {
      const uses = shared.map((name) => [name, { use: first.map(name) }] as const);
      const second = await loadObject({
        name: 'classify6',
        elf: elf(6),
        maps: { ...Object.fromEntries(only(6)), ...Object.fromEntries(uses) },
      });
      return new ClassifierBed({ 4: first, 6: second });
    } catch (error) {
      first[Symbol.dispose]();
      throw error;
    }
  }

  /** A map of one family is found by its own name, `tortie_addr6`. */
  map(name: string): BpfMap {
    return this.#objects[name.endsWith('6') ? 6 : 4].map(name);
  }

  /** The memory of a shared array. */
  array(name: Exclude<SharedMap, 'tortie_rows'>): MappedArray {
    const array = this.#arrays.get(name) ?? this.map(name).mmap();
    this.#arrays.set(name, array);
    return array;
  }

  object(version: Version): LoadedObject {
    return this.#objects[version];
  }

  /** The unit's answer for a packet. */
  judge(unit: number, packet: Packet, bytes = 100): Decision {
    const version = versionOf(packet.from);
    const { size } = words[version];
    const frame = new Uint8Array(questionHeader.length + size);
    const view = new DataView(frame.buffer, questionHeader.length);
    const tuple = {
      source: addressBytes(packet.from),
      destination: addressBytes(packet.to),
      sourcePort: packet.sourcePort ?? 0,
      destinationPort: packet.icmp === undefined ? (packet.port ?? 0) : icmpIndex(packet.icmp),
      protocol: packet.protocol,
    };
    const empty = words[version].read(view);
    frame.set(questionHeader);
    words[version].write({ ...empty, unit, bytes, tuple }, view);
    const { data } = this.#objects[version].program('judge').testRun({ data: frame });
    return words[version].read(new DataView(data.buffer, data.byteOffset + questionHeader.length)).decision;
  }

  /** What the parser of a family makes of a frame. `context`: a `struct __sk_buff`. */
  parse(version: Version, frame: Uint8Array, context?: Uint8Array): ParsedPacket {
    const object = this.#objects[version];
    object.program('parse_packet').testRun({ data: frame, ...(context === undefined ? {} : { context }) });
    const bytes = object.map('parsed').get(u32Key(0));
    if (bytes === undefined) throw new Error('the array has no element');
    return { 4: ParsedPacket4, 6: ParsedPacket6 }[version].read(new DataView(bytes.buffer, bytes.byteOffset));
  }

  [Symbol.dispose](): void {
    for (const array of this.#arrays.values()) array[Symbol.dispose]();
    for (const object of Object.values(this.#objects)) object[Symbol.dispose]();
  }
}
