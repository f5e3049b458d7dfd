/**
 * Reads a frame's headers one after the other, as the RFCs say and bpf/l4.h must: slow, plain, and written without looking there. What
 * stands in the way is thrown.
 */
import { FragmentKind, Verdict } from '#dataplanes/ebpf/bpf-types.gen.ts';
import type { Version } from './classifier-bed.ts';

/** What the headers of one packet say. */
export interface SlowHeaders {
  readonly source: readonly number[];
  readonly destination: readonly number[];
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly fragment: FragmentKind;
  /** The bytes on the wire, read as a little-endian number. */
  readonly fragmentId: number;
  readonly l3Offset: number;
  readonly l4Offset: number;
  readonly end: number;
  readonly tcpFlags: number;
  readonly hops: number;
  readonly isError: boolean;
}
export type SlowResult =
  | { readonly verdict: typeof Verdict.passed; readonly headers: SlowHeaders; readonly quoted?: SlowResult }
  | { readonly verdict: Verdict };

class Refusal extends Error {
  readonly verdict: Verdict;
  constructor(verdict: Verdict) {
    super(`verdict ${verdict}`);
    this.verdict = verdict;
  }
}
const refuse = (verdict: Verdict): never => {
  throw new Refusal(verdict);
};

/** A stretch of bytes that begins somewhere in a frame; reading beyond its end refuses the packet as cut off. */
class Bytes {
  readonly #frame: Uint8Array;
  readonly begin: number;
  readonly end: number;

  constructor(frame: Uint8Array, begin: number, end: number) {
    this.#frame = frame;
    this.begin = begin;
    this.end = end;
  }

  byte(at: number): number {
    const place = this.begin + at;
    return place < this.end ? (this.#frame[place] ?? refuse(Verdict.truncated)) : refuse(Verdict.truncated);
  }

  word(at: number): number {
    return this.byte(at) * 256 + this.byte(at + 1);
  }

  list(at: number, count: number): readonly number[] {
    return Array.from({ length: count }, (_, i) => this.byte(at + i));
  }

  /** Needs so many bytes to be there. */
  need(count: number): void {
    if (count > 0) this.byte(count - 1);
  }

  from(at: number, end = this.end): Bytes {
    return new Bytes(this.#frame, this.begin + at, end);
  }

  get length(): number {
    return this.end - this.begin;
  }
}

/** `isTagged`: the kernel took a VLAN tag out of the frame. `isGso`: it is many packets in one, so its length field may be 0. */
export function slowParse(version: Version, frame: Uint8Array, isTagged = false, isGso = false): SlowResult {
  const link = new Bytes(frame, 0, frame.length);
  try {
    let l3 = 14;
    let type = link.word(12);
    if (type === 0x8100 || type === 0x88a8) {
      if (isTagged) refuse(Verdict.ethertype);
      l3 += 4;
      type = link.word(16);
    }
    if (type !== (version === 4 ? 0x0800 : 0x86dd)) refuse(Verdict.ethertype);
    const headers = parseNetwork(version, link.from(l3), false, isGso);
    if (!headers.isError) return { verdict: Verdict.passed, headers };
    const quote = link.from(headers.l4Offset + 8, headers.end);
    return { verdict: Verdict.passed, headers, quoted: refusals(() => parseNetwork(version, quote, true, false)) };
  } catch (error) {
    if (error instanceof Refusal) return { verdict: error.verdict };
    throw error;
  }
}

function refusals(parse: () => SlowHeaders): SlowResult {
  try {
    return { verdict: Verdict.passed, headers: parse() };
  } catch (error) {
    if (error instanceof Refusal) return { verdict: error.verdict };
    throw error;
  }
}

interface Fragment {
  readonly kind: FragmentKind;
  readonly id: number;
}
const whole: Fragment = { kind: FragmentKind.none, id: 0 };

/** `payload`: what the header says is in this fragment. */
function judgeFragment(
  id: number,
  offset: number,
  more: boolean,
  payload: number,
  protocol: number,
  isQuoted: boolean,
) {
  if (!isQuoted) {
    if (offset + payload > 65_535) refuse(Verdict.badFragment);
    if (more && (payload === 0 || payload % 8 !== 0)) refuse(Verdict.badFragment);
    if (protocol === 6 && (offset === 8 || offset === 16)) refuse(Verdict.badFragment);
  }
  return { kind: offset === 0 ? FragmentKind.first : FragmentKind.later, id };
}

const littleEndian = (bytes: readonly number[]): number => bytes.reduceRight((sum, byte) => sum * 256 + byte, 0);

function parseNetwork(version: Version, ip: Bytes, isQuoted: boolean, isGso: boolean): SlowHeaders {
  return version === 4 ? parseIpv4(ip, isQuoted, isGso) : parseIpv6(ip, isQuoted, isGso);
}

function parseIpv4(ip: Bytes, isQuoted: boolean, isGso: boolean): SlowHeaders {
  ip.need(20);
  const headerLength = (ip.byte(0) % 16) * 4;
  const said = ip.word(2);
  const length = said === 0 && isGso ? ip.length : said;
  if (ip.byte(0) >> 4 !== 4 || headerLength < 20 || length < headerLength) refuse(Verdict.malformed);
  if (length > ip.length && !isQuoted) refuse(Verdict.truncated);
  const packet = ip.from(0, Math.min(ip.end, ip.begin + length));
  const protocol = ip.byte(9);
  const flags = ip.word(6);
  const offset = (flags % 0x2000) * 8;
  const more = (flags & 0x2000) !== 0;
  const id = littleEndian(ip.list(4, 2));
  const fragment =
    offset === 0 && !more ? whole : judgeFragment(id, offset, more, length - headerLength, protocol, isQuoted);
  const base = { source: ip.list(12, 4), destination: ip.list(16, 4), hops: ip.byte(8), l3Offset: ip.begin };
  return parseTransport(4, base, protocol, packet.from(headerLength), fragment, isQuoted);
}

function parseIpv6(ip: Bytes, isQuoted: boolean, isGso: boolean): SlowHeaders {
  ip.need(40);
  if (ip.byte(0) >> 4 !== 6) refuse(Verdict.malformed);
  let next = ip.byte(6);
  const said = ip.word(4);
  const isJumbo = said === 0 && (next === 0 || (isGso && !isQuoted));
  const length = isJumbo ? ip.length - 40 : said;
  if (length > ip.length - 40 && !isQuoted) refuse(Verdict.truncated);
  const saidEnd = ip.begin + 40 + length;
  let rest = ip.from(40, Math.min(ip.end, saidEnd));
  const base = { source: ip.list(8, 16), destination: ip.list(24, 16), hops: ip.byte(7), l3Offset: ip.begin };
  let fragment = whole;
  for (let count = 0; [0, 43, 44, 51, 60].includes(next); count += 1) {
    if (count === 7 || (next === 0 && count > 0)) refuse(Verdict.extensions);
    if (next === 44 && fragment !== whole) refuse(Verdict.extensions);
    rest.need(8);
    const [following, size] = [rest.byte(0), rest.byte(1)];
    if (next === 44) {
      const field = rest.word(2);
      const offset = field - (field % 8);
      const more = field % 2 === 1;
      const id = littleEndian(rest.list(4, 4));
      rest = rest.from(8);
      if (offset !== 0 || more)
        fragment = judgeFragment(id, offset, more, Math.max(0, saidEnd - rest.begin), following, isQuoted);
    } else {
      rest = rest.from(next === 51 ? (size + 2) * 4 : (size + 1) * 8);
    }
    next = following;
    if (fragment.kind === FragmentKind.later) break;
  }
  return parseTransport(6, base, next, rest, fragment, isQuoted);
}

function parseTransport(
  version: Version,
  base: Pick<SlowHeaders, 'source' | 'destination' | 'hops' | 'l3Offset'>,
  protocol: number,
  segment: Bytes,
  fragment: Fragment,
  isQuoted: boolean,
): SlowHeaders {
  if (segment.begin > segment.end) refuse(Verdict.truncated);
  const headers = {
    ...base,
    protocol,
    sourcePort: 0,
    destinationPort: 0,
    fragment: fragment.kind,
    fragmentId: fragment.id,
    l4Offset: segment.begin,
    end: segment.end,
    tcpFlags: 0,
    isError: false,
  };
  if (fragment.kind === FragmentKind.later) return headers;
  if (protocol === (version === 4 ? 1 : 58)) {
    segment.need(8);
    const [type, code] = [segment.byte(0), segment.byte(1)];
    const withId = version === 4 ? [0, 8, 13, 14, 15, 16, 17, 18] : [128, 129];
    const errors = version === 4 ? [3, 4, 5, 11, 12] : [1, 2, 3, 4];
    return {
      ...headers,
      destinationPort: type * 256 + code,
      sourcePort: withId.includes(type) ? segment.word(4) : 0,
      isError: errors.includes(type),
    };
  }
  const sizes = new Map([
    [6, 20],
    [17, 8],
    [132, 12],
  ]);
  const size = sizes.get(protocol);
  if (size === undefined) return headers;
  segment.need(isQuoted ? 8 : size);
  const ports = { sourcePort: segment.word(0), destinationPort: segment.word(2) };
  if (protocol !== 6 || isQuoted) return { ...headers, ...ports };
  const dataOffset = (segment.byte(12) >> 4) * 4;
  if (dataOffset < 20) refuse(Verdict.malformed);
  if (fragment.kind === FragmentKind.none) segment.need(dataOffset);
  return { ...headers, ...ports, tcpFlags: segment.byte(13) };
}
