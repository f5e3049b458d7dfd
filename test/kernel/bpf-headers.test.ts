import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { FragmentKind, Verdict, verdictTexts } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { seededRandom, soakMs } from '#test/lab/agent-lab.ts';
import { arp, bytes, cut, ethernet, ipv4Bytes, ipv6Bytes, v4, v6 } from '#test/lab/packets.ts';
import { Random } from '#test/oracle/random.ts';
import { ClassifierBed, type ParsedPacket, type Version } from './classifier-bed.ts';
import {
  extension,
  fragment6,
  frame4,
  frame6,
  icmp,
  icmpError,
  ip4,
  type Ip4,
  ip6,
  type Ip6,
  sctp,
  tagged,
  tcp,
  udp,
} from './header-frames.ts';
import { slowParse, type SlowHeaders, type SlowResult } from './slow-parser.ts';

/*
 * Frames to headers, by BPF_PROG_TEST_RUN of the parser alone:
 *
 *   [Ethernet][802.1Q]?[IPv4 + options | IPv6 + extension headers][TCP | UDP | SCTP | ICMP [quoted IP packet]?]
 */
let bed: ClassifierBed;
beforeAll(async () => {
  bed = await ClassifierBed.load();
});
afterAll(() => (bed as ClassifierBed | undefined)?.[Symbol.dispose]());

/** Offsets in `struct __sk_buff`. */
const skb = { size: 192, cb: 48, gsoSize: 176 } as const;
interface Circumstances {
  readonly isTagged?: boolean;
  readonly isGso?: boolean;
}

/** Runs the parser; the frame comes in under a protocol of no meaning, since the kernel looks at headers itself otherwise. */
function parse(version: Version, frame: Uint8Array, { isTagged = false, isGso = false }: Circumstances = {}) {
  const context = new Uint8Array(skb.size);
  const view = new DataView(context.buffer);
  view.setUint32(skb.cb, ((frame[12] ?? 0) << 8) | (frame[13] ?? 0), true);
  view.setUint32(skb.cb + 4, isTagged ? 5 : 0, true);
  view.setUint32(skb.gsoSize, isGso ? 1400 : 0, true);
  return bed.parse(version, bytes(frame.slice(0, 12), [0x88, 0xb5], frame.slice(14)), context);
}

const comparable = ({ tuple, ...headers }: ParsedPacket['headers']): SlowHeaders => ({
  source: [...tuple.source],
  destination: [...tuple.destination],
  protocol: tuple.protocol,
  sourcePort: tuple.sourcePort,
  destinationPort: tuple.destinationPort,
  fragment: headers.fragment,
  fragmentId: headers.fragmentId,
  l3Offset: headers.l3Offset,
  l4Offset: headers.l4Offset,
  end: headers.end,
  tcpFlags: headers.tcpFlags,
  hops: headers.hops,
  isError: headers.isError === 1,
});

/** What the kernel says, in the slow parser's words. */
function told(packet: ParsedPacket): SlowResult {
  if (packet.verdict !== Verdict.passed) return { verdict: packet.verdict };
  const headers = comparable(packet.headers);
  if (!headers.isError) return { verdict: Verdict.passed, headers };
  const quoted =
    packet.quotedVerdict === Verdict.passed
      ? { verdict: Verdict.passed, headers: comparable(packet.quoted) }
      : { verdict: packet.quotedVerdict };
  return { verdict: Verdict.passed, headers, quoted };
}

type Expected = Partial<SlowHeaders> & { readonly quoted?: Partial<SlowHeaders> | Verdict };

/** A row: what is judged, the frame, and what its headers say, or why it is dropped. */
type Row = readonly [name: string, frame: Uint8Array, expected: Expected | Verdict, circumstances?: Circumstances];

function check(version: Version, frame: Uint8Array, expected: Expected | Verdict, circumstances?: Circumstances): void {
  const packet = parse(version, frame, circumstances);
  if (typeof expected === 'number') {
    expect(verdictTexts[packet.verdict]).toBe(verdictTexts[expected]);
    return;
  }
  const { quoted, ...headers } = expected;
  expect({ ...comparable(packet.headers), verdict: packet.verdict }).toMatchObject({ ...headers, verdict: 0 });
  if (quoted === undefined) expect(packet.headers.isError).toBe(0);
  else if (typeof quoted === 'number') expect(verdictTexts[packet.quotedVerdict]).toBe(verdictTexts[quoted]);
  else expect({ ...comparable(packet.quoted), verdict: packet.quotedVerdict }).toMatchObject({ ...quoted, verdict: 0 });
}

const { passed: _, truncated, malformed, ethertype, badFragment, extensions } = Verdict;
const four = (packet: Ip4, payload: Uint8Array) => frame4(ip4(packet, payload));
const six = (packet: Ip6, payload: Uint8Array) => frame6(ip6(packet, payload));
const ports = (sourcePort: number, destinationPort: number) => ({ sourcePort, destinationPort });

describe('IPv4', () => {
  const quote = (packet: Ip4, payload: Uint8Array) => ip4({ from: v4.podTwo, to: v4.podOne, ...packet }, payload);
  test.each<Row>([
    [
      '[IP][UDP]',
      four({}, udp()),
      {
        protocol: 17,
        ...ports(40_001, 53),
        source: ipv4Bytes(v4.podOne),
        destination: ipv4Bytes(v4.podTwo),
        l3Offset: 14,
        l4Offset: 34,
        end: 46,
        hops: 64,
        fragment: FragmentKind.none,
      },
    ],
    ['[IP][TCP SYN]', four({ protocol: 6 }, tcp()), { protocol: 6, ...ports(40_000, 443), tcpFlags: 0x02 }],
    [
      '[IP][TCP SYN ACK, 20 bytes of options]',
      four({ protocol: 6 }, tcp(0x12, 10, 20)),
      { ...ports(40_000, 443), tcpFlags: 0x12 },
    ],
    ['[IP][SCTP]', four({ protocol: 132 }, sctp()), { protocol: 132, ...ports(40_002, 38_412) }],
    ['[IP][ICMP echo]', four({ protocol: 1 }, icmp(8, 0)), { protocol: 1, ...ports(0x1234, 0x0800) }],
    ['[IP][ICMP timestamp reply]', four({ protocol: 1 }, icmp(14, 0)), ports(0x1234, 0x0e00)],
    ['[IP][ICMP router advertisement]', four({ protocol: 1 }, icmp(9, 0)), ports(0, 0x0900)],
    ['[IP][ESP]', four({ protocol: 50 }, new Uint8Array(20)), { protocol: 50, ...ports(0, 0) }],
    [
      '[IP][AH][UDP]: AH is the protocol',
      four({ protocol: 51 }, extension(51, 17, 1, udp())),
      { protocol: 51, ...ports(0, 0) },
    ],
    ['[IP][ICMPv6]: any protocol', four({ protocol: 58 }, icmp(128, 0)), { protocol: 58, ...ports(0, 0) }],
    [
      '[IP][nothing of a protocol without ports]',
      four({ protocol: 47 }, bytes()),
      { protocol: 47, l4Offset: 34, end: 34 },
    ],
    [
      '[IP + 4 bytes of options][UDP]',
      four({ options: [0x94, 4, 0, 0] }, udp()),
      { l4Offset: 38, ...ports(40_001, 53) },
    ],
    [
      '[IP + 40 bytes of options][TCP]',
      four({ protocol: 6, options: Array<number>(40).fill(1) }, tcp()),
      { l4Offset: 74, ...ports(40_000, 443) },
    ],
    [
      '[IP][UDP] and padding of the link',
      bytes(four({}, udp(0)), new Uint8Array(18)),
      { end: 42, ...ports(40_001, 53) },
    ],
    ['[802.1Q][IP][UDP]', tagged(four({}, udp())), { l3Offset: 18, l4Offset: 38, ...ports(40_001, 53) }],
    ['[802.1ad][IP][UDP]', tagged(four({}, udp()), 0x88a8), { l3Offset: 18 }],
    ['802.1Q taken out by the kernel [IP][UDP]', four({}, udp()), { l3Offset: 14 }, { isTagged: true }],
    ['[802.1Q][802.1Q][IP][UDP]', tagged(tagged(four({}, udp()))), ethertype],
    ['802.1Q taken out, and [802.1Q][IP][UDP]', tagged(four({}, udp())), ethertype, { isTagged: true }],
    ['[ARP]', arp({ senderIp: v4.podOne }), ethertype],
    ['[IPv6]', six({}, udp()), ethertype],
    ['[Ethernet] alone', cut(four({}, udp()), 14), truncated],
    ['[802.1Q] cut off', cut(tagged(four({}, udp())), 17), truncated],
    ['[IP] cut off', cut(four({}, udp()), 33), truncated],
    ['[IP] shorter than it says', cut(four({}, udp()), 45), truncated],
    ['[IP version 5]', four({ version: 5 }, udp()), malformed],
    ['[IP of 16 bytes]', four({ headerWords: 4 }, udp()), malformed],
    ['[IP that says it is shorter than its header]', four({ lengthClaim: 19 }, udp()), malformed],
    ['[IP that says 0]', four({ lengthClaim: 0, protocol: 6 }, tcp()), malformed],
    [
      '[IP that says 0, many packets in one][TCP]',
      four({ lengthClaim: 0, protocol: 6 }, tcp()),
      { end: 54, ...ports(40_000, 443) },
      { isGso: true },
    ],
    ['[IP + options beyond what is there]', four({ headerWords: 15 }, udp()), malformed],
    ['[IP][UDP] that only padding completes', four({ lengthClaim: 27 }, udp()), truncated],
    ['[IP][UDP cut off]', four({}, cut(udp(), 7)), truncated],
    ['[IP][TCP cut off]', four({ protocol: 6 }, cut(tcp(), 19)), truncated],
    ['[IP][SCTP cut off]', four({ protocol: 132 }, cut(sctp(), 11)), truncated],
    ['[IP][ICMP cut off]', four({ protocol: 1 }, cut(icmp(8, 0), 7)), truncated],
    ['[IP][TCP of 16 bytes]', four({ protocol: 6 }, tcp(2, 4)), malformed],
    ['[IP][TCP + options beyond what is there]', four({ protocol: 6 }, tcp(2, 6)), truncated],
    [
      '[IP first fragment][UDP]',
      four({ id: 0x0102, more: true }, udp(8)),
      { fragment: FragmentKind.first, fragmentId: 0x0201, ...ports(40_001, 53) },
    ],
    [
      '[IP first fragment][TCP + options in the next]',
      four({ more: true, protocol: 6 }, bytes(tcp(2, 15), new Uint8Array(4))),
      { fragment: FragmentKind.first, ...ports(40_000, 443) },
    ],
    ['[IP first fragment][TCP cut off] (RFC 1858)', four({ more: true, protocol: 6 }, cut(tcp(), 16)), truncated],
    ['[IP first fragment of no multiple of 8 bytes][UDP]', four({ more: true }, udp(4)), badFragment],
    ['[IP first fragment of nothing]', four({ more: true }, bytes()), badFragment],
    [
      '[IP later fragment]',
      four({ id: 0x0102, offset: 24, more: true }, new Uint8Array(8)),
      { fragment: FragmentKind.later, fragmentId: 0x0201, protocol: 17, ...ports(0, 0) },
    ],
    [
      '[IP last fragment of 3 bytes]',
      four({ id: 7, offset: 24 }, new Uint8Array(3)),
      { fragment: FragmentKind.later, ...ports(0, 0) },
    ],
    [
      '[IP later fragment over the TCP flags] (RFC 3128)',
      four({ offset: 8, protocol: 6 }, new Uint8Array(12)),
      badFragment,
    ],
    [
      "[IP later fragment behind UDP's header]",
      four({ offset: 8 }, new Uint8Array(12)),
      { fragment: FragmentKind.later },
    ],
    ['[IP fragment that ends beyond 65,535]', four({ offset: 65_528 }, new Uint8Array(16)), badFragment],
    [
      '[IP][ICMP unreachable [IP][UDP]]',
      four({ protocol: 1 }, icmpError(3, 3, quote({}, udp()))),
      {
        protocol: 1,
        destinationPort: 0x0303,
        sourcePort: 0,
        isError: true,
        quoted: {
          protocol: 17,
          ...ports(40_001, 53),
          source: ipv4Bytes(v4.podTwo),
          l3Offset: 42,
          l4Offset: 62,
          end: 74,
        },
      },
    ],
    [
      '[IP][ICMP too big [IP][TCP, 8 bytes of it]]',
      four({ protocol: 1 }, icmpError(3, 4, cut(quote({ protocol: 6 }, tcp()), 28))),
      { quoted: { protocol: 6, ...ports(40_000, 443), tcpFlags: 0 }, isError: true },
    ],
    [
      '[IP][ICMP time exceeded [IP][ICMP echo]]',
      four({ protocol: 1 }, icmpError(11, 0, quote({ protocol: 1 }, icmp(8, 0)))),
      { isError: true, quoted: { protocol: 1, ...ports(0x1234, 0x0800) } },
    ],
    [
      '[IP][ICMP redirect [IP + options][UDP]]',
      four({ protocol: 1 }, icmpError(5, 1, quote({ options: [1, 1, 1, 1] }, udp()))),
      { isError: true, quoted: { ...ports(40_001, 53) } },
    ],
    [
      '[IP][ICMP parameter problem [IP][GRE]]',
      four({ protocol: 1 }, icmpError(12, 0, quote({ protocol: 47 }, new Uint8Array(8)))),
      { isError: true, quoted: { protocol: 47, ...ports(0, 0) } },
    ],
    [
      '[IP][ICMP source quench [IP later fragment]]',
      four({ protocol: 1 }, icmpError(4, 0, quote({ offset: 8, more: true }, new Uint8Array(8)))),
      { isError: true, quoted: { fragment: FragmentKind.later, ...ports(0, 0) } },
    ],
    [
      '[IP][ICMP unreachable [IP][7 bytes of UDP]]',
      four({ protocol: 1 }, icmpError(3, 3, cut(quote({}, udp()), 27))),
      { isError: true, quoted: truncated },
    ],
    [
      '[IP][ICMP unreachable [IP][UDP in the padding]]',
      bytes(four({ protocol: 1 }, icmpError(3, 3, cut(quote({}, udp()), 20))), new Uint8Array(18)),
      { isError: true, quoted: truncated },
    ],
    [
      '[IP][ICMP unreachable [IP cut off]]',
      four({ protocol: 1 }, icmpError(3, 3, cut(quote({}, udp()), 19))),
      { isError: true, quoted: truncated },
    ],
    [
      '[IP][ICMP unreachable] of nothing',
      four({ protocol: 1 }, icmpError(3, 3, bytes())),
      { isError: true, quoted: truncated },
    ],
    [
      '[IP][ICMP unreachable [IPv6]]',
      four({ protocol: 1 }, icmpError(3, 3, ip6({}, udp()))),
      { isError: true, quoted: malformed },
    ],
  ])('%s', (_, frame, expected, circumstances = {}) => check(4, frame, expected, circumstances));
});

describe('IPv6', () => {
  const quote = (packet: Ip6, payload: Uint8Array) => ip6({ from: v6.podTwo, to: v6.podOne, ...packet }, payload);
  const chain = (kinds: readonly number[], last: number, payload: Uint8Array): [number, Uint8Array] =>
    kinds.reduceRight<[number, Uint8Array]>(
      ([next, rest], kind) => [
        kind,
        kind === 44 ? fragment6(next, 0, false, rest) : extension(kind, next, kind === 51 ? 1 : 0, rest),
      ],
      [last, payload],
    );
  const chained = (kinds: readonly number[], last = 17, payload = udp()) => {
    const [next, rest] = chain(kinds, last, payload);
    return six({ next }, rest);
  };
  test.each<Row>([
    [
      '[IP][UDP]',
      six({}, udp()),
      {
        protocol: 17,
        ...ports(40_001, 53),
        source: ipv6Bytes(v6.podOne),
        destination: ipv6Bytes(v6.podTwo),
        l3Offset: 14,
        l4Offset: 54,
        end: 66,
        hops: 64,
      },
    ],
    ['[IP][TCP RST]', six({ next: 6 }, tcp(4)), { protocol: 6, ...ports(40_000, 443), tcpFlags: 4 }],
    ['[IP][SCTP]', six({ next: 132 }, sctp()), { protocol: 132, ...ports(40_002, 38_412) }],
    ['[IP][ICMPv6 echo reply]', six({ next: 58 }, icmp(129, 0)), { protocol: 58, ...ports(0x1234, 0x8100) }],
    ['[IP][ICMPv6 neighbour solicitation]', six({ next: 58 }, icmp(135, 0)), ports(0, 0x8700)],
    ['[IP][ICMP]: any protocol', six({ next: 1 }, icmp(8, 0)), { protocol: 1, ...ports(0, 0) }],
    ['[IP][nothing]', six({ next: 59 }, bytes()), { protocol: 59, ...ports(0, 0) }],
    ['[IP][hop-by-hop][UDP]', chained([0]), { l4Offset: 62, ...ports(40_001, 53) }],
    [
      '[IP][options][routing][options][TCP]',
      chained([60, 43, 60], 6, tcp()),
      { protocol: 6, l4Offset: 78, ...ports(40_000, 443) },
    ],
    [
      '[IP][hop-by-hop of 2,048 bytes][UDP]',
      six({ next: 0 }, extension(0, 17, 255, udp())),
      { l4Offset: 54 + 2048, ...ports(40_001, 53) },
    ],
    ['[IP][AH][TCP]', chained([51], 6, tcp()), { protocol: 6, l4Offset: 66, ...ports(40_000, 443) }],
    ['[IP][ESP]', chained([0], 50, new Uint8Array(20)), { protocol: 50, ...ports(0, 0) }],
    ['[IP][mobility]: a protocol', six({ next: 135 }, new Uint8Array(8)), { protocol: 135, ...ports(0, 0) }],
    ['[IP] with each header once [UDP]', chained([0, 60, 43, 44, 51, 60]), ports(40_001, 53)],
    ['[IP] with 7 headers [UDP]', chained([0, 60, 60, 60, 60, 60, 60]), ports(40_001, 53)],
    ['[IP] with 8 headers [UDP]', chained([0, 60, 60, 60, 60, 60, 60, 60]), extensions],
    ['[IP][options][hop-by-hop][UDP]', chained([60, 0]), extensions],
    [
      '[IP][fragment][fragment][UDP]',
      six({ next: 44 }, fragment6(44, 0, true, fragment6(17, 0, true, udp(8)))),
      extensions,
    ],
    ['[IP][options cut off]', six({ next: 60 }, cut(extension(60, 17, 0, bytes()), 7)), truncated],
    ['[IP][options longer than the packet]', six({ next: 60 }, extension(60, 59, 0, bytes()).with(1, 1)), truncated],
    [
      '[IP][options longer than the packet, for TCP]',
      six({ next: 60 }, extension(60, 6, 0, tcp()).with(1, 9)),
      truncated,
    ],
    ['[802.1Q][IP][UDP]', tagged(six({}, udp())), { l3Offset: 18, ...ports(40_001, 53) }],
    ['[IPv4]', four({}, udp()), ethertype],
    ['[EAPOL]', ethernet(0x888e, new Uint8Array(46)), ethertype],
    ['[IP] cut off', cut(six({}, udp()), 53), truncated],
    ['[IP] shorter than it says', cut(six({}, udp()), 65), truncated],
    ['[IP version 4]', six({ version: 4 }, udp()), malformed],
    ['[IP][UDP] and padding of the link', bytes(six({}, udp(0)), new Uint8Array(4)), { end: 62 }],
    ['[IP][UDP] that only padding completes', six({ lengthClaim: 7 }, udp()), truncated],
    ['[IP that says 0][TCP]', six({ lengthClaim: 0, next: 6 }, tcp()), truncated],
    [
      '[IP that says 0, many packets in one][TCP]',
      six({ lengthClaim: 0, next: 6 }, tcp()),
      { end: 74, ...ports(40_000, 443) },
      { isGso: true },
    ],
    [
      '[IP that says 0][hop-by-hop][UDP]: a jumbogram',
      six({ lengthClaim: 0, next: 0 }, extension(0, 17, 0, udp())),
      { end: 74, ...ports(40_001, 53) },
    ],
    [
      '[IP][fragment that is whole][UDP] (RFC 6946)',
      six({ next: 44 }, fragment6(17, 0, false, udp())),
      { fragment: FragmentKind.none, fragmentId: 0, ...ports(40_001, 53) },
    ],
    [
      '[IP][first fragment][UDP]',
      six({ next: 44 }, fragment6(17, 0, true, udp(8))),
      { fragment: FragmentKind.first, fragmentId: 0x04030201, ...ports(40_001, 53) },
    ],
    [
      '[IP][first fragment][options][TCP]',
      six({ next: 44 }, fragment6(60, 0, true, extension(60, 6, 0, bytes(tcp(), new Uint8Array(4))))),
      { fragment: FragmentKind.first, protocol: 6, ...ports(40_000, 443) },
    ],
    [
      '[IP][first fragment][options, and TCP in the next] (RFC 7112)',
      six({ next: 44 }, fragment6(60, 0, true, extension(60, 6, 0, bytes()))),
      truncated,
    ],
    [
      '[IP][first fragment of no multiple of 8 bytes][UDP]',
      six({ next: 44 }, fragment6(17, 0, true, udp(4))),
      badFragment,
    ],
    [
      '[IP][later fragment]',
      six({ next: 44 }, fragment6(17, 24, true, new Uint8Array(8))),
      { fragment: FragmentKind.later, fragmentId: 0x04030201, protocol: 17, ...ports(0, 0) },
    ],
    [
      '[IP][later fragment of options]',
      six({ next: 44 }, fragment6(60, 24, false, new Uint8Array(3))),
      { fragment: FragmentKind.later, protocol: 60 },
    ],
    [
      '[IP][later fragment over the TCP flags]',
      six({ next: 44 }, fragment6(6, 8, false, new Uint8Array(12))),
      badFragment,
    ],
    [
      '[IP][fragment that ends beyond 65,535]',
      six({ next: 44 }, fragment6(17, 65_528, false, new Uint8Array(16))),
      badFragment,
    ],
    [
      '[IP][ICMPv6 unreachable [IP][UDP]]',
      six({ next: 58 }, icmpError(1, 4, quote({}, udp()))),
      {
        destinationPort: 0x0104,
        isError: true,
        quoted: { protocol: 17, ...ports(40_001, 53), source: ipv6Bytes(v6.podTwo), l3Offset: 62, l4Offset: 102 },
      },
    ],
    [
      '[IP][ICMPv6 too big [IP][hop-by-hop][TCP, 8 bytes of it]]',
      six({ next: 58 }, icmpError(2, 0, cut(quote({ next: 0 }, extension(0, 6, 0, tcp())), 56))),
      { isError: true, quoted: { protocol: 6, ...ports(40_000, 443) } },
    ],
    [
      '[IP][ICMPv6 time exceeded [IP][first fragment][UDP], cut off]',
      six({ next: 58 }, icmpError(3, 1, cut(quote({ next: 44 }, fragment6(17, 0, true, udp(100))), 57))),
      { isError: true, quoted: { fragment: FragmentKind.first, ...ports(40_001, 53) } },
    ],
    [
      '[IP][ICMPv6 parameter problem [IP][options cut off]]',
      six({ next: 58 }, icmpError(4, 1, cut(quote({ next: 60 }, extension(60, 17, 0, udp())), 44))),
      { isError: true, quoted: truncated },
    ],
    [
      '[IP][options][ICMPv6 unreachable [IP][ICMPv6 echo]]',
      six({ next: 60 }, extension(60, 58, 0, icmpError(1, 0, quote({ next: 58 }, icmp(128, 0))))),
      { isError: true, quoted: { protocol: 58, ...ports(0x1234, 0x8000) } },
    ],
    [
      '[IP][ICMPv6 unreachable [IPv4]]',
      six({ next: 58 }, icmpError(1, 0, bytes(ip4({}, udp()), new Uint8Array(20)))),
      { isError: true, quoted: malformed },
    ],
  ])('%s', (_, frame, expected, circumstances = {}) => check(6, frame, expected, circumstances));
});

describe('the slow parser', () => {
  const inner = (random: Random): readonly [number, Uint8Array] =>
    random.pick<() => readonly [number, Uint8Array]>([
      () => [6, tcp(random.below(256), random.weighted([6, 5], [1, 8], [1, 3], [1, 15]), random.pick([0, 12]))],
      () => [17, udp(random.pick([0, 4, 8, 40]))],
      () => [132, sctp()],
      () => [1, icmp(random.below(20), random.below(4))],
      () => [58, icmp(random.pick([1, 2, 128, 129, 135]), 0)],
      () => [random.below(256), new Uint8Array(random.below(24))],
    ])();
  const packet4 = (random: Random, [protocol, payload]: readonly [number, Uint8Array]): Uint8Array => {
    const more = random.chance(0.15);
    return ip4(
      {
        protocol,
        options: Array<number>(4 * random.weighted([6, 0], [1, 1], [1, 10])).fill(1),
        id: random.below(65_536),
        more,
        offset: random.weighted([8, 0], [1, 8], [1, 16], [1, 8 * random.below(8192)]),
        ttl: random.below(256),
        ...random.maybe(0.05, 'version', () => random.below(16)),
        ...random.maybe(0.05, 'headerWords', () => random.below(16)),
        ...random.maybe(0.1, 'lengthClaim', () => random.pick([0, 20, 27, 28, 39, 60, random.below(65_536)])),
      },
      more ? payload.slice(0, payload.length & ~7) : payload,
    );
  };
  const packet6 = (random: Random, [last, payload]: readonly [number, Uint8Array]): Uint8Array => {
    let [next, rest] = [last, payload];
    for (let left = random.weighted([4, 0], [4, 1], [2, 3], [1, 9]); left > 0; left -= 1) {
      const kind = random.weighted([2, 60], [1, 43], [1, 51], [2, 44], [left === 1 ? 4 : 0.1, 0]);
      const offset = random.weighted([5, 0], [1, 8], [1, 8 * random.below(8192)]);
      rest =
        kind === 44
          ? fragment6(next, offset, random.chance(0.3), rest, random.below(2 ** 31))
          : extension(kind, next, random.weighted([5, 0], [1, 1], [1, 20]), rest);
      next = kind;
    }
    return ip6(
      {
        next,
        hopLimit: random.below(256),
        ...random.maybe(0.05, 'version', () => random.below(16)),
        ...random.maybe(0.1, 'lengthClaim', () => random.pick([0, 7, 8, 19, 20, random.below(65_536)])),
      },
      rest,
    );
  };
  const damaged = (random: Random, frame: Uint8Array): Uint8Array => {
    const copy = random.chance(0.2) ? bytes(frame, new Uint8Array(random.below(20))) : frame.slice();
    for (let left = random.weighted([4, 0], [1, 1], [1, 3]); left > 0; left -= 1)
      copy[12 + random.below(copy.length - 12)] = random.below(256);
    return random.chance(0.2) ? copy.slice(0, Math.max(14, random.below(copy.length + 1))) : copy;
  };

  test('says the same of any frame', () => {
    const random = new Random(seededRandom('bpf-headers'));
    const deadline = Date.now() + soakMs(2);
    const counts = new Map<string, number>();
    for (let round = 0; round < 2000 || Date.now() < deadline; round += 1) {
      const version = random.pick<Version>([4, 6]);
      const packet = (what: readonly [number, Uint8Array]) =>
        version === 4 ? packet4(random, what) : packet6(random, what);
      const content = random.chance(0.3)
        ? ([
            version === 4 ? 1 : 58,
            icmpError(random.pick(version === 4 ? [3, 4, 5, 11, 12] : [1, 2, 3, 4]), 0, packet(inner(random))),
          ] as const)
        : inner(random);
      const link = version === 4 ? frame4 : frame6;
      const plain = link(packet(content));
      const frame = damaged(random, random.chance(0.1) ? tagged(plain) : plain);
      const circumstances = { isTagged: random.chance(0.05), isGso: random.chance(0.1) };
      const slow = slowParse(version, frame, circumstances.isTagged, circumstances.isGso);
      const fast = told(parse(version, frame, circumstances));
      const key = verdictTexts[slow.verdict];
      counts.set(key, (counts.get(key) ?? 0) + 1);
      try {
        expect(fast).toEqual(slow);
      } catch (error) {
        throw new Error(`IPv${version} ${JSON.stringify(circumstances)} ${Buffer.from(frame).toString('hex')}`, {
          cause: error,
        });
      }
    }
    process.stdout.write(`${JSON.stringify(Object.fromEntries(counts))}\n`);
    // A fuzz that is refused at the door tests nothing.
    expect([...counts.keys()].sort()).toEqual(
      ['bad-fragment', 'ethertype', 'extensions', 'malformed', 'passed', 'truncated'].sort(),
    );
  });
});
