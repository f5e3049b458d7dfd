/**
 * The checksums of a frame, computed from all that they cover: slow, plain, and written without looking at bpf/rewrite.h. Sums are modulo
 * 0xffff, where 0 is what a header with a right checksum adds up to (RFC 1071).
 */
import { Verdict } from '#dataplanes/ebpf/bpf-types.gen.ts';
import type { Version } from './classifier-bed.ts';
import { slowParse, type SlowHeaders } from './slow-parser.ts';

/** One checksum of a frame. */
export interface Checksum {
  /** Which: `IP`, `TCP`, `quoted UDP`... */
  readonly name: string;
  /** Where it is, from the frame's begin. */
  readonly at: number;
  /** 0 means that there is none. */
  readonly zeroIsNone: boolean;
  /** What it and all that it covers add up to, of what is there (a fragment, a quoted packet that is cut off). */
  sum(frame: Uint8Array): number;
}

const names: Readonly<Record<number, readonly [name: string, place: number]>> = {
  6: ['TCP', 16],
  17: ['UDP', 6],
  33: ['DCCP', 6],
  136: ['UDP-Lite', 6],
};

function words(frame: Uint8Array, from: number, end: number): number {
  let sum = 0;
  for (let at = from; at < end; at += 1) sum += (frame[at] ?? 0) * ((at - from) % 2 === 0 ? 256 : 1);
  return sum;
}

function ofPacket(version: Version, prefix: string, headers: SlowHeaders): Checksum[] {
  const { l3Offset, l4Offset, end, protocol, fragment } = headers;
  const found: Checksum[] = [];
  const icmp = protocol === (version === 4 ? 1 : 58);
  const [name, place] = icmp ? ['ICMP', 2] : (names[protocol] ?? ['', 0]);
  // FragmentKind.later: what is behind the IP header is no header.
  if (place !== 0 && fragment !== 2 && l4Offset + place + 2 <= end) {
    const [addresses, count] = version === 4 ? [l3Offset + 12, 8] : [l3Offset + 8, 32];
    const hasPseudoHeader = version === 6 || !icmp;
    found.push({
      name: prefix + name,
      at: l4Offset + place,
      zeroIsNone: protocol === 17 || protocol === 136,
      sum: (frame) =>
        (words(frame, l4Offset, end) +
          (hasPseudoHeader ? words(frame, addresses, addresses + count) + protocol + (end - l4Offset) : 0)) %
        0xffff,
    });
  }
  if (version === 4)
    found.push({
      name: `${prefix}IP`,
      at: l3Offset + 10,
      zeroIsNone: false,
      sum: (frame) => words(frame, l3Offset, l3Offset + ((frame[l3Offset] ?? 0) % 16) * 4) % 0xffff,
    });
  return found;
}

/** All checksums of a frame, the inner ones first; throws for a frame that the parser refuses. */
export function checksumsOf(version: Version, frame: Uint8Array): Checksum[] {
  const parsed = slowParse(version, frame);
  if (parsed.verdict !== Verdict.passed) throw new Error(`not a packet: verdict ${parsed.verdict}`);
  const { headers, quoted } = parsed as Extract<typeof parsed, { headers: SlowHeaders }>;
  const inner = quoted?.verdict === Verdict.passed && 'headers' in quoted ? quoted.headers : undefined;
  return [...(inner ? ofPacket(version, 'quoted ', inner) : []), ...ofPacket(version, '', headers)];
}

/** What is in a frame's checksum. */
export const checksumAt = (frame: Uint8Array, { at }: Checksum): number =>
  (frame[at] ?? 0) * 256 + (frame[at + 1] ?? 0);

/** Sets one so that the sum becomes this. */
export function setChecksum(frame: Uint8Array, checksum: Checksum, sum = 0): void {
  frame.set([0, 0], checksum.at);
  const value = (sum + 0xffff - checksum.sum(frame)) % 0xffff;
  const written = value === 0 && checksum.zeroIsNone ? 0xffff : value;
  frame.set([written >> 8, written & 255], checksum.at);
}

/** A copy with all checksums right; `without`: names of those that stay as they are. */
export function withChecksums(version: Version, frame: Uint8Array, without: readonly string[] = []): Uint8Array {
  const copy = frame.slice();
  for (const checksum of checksumsOf(version, copy)) if (!without.includes(checksum.name)) setChecksum(copy, checksum);
  return copy;
}

/** Names of the checksums that are wrong. One that says there is none is not. */
export function wrongChecksums(version: Version, frame: Uint8Array): string[] {
  return checksumsOf(version, frame)
    .filter((checksum) => !(checksum.zeroIsNone && checksumAt(frame, checksum) === 0) && checksum.sum(frame) !== 0)
    .map(({ name }) => name);
}
