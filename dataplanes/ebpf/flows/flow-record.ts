import ipaddr from 'ipaddr.js';
import type { Family } from '#native/types.ts';
import type { Flow, FlowState, FlowTuple, FlowWay } from '../../flows.ts';
import type { IpText } from '../../messages.ts';
import { FlowFlag, flowFlagTexts } from '../bpf-types.gen.ts';
import { flowLayouts } from './flow-maps.ts';
import { flowTimeoutOf, type FlowTimeouts } from './flow-timeouts.ts';

/** One end as records have it: `port` is 0 for protocols without, and means something else for ICMP (docs/design/ebpf-flows.md). */
export interface FlowEnd {
  readonly address: IpText;
  readonly port: number;
}

/** What a record says, without the counts that only programs write. */
export interface FlowRecord {
  readonly family: Family;
  readonly protocol: number;
  /** After translation. */
  readonly opener: FlowEnd;
  readonly other: FlowEnd;
  /** What the opener asked for, if that was translated. */
  readonly before?: FlowEnd;
  /** What the opener is itself, if its source was translated. */
  readonly sourceBefore?: FlowEnd;
  /** Bits of FlowFlag, but for those that say what is said above: which end the opener is, what was translated. */
  readonly flags: number;
  /** Not 0. */
  readonly cookie: number;
  /** ns of CLOCK_MONOTONIC; made, and last packet. */
  readonly at: bigint;
}

/** An element of one of the hashes. */
export interface FlowElement {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** IPPROTO_* that records treat in their own way. */
export const ICMP = 1;
export const TCP = 6;
export const ICMPV6 = 58;
export const SCTP = 132;

const nsPerSecond = 1_000_000_000;

/**
 * The elements of a flow: its record and, if it was translated, the pointer to it under what the opener sends. For TCP, UDP and
 * whatever has ports or none; not for ICMP.
 */
export function flowElements(record: FlowRecord): { readonly record: FlowElement; readonly pointer?: FlowElement } {
  const { family, protocol, opener, other, before, sourceBefore, at, cookie } = record;
  const { key, openerIs1 } = keyOf(family, protocol, opener, other);
  const flags =
    record.flags |
    (openerIs1 ? FlowFlag.opener1 : 0) |
    (before === undefined ? 0 : FlowFlag.destination) |
    (sourceBefore === undefined ? 0 : FlowFlag.source);
  const fill = { family, at, cookie };
  const element = { key, value: valueOf({ ...fill, key, before, sourceBefore, flags }) };
  if (before === undefined && sourceBefore === undefined) return { record: element };
  const asked = keyOf(family, protocol, sourceBefore ?? opener, before ?? other);
  const pointerFlags = FlowFlag.pointer | (asked.openerIs1 ? FlowFlag.opener1 : 0);
  const pointer = valueOf({ ...fill, key: asked.key, before: other, sourceBefore: opener, flags: pointerFlags });
  return { record: element, pointer: { key: asked.key, value: pointer } };
}

/** The element's flags. */
export function flagsIn(family: Family, view: DataView, at = 0): number {
  return view.getUint32(at + flowLayouts[family].Record.offsets.state, true);
}

/** True for what `flowElements` made and no packet was seen of since. */
export function isUntouched(family: Family, value: Uint8Array): boolean {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const { created, lastSeen } = flowLayouts[family].Record.offsets;
  return (
    (flagsIn(family, view) & FlowFlag.adopted) !== 0 &&
    view.getBigUint64(created, true) === view.getBigUint64(lastSeen, true)
  );
}

/** The key under which the pointer to a record is, given the record's value; undefined when it has none. */
export function pointerKeyOf(family: Family, value: Uint8Array): Uint8Array | undefined {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const flags = flagsIn(family, view);
  if ((flags & (FlowFlag.destination | FlowFlag.source)) === 0 || (flags & FlowFlag.pointer) !== 0) return undefined;
  const { offsets } = flowLayouts[family].Record;
  const [opener, other] = endsIn(family, view, 0, flags);
  const asked = (flags & FlowFlag.source) === 0 ? opener : endIn(family, view, offsets.sourceBefore);
  const before = (flags & FlowFlag.destination) === 0 ? other : endIn(family, view, offsets.before);
  return keyOf(family, view.getUint8(flowLayouts[family].Key.offsets.protocol), asked, before).key;
}

/** What is needed to say how old a flow is. */
export interface FlowReading {
  /** CLOCK_MONOTONIC, ns. */
  readonly now: bigint;
  /** Absent: nobody forgets these after a time. */
  readonly timeouts?: FlowTimeouts;
}

/** The flow of the record at a place of a dump; undefined for a pointer. */
export function readFlow(family: Family, view: DataView, at: number, { now, timeouts }: FlowReading): Flow | undefined {
  const { Record, Key } = flowLayouts[family];
  const { offsets } = Record;
  const flags = flagsIn(family, view, at);
  if ((flags & FlowFlag.pointer) !== 0) return undefined;
  const protocol = view.getUint8(at + Key.offsets.protocol);
  const [opener, other] = endsIn(family, view, at, flags);
  const source = (flags & FlowFlag.source) === 0 ? opener : endIn(family, view, at + offsets.sourceBefore);
  const destination = (flags & FlowFlag.destination) === 0 ? other : endIn(family, view, at + offsets.before);
  const icmp = protocol === ICMP || protocol === ICMPV6 ? icmpIn(family, view, at) : undefined;
  const idle = secondsBetween(view.getBigUint64(at + offsets.lastSeen, true), now);
  const timeout = timeouts === undefined ? undefined : flowTimeoutOf(timeouts, protocol, flags);
  const counts = (field: 'packets' | 'bytes') => ({
    opener: Number(view.getBigUint64(at + offsets[field], true)),
    other: Number(view.getBigUint64(at + offsets[field] + 8, true)),
  });
  return {
    family,
    protocol,
    asked: tupleOf(protocol, source, destination, icmp),
    delivered: tupleOf(protocol, opener, other, icmp),
    state: stateOf(protocol, flags),
    ...(protocol === TCP && {
      finished: { opener: (flags & FlowFlag.finOpener) !== 0, other: (flags & FlowFlag.finOther) !== 0 },
    }),
    crossesNetfilter: (flags & FlowFlag.viaStack) !== 0,
    way: wayOf(flags),
    ageSeconds: secondsBetween(view.getBigUint64(at + offsets.created, true), now),
    idleSeconds: idle,
    ...(timeout !== undefined && { leftSeconds: Math.max(0, timeout / nsPerSecond - idle) }),
    packets: counts('packets'),
    bytes: counts('bytes'),
    details: flagNames(flags),
  };
}

/** Flags with their names; which end the opener is, the tuples say. */
const namedFlags = Object.entries(flowFlagTexts)
  .map(([bit, name]) => [Number(bit), name] as const)
  .filter(([bit]) => bit !== FlowFlag.opener1);

function flagNames(flags: number): readonly string[] {
  const names: string[] = [];
  for (const [bit, name] of namedFlags) if ((flags & bit) !== 0) names.push(name);
  return names;
}

function wayOf(flags: number): FlowWay {
  if ((flags & FlowFlag.viaStack) !== 0) return 'stack';
  return (flags & FlowFlag.byNet) === 0 ? 'pod' : 'net';
}

function stateOf(protocol: number, flags: number): FlowState {
  // What is kept as if it were answered moves on to where it went before, too.
  if ((flags & (FlowFlag.answered | FlowFlag.oneWay)) === 0) return 'new';
  if (protocol !== TCP) return 'established';
  const fins = (flags & FlowFlag.finOpener ? 1 : 0) + (flags & FlowFlag.finOther ? 1 : 0);
  if ((flags & (FlowFlag.resetOpener | FlowFlag.resetOther)) !== 0 || fins === 2) return 'closed';
  if (fins === 1) return 'closing';
  return (flags & FlowFlag.established) === 0 ? 'opening' : 'established';
}

function tupleOf(protocol: number, source: FlowEnd, destination: FlowEnd, icmp: FlowTuple['icmp']): FlowTuple {
  const addresses = { source: source.address, destination: destination.address };
  if (protocol === ICMP || protocol === ICMPV6) return icmp === undefined ? addresses : { ...addresses, icmp };
  // Zero stands for none: no packet has it that is let through.
  if (source.port === 0 && destination.port === 0) return addresses;
  return { ...addresses, sourcePort: source.port, destinationPort: destination.port };
}

/** The ports of an ICMP key are {identifier, request type << 1 | opener's end}. */
function icmpIn(family: Family, view: DataView, at: number): FlowTuple['icmp'] {
  const { Key, End } = flowLayouts[family];
  const [first, second] = [Key.offsets.end + End.offsets.port, Key.offsets.end + End.size + End.offsets.port];
  return { id: view.getUint16(at + first, true), type: view.getUint16(at + second, true) >> 1 };
}

function endsIn(family: Family, view: DataView, at: number, flags: number): [opener: FlowEnd, other: FlowEnd] {
  const { Key, End } = flowLayouts[family];
  const first = endIn(family, view, at + Key.offsets.end);
  const second = endIn(family, view, at + Key.offsets.end + End.size);
  return (flags & FlowFlag.opener1) === 0 ? [first, second] : [second, first];
}

function endIn(family: Family, view: DataView, at: number): FlowEnd {
  const { End } = flowLayouts[family];
  return { address: addressIn(family, view, at), port: view.getUint16(at + End.offsets.port, true) };
}

function addressIn(family: Family, view: DataView, at: number): IpText {
  if (family === 4)
    return `${view.getUint8(at)}.${view.getUint8(at + 1)}.${view.getUint8(at + 2)}.${view.getUint8(at + 3)}`;
  return new ipaddr.IPv6([...new Uint8Array(view.buffer, view.byteOffset + at, 16)]).toRFC5952String();
}

/** Ends in the order of keys, and which of them the opener is. */
function keyOf(
  family: Family,
  protocol: number,
  opener: FlowEnd,
  other: FlowEnd,
): { readonly key: Uint8Array; readonly openerIs1: boolean } {
  const { Key } = flowLayouts[family];
  const [a, b] = [encodeEnd(opener), encodeEnd(other)];
  const openerIs1 = (Buffer.compare(a.address, b.address) || a.port - b.port) > 0;
  return { key: Key.encode({ end: openerIs1 ? [b, a] : [a, b], protocol }), openerIs1 };
}

function encodeEnd({ address, port }: FlowEnd): { readonly address: Uint8Array; readonly port: number } {
  return { address: new Uint8Array(ipaddr.parse(address).toByteArray()), port };
}

function valueOf(parts: {
  readonly family: Family;
  readonly key: Uint8Array;
  readonly before: FlowEnd | undefined;
  readonly sourceBefore: FlowEnd | undefined;
  readonly flags: number;
  readonly cookie: number;
  readonly at: bigint;
}): Uint8Array {
  const { family, key, before, sourceBefore, flags, cookie, at } = parts;
  const { Record, Key, addressBytes } = flowLayouts[family];
  const none = { address: new Uint8Array(addressBytes), port: 0 };
  return Record.encode({
    key: Key.read(new DataView(key.buffer, key.byteOffset, key.byteLength)),
    before: before === undefined ? none : encodeEnd(before),
    sourceBefore: sourceBefore === undefined ? none : encodeEnd(sourceBefore),
    created: at,
    lastSeen: at,
    packets: [0n, 0n],
    bytes: [0n, 0n],
    slot: [0, 0],
    state: (BigInt(cookie) << 32n) | BigInt(flags),
  });
}

function secondsBetween(then: bigint, now: bigint): number {
  return now > then ? Number(now - then) / nsPerSecond : 0;
}
