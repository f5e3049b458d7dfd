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

function setZero(view: DataView, at: number, length: number): void {
  new Uint8Array(view.buffer, view.byteOffset + at, length).fill(0);
}

function setNumbers(view: DataView, at: number, numbers: Uint16Array | Uint32Array, length: number): void {
  if (numbers.length !== length) throw new RangeError(`${numbers.length} elements for a field of ${length}`);
  setBytes(view, at, new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength), numbers.byteLength);
}

/** enum decision_reason */
export const DecisionReason = {
  rule: 0,
  noUnit: 1,
  noRule: 2,
  broken: 3,
  unstable: 4,
} as const;
export type DecisionReason = (typeof DecisionReason)[keyof typeof DecisionReason];
/** The names of decision_reason for people, by number. */
export const decisionReasonTexts = {
  0: 'rule',
  1: 'no-unit',
  2: 'no-rule',
  3: 'broken',
  4: 'unstable',
} as const satisfies Record<DecisionReason, string>;

/** enum dimension */
export const Dimension = {
  source: 0,
  destination: 1,
  service: 2,
  sourcePort: 3,
} as const;
export type Dimension = (typeof Dimension)[keyof typeof Dimension];
/** The names of dimension for people, by number. */
export const dimensionTexts = {
  0: 'source',
  1: 'destination',
  2: 'service',
  3: 'source-port',
} as const satisfies Record<Dimension, string>;
export const dimensionCount = 4;

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

/** enum flow_flag */
export const FlowFlag = {
  egressOk: 1,
  ingressOk: 2,
  opener1: 4,
  answered: 8,
  established: 16,
  finOpener: 32,
  finOther: 64,
  resetOpener: 128,
  viaStack: 256,
  destination: 512,
  source: 1024,
  pointer: 2048,
  marked: 4096,
  oneWay: 8192,
  ofHost: 16384,
  adopted: 32768,
  hostEgress: 65536,
  hostIngress: 131072,
  forwardOk: 262144,
  preAccepted: 524288,
  byNet: 1048576,
  resetOther: 2097152,
} as const;
export type FlowFlag = (typeof FlowFlag)[keyof typeof FlowFlag];
/** The names of flow_flag for people, by number. */
export const flowFlagTexts = {
  1: 'egress-ok',
  2: 'ingress-ok',
  4: 'opener-1',
  8: 'answered',
  16: 'established',
  32: 'fin-opener',
  64: 'fin-other',
  128: 'reset-opener',
  256: 'via-stack',
  512: 'destination',
  1024: 'source',
  2048: 'pointer',
  4096: 'marked',
  8192: 'one-way',
  16384: 'of-host',
  32768: 'adopted',
  65536: 'host-egress',
  131072: 'host-ingress',
  262144: 'forward-ok',
  524288: 'pre-accepted',
  1048576: 'by-net',
  2097152: 'reset-other',
} as const satisfies Record<FlowFlag, string>;

/** enum fragment_kind */
export const FragmentKind = {
  none: 0,
  first: 1,
  later: 2,
} as const;
export type FragmentKind = (typeof FragmentKind)[keyof typeof FragmentKind];
/** The names of fragment_kind for people, by number. */
export const fragmentKindTexts = {
  0: 'none',
  1: 'first',
  2: 'later',
} as const satisfies Record<FragmentKind, string>;

/** enum hop_kind */
export const HopKind = {
  none: 0,
  pod: 1,
  host: 2,
  stack: 3,
} as const;
export type HopKind = (typeof HopKind)[keyof typeof HopKind];
/** The names of hop_kind for people, by number. */
export const hopKindTexts = {
  0: 'none',
  1: 'pod',
  2: 'host',
  3: 'stack',
} as const satisfies Record<HopKind, string>;

/** enum jump */
export const Jump = {
  podOut: 0,
  podIn: 1,
  hostIn: 2,
  hostOut: 3,
  netIn: 4,
  netOut: 5,
} as const;
export type Jump = (typeof Jump)[keyof typeof Jump];
/** The names of jump for people, by number. */
export const jumpTexts = {
  0: 'pod-out',
  1: 'pod-in',
  2: 'host-in',
  3: 'host-out',
  4: 'net-in',
  5: 'net-out',
} as const satisfies Record<Jump, string>;
export const jumpCount = 6;

/** enum port_table */
export const PortTable = {
  tcp: 0,
  udp: 1,
  sctp: 2,
  icmp: 3,
  icmpv6: 4,
  other: 5,
  sourceTcp: 6,
  sourceUdp: 7,
  sourceSctp: 8,
} as const;
export type PortTable = (typeof PortTable)[keyof typeof PortTable];
/** The names of port_table for people, by number. */
export const portTableTexts = {
  0: 'tcp',
  1: 'udp',
  2: 'sctp',
  3: 'icmp',
  4: 'icmpv6',
  5: 'other',
  6: 'source-tcp',
  7: 'source-udp',
  8: 'source-sctp',
} as const satisfies Record<PortTable, string>;
export const portTableCount = 9;

/** enum refusal */
export const Refusal = {
  port: 0,
  hops: 1,
  tooBig: 2,
} as const;
export type Refusal = (typeof Refusal)[keyof typeof Refusal];
/** The names of refusal for people, by number. */
export const refusalTexts = {
  0: 'port',
  1: 'hops',
  2: 'too-big',
} as const satisfies Record<Refusal, string>;

/** enum rule_action */
export const RuleAction = {
  none: 0,
  allow: 1,
  deny: 2,
  pass: 3,
  log: 4,
  undecided: 5,
} as const;
export type RuleAction = (typeof RuleAction)[keyof typeof RuleAction];
/** The names of rule_action for people, by number. */
export const ruleActionTexts = {
  0: 'none',
  1: 'allow',
  2: 'deny',
  3: 'pass',
  4: 'log',
  5: 'undecided',
} as const satisfies Record<RuleAction, string>;

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
  badFragment: 8,
  extensions: 9,
  notLoaded: 10,
  policy: 11,
  conntrackFull: 12,
  midFlow: 13,
  noBackend: 14,
  fragment: 15,
  unrelatedIcmp: 16,
  sctpPort: 17,
  hopLimit: 18,
  otherHost: 19,
  rewrite: 20,
  encapsulation: 21,
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
  8: 'bad-fragment',
  9: 'extensions',
  10: 'not-loaded',
  11: 'policy',
  12: 'conntrack-full',
  13: 'mid-flow',
  14: 'no-backend',
  15: 'fragment',
  16: 'unrelated-icmp',
  17: 'sctp-port',
  18: 'hop-limit',
  19: 'other-host',
  20: 'rewrite',
  21: 'encapsulation',
} as const satisfies Record<Verdict, string>;
export const verdictCount = 22;

/** struct unit_record, 32 bytes */
export interface UnitRecord {
  readonly chunks: number;
  readonly firstRule: number;
  readonly mask: number;
  readonly defaultRow: readonly number[];
}
export const UnitRecord = {
  size: 32,
  offsets: { chunks: 0, firstRule: 4, mask: 8, defaultRow: 16 },
  dims: { defaultRow: [4] },
  read(view: DataView, at = 0): UnitRecord {
    return { chunks: view.getUint32(at, true), firstRule: view.getUint32(at + 4, true), mask: view.getUint32(at + 8, true), defaultRow: listAt(4, 4, at + 16, (at) => view.getUint32(at, true)) };
  },
  write(value: UnitRecord, view: DataView, at = 0): void {
    view.setUint32(at, value.chunks, true);
    view.setUint32(at + 4, value.firstRule, true);
    view.setUint32(at + 8, value.mask, true);
    setZero(view, at + 12, 4);
    setList(value.defaultRow, 4, 4, at + 16, (value, at) => { view.setUint32(at, value, true); });
  },
  encode(value: UnitRecord): Uint8Array {
    const bytes = new Uint8Array(32);
    UnitRecord.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct pod_slot, 56 bytes */
export interface PodSlot {
  readonly unit: readonly number[];
  readonly ifindex: number;
  readonly podMac: Uint8Array;
  readonly hostMac: Uint8Array;
  readonly address4: Uint8Array;
  readonly address6: Uint8Array;
  readonly flags: number;
}
export const PodSlot = {
  size: 56,
  offsets: { unit: 0, ifindex: 16, podMac: 20, hostMac: 26, address4: 32, address6: 36, flags: 52 },
  dims: { unit: [4] },
  read(view: DataView, at = 0): PodSlot {
    return { unit: listAt(4, 4, at, (at) => view.getUint32(at, true)), ifindex: view.getUint32(at + 16, true), podMac: bytesAt(view, at + 20, 6), hostMac: bytesAt(view, at + 26, 6), address4: bytesAt(view, at + 32, 4), address6: bytesAt(view, at + 36, 16), flags: view.getUint32(at + 52, true) };
  },
  write(value: PodSlot, view: DataView, at = 0): void {
    setList(value.unit, 4, 4, at, (value, at) => { view.setUint32(at, value, true); });
    view.setUint32(at + 16, value.ifindex, true);
    setBytes(view, at + 20, value.podMac, 6);
    setBytes(view, at + 26, value.hostMac, 6);
    setBytes(view, at + 32, value.address4, 4);
    setBytes(view, at + 36, value.address6, 16);
    view.setUint32(at + 52, value.flags, true);
  },
  encode(value: PodSlot): Uint8Array {
    const bytes = new Uint8Array(56);
    PodSlot.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct hop, 16 bytes */
export interface Hop {
  readonly kind: HopKind;
  readonly flags: number;
  readonly ifindex: number;
  readonly slot: number;
}
export const Hop = {
  size: 16,
  offsets: { kind: 0, flags: 4, ifindex: 8, slot: 12 },
  read(view: DataView, at = 0): Hop {
    return { kind: view.getUint32(at, true) as HopKind, flags: view.getUint32(at + 4, true), ifindex: view.getUint32(at + 8, true), slot: view.getUint32(at + 12, true) };
  },
  write(value: Hop, view: DataView, at = 0): void {
    view.setUint32(at, value.kind, true);
    view.setUint32(at + 4, value.flags, true);
    view.setUint32(at + 8, value.ifindex, true);
    view.setUint32(at + 12, value.slot, true);
  },
  encode(value: Hop): Uint8Array {
    const bytes = new Uint8Array(16);
    Hop.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct run_state, 52 bytes */
export interface RunState {
  readonly adopting: number;
  readonly events: number;
  readonly host4: Uint8Array;
  readonly host6: Uint8Array;
  readonly forwardIngress: number;
  readonly forwardEgress: number;
  readonly podsHost: number;
  readonly eventsLost: number;
  readonly natFirst: number;
  readonly natLast: number;
}
export const RunState = {
  size: 52,
  offsets: { adopting: 0, events: 4, host4: 8, host6: 12, forwardIngress: 28, forwardEgress: 32, podsHost: 36, eventsLost: 40, natFirst: 44, natLast: 48 },
  read(view: DataView, at = 0): RunState {
    return { adopting: view.getUint32(at, true), events: view.getUint32(at + 4, true), host4: bytesAt(view, at + 8, 4), host6: bytesAt(view, at + 12, 16), forwardIngress: view.getUint32(at + 28, true), forwardEgress: view.getUint32(at + 32, true), podsHost: view.getUint32(at + 36, true), eventsLost: view.getUint32(at + 40, true), natFirst: view.getUint32(at + 44, true), natLast: view.getUint32(at + 48, true) };
  },
  write(value: RunState, view: DataView, at = 0): void {
    view.setUint32(at, value.adopting, true);
    view.setUint32(at + 4, value.events, true);
    setBytes(view, at + 8, value.host4, 4);
    setBytes(view, at + 12, value.host6, 16);
    view.setUint32(at + 28, value.forwardIngress, true);
    view.setUint32(at + 32, value.forwardEgress, true);
    view.setUint32(at + 36, value.podsHost, true);
    view.setUint32(at + 40, value.eventsLost, true);
    view.setUint32(at + 44, value.natFirst, true);
    view.setUint32(at + 48, value.natLast, true);
  },
  encode(value: RunState): Uint8Array {
    const bytes = new Uint8Array(52);
    RunState.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct port_classes, 131072 bytes */
export interface PortClasses {
  readonly class: Uint16Array;
}
export const PortClasses = {
  size: 131072,
  offsets: { class: 0 },
  read(view: DataView, at = 0): PortClasses {
    return { class: new Uint16Array(view.buffer.slice(view.byteOffset + at, view.byteOffset + at + 131072)) };
  },
  write(value: PortClasses, view: DataView, at = 0): void {
    setNumbers(view, at, value.class, 65536);
  },
  encode(value: PortClasses): Uint8Array {
    const bytes = new Uint8Array(131072);
    PortClasses.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct row_key, 12 bytes */
export interface RowKey {
  readonly record: number;
  readonly dimension: Dimension;
  readonly class: number;
}
export const RowKey = {
  size: 12,
  offsets: { record: 0, dimension: 4, class: 8 },
  read(view: DataView, at = 0): RowKey {
    return { record: view.getUint32(at, true), dimension: view.getUint32(at + 4, true) as Dimension, class: view.getUint32(at + 8, true) };
  },
  write(value: RowKey, view: DataView, at = 0): void {
    view.setUint32(at, value.record, true);
    view.setUint32(at + 4, value.dimension, true);
    view.setUint32(at + 8, value.class, true);
  },
  encode(value: RowKey): Uint8Array {
    const bytes = new Uint8Array(12);
    RowKey.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct chunk, 64 bytes */
export interface Chunk {
  readonly words: readonly bigint[];
}
export const Chunk = {
  size: 64,
  offsets: { words: 0 },
  dims: { words: [8] },
  read(view: DataView, at = 0): Chunk {
    return { words: listAt(8, 8, at, (at) => view.getBigUint64(at, true)) };
  },
  write(value: Chunk, view: DataView, at = 0): void {
    setList(value.words, 8, 8, at, (value, at) => { view.setBigUint64(at, value, true); });
  },
  encode(value: Chunk): Uint8Array {
    const bytes = new Uint8Array(64);
    Chunk.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct rule_hits, 16 bytes */
export interface RuleHits {
  readonly packets: bigint;
  readonly bytes: bigint;
}
export const RuleHits = {
  size: 16,
  offsets: { packets: 0, bytes: 8 },
  read(view: DataView, at = 0): RuleHits {
    return { packets: view.getBigUint64(at, true), bytes: view.getBigUint64(at + 8, true) };
  },
  write(value: RuleHits, view: DataView, at = 0): void {
    view.setBigUint64(at, value.packets, true);
    view.setBigUint64(at + 8, value.bytes, true);
  },
  encode(value: RuleHits): Uint8Array {
    const bytes = new Uint8Array(16);
    RuleHits.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct address_info, 8 bytes */
export interface AddressInfo {
  readonly class: number;
  readonly hop: number;
}
export const AddressInfo = {
  size: 8,
  offsets: { class: 0, hop: 4 },
  read(view: DataView, at = 0): AddressInfo {
    return { class: view.getUint32(at, true), hop: view.getUint32(at + 4, true) };
  },
  write(value: AddressInfo, view: DataView, at = 0): void {
    view.setUint32(at, value.class, true);
    view.setUint32(at + 4, value.hop, true);
  },
  encode(value: AddressInfo): Uint8Array {
    const bytes = new Uint8Array(8);
    AddressInfo.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct net_key4, 8 bytes */
export interface NetKey4 {
  readonly prefixLen: number;
  readonly address: Uint8Array;
}
export const NetKey4 = {
  size: 8,
  offsets: { prefixLen: 0, address: 4 },
  read(view: DataView, at = 0): NetKey4 {
    return { prefixLen: view.getUint32(at, true), address: bytesAt(view, at + 4, 4) };
  },
  write(value: NetKey4, view: DataView, at = 0): void {
    view.setUint32(at, value.prefixLen, true);
    setBytes(view, at + 4, value.address, 4);
  },
  encode(value: NetKey4): Uint8Array {
    const bytes = new Uint8Array(8);
    NetKey4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct named_key4, 8 bytes */
export interface NamedKey4 {
  readonly address: Uint8Array;
  readonly port: number;
  readonly protocol: number;
}
export const NamedKey4 = {
  size: 8,
  offsets: { address: 0, port: 4, protocol: 6 },
  read(view: DataView, at = 0): NamedKey4 {
    return { address: bytesAt(view, at, 4), port: view.getUint16(at + 4, true), protocol: view.getUint8(at + 6) };
  },
  write(value: NamedKey4, view: DataView, at = 0): void {
    setBytes(view, at, value.address, 4);
    view.setUint16(at + 4, value.port, true);
    view.setUint8(at + 6, value.protocol);
    setZero(view, at + 7, 1);
  },
  encode(value: NamedKey4): Uint8Array {
    const bytes = new Uint8Array(8);
    NamedKey4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct flow_tuple4, 16 bytes */
export interface FlowTuple4 {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly protocol: number;
}
export const FlowTuple4 = {
  size: 16,
  offsets: { source: 0, destination: 4, sourcePort: 8, destinationPort: 10, protocol: 12 },
  read(view: DataView, at = 0): FlowTuple4 {
    return { source: bytesAt(view, at, 4), destination: bytesAt(view, at + 4, 4), sourcePort: view.getUint16(at + 8, true), destinationPort: view.getUint16(at + 10, true), protocol: view.getUint8(at + 12) };
  },
  write(value: FlowTuple4, view: DataView, at = 0): void {
    setBytes(view, at, value.source, 4);
    setBytes(view, at + 4, value.destination, 4);
    view.setUint16(at + 8, value.sourcePort, true);
    view.setUint16(at + 10, value.destinationPort, true);
    view.setUint8(at + 12, value.protocol);
    setZero(view, at + 13, 3);
  },
  encode(value: FlowTuple4): Uint8Array {
    const bytes = new Uint8Array(16);
    FlowTuple4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct decision, 52 bytes */
export interface Decision {
  readonly action: RuleAction;
  readonly reason: DecisionReason;
  readonly rule: number;
  readonly chunk: number;
  readonly logs: number;
  readonly logged: readonly number[];
  readonly source: AddressInfo;
  readonly destination: AddressInfo;
}
export const Decision = {
  size: 52,
  offsets: { action: 0, reason: 4, rule: 8, chunk: 12, logs: 16, logged: 20, source: 36, destination: 44 },
  dims: { logged: [4] },
  read(view: DataView, at = 0): Decision {
    return { action: view.getUint32(at, true) as RuleAction, reason: view.getUint32(at + 4, true) as DecisionReason, rule: view.getUint32(at + 8, true), chunk: view.getUint32(at + 12, true), logs: view.getUint32(at + 16, true), logged: listAt(4, 4, at + 20, (at) => view.getUint32(at, true)), source: AddressInfo.read(view, at + 36), destination: AddressInfo.read(view, at + 44) };
  },
  write(value: Decision, view: DataView, at = 0): void {
    view.setUint32(at, value.action, true);
    view.setUint32(at + 4, value.reason, true);
    view.setUint32(at + 8, value.rule, true);
    view.setUint32(at + 12, value.chunk, true);
    view.setUint32(at + 16, value.logs, true);
    setList(value.logged, 4, 4, at + 20, (value, at) => { view.setUint32(at, value, true); });
    AddressInfo.write(value.source, view, at + 36);
    AddressInfo.write(value.destination, view, at + 44);
  },
  encode(value: Decision): Uint8Array {
    const bytes = new Uint8Array(52);
    Decision.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct ask4, 132 bytes */
export interface Ask4 {
  readonly ifindex: number;
  readonly kind: number;
  readonly tuple: FlowTuple4;
  readonly slot: number;
  readonly unit: number;
  readonly decision: Decision;
  readonly source: AddressInfo;
  readonly destination: AddressInfo;
  readonly sourceHop: Hop;
  readonly destinationHop: Hop;
}
export const Ask4 = {
  size: 132,
  offsets: { ifindex: 0, kind: 4, tuple: 8, slot: 24, unit: 28, decision: 32, source: 84, destination: 92, sourceHop: 100, destinationHop: 116 },
  read(view: DataView, at = 0): Ask4 {
    return { ifindex: view.getUint32(at, true), kind: view.getUint32(at + 4, true), tuple: FlowTuple4.read(view, at + 8), slot: view.getUint32(at + 24, true), unit: view.getUint32(at + 28, true), decision: Decision.read(view, at + 32), source: AddressInfo.read(view, at + 84), destination: AddressInfo.read(view, at + 92), sourceHop: Hop.read(view, at + 100), destinationHop: Hop.read(view, at + 116) };
  },
  write(value: Ask4, view: DataView, at = 0): void {
    view.setUint32(at, value.ifindex, true);
    view.setUint32(at + 4, value.kind, true);
    FlowTuple4.write(value.tuple, view, at + 8);
    view.setUint32(at + 24, value.slot, true);
    view.setUint32(at + 28, value.unit, true);
    Decision.write(value.decision, view, at + 32);
    AddressInfo.write(value.source, view, at + 84);
    AddressInfo.write(value.destination, view, at + 92);
    Hop.write(value.sourceHop, view, at + 100);
    Hop.write(value.destinationHop, view, at + 116);
  },
  encode(value: Ask4): Uint8Array {
    const bytes = new Uint8Array(132);
    Ask4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct net_key6, 20 bytes */
export interface NetKey6 {
  readonly prefixLen: number;
  readonly address: Uint8Array;
}
export const NetKey6 = {
  size: 20,
  offsets: { prefixLen: 0, address: 4 },
  read(view: DataView, at = 0): NetKey6 {
    return { prefixLen: view.getUint32(at, true), address: bytesAt(view, at + 4, 16) };
  },
  write(value: NetKey6, view: DataView, at = 0): void {
    view.setUint32(at, value.prefixLen, true);
    setBytes(view, at + 4, value.address, 16);
  },
  encode(value: NetKey6): Uint8Array {
    const bytes = new Uint8Array(20);
    NetKey6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct named_key6, 20 bytes */
export interface NamedKey6 {
  readonly address: Uint8Array;
  readonly port: number;
  readonly protocol: number;
}
export const NamedKey6 = {
  size: 20,
  offsets: { address: 0, port: 16, protocol: 18 },
  read(view: DataView, at = 0): NamedKey6 {
    return { address: bytesAt(view, at, 16), port: view.getUint16(at + 16, true), protocol: view.getUint8(at + 18) };
  },
  write(value: NamedKey6, view: DataView, at = 0): void {
    setBytes(view, at, value.address, 16);
    view.setUint16(at + 16, value.port, true);
    view.setUint8(at + 18, value.protocol);
    setZero(view, at + 19, 1);
  },
  encode(value: NamedKey6): Uint8Array {
    const bytes = new Uint8Array(20);
    NamedKey6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct flow_tuple6, 40 bytes */
export interface FlowTuple6 {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly protocol: number;
}
export const FlowTuple6 = {
  size: 40,
  offsets: { source: 0, destination: 16, sourcePort: 32, destinationPort: 34, protocol: 36 },
  read(view: DataView, at = 0): FlowTuple6 {
    return { source: bytesAt(view, at, 16), destination: bytesAt(view, at + 16, 16), sourcePort: view.getUint16(at + 32, true), destinationPort: view.getUint16(at + 34, true), protocol: view.getUint8(at + 36) };
  },
  write(value: FlowTuple6, view: DataView, at = 0): void {
    setBytes(view, at, value.source, 16);
    setBytes(view, at + 16, value.destination, 16);
    view.setUint16(at + 32, value.sourcePort, true);
    view.setUint16(at + 34, value.destinationPort, true);
    view.setUint8(at + 36, value.protocol);
    setZero(view, at + 37, 3);
  },
  encode(value: FlowTuple6): Uint8Array {
    const bytes = new Uint8Array(40);
    FlowTuple6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct ask6, 156 bytes */
export interface Ask6 {
  readonly ifindex: number;
  readonly kind: number;
  readonly tuple: FlowTuple6;
  readonly slot: number;
  readonly unit: number;
  readonly decision: Decision;
  readonly source: AddressInfo;
  readonly destination: AddressInfo;
  readonly sourceHop: Hop;
  readonly destinationHop: Hop;
}
export const Ask6 = {
  size: 156,
  offsets: { ifindex: 0, kind: 4, tuple: 8, slot: 48, unit: 52, decision: 56, source: 108, destination: 116, sourceHop: 124, destinationHop: 140 },
  read(view: DataView, at = 0): Ask6 {
    return { ifindex: view.getUint32(at, true), kind: view.getUint32(at + 4, true), tuple: FlowTuple6.read(view, at + 8), slot: view.getUint32(at + 48, true), unit: view.getUint32(at + 52, true), decision: Decision.read(view, at + 56), source: AddressInfo.read(view, at + 108), destination: AddressInfo.read(view, at + 116), sourceHop: Hop.read(view, at + 124), destinationHop: Hop.read(view, at + 140) };
  },
  write(value: Ask6, view: DataView, at = 0): void {
    view.setUint32(at, value.ifindex, true);
    view.setUint32(at + 4, value.kind, true);
    FlowTuple6.write(value.tuple, view, at + 8);
    view.setUint32(at + 48, value.slot, true);
    view.setUint32(at + 52, value.unit, true);
    Decision.write(value.decision, view, at + 56);
    AddressInfo.write(value.source, view, at + 108);
    AddressInfo.write(value.destination, view, at + 116);
    Hop.write(value.sourceHop, view, at + 124);
    Hop.write(value.destinationHop, view, at + 140);
  },
  encode(value: Ask6): Uint8Array {
    const bytes = new Uint8Array(156);
    Ask6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

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

/** struct pod_config, 24 bytes */
export interface PodConfig {
  readonly ipv6Enabled: number;
  readonly ipipDenied: number;
  readonly vxlanDenied: number;
  readonly markSeen: number;
  readonly markHost: number;
  readonly markNotLocal: number;
  readonly markUntracked: number;
  readonly markPreAccepted: number;
}
export const PodConfig = {
  size: 24,
  offsets: { ipv6Enabled: 0, ipipDenied: 1, vxlanDenied: 2, markSeen: 4, markHost: 8, markNotLocal: 12, markUntracked: 16, markPreAccepted: 20 },
  read(view: DataView, at = 0): PodConfig {
    return { ipv6Enabled: view.getUint8(at), ipipDenied: view.getUint8(at + 1), vxlanDenied: view.getUint16(at + 2, true), markSeen: view.getUint32(at + 4, true), markHost: view.getUint32(at + 8, true), markNotLocal: view.getUint32(at + 12, true), markUntracked: view.getUint32(at + 16, true), markPreAccepted: view.getUint32(at + 20, true) };
  },
  write(value: PodConfig, view: DataView, at = 0): void {
    view.setUint8(at, value.ipv6Enabled);
    view.setUint8(at + 1, value.ipipDenied);
    view.setUint16(at + 2, value.vxlanDenied, true);
    view.setUint32(at + 4, value.markSeen, true);
    view.setUint32(at + 8, value.markHost, true);
    view.setUint32(at + 12, value.markNotLocal, true);
    view.setUint32(at + 16, value.markUntracked, true);
    view.setUint32(at + 20, value.markPreAccepted, true);
  },
  encode(value: PodConfig): Uint8Array {
    const bytes = new Uint8Array(24);
    PodConfig.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct flow_end4, 8 bytes */
export interface FlowEnd4 {
  readonly address: Uint8Array;
  readonly port: number;
}
export const FlowEnd4 = {
  size: 8,
  offsets: { address: 0, port: 4 },
  read(view: DataView, at = 0): FlowEnd4 {
    return { address: bytesAt(view, at, 4), port: view.getUint16(at + 4, true) };
  },
  write(value: FlowEnd4, view: DataView, at = 0): void {
    setBytes(view, at, value.address, 4);
    view.setUint16(at + 4, value.port, true);
    setZero(view, at + 6, 2);
  },
  encode(value: FlowEnd4): Uint8Array {
    const bytes = new Uint8Array(8);
    FlowEnd4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct flow_key4, 20 bytes */
export interface FlowKey4 {
  readonly end: readonly FlowEnd4[];
  readonly protocol: number;
}
export const FlowKey4 = {
  size: 20,
  offsets: { end: 0, protocol: 16 },
  dims: { end: [2] },
  read(view: DataView, at = 0): FlowKey4 {
    return { end: listAt(2, 8, at, (at) => FlowEnd4.read(view, at)), protocol: view.getUint8(at + 16) };
  },
  write(value: FlowKey4, view: DataView, at = 0): void {
    setList(value.end, 2, 8, at, (value, at) => { FlowEnd4.write(value, view, at); });
    view.setUint8(at + 16, value.protocol);
    setZero(view, at + 17, 3);
  },
  encode(value: FlowKey4): Uint8Array {
    const bytes = new Uint8Array(20);
    FlowKey4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct flow_record4, 104 bytes */
export interface FlowRecord4 {
  readonly key: FlowKey4;
  readonly before: FlowEnd4;
  readonly sourceBefore: FlowEnd4;
  readonly created: bigint;
  readonly lastSeen: bigint;
  readonly packets: readonly bigint[];
  readonly bytes: readonly bigint[];
  readonly slot: readonly number[];
  readonly state: bigint;
}
export const FlowRecord4 = {
  size: 104,
  offsets: { key: 0, before: 20, sourceBefore: 28, created: 40, lastSeen: 48, packets: 56, bytes: 72, slot: 88, state: 96 },
  dims: { packets: [2], bytes: [2], slot: [2] },
  read(view: DataView, at = 0): FlowRecord4 {
    return { key: FlowKey4.read(view, at), before: FlowEnd4.read(view, at + 20), sourceBefore: FlowEnd4.read(view, at + 28), created: view.getBigUint64(at + 40, true), lastSeen: view.getBigUint64(at + 48, true), packets: listAt(2, 8, at + 56, (at) => view.getBigUint64(at, true)), bytes: listAt(2, 8, at + 72, (at) => view.getBigUint64(at, true)), slot: listAt(2, 4, at + 88, (at) => view.getUint32(at, true)), state: view.getBigUint64(at + 96, true) };
  },
  write(value: FlowRecord4, view: DataView, at = 0): void {
    FlowKey4.write(value.key, view, at);
    FlowEnd4.write(value.before, view, at + 20);
    FlowEnd4.write(value.sourceBefore, view, at + 28);
    view.setBigUint64(at + 40, value.created, true);
    view.setBigUint64(at + 48, value.lastSeen, true);
    setList(value.packets, 2, 8, at + 56, (value, at) => { view.setBigUint64(at, value, true); });
    setList(value.bytes, 2, 8, at + 72, (value, at) => { view.setBigUint64(at, value, true); });
    setList(value.slot, 2, 4, at + 88, (value, at) => { view.setUint32(at, value, true); });
    view.setBigUint64(at + 96, value.state, true);
    setZero(view, at + 104, 0);
  },
  encode(value: FlowRecord4): Uint8Array {
    const bytes = new Uint8Array(104);
    FlowRecord4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct host_slot, 100 bytes */
export interface HostSlot {
  readonly unit: readonly number[];
  readonly ifindex: number;
  readonly flags: number;
  readonly mac: Uint8Array;
  readonly masquerade4: Uint8Array;
  readonly masquerade6: Uint8Array;
}
export const HostSlot = {
  size: 100,
  offsets: { unit: 0, ifindex: 64, flags: 68, mac: 72, masquerade4: 80, masquerade6: 84 },
  dims: { unit: [16] },
  read(view: DataView, at = 0): HostSlot {
    return { unit: listAt(16, 4, at, (at) => view.getUint32(at, true)), ifindex: view.getUint32(at + 64, true), flags: view.getUint32(at + 68, true), mac: bytesAt(view, at + 72, 6), masquerade4: bytesAt(view, at + 80, 4), masquerade6: bytesAt(view, at + 84, 16) };
  },
  write(value: HostSlot, view: DataView, at = 0): void {
    setList(value.unit, 16, 4, at, (value, at) => { view.setUint32(at, value, true); });
    view.setUint32(at + 64, value.ifindex, true);
    view.setUint32(at + 68, value.flags, true);
    setBytes(view, at + 72, value.mac, 6);
    setZero(view, at + 78, 2);
    setBytes(view, at + 80, value.masquerade4, 4);
    setBytes(view, at + 84, value.masquerade6, 16);
  },
  encode(value: HostSlot): Uint8Array {
    const bytes = new Uint8Array(100);
    HostSlot.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct failsafe_key4, 12 bytes */
export interface FailsafeKey4 {
  readonly prefixLen: number;
  readonly direction: number;
  readonly protocol: number;
  readonly port: number;
  readonly address: Uint8Array;
}
export const FailsafeKey4 = {
  size: 12,
  offsets: { prefixLen: 0, direction: 4, protocol: 5, port: 6, address: 8 },
  read(view: DataView, at = 0): FailsafeKey4 {
    return { prefixLen: view.getUint32(at, true), direction: view.getUint8(at + 4), protocol: view.getUint8(at + 5), port: view.getUint16(at + 6, true), address: bytesAt(view, at + 8, 4) };
  },
  write(value: FailsafeKey4, view: DataView, at = 0): void {
    view.setUint32(at, value.prefixLen, true);
    view.setUint8(at + 4, value.direction);
    view.setUint8(at + 5, value.protocol);
    view.setUint16(at + 6, value.port, true);
    setBytes(view, at + 8, value.address, 4);
  },
  encode(value: FailsafeKey4): Uint8Array {
    const bytes = new Uint8Array(12);
    FailsafeKey4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct fragment_key4, 16 bytes */
export interface FragmentKey4 {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly id: number;
  readonly protocol: number;
}
export const FragmentKey4 = {
  size: 16,
  offsets: { source: 0, destination: 4, id: 8, protocol: 12 },
  read(view: DataView, at = 0): FragmentKey4 {
    return { source: bytesAt(view, at, 4), destination: bytesAt(view, at + 4, 4), id: view.getUint32(at + 8, true), protocol: view.getUint8(at + 12) };
  },
  write(value: FragmentKey4, view: DataView, at = 0): void {
    setBytes(view, at, value.source, 4);
    setBytes(view, at + 4, value.destination, 4);
    view.setUint32(at + 8, value.id, true);
    view.setUint8(at + 12, value.protocol);
    setZero(view, at + 13, 3);
  },
  encode(value: FragmentKey4): Uint8Array {
    const bytes = new Uint8Array(16);
    FragmentKey4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct fragment_ports, 8 bytes */
export interface FragmentPorts {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly protocol: number;
}
export const FragmentPorts = {
  size: 8,
  offsets: { sourcePort: 0, destinationPort: 2, protocol: 4 },
  read(view: DataView, at = 0): FragmentPorts {
    return { sourcePort: view.getUint16(at, true), destinationPort: view.getUint16(at + 2, true), protocol: view.getUint8(at + 4) };
  },
  write(value: FragmentPorts, view: DataView, at = 0): void {
    view.setUint16(at, value.sourcePort, true);
    view.setUint16(at + 2, value.destinationPort, true);
    view.setUint8(at + 4, value.protocol);
    setZero(view, at + 5, 3);
  },
  encode(value: FragmentPorts): Uint8Array {
    const bytes = new Uint8Array(8);
    FragmentPorts.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct refusal_room, 2048 bytes */
export interface RefusalRoom {
  readonly bytes: Uint8Array;
}
export const RefusalRoom = {
  size: 2048,
  offsets: { bytes: 0 },
  read(view: DataView, at = 0): RefusalRoom {
    return { bytes: bytesAt(view, at, 2048) };
  },
  write(value: RefusalRoom, view: DataView, at = 0): void {
    setBytes(view, at, value.bytes, 2048);
  },
  encode(value: RefusalRoom): Uint8Array {
    const bytes = new Uint8Array(2048);
    RefusalRoom.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct backend4, 8 bytes */
export interface Backend4 {
  readonly address: Uint8Array;
  readonly port: number;
}
export const Backend4 = {
  size: 8,
  offsets: { address: 0, port: 4 },
  read(view: DataView, at = 0): Backend4 {
    return { address: bytesAt(view, at, 4), port: view.getUint16(at + 4, true) };
  },
  write(value: Backend4, view: DataView, at = 0): void {
    setBytes(view, at, value.address, 4);
    view.setUint16(at + 4, value.port, true);
    setZero(view, at + 6, 2);
  },
  encode(value: Backend4): Uint8Array {
    const bytes = new Uint8Array(8);
    Backend4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct flow_end6, 20 bytes */
export interface FlowEnd6 {
  readonly address: Uint8Array;
  readonly port: number;
}
export const FlowEnd6 = {
  size: 20,
  offsets: { address: 0, port: 16 },
  read(view: DataView, at = 0): FlowEnd6 {
    return { address: bytesAt(view, at, 16), port: view.getUint16(at + 16, true) };
  },
  write(value: FlowEnd6, view: DataView, at = 0): void {
    setBytes(view, at, value.address, 16);
    view.setUint16(at + 16, value.port, true);
    setZero(view, at + 18, 2);
  },
  encode(value: FlowEnd6): Uint8Array {
    const bytes = new Uint8Array(20);
    FlowEnd6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct flow_key6, 44 bytes */
export interface FlowKey6 {
  readonly end: readonly FlowEnd6[];
  readonly protocol: number;
}
export const FlowKey6 = {
  size: 44,
  offsets: { end: 0, protocol: 40 },
  dims: { end: [2] },
  read(view: DataView, at = 0): FlowKey6 {
    return { end: listAt(2, 20, at, (at) => FlowEnd6.read(view, at)), protocol: view.getUint8(at + 40) };
  },
  write(value: FlowKey6, view: DataView, at = 0): void {
    setList(value.end, 2, 20, at, (value, at) => { FlowEnd6.write(value, view, at); });
    view.setUint8(at + 40, value.protocol);
    setZero(view, at + 41, 3);
  },
  encode(value: FlowKey6): Uint8Array {
    const bytes = new Uint8Array(44);
    FlowKey6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct flow_record6, 152 bytes */
export interface FlowRecord6 {
  readonly key: FlowKey6;
  readonly before: FlowEnd6;
  readonly sourceBefore: FlowEnd6;
  readonly created: bigint;
  readonly lastSeen: bigint;
  readonly packets: readonly bigint[];
  readonly bytes: readonly bigint[];
  readonly slot: readonly number[];
  readonly state: bigint;
}
export const FlowRecord6 = {
  size: 152,
  offsets: { key: 0, before: 44, sourceBefore: 64, created: 88, lastSeen: 96, packets: 104, bytes: 120, slot: 136, state: 144 },
  dims: { packets: [2], bytes: [2], slot: [2] },
  read(view: DataView, at = 0): FlowRecord6 {
    return { key: FlowKey6.read(view, at), before: FlowEnd6.read(view, at + 44), sourceBefore: FlowEnd6.read(view, at + 64), created: view.getBigUint64(at + 88, true), lastSeen: view.getBigUint64(at + 96, true), packets: listAt(2, 8, at + 104, (at) => view.getBigUint64(at, true)), bytes: listAt(2, 8, at + 120, (at) => view.getBigUint64(at, true)), slot: listAt(2, 4, at + 136, (at) => view.getUint32(at, true)), state: view.getBigUint64(at + 144, true) };
  },
  write(value: FlowRecord6, view: DataView, at = 0): void {
    FlowKey6.write(value.key, view, at);
    FlowEnd6.write(value.before, view, at + 44);
    FlowEnd6.write(value.sourceBefore, view, at + 64);
    view.setBigUint64(at + 88, value.created, true);
    view.setBigUint64(at + 96, value.lastSeen, true);
    setList(value.packets, 2, 8, at + 104, (value, at) => { view.setBigUint64(at, value, true); });
    setList(value.bytes, 2, 8, at + 120, (value, at) => { view.setBigUint64(at, value, true); });
    setList(value.slot, 2, 4, at + 136, (value, at) => { view.setUint32(at, value, true); });
    view.setBigUint64(at + 144, value.state, true);
    setZero(view, at + 152, 0);
  },
  encode(value: FlowRecord6): Uint8Array {
    const bytes = new Uint8Array(152);
    FlowRecord6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct failsafe_key6, 24 bytes */
export interface FailsafeKey6 {
  readonly prefixLen: number;
  readonly direction: number;
  readonly protocol: number;
  readonly port: number;
  readonly address: Uint8Array;
}
export const FailsafeKey6 = {
  size: 24,
  offsets: { prefixLen: 0, direction: 4, protocol: 5, port: 6, address: 8 },
  read(view: DataView, at = 0): FailsafeKey6 {
    return { prefixLen: view.getUint32(at, true), direction: view.getUint8(at + 4), protocol: view.getUint8(at + 5), port: view.getUint16(at + 6, true), address: bytesAt(view, at + 8, 16) };
  },
  write(value: FailsafeKey6, view: DataView, at = 0): void {
    view.setUint32(at, value.prefixLen, true);
    view.setUint8(at + 4, value.direction);
    view.setUint8(at + 5, value.protocol);
    view.setUint16(at + 6, value.port, true);
    setBytes(view, at + 8, value.address, 16);
  },
  encode(value: FailsafeKey6): Uint8Array {
    const bytes = new Uint8Array(24);
    FailsafeKey6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct fragment_key6, 40 bytes */
export interface FragmentKey6 {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly id: number;
  readonly protocol: number;
}
export const FragmentKey6 = {
  size: 40,
  offsets: { source: 0, destination: 16, id: 32, protocol: 36 },
  read(view: DataView, at = 0): FragmentKey6 {
    return { source: bytesAt(view, at, 16), destination: bytesAt(view, at + 16, 16), id: view.getUint32(at + 32, true), protocol: view.getUint8(at + 36) };
  },
  write(value: FragmentKey6, view: DataView, at = 0): void {
    setBytes(view, at, value.source, 16);
    setBytes(view, at + 16, value.destination, 16);
    view.setUint32(at + 32, value.id, true);
    view.setUint8(at + 36, value.protocol);
    setZero(view, at + 37, 3);
  },
  encode(value: FragmentKey6): Uint8Array {
    const bytes = new Uint8Array(40);
    FragmentKey6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct backend6, 20 bytes */
export interface Backend6 {
  readonly address: Uint8Array;
  readonly port: number;
}
export const Backend6 = {
  size: 20,
  offsets: { address: 0, port: 16 },
  read(view: DataView, at = 0): Backend6 {
    return { address: bytesAt(view, at, 16), port: view.getUint16(at + 16, true) };
  },
  write(value: Backend6, view: DataView, at = 0): void {
    setBytes(view, at, value.address, 16);
    view.setUint16(at + 16, value.port, true);
    setZero(view, at + 18, 2);
  },
  encode(value: Backend6): Uint8Array {
    const bytes = new Uint8Array(20);
    Backend6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct one_way_share, 12 bytes */
export interface OneWayShare {
  readonly now: number;
  readonly next: number;
  readonly limit: number;
}
export const OneWayShare = {
  size: 12,
  offsets: { now: 0, next: 4, limit: 8 },
  read(view: DataView, at = 0): OneWayShare {
    return { now: view.getUint32(at, true), next: view.getUint32(at + 4, true), limit: view.getUint32(at + 8, true) };
  },
  write(value: OneWayShare, view: DataView, at = 0): void {
    view.setUint32(at, value.now, true);
    view.setUint32(at + 4, value.next, true);
    view.setUint32(at + 8, value.limit, true);
  },
  encode(value: OneWayShare): Uint8Array {
    const bytes = new Uint8Array(12);
    OneWayShare.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct frontend_key4, 8 bytes */
export interface FrontendKey4 {
  readonly address: Uint8Array;
  readonly port: number;
  readonly protocol: number;
}
export const FrontendKey4 = {
  size: 8,
  offsets: { address: 0, port: 4, protocol: 6 },
  read(view: DataView, at = 0): FrontendKey4 {
    return { address: bytesAt(view, at, 4), port: view.getUint16(at + 4, true), protocol: view.getUint8(at + 6) };
  },
  write(value: FrontendKey4, view: DataView, at = 0): void {
    setBytes(view, at, value.address, 4);
    view.setUint16(at + 4, value.port, true);
    view.setUint8(at + 6, value.protocol);
    setZero(view, at + 7, 1);
  },
  encode(value: FrontendKey4): Uint8Array {
    const bytes = new Uint8Array(8);
    FrontendKey4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct frontend_key6, 20 bytes */
export interface FrontendKey6 {
  readonly address: Uint8Array;
  readonly port: number;
  readonly protocol: number;
}
export const FrontendKey6 = {
  size: 20,
  offsets: { address: 0, port: 16, protocol: 18 },
  read(view: DataView, at = 0): FrontendKey6 {
    return { address: bytesAt(view, at, 16), port: view.getUint16(at + 16, true), protocol: view.getUint8(at + 18) };
  },
  write(value: FrontendKey6, view: DataView, at = 0): void {
    setBytes(view, at, value.address, 16);
    view.setUint16(at + 16, value.port, true);
    view.setUint8(at + 18, value.protocol);
    setZero(view, at + 19, 1);
  },
  encode(value: FrontendKey6): Uint8Array {
    const bytes = new Uint8Array(20);
    FrontendKey6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct flow_headers4, 40 bytes */
export interface FlowHeaders4 {
  readonly tuple: FlowTuple4;
  readonly fragmentId: number;
  readonly fragment: FragmentKind;
  readonly l3Offset: number;
  readonly l4Offset: number;
  readonly end: number;
  readonly tcpFlags: number;
  readonly hops: number;
  readonly isError: number;
}
export const FlowHeaders4 = {
  size: 40,
  offsets: { tuple: 0, fragmentId: 16, fragment: 20, l3Offset: 24, l4Offset: 28, end: 32, tcpFlags: 36, hops: 37, isError: 38 },
  read(view: DataView, at = 0): FlowHeaders4 {
    return { tuple: FlowTuple4.read(view, at), fragmentId: view.getUint32(at + 16, true), fragment: view.getUint32(at + 20, true) as FragmentKind, l3Offset: view.getUint32(at + 24, true), l4Offset: view.getUint32(at + 28, true), end: view.getUint32(at + 32, true), tcpFlags: view.getUint8(at + 36), hops: view.getUint8(at + 37), isError: view.getUint8(at + 38) };
  },
  write(value: FlowHeaders4, view: DataView, at = 0): void {
    FlowTuple4.write(value.tuple, view, at);
    view.setUint32(at + 16, value.fragmentId, true);
    view.setUint32(at + 20, value.fragment, true);
    view.setUint32(at + 24, value.l3Offset, true);
    view.setUint32(at + 28, value.l4Offset, true);
    view.setUint32(at + 32, value.end, true);
    view.setUint8(at + 36, value.tcpFlags);
    view.setUint8(at + 37, value.hops);
    view.setUint8(at + 38, value.isError);
    setZero(view, at + 39, 1);
  },
  encode(value: FlowHeaders4): Uint8Array {
    const bytes = new Uint8Array(40);
    FlowHeaders4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct parsed_packet4, 88 bytes */
export interface ParsedPacket4 {
  readonly verdict: Verdict;
  readonly quotedVerdict: Verdict;
  readonly headers: FlowHeaders4;
  readonly quoted: FlowHeaders4;
}
export const ParsedPacket4 = {
  size: 88,
  offsets: { verdict: 0, quotedVerdict: 4, headers: 8, quoted: 48 },
  read(view: DataView, at = 0): ParsedPacket4 {
    return { verdict: view.getUint32(at, true) as Verdict, quotedVerdict: view.getUint32(at + 4, true) as Verdict, headers: FlowHeaders4.read(view, at + 8), quoted: FlowHeaders4.read(view, at + 48) };
  },
  write(value: ParsedPacket4, view: DataView, at = 0): void {
    view.setUint32(at, value.verdict, true);
    view.setUint32(at + 4, value.quotedVerdict, true);
    FlowHeaders4.write(value.headers, view, at + 8);
    FlowHeaders4.write(value.quoted, view, at + 48);
  },
  encode(value: ParsedPacket4): Uint8Array {
    const bytes = new Uint8Array(88);
    ParsedPacket4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct judgement4, 76 bytes */
export interface Judgement4 {
  readonly unit: number;
  readonly bytes: number;
  readonly tuple: FlowTuple4;
  readonly decision: Decision;
}
export const Judgement4 = {
  size: 76,
  offsets: { unit: 0, bytes: 4, tuple: 8, decision: 24 },
  read(view: DataView, at = 0): Judgement4 {
    return { unit: view.getUint32(at, true), bytes: view.getUint32(at + 4, true), tuple: FlowTuple4.read(view, at + 8), decision: Decision.read(view, at + 24) };
  },
  write(value: Judgement4, view: DataView, at = 0): void {
    view.setUint32(at, value.unit, true);
    view.setUint32(at + 4, value.bytes, true);
    FlowTuple4.write(value.tuple, view, at + 8);
    Decision.write(value.decision, view, at + 24);
  },
  encode(value: Judgement4): Uint8Array {
    const bytes = new Uint8Array(76);
    Judgement4.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct flow_headers6, 64 bytes */
export interface FlowHeaders6 {
  readonly tuple: FlowTuple6;
  readonly fragmentId: number;
  readonly fragment: FragmentKind;
  readonly l3Offset: number;
  readonly l4Offset: number;
  readonly end: number;
  readonly tcpFlags: number;
  readonly hops: number;
  readonly isError: number;
}
export const FlowHeaders6 = {
  size: 64,
  offsets: { tuple: 0, fragmentId: 40, fragment: 44, l3Offset: 48, l4Offset: 52, end: 56, tcpFlags: 60, hops: 61, isError: 62 },
  read(view: DataView, at = 0): FlowHeaders6 {
    return { tuple: FlowTuple6.read(view, at), fragmentId: view.getUint32(at + 40, true), fragment: view.getUint32(at + 44, true) as FragmentKind, l3Offset: view.getUint32(at + 48, true), l4Offset: view.getUint32(at + 52, true), end: view.getUint32(at + 56, true), tcpFlags: view.getUint8(at + 60), hops: view.getUint8(at + 61), isError: view.getUint8(at + 62) };
  },
  write(value: FlowHeaders6, view: DataView, at = 0): void {
    FlowTuple6.write(value.tuple, view, at);
    view.setUint32(at + 40, value.fragmentId, true);
    view.setUint32(at + 44, value.fragment, true);
    view.setUint32(at + 48, value.l3Offset, true);
    view.setUint32(at + 52, value.l4Offset, true);
    view.setUint32(at + 56, value.end, true);
    view.setUint8(at + 60, value.tcpFlags);
    view.setUint8(at + 61, value.hops);
    view.setUint8(at + 62, value.isError);
    setZero(view, at + 63, 1);
  },
  encode(value: FlowHeaders6): Uint8Array {
    const bytes = new Uint8Array(64);
    FlowHeaders6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct parsed_packet6, 136 bytes */
export interface ParsedPacket6 {
  readonly verdict: Verdict;
  readonly quotedVerdict: Verdict;
  readonly headers: FlowHeaders6;
  readonly quoted: FlowHeaders6;
}
export const ParsedPacket6 = {
  size: 136,
  offsets: { verdict: 0, quotedVerdict: 4, headers: 8, quoted: 72 },
  read(view: DataView, at = 0): ParsedPacket6 {
    return { verdict: view.getUint32(at, true) as Verdict, quotedVerdict: view.getUint32(at + 4, true) as Verdict, headers: FlowHeaders6.read(view, at + 8), quoted: FlowHeaders6.read(view, at + 72) };
  },
  write(value: ParsedPacket6, view: DataView, at = 0): void {
    view.setUint32(at, value.verdict, true);
    view.setUint32(at + 4, value.quotedVerdict, true);
    FlowHeaders6.write(value.headers, view, at + 8);
    FlowHeaders6.write(value.quoted, view, at + 72);
  },
  encode(value: ParsedPacket6): Uint8Array {
    const bytes = new Uint8Array(136);
    ParsedPacket6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct judgement6, 100 bytes */
export interface Judgement6 {
  readonly unit: number;
  readonly bytes: number;
  readonly tuple: FlowTuple6;
  readonly decision: Decision;
}
export const Judgement6 = {
  size: 100,
  offsets: { unit: 0, bytes: 4, tuple: 8, decision: 48 },
  read(view: DataView, at = 0): Judgement6 {
    return { unit: view.getUint32(at, true), bytes: view.getUint32(at + 4, true), tuple: FlowTuple6.read(view, at + 8), decision: Decision.read(view, at + 48) };
  },
  write(value: Judgement6, view: DataView, at = 0): void {
    view.setUint32(at, value.unit, true);
    view.setUint32(at + 4, value.bytes, true);
    FlowTuple6.write(value.tuple, view, at + 8);
    Decision.write(value.decision, view, at + 48);
  },
  encode(value: Judgement6): Uint8Array {
    const bytes = new Uint8Array(100);
    Judgement6.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct flow_event, 88 bytes */
export interface FlowEvent {
  readonly time: bigint;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly before: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly beforePort: number;
  readonly protocol: number;
  readonly family: number;
  readonly ifindex: number;
  readonly direction: Direction;
  readonly verdict: Verdict;
  readonly unit: number;
  readonly rule: number;
}
export const FlowEvent = {
  size: 88,
  offsets: { time: 0, source: 8, destination: 24, before: 40, sourcePort: 56, destinationPort: 58, beforePort: 60, protocol: 62, family: 63, ifindex: 64, direction: 68, verdict: 72, unit: 76, rule: 80 },
  read(view: DataView, at = 0): FlowEvent {
    return { time: view.getBigUint64(at, true), source: bytesAt(view, at + 8, 16), destination: bytesAt(view, at + 24, 16), before: bytesAt(view, at + 40, 16), sourcePort: view.getUint16(at + 56, true), destinationPort: view.getUint16(at + 58, true), beforePort: view.getUint16(at + 60, true), protocol: view.getUint8(at + 62), family: view.getUint8(at + 63), ifindex: view.getUint32(at + 64, true), direction: view.getUint32(at + 68, true) as Direction, verdict: view.getUint32(at + 72, true) as Verdict, unit: view.getUint32(at + 76, true), rule: view.getUint32(at + 80, true) };
  },
  write(value: FlowEvent, view: DataView, at = 0): void {
    view.setBigUint64(at, value.time, true);
    setBytes(view, at + 8, value.source, 16);
    setBytes(view, at + 24, value.destination, 16);
    setBytes(view, at + 40, value.before, 16);
    view.setUint16(at + 56, value.sourcePort, true);
    view.setUint16(at + 58, value.destinationPort, true);
    view.setUint16(at + 60, value.beforePort, true);
    view.setUint8(at + 62, value.protocol);
    view.setUint8(at + 63, value.family);
    view.setUint32(at + 64, value.ifindex, true);
    view.setUint32(at + 68, value.direction, true);
    view.setUint32(at + 72, value.verdict, true);
    view.setUint32(at + 76, value.unit, true);
    view.setUint32(at + 80, value.rule, true);
    setZero(view, at + 84, 4);
  },
  encode(value: FlowEvent): Uint8Array {
    const bytes = new Uint8Array(88);
    FlowEvent.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct sweep_timeouts, 64 bytes */
export interface SweepTimeouts {
  readonly creation: bigint;
  readonly tcpSynSent: bigint;
  readonly tcpEstablished: bigint;
  readonly tcpFinsSeen: bigint;
  readonly tcpResetSeen: bigint;
  readonly udp: bigint;
  readonly icmp: bigint;
  readonly generic: bigint;
}
export const SweepTimeouts = {
  size: 64,
  offsets: { creation: 0, tcpSynSent: 8, tcpEstablished: 16, tcpFinsSeen: 24, tcpResetSeen: 32, udp: 40, icmp: 48, generic: 56 },
  read(view: DataView, at = 0): SweepTimeouts {
    return { creation: view.getBigUint64(at, true), tcpSynSent: view.getBigUint64(at + 8, true), tcpEstablished: view.getBigUint64(at + 16, true), tcpFinsSeen: view.getBigUint64(at + 24, true), tcpResetSeen: view.getBigUint64(at + 32, true), udp: view.getBigUint64(at + 40, true), icmp: view.getBigUint64(at + 48, true), generic: view.getBigUint64(at + 56, true) };
  },
  write(value: SweepTimeouts, view: DataView, at = 0): void {
    view.setBigUint64(at, value.creation, true);
    view.setBigUint64(at + 8, value.tcpSynSent, true);
    view.setBigUint64(at + 16, value.tcpEstablished, true);
    view.setBigUint64(at + 24, value.tcpFinsSeen, true);
    view.setBigUint64(at + 32, value.tcpResetSeen, true);
    view.setBigUint64(at + 40, value.udp, true);
    view.setBigUint64(at + 48, value.icmp, true);
    view.setBigUint64(at + 56, value.generic, true);
  },
  encode(value: SweepTimeouts): Uint8Array {
    const bytes = new Uint8Array(64);
    SweepTimeouts.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct sweep_counts, 64 bytes */
export interface SweepCounts {
  readonly visited: bigint;
  readonly pointers: bigint;
  readonly marked: bigint;
  readonly deletedTcp: bigint;
  readonly deletedUdp: bigint;
  readonly deletedIcmp: bigint;
  readonly deletedOther: bigint;
  readonly deletedPointers: bigint;
}
export const SweepCounts = {
  size: 64,
  offsets: { visited: 0, pointers: 8, marked: 16, deletedTcp: 24, deletedUdp: 32, deletedIcmp: 40, deletedOther: 48, deletedPointers: 56 },
  read(view: DataView, at = 0): SweepCounts {
    return { visited: view.getBigUint64(at, true), pointers: view.getBigUint64(at + 8, true), marked: view.getBigUint64(at + 16, true), deletedTcp: view.getBigUint64(at + 24, true), deletedUdp: view.getBigUint64(at + 32, true), deletedIcmp: view.getBigUint64(at + 40, true), deletedOther: view.getBigUint64(at + 48, true), deletedPointers: view.getBigUint64(at + 56, true) };
  },
  write(value: SweepCounts, view: DataView, at = 0): void {
    view.setBigUint64(at, value.visited, true);
    view.setBigUint64(at + 8, value.pointers, true);
    view.setBigUint64(at + 16, value.marked, true);
    view.setBigUint64(at + 24, value.deletedTcp, true);
    view.setBigUint64(at + 32, value.deletedUdp, true);
    view.setBigUint64(at + 40, value.deletedIcmp, true);
    view.setBigUint64(at + 48, value.deletedOther, true);
    view.setBigUint64(at + 56, value.deletedPointers, true);
  },
  encode(value: SweepCounts): Uint8Array {
    const bytes = new Uint8Array(64);
    SweepCounts.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** struct sweep_context, 152 bytes */
export interface SweepContext {
  readonly family: Family;
  readonly shard: number;
  readonly round: number;
  readonly now: bigint;
  readonly timeouts: SweepTimeouts;
  readonly counts: SweepCounts;
}
export const SweepContext = {
  size: 152,
  offsets: { family: 0, shard: 4, round: 8, now: 16, timeouts: 24, counts: 88 },
  read(view: DataView, at = 0): SweepContext {
    return { family: view.getUint32(at, true) as Family, shard: view.getUint32(at + 4, true), round: view.getUint32(at + 8, true), now: view.getBigUint64(at + 16, true), timeouts: SweepTimeouts.read(view, at + 24), counts: SweepCounts.read(view, at + 88) };
  },
  write(value: SweepContext, view: DataView, at = 0): void {
    view.setUint32(at, value.family, true);
    view.setUint32(at + 4, value.shard, true);
    view.setUint32(at + 8, value.round, true);
    setZero(view, at + 12, 4);
    view.setBigUint64(at + 16, value.now, true);
    SweepTimeouts.write(value.timeouts, view, at + 24);
    SweepCounts.write(value.counts, view, at + 88);
  },
  encode(value: SweepContext): Uint8Array {
    const bytes = new Uint8Array(152);
    SweepContext.write(value, new DataView(bytes.buffer));
    return bytes;
  },
} as const;

/** The maps, with the sizes that the C says. `flags` are those of map creation. */
export const mapShapes = {
  /** hash: u32 -> AddressInfo */
  tortie_addr4: { name: 'tortie_addr4', type: 1, keySize: 4, valueSize: 8, maxEntries: 131072, flags: 1 },
  /** hash: u128 -> AddressInfo */
  tortie_addr6: { name: 'tortie_addr6', type: 1, keySize: 16, valueSize: 8, maxEntries: 131072, flags: 1 },
  /** array: u32 -> Backend4 */
  tortie_back4: { name: 'tortie_back4', type: 2, keySize: 4, valueSize: 8, maxEntries: 262144, flags: 1024 },
  /** array: u32 -> Backend6 */
  tortie_back6: { name: 'tortie_back6', type: 2, keySize: 4, valueSize: 20, maxEntries: 262144, flags: 1024 },
  /** array: u32 -> Chunk */
  tortie_chunks: { name: 'tortie_chunks', type: 2, keySize: 4, valueSize: 64, maxEntries: 65536, flags: 1024 },
  /** percpu_hash: u32 -> DeviceCounters */
  tortie_counters: { name: 'tortie_counters', type: 5, keySize: 4, valueSize: 1024, maxEntries: 4096, flags: 1 },
  /** devmap_hash: u32 -> u32 */
  tortie_devices: { name: 'tortie_devices', type: 25, keySize: 4, valueSize: 4, maxEntries: 4096, flags: 0 },
  /** ringbuf: records */
  tortie_events: { name: 'tortie_events', type: 27, keySize: 0, valueSize: 0, maxEntries: 262144, flags: 0 },
  /** lpm_trie: FailsafeKey4 -> u32 */
  tortie_failsafe4: { name: 'tortie_failsafe4', type: 11, keySize: 12, valueSize: 4, maxEntries: 1024, flags: 1 },
  /** lpm_trie: FailsafeKey6 -> u32 */
  tortie_failsafe6: { name: 'tortie_failsafe6', type: 11, keySize: 24, valueSize: 4, maxEntries: 1024, flags: 1 },
  /** hash: FlowKey4 -> FlowRecord4 */
  tortie_flow4a: { name: 'tortie_flow4a', type: 1, keySize: 20, valueSize: 104, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey4 -> FlowRecord4 */
  tortie_flow4b: { name: 'tortie_flow4b', type: 1, keySize: 20, valueSize: 104, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey4 -> FlowRecord4 */
  tortie_flow4c: { name: 'tortie_flow4c', type: 1, keySize: 20, valueSize: 104, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey4 -> FlowRecord4 */
  tortie_flow4d: { name: 'tortie_flow4d', type: 1, keySize: 20, valueSize: 104, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey6 -> FlowRecord6 */
  tortie_flow6a: { name: 'tortie_flow6a', type: 1, keySize: 44, valueSize: 152, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey6 -> FlowRecord6 */
  tortie_flow6b: { name: 'tortie_flow6b', type: 1, keySize: 44, valueSize: 152, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey6 -> FlowRecord6 */
  tortie_flow6c: { name: 'tortie_flow6c', type: 1, keySize: 44, valueSize: 152, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey6 -> FlowRecord6 */
  tortie_flow6d: { name: 'tortie_flow6d', type: 1, keySize: 44, valueSize: 152, maxEntries: 131072, flags: 1 },
  /** lru_hash: FragmentKey4 -> FragmentPorts */
  tortie_frag4: { name: 'tortie_frag4', type: 9, keySize: 16, valueSize: 8, maxEntries: 8192, flags: 0 },
  /** lru_hash: FragmentKey6 -> FragmentPorts */
  tortie_frag6: { name: 'tortie_frag6', type: 9, keySize: 40, valueSize: 8, maxEntries: 8192, flags: 0 },
  /** hash: FrontendKey4 -> u64 */
  tortie_front4: { name: 'tortie_front4', type: 1, keySize: 8, valueSize: 8, maxEntries: 65536, flags: 1 },
  /** hash: FrontendKey6 -> u64 */
  tortie_front6: { name: 'tortie_front6', type: 1, keySize: 20, valueSize: 8, maxEntries: 65536, flags: 1 },
  /** array: u32 -> RuleHits */
  tortie_hits: { name: 'tortie_hits', type: 2, keySize: 4, valueSize: 16, maxEntries: 262144, flags: 1024 },
  /** array: u32 -> Hop */
  tortie_hops: { name: 'tortie_hops', type: 2, keySize: 4, valueSize: 16, maxEntries: 16384, flags: 1024 },
  /** array: u32 -> HostSlot */
  tortie_hosts: { name: 'tortie_hosts', type: 2, keySize: 4, valueSize: 100, maxEntries: 2048, flags: 1024 },
  /** hash: u32 -> u64 */
  tortie_hslots: { name: 'tortie_hslots', type: 1, keySize: 4, valueSize: 8, maxEntries: 1024, flags: 1 },
  /** prog_array: u32 -> u32 */
  tortie_jump: { name: 'tortie_jump', type: 3, keySize: 4, valueSize: 4, maxEntries: 6, flags: 0 },
  /** hash: NamedKey4 -> u32 */
  tortie_named4: { name: 'tortie_named4', type: 1, keySize: 8, valueSize: 4, maxEntries: 65536, flags: 1 },
  /** hash: NamedKey6 -> u32 */
  tortie_named6: { name: 'tortie_named6', type: 1, keySize: 20, valueSize: 4, maxEntries: 65536, flags: 1 },
  /** lpm_trie: NetKey4 -> AddressInfo */
  tortie_net4: { name: 'tortie_net4', type: 11, keySize: 8, valueSize: 8, maxEntries: 131072, flags: 1 },
  /** lpm_trie: NetKey6 -> AddressInfo */
  tortie_net6: { name: 'tortie_net6', type: 11, keySize: 20, valueSize: 8, maxEntries: 131072, flags: 1 },
  /** lru_hash: FlowKey4 -> FlowRecord4 */
  tortie_new4: { name: 'tortie_new4', type: 9, keySize: 20, valueSize: 104, maxEntries: 65536, flags: 0 },
  /** lru_hash: FlowKey6 -> FlowRecord6 */
  tortie_new6: { name: 'tortie_new6', type: 9, keySize: 44, valueSize: 152, maxEntries: 65536, flags: 0 },
  /** array: u32 -> OneWayShare */
  tortie_oneway4: { name: 'tortie_oneway4', type: 2, keySize: 4, valueSize: 12, maxEntries: 4097, flags: 0 },
  /** array: u32 -> OneWayShare */
  tortie_oneway6: { name: 'tortie_oneway6', type: 2, keySize: 4, valueSize: 12, maxEntries: 4097, flags: 0 },
  /** percpu_array: u32 -> u4800 */
  tortie_packet4: { name: 'tortie_packet4', type: 6, keySize: 4, valueSize: 600, maxEntries: 1, flags: 0 },
  /** percpu_array: u32 -> u6848 */
  tortie_packet6: { name: 'tortie_packet6', type: 6, keySize: 4, valueSize: 856, maxEntries: 1, flags: 0 },
  /** array: u32 -> PodSlot */
  tortie_pods: { name: 'tortie_pods', type: 2, keySize: 4, valueSize: 56, maxEntries: 4096, flags: 1024 },
  /** array: u32 -> PortClasses */
  tortie_ports: { name: 'tortie_ports', type: 2, keySize: 4, valueSize: 131072, maxEntries: 9, flags: 1024 },
  /** array: u32 -> UnitRecord */
  tortie_records: { name: 'tortie_records', type: 2, keySize: 4, valueSize: 32, maxEntries: 16384, flags: 1024 },
  /** percpu_array: u32 -> RefusalRoom */
  tortie_refusal: { name: 'tortie_refusal', type: 6, keySize: 4, valueSize: 2048, maxEntries: 1, flags: 0 },
  /** lru_hash: u32 -> u64 */
  tortie_refused: { name: 'tortie_refused', type: 9, keySize: 4, valueSize: 8, maxEntries: 4096, flags: 0 },
  /** percpu_array: u32 -> u640 */
  tortie_route4: { name: 'tortie_route4', type: 6, keySize: 4, valueSize: 80, maxEntries: 256, flags: 0 },
  /** percpu_array: u32 -> u832 */
  tortie_route6: { name: 'tortie_route6', type: 6, keySize: 4, valueSize: 104, maxEntries: 256, flags: 0 },
  /** hash: RowKey -> u32 */
  tortie_rows: { name: 'tortie_rows', type: 1, keySize: 12, valueSize: 4, maxEntries: 524288, flags: 1 },
  /** array: u32 -> u32 */
  tortie_rowtab: { name: 'tortie_rowtab', type: 2, keySize: 4, valueSize: 4, maxEntries: 262144, flags: 1024 },
  /** array: u32 -> u32 */
  tortie_rules: { name: 'tortie_rules', type: 2, keySize: 4, valueSize: 4, maxEntries: 262144, flags: 1024 },
  /** array: u32 -> RunState */
  tortie_run: { name: 'tortie_run', type: 2, keySize: 4, valueSize: 52, maxEntries: 1, flags: 1024 },
  /** hash: u32 -> u64 */
  tortie_slots: { name: 'tortie_slots', type: 1, keySize: 4, valueSize: 8, maxEntries: 4096, flags: 1 },
  /** lpm_trie: SourceKey -> u32 */
  tortie_sources: { name: 'tortie_sources', type: 11, keySize: 28, valueSize: 4, maxEntries: 16384, flags: 1 },
  /** array: u32 -> u32 */
  tortie_units: { name: 'tortie_units', type: 2, keySize: 4, valueSize: 4, maxEntries: 8192, flags: 1024 },
} as const;

/** Read-only variables that are set before loading, and their types. */
export const configVariables = {
  pod_config: PodConfig,
} as const;

/** Programs: the global functions whose names start with tortie_. */
export const programNames = ['tortie_ask4', 'tortie_ask6', 'tortie_from_net', 'tortie_from_pod', 'tortie_host_in', 'tortie_host_out', 'tortie_net_in', 'tortie_net_out', 'tortie_pod_in', 'tortie_pod_out', 'tortie_sweep', 'tortie_to_net', 'tortie_to_pod', 'tortie_xdp_in'] as const;

/** The maps of the classifier, with the sizes that the C says. */
export const classifierMapShapes = {
  /** hash: u32 -> AddressInfo */
  tortie_addr4: { name: 'tortie_addr4', type: 1, keySize: 4, valueSize: 8, maxEntries: 131072, flags: 1 },
  /** hash: u128 -> AddressInfo */
  tortie_addr6: { name: 'tortie_addr6', type: 1, keySize: 16, valueSize: 8, maxEntries: 131072, flags: 1 },
  /** array: u32 -> Chunk */
  tortie_chunks: { name: 'tortie_chunks', type: 2, keySize: 4, valueSize: 64, maxEntries: 65536, flags: 1024 },
  /** array: u32 -> RuleHits */
  tortie_hits: { name: 'tortie_hits', type: 2, keySize: 4, valueSize: 16, maxEntries: 262144, flags: 1024 },
  /** hash: NamedKey4 -> u32 */
  tortie_named4: { name: 'tortie_named4', type: 1, keySize: 8, valueSize: 4, maxEntries: 65536, flags: 1 },
  /** hash: NamedKey6 -> u32 */
  tortie_named6: { name: 'tortie_named6', type: 1, keySize: 20, valueSize: 4, maxEntries: 65536, flags: 1 },
  /** lpm_trie: NetKey4 -> AddressInfo */
  tortie_net4: { name: 'tortie_net4', type: 11, keySize: 8, valueSize: 8, maxEntries: 131072, flags: 1 },
  /** lpm_trie: NetKey6 -> AddressInfo */
  tortie_net6: { name: 'tortie_net6', type: 11, keySize: 20, valueSize: 8, maxEntries: 131072, flags: 1 },
  /** array: u32 -> PortClasses */
  tortie_ports: { name: 'tortie_ports', type: 2, keySize: 4, valueSize: 131072, maxEntries: 9, flags: 1024 },
  /** array: u32 -> UnitRecord */
  tortie_records: { name: 'tortie_records', type: 2, keySize: 4, valueSize: 32, maxEntries: 16384, flags: 1024 },
  /** hash: RowKey -> u32 */
  tortie_rows: { name: 'tortie_rows', type: 1, keySize: 12, valueSize: 4, maxEntries: 524288, flags: 1 },
  /** array: u32 -> u32 */
  tortie_rowtab: { name: 'tortie_rowtab', type: 2, keySize: 4, valueSize: 4, maxEntries: 262144, flags: 1024 },
  /** array: u32 -> u32 */
  tortie_rules: { name: 'tortie_rules', type: 2, keySize: 4, valueSize: 4, maxEntries: 262144, flags: 1024 },
  /** array: u32 -> u32 */
  tortie_units: { name: 'tortie_units', type: 2, keySize: 4, valueSize: 4, maxEntries: 8192, flags: 1024 },
} as const;

/** The numbers that the C of the classifier defines. */
export const classifierConstants = {
  chunkWords: 8,
  chunkRules: 512,
  chunkEmpty: 0,
  chunkFull: 1,
  unitChunks: 1024,
  rowStartMask: 0xffff,
  rowLengthShift: 16,
  rowHeadWords: 2,
  rowDefault: 0xffffffff,
  rowNone: 0x80000000,
  decisionLogs: 4,
  ruleIndexNone: 0xffffffff,
} as const;

/** The maps of the flow, with the sizes that the C says. */
export const flowMapShapes = {
  /** array: u32 -> Backend4 */
  tortie_back4: { name: 'tortie_back4', type: 2, keySize: 4, valueSize: 8, maxEntries: 262144, flags: 1024 },
  /** array: u32 -> Backend6 */
  tortie_back6: { name: 'tortie_back6', type: 2, keySize: 4, valueSize: 20, maxEntries: 262144, flags: 1024 },
  /** ringbuf: records */
  tortie_events: { name: 'tortie_events', type: 27, keySize: 0, valueSize: 0, maxEntries: 262144, flags: 0 },
  /** hash: FlowKey4 -> FlowRecord4 */
  tortie_flow4a: { name: 'tortie_flow4a', type: 1, keySize: 20, valueSize: 104, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey4 -> FlowRecord4 */
  tortie_flow4b: { name: 'tortie_flow4b', type: 1, keySize: 20, valueSize: 104, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey4 -> FlowRecord4 */
  tortie_flow4c: { name: 'tortie_flow4c', type: 1, keySize: 20, valueSize: 104, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey4 -> FlowRecord4 */
  tortie_flow4d: { name: 'tortie_flow4d', type: 1, keySize: 20, valueSize: 104, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey6 -> FlowRecord6 */
  tortie_flow6a: { name: 'tortie_flow6a', type: 1, keySize: 44, valueSize: 152, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey6 -> FlowRecord6 */
  tortie_flow6b: { name: 'tortie_flow6b', type: 1, keySize: 44, valueSize: 152, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey6 -> FlowRecord6 */
  tortie_flow6c: { name: 'tortie_flow6c', type: 1, keySize: 44, valueSize: 152, maxEntries: 131072, flags: 1 },
  /** hash: FlowKey6 -> FlowRecord6 */
  tortie_flow6d: { name: 'tortie_flow6d', type: 1, keySize: 44, valueSize: 152, maxEntries: 131072, flags: 1 },
  /** lru_hash: FragmentKey4 -> FragmentPorts */
  tortie_frag4: { name: 'tortie_frag4', type: 9, keySize: 16, valueSize: 8, maxEntries: 8192, flags: 0 },
  /** lru_hash: FragmentKey6 -> FragmentPorts */
  tortie_frag6: { name: 'tortie_frag6', type: 9, keySize: 40, valueSize: 8, maxEntries: 8192, flags: 0 },
  /** hash: FrontendKey4 -> u64 */
  tortie_front4: { name: 'tortie_front4', type: 1, keySize: 8, valueSize: 8, maxEntries: 65536, flags: 1 },
  /** hash: FrontendKey6 -> u64 */
  tortie_front6: { name: 'tortie_front6', type: 1, keySize: 20, valueSize: 8, maxEntries: 65536, flags: 1 },
  /** array: u32 -> Hop */
  tortie_hops: { name: 'tortie_hops', type: 2, keySize: 4, valueSize: 16, maxEntries: 16384, flags: 1024 },
  /** lru_hash: FlowKey4 -> FlowRecord4 */
  tortie_new4: { name: 'tortie_new4', type: 9, keySize: 20, valueSize: 104, maxEntries: 65536, flags: 0 },
  /** lru_hash: FlowKey6 -> FlowRecord6 */
  tortie_new6: { name: 'tortie_new6', type: 9, keySize: 44, valueSize: 152, maxEntries: 65536, flags: 0 },
  /** array: u32 -> OneWayShare */
  tortie_oneway4: { name: 'tortie_oneway4', type: 2, keySize: 4, valueSize: 12, maxEntries: 4097, flags: 0 },
  /** array: u32 -> OneWayShare */
  tortie_oneway6: { name: 'tortie_oneway6', type: 2, keySize: 4, valueSize: 12, maxEntries: 4097, flags: 0 },
  /** array: u32 -> PodSlot */
  tortie_pods: { name: 'tortie_pods', type: 2, keySize: 4, valueSize: 56, maxEntries: 4096, flags: 1024 },
  /** array: u32 -> RunState */
  tortie_run: { name: 'tortie_run', type: 2, keySize: 4, valueSize: 52, maxEntries: 1, flags: 1024 },
  /** hash: u32 -> u64 */
  tortie_slots: { name: 'tortie_slots', type: 1, keySize: 4, valueSize: 8, maxEntries: 4096, flags: 1 },
} as const;

/** The numbers that the C of the flow defines. */
export const flowConstants = {
  flowShards: 4,
  handshakeSeconds: 120,
  oneWayShares: 4096,
  unitEgress: 0,
  unitIngress: 2,
  unitKinds: 4,
  podShaped: 1,
  hopInPool: 1,
  hopNatOutgoing: 2,
  hopShaped: 4,
  handoverIn: 1,
  handoverOut: 2,
  hostUnitOrdinary: 0,
  hostUnitForward: 4,
  hostUnitPreDnat: 8,
  hostUnitUntracked: 12,
  hostUnits: 16,
  hostUnitOut: 2,
  hostUnitIpv6: 1,
  hostWithoutEthernet: 1,
  hostDirect: 2,
  hostShared: 4,
  failsafeIn: 0,
  failsafeOut: 1,
  failsafeKeyFixedBits: 32,
  frontendCountMask: 0xffffff,
} as const;
