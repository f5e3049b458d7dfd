/** What bpf/rewrite.h must make of a frame, obvious and slow: bytes are replaced, then each checksum by one that is as right or wrong as it was. */
import { FragmentKind, Verdict } from '#dataplanes/ebpf/bpf-types.gen.ts';
import type { Version } from './classifier-bed.ts';
import { checksumAt, checksumsOf, setChecksum } from './slow-checksums.ts';
import { slowParse, type SlowHeaders, type SlowResult } from './slow-parser.ts';

/** What a packet is to become; of ICMP, sourcePort is the identifier. Addresses as bytes. */
export interface WantedTuple {
  readonly source: readonly number[];
  readonly destination: readonly number[];
  readonly sourcePort: number;
  readonly destinationPort: number;
}

const headersOf = (result: SlowResult | undefined): SlowHeaders => {
  if (result === undefined || !('headers' in result)) throw new Error('not a packet');
  return result.headers;
};
const same = (one: readonly number[], other: readonly number[]): boolean => one.join() === other.join();
const bytesOf = (port: number): number[] => [port >> 8, port & 255];

function writeAddresses(
  version: Version,
  frame: Uint8Array,
  { l3Offset }: SlowHeaders,
  from: readonly number[],
  to: readonly number[],
) {
  frame.set([...from, ...to], l3Offset + (version === 4 ? 12 : 8));
}

/** False: the ports can't be changed. */
function writePorts(version: Version, frame: Uint8Array, headers: SlowHeaders, to: WantedTuple): boolean {
  if (headers.fragment === FragmentKind.later) return true;
  const { protocol, l4Offset } = headers;
  if (protocol === 6 || protocol === 17)
    frame.set([...bytesOf(to.sourcePort), ...bytesOf(to.destinationPort)], l4Offset);
  if (protocol === 132) return headers.sourcePort === to.sourcePort && headers.destinationPort === to.destinationPort;
  const type = headers.destinationPort >> 8;
  const withId = version === 4 ? [0, 8, 13, 14, 15, 16, 17, 18] : [128, 129];
  if (protocol === (version === 4 ? 1 : 58) && withId.includes(type)) frame.set(bytesOf(to.sourcePort), l4Offset + 4);
  return true;
}

/** The frame as translated, or the verdict that refuses it. */
export function slowRewrite(version: Version, frame: Uint8Array, to: WantedTuple): Uint8Array | Verdict {
  const parsed = slowParse(version, frame);
  const headers = headersOf(parsed);
  const before = checksumsOf(version, frame).map((checksum) => checksum.sum(frame));
  const copy = frame.slice();
  if (headers.isError) {
    const quoted = headersOf((parsed as Extract<SlowResult, { headers: SlowHeaders }>).quoted);
    writeAddresses(version, copy, quoted, to.source, to.destination);
    if (!writePorts(version, copy, quoted, to)) return Verdict.sctpPort;
    const from = same(headers.source, quoted.destination) ? to.destination : headers.source;
    const target = same(headers.destination, quoted.source) ? to.source : headers.destination;
    writeAddresses(version, copy, headers, from, target);
  } else {
    writeAddresses(version, copy, headers, to.source, to.destination);
    if (!writePorts(version, copy, headers, to)) return Verdict.sctpPort;
  }
  for (const [i, checksum] of checksumsOf(version, copy).entries())
    if (!(checksum.zeroIsNone && checksumAt(copy, checksum) === 0)) setChecksum(copy, checksum, before[i]);
  return copy;
}

/** The frame with each checksum of 0xffff as its equal, 0, so that frames compare; those that mean none stay. */
export function comparable(version: Version, frame: Uint8Array): Uint8Array {
  const copy = frame.slice();
  for (const checksum of checksumsOf(version, frame))
    if (!checksum.zeroIsNone && checksumAt(frame, checksum) === 0xffff) copy.set([0, 0], checksum.at);
  return copy;
}
