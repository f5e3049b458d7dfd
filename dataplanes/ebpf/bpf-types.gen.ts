// Generated from the BPF programs' types by scripts/gen-bpf-types.mjs. Do not edit: change bpf/ and run `make gen`.

function bytesAt(view: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length).slice();
}

function setBytes(view: DataView, at: number, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) throw new RangeError(`${bytes.length} bytes for a field of ${length}`);
  new Uint8Array(view.buffer, view.byteOffset + at, length).set(bytes);
}

function listAt<T>(length: number, stride: number, start: number, read: (at: number) => T): T[] {
  return Array.from({ length }, (_, i) => read(start + i * stride));
}

function setList<T>(list: readonly T[], length: number, stride: number, start: number, write: (value: T, at: number) => void): void {
  if (list.length !== length) throw new RangeError(`${list.length} elements for a field of ${length}`);
  list.forEach((value, i) => write(value, start + i * stride));
}

/** enum direction */
export const Direction = {
  fromPod: 0,
  toPod: 1,
} as const;
export type Direction = (typeof Direction)[keyof typeof Direction];
/** The names of direction for people, by number. */
export const directionTexts = {
  0: 'from-pod',
  1: 'to-pod',
} as const satisfies Record<Direction, string>;
export const directionCount = 2;

/** enum family */
export const Family = {
  ipv4: 4,
  ipv6: 6,
} as const;
export type Family = (typeof Family)[keyof typeof Family];
/** The names of family for people, by number. */
export const familyTexts = {
  4: 'ipv4',
  6: 'ipv6',
} as const satisfies Record<Family, string>;

/** enum verdict */
export const Verdict = {
  passed: 0,
  notAnnounced: 1,
  truncated: 2,
  malformed: 3,
  ethertype: 4,
  spoofedSource: 5,
  spoofedArp: 6,
  ipv6Disabled: 7,
} as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];
/** The names of verdict for people, by number. */
export const verdictTexts = {
  0: 'passed',
  1: 'not-announced',
  2: 'truncated',
  3: 'malformed',
  4: 'ethertype',
  5: 'spoofed-source',
  6: 'spoofed-arp',
  7: 'ipv6-disabled',
} as const satisfies Record<Verdict, string>;
export const verdictCount = 8;

/** struct source_key, 28 bytes */
export interface SourceKey {
  readonly prefixLen: number;
  readonly ifindex: number;
  readonly family: Family;
  readonly address: Uint8Array;
}
export const SourceKey = {
  size: 28,
  offsets: { prefixLen: 0, ifindex: 4, family: 8, address: 12 },
  read(view: DataView, at = 0): SourceKey {
    return { prefixLen: view.getUint32(at, true), ifindex: view.getUint32(at + 4, true), family: view.getUint32(at + 8, true) as Family, address: bytesAt(view, at + 12, 16) };
  },
  write(value: SourceKey, view: DataView, at = 0): void {
    view.setUint32(at, value.prefixLen, true);
    view.setUint32(at + 4, value.ifindex, true);
    view.setUint32(at + 8, value.family, true);
    setBytes(view, at + 12, value.address, 16);
  },
  encode(value: SourceKey): Uint8Array {
    const bytes = new Uint8Array(28);
    SourceKey.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct counter, 16 bytes */
export interface Counter {
  readonly packets: bigint;
  readonly bytes: bigint;
}
export const Counter = {
  size: 16,
  offsets: { packets: 0, bytes: 8 },
  read(view: DataView, at = 0): Counter {
    return { packets: view.getBigUint64(at, true), bytes: view.getBigUint64(at + 8, true) };
  },
  write(value: Counter, view: DataView, at = 0): void {
    view.setBigUint64(at, value.packets, true);
    view.setBigUint64(at + 8, value.bytes, true);
  },
  encode(value: Counter): Uint8Array {
    const bytes = new Uint8Array(16);
    Counter.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct device_counters, 1024 bytes */
export interface DeviceCounters {
  readonly by: readonly (readonly Counter[])[];
}
export const DeviceCounters = {
  size: 1024,
  offsets: { by: 0 },
  dims: { by: [2, 32] },
  read(view: DataView, at = 0): DeviceCounters {
    return { by: listAt(2, 512, at, (at) => listAt(32, 16, at, (at) => Counter.read(view, at))) };
  },
  write(value: DeviceCounters, view: DataView, at = 0): void {
    setList(value.by, 2, 512, at, (value, at) => { setList(value, 32, 16, at, (value, at) => { Counter.write(value, view, at); }); });
  },
  encode(value: DeviceCounters): Uint8Array {
    const bytes = new Uint8Array(1024);
    DeviceCounters.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct pod_config, 1 bytes */
export interface PodConfig {
  readonly ipv6Enabled: number;
}
export const PodConfig = {
  size: 1,
  offsets: { ipv6Enabled: 0 },
  read(view: DataView, at = 0): PodConfig {
    return { ipv6Enabled: view.getUint8(at) };
  },
  write(value: PodConfig, view: DataView, at = 0): void {
    view.setUint8(at, value.ipv6Enabled);
  },
  encode(value: PodConfig): Uint8Array {
    const bytes = new Uint8Array(1);
    PodConfig.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** The maps, with the sizes that the C says. `flags` are those of map creation. */
export const mapShapes = {
  /** percpu_hash: u32 -> DeviceCounters */
  tortie_counters: { name: 'tortie_counters', type: 5, keySize: 4, valueSize: 1024, maxEntries: 4096, flags: 1 },
  /** devmap_hash: u32 -> u32 */
  tortie_devices: { name: 'tortie_devices', type: 25, keySize: 4, valueSize: 4, maxEntries: 4096, flags: 0 },
  /** lpm_trie: SourceKey -> u32 */
  tortie_sources: { name: 'tortie_sources', type: 11, keySize: 28, valueSize: 4, maxEntries: 16384, flags: 1 },
} as const;

/** Read-only variables that are set before loading, and their types. */
export const configVariables = {
  pod_config: PodConfig,
} as const;

/** Global functions: programs (and subprograms that are not static). */
export const programNames = ['tortie_from_pod', 'tortie_to_pod'] as const;
