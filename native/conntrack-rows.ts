/** Entries on their way from and to the addon, which speaks numbers and flat arrays; here they get their names and their shape. */
import { loadAddon } from './addon.ts';
import {
  conntrackSctpStates,
  conntrackStatusNames,
  conntrackTcpFlagNames,
  conntrackTcpStates,
  type ConntrackEntry,
  type ConntrackKey,
  type ConntrackNat,
  type ConntrackStatus,
  type ConntrackTcpFlag,
  type ConntrackTcpSide,
  type ConntrackTranslation,
  type ConntrackTuple,
  type ConntrackZoneDirection,
  type NewConntrackEntry,
} from './conntrack-types.ts';
import type { Family } from './types.ts';

/** Rows of entries one after the other, `rowLength` values each (conntrack_values.cc writes them, in the order of the columns below). */
export type ConntrackRows = readonly (string | number | undefined)[];

const rowLength = 32;

/** Columns; a tuple has seven and TCP five. */
const column = {
  type: 0,
  family: 1,
  original: 2,
  reply: 9,
  zone: 16,
  zoneDirection: 17,
  mark: 18,
  status: 19,
  timeout: 20,
  id: 21,
  nat: 22,
  tcp: 23,
  sctp: 28,
  helper: 31,
} as const;

const zoneDirections: readonly ConntrackZoneDirection[] = ['both', 'original', 'reply'];

/** What an entry's message says. */
const messageTypes = ['new', 'update', 'destroy'] as const;

/** An entry, and what its message says of it; an entry of a dump is an `update`. */
export interface ConntrackMessage {
  readonly type: (typeof messageTypes)[number];
  readonly entry: ConntrackEntry;
}

/** The messages of all rows. */
export function readConntrackRows(rows: ConntrackRows): ConntrackMessage[] {
  const messages: ConntrackMessage[] = [];
  for (let at = 0; at < rows.length; at += rowLength) {
    const type = messageTypes[rows[at] as number] ?? 'update';
    messages.push({ type, entry: readEntry(rows, at) });
  }
  return messages;
}

/**
 * The entries in what came from a ctnetlink socket, messages one after the other with headers in this machine's byte order. A message that
 * is no entry of IPv4 or IPv6, or is cut short, is left out: no bytes make it fail.
 */
export function decodeConntrackMessages(bytes: Uint8Array): readonly ConntrackMessage[] {
  return readConntrackRows(loadAddon<{ decodeConntrack(bytes: Uint8Array): ConntrackRows }>().decodeConntrack(bytes));
}

function readEntry(rows: ConntrackRows, at: number): ConntrackEntry {
  const number = (place: number): number => rows[at + place] as number;
  const original = readTuple(rows, at + column.original);
  const reply = readTuple(rows, at + column.reply);
  const timeoutSeconds = rows[at + column.timeout] as number | undefined;
  const nat = number(column.nat);
  const helper = rows[at + column.helper] as string | undefined;
  return Object.freeze({
    family: number(column.family) as Family,
    original,
    reply,
    zone: number(column.zone),
    zoneDirection: zoneDirections[number(column.zoneDirection)] ?? 'both',
    mark: number(column.mark),
    status: statusOf(number(column.status)),
    ...(timeoutSeconds === undefined ? undefined : { timeoutSeconds }),
    id: number(column.id),
    ...(nat === 0 ? undefined : { nat: readNat(nat, reply) }),
    ...readProtocolState(rows, at),
    ...(helper === undefined ? undefined : { helper }),
  });
}

function readTuple(rows: ConntrackRows, at: number): ConntrackTuple {
  const [source, destination, protocol, first, second, type, code] = rows.slice(at, at + 7) as [
    string,
    string,
    number,
    number | undefined,
    number,
    number | undefined,
    number,
  ];
  if (first === undefined) return Object.freeze({ source, destination, protocol });
  if (type === undefined)
    return Object.freeze({ source, destination, protocol, sourcePort: first, destinationPort: second });
  return Object.freeze({ source, destination, protocol, icmp: Object.freeze({ id: first, type, code }) });
}

/** What the packets become is the reverse of what the answers look like. */
function readNat(which: number, reply: ConntrackTuple): ConntrackNat {
  const of = (address: string, port: number | undefined): ConntrackTranslation =>
    Object.freeze(port === undefined ? { address } : { address, port });
  return Object.freeze({
    ...((which & 1) === 0 ? undefined : { source: of(reply.destination, reply.destinationPort ?? reply.icmp?.id) }),
    ...((which & 2) === 0 ? undefined : { destination: of(reply.source, reply.sourcePort) }),
  });
}

function readProtocolState(rows: ConntrackRows, at: number): Pick<ConntrackEntry, 'tcp' | 'sctp'> {
  const number = (place: number): number => rows[at + place] as number;
  if (rows[at + column.tcp] !== undefined) {
    return {
      tcp: Object.freeze({
        state: conntrackTcpStates[number(column.tcp)] ?? 'none',
        original: side(number(column.tcp + 1), number(column.tcp + 3)),
        reply: side(number(column.tcp + 2), number(column.tcp + 4)),
      }),
    };
  }
  if (rows[at + column.sctp] === undefined) return {};
  return {
    sctp: Object.freeze({
      state: conntrackSctpStates[number(column.sctp)] ?? 'none',
      originalTag: number(column.sctp + 1),
      replyTag: number(column.sctp + 2),
    }),
  };
}

function side(flags: number, windowScale: number): ConntrackTcpSide {
  return Object.freeze({ flags: tcpFlagsOf(flags), windowScale });
}

/** Names of set bits. Few combinations occur: each is one frozen array. */
function namesOf<Name extends string>(names: readonly Name[]): (bits: number) => readonly Name[] {
  const known = new Map<number, readonly Name[]>();
  return (bits) => {
    const found = known.get(bits);
    if (found) return found;
    const made = Object.freeze(names.filter((_, bit) => (bits & (1 << bit)) !== 0));
    // Only bytes that no kernel sends could make this many.
    if (known.size < 1_000) known.set(bits, made);
    return made;
  };
}

const statusOf: (bits: number) => readonly ConntrackStatus[] = namesOf(conntrackStatusNames);
const tcpFlagsOf: (bits: number) => readonly ConntrackTcpFlag[] = namesOf(conntrackTcpFlagNames);

/**
 * A key as the addon takes it. What isn't of the right form goes on as it is: the addon finds and names it, as that one's failure (so do those
 * below).
 */
export function writeKey(key: ConntrackKey): unknown {
  if (!isObject(key)) return key;
  const { family, original, zone, zoneDirection = 'both', id } = key;
  return { family, original, zone, id, zoneDirection: indexOf(zoneDirections, zoneDirection) };
}

/** A new entry as the addon takes it. */
export function writeEntry(entry: NewConntrackEntry): unknown {
  if (!isObject(entry)) return entry;
  const {
    family,
    original,
    reply,
    nat,
    zone,
    zoneDirection = 'both',
    timeoutSeconds,
    status = [],
    mark,
    tcp,
    sctp,
  } = entry;
  return {
    family,
    original,
    reply,
    nat,
    zone,
    zoneDirection: indexOf(zoneDirections, zoneDirection),
    timeoutSeconds,
    mark,
    status: bitsOf(conntrackStatusNames, status),
    tcp: isObject(tcp)
      ? {
          state: indexOf(conntrackTcpStates, tcp.state),
          original: writeSide(tcp.original),
          reply: writeSide(tcp.reply),
        }
      : tcp,
    sctp: isObject(sctp)
      ? { state: indexOf(conntrackSctpStates, sctp.state), originalTag: sctp.originalTag, replyTag: sctp.replyTag }
      : sctp,
  };
}

function writeSide(side: ConntrackTcpSide): unknown {
  return isObject(side) ? { flags: bitsOf(conntrackTcpFlagNames, side.flags), windowScale: side.windowScale } : side;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** The name's number; null for what is no text, so that no number passes for a name. */
function indexOf(names: readonly string[], name: string): number | string | null {
  if (typeof name !== 'string') return null;
  const index = names.indexOf(name);
  return index < 0 ? name : index;
}

/** The bits of these names; a name that isn't there instead. */
function bitsOf(names: readonly string[], given: readonly string[]): number | string | null {
  if (!Array.isArray(given)) return null;
  let bits = 0;
  for (const name of given as readonly string[]) {
    const bit = names.indexOf(name);
    if (bit < 0) return typeof name === 'string' ? name : null;
    bits |= 1 << bit;
  }
  return bits;
}
