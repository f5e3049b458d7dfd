/** Translation of packets: bpf/rewrite.h, by test runs of test/bpf/rewrite.bpf.c; a slow twin for random ones. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Verdict, verdictTexts } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { seededRandom, soakMs } from '#test/lab/agent-lab.ts';
import { bytes, cut, v4, v6 } from '#test/lab/packets.ts';
import { Random } from '#test/oracle/random.ts';
import type { Version } from './classifier-bed.ts';
import {
  extension,
  fragment6,
  frame4,
  frame6,
  icmp,
  icmpError,
  ip4,
  ip6,
  sctp,
  tagged,
  tcp,
  udp,
} from './header-frames.ts';
import { addressOf, RewriteBed } from './rewrite-bed.ts';
import { checksumAt, checksumsOf, setChecksum, withChecksums, wrongChecksums } from './slow-checksums.ts';
import { slowParse, type SlowHeaders, type SlowResult } from './slow-parser.ts';
import { comparable, slowRewrite, type WantedTuple } from './slow-rewrite.ts';

let bed: RewriteBed;
beforeAll(async () => {
  bed = await RewriteBed.load();
});
afterAll(() => (bed as RewriteBed | undefined)?.[Symbol.dispose]());

const router = { 4: '192.0.2.77', 6: '2001:db8:ff::1' } as const;
const one = { 4: v4.podOne, 6: v6.podOne } as const;
const two = { 4: v4.podTwo, 6: v6.podTwo } as const;
const vip = { 4: '10.96.0.10', 6: 'fd96::a' } as const;
const mapped = { 4: '172.31.255.254', 6: 'fd31:ffff::fffe' } as const;
const icmpOf = { 4: 1, 6: 58 } as const;
const echoOf = { 4: 8, 6: 128 } as const;

/** An IP packet between any two; `extras`: IPv4 options, or an IPv6 header of destination options. */
function packet(
  version: Version,
  protocol: number,
  payload: Uint8Array,
  { from = one[version], to = two[version], extras = false }: { from?: string; to?: string; extras?: boolean } = {},
): Uint8Array {
  if (version === 4) return ip4({ protocol, from, to, options: extras ? [1, 1, 1, 0] : [] }, payload);
  return extras
    ? ip6({ next: 60, from, to }, extension(60, protocol, 1, payload))
    : ip6({ next: protocol, from, to }, payload);
}
const frame = (version: Version, ip: Uint8Array): Uint8Array => (version === 4 ? frame4 : frame6)(ip);
const tuple = (
  version: Version,
  source: string,
  destination: string,
  sourcePort = 0,
  destinationPort = 0,
): WantedTuple => ({
  source: addressOf(version, source),
  destination: addressOf(version, destination),
  sourcePort,
  destinationPort,
});
const headersOf = (result: SlowResult): SlowHeaders => {
  if (!('headers' in result)) throw new Error(`verdict ${result.verdict}`);
  return result.headers;
};
const withPayload = (header: Uint8Array, length: number): Uint8Array =>
  bytes(
    header,
    Array.from({ length }, (_, i) => (i * 37 + 11) & 255),
  );
/** A UDP datagram whose length is right. */
const datagram = (length: number): Uint8Array => withPayload(udp(length).slice(0, 8), length);

type Row = readonly [
  name: string,
  frame: Uint8Array,
  protocol: number,
  to: WantedTuple,
  /** What the packet's own ports are after it, where they are not the wanted ones. */
  ports?: readonly [number, number],
];

describe.each([4, 6] as const)('IPv%i: a packet has the wanted tuple, and right checksums', (version) => {
  const to = tuple(version, mapped[version], vip[version], 61_000, 8080);
  const echo = (type: number) => packet(version, icmpOf[version], withPayload(icmp(type, 0), 5));
  const first = (protocol: number, payload: Uint8Array) =>
    frame(
      version,
      version === 4
        ? ip4({ protocol, more: true, id: 7 }, payload)
        : ip6({ next: 44 }, fragment6(protocol, 0, true, payload)),
    );
  const later = (protocol: number, payload: Uint8Array) =>
    frame(
      version,
      version === 4
        ? ip4({ protocol, offset: 64, id: 7 }, payload)
        : ip6({ next: 44 }, fragment6(protocol, 64, false, payload)),
    );
  test.each<Row>([
    ['TCP', frame(version, packet(version, 6, withPayload(tcp(), 7))), 6, to],
    ['TCP with options', frame(version, packet(version, 6, withPayload(tcp(0x10, 10, 20), 100))), 6, to],
    ['TCP behind options of IP', frame(version, packet(version, 6, tcp(), { extras: true })), 6, to],
    ['TCP in a tagged frame', tagged(frame(version, packet(version, 6, tcp()))), 6, to],
    ['TCP and padding of the link', bytes(frame(version, packet(version, 6, tcp())), [1, 2, 3]), 6, to],
    ['UDP', frame(version, packet(version, 17, datagram(33))), 17, to],
    ['UDP without payload', frame(version, packet(version, 17, datagram(0))), 17, to],
    [
      'only the destination',
      frame(version, packet(version, 17, datagram(4))),
      17,
      tuple(version, one[version], vip[version], 40_001, 5353),
    ],
    [
      'only the source',
      frame(version, packet(version, 17, datagram(4))),
      17,
      tuple(version, mapped[version], two[version], 1, 53),
    ],
    [
      'only addresses',
      frame(version, packet(version, 17, datagram(4))),
      17,
      tuple(version, mapped[version], vip[version], 40_001, 53),
    ],
    [
      'only a port',
      frame(version, packet(version, 17, datagram(4))),
      17,
      tuple(version, one[version], two[version], 40_001, 54),
    ],
    [
      'ends exchanged, which no sum sees',
      frame(version, packet(version, 17, datagram(4))),
      17,
      tuple(version, two[version], one[version], 53, 40_001),
    ],
    [
      'nothing at all',
      frame(version, packet(version, 17, datagram(4))),
      17,
      tuple(version, one[version], two[version], 40_001, 53),
    ],
    [
      'an echo and its identifier',
      frame(version, echo(echoOf[version])),
      icmpOf[version],
      tuple(version, mapped[version], vip[version], 999, 0),
      [999, echoOf[version] * 256],
    ],
    [
      'ICMP without an identifier',
      frame(version, packet(version, icmpOf[version], icmp(version === 4 ? 9 : 141, 0))),
      icmpOf[version],
      to,
      [0, (version === 4 ? 9 : 141) * 256],
    ],
    [
      'SCTP to the same ports',
      frame(version, packet(version, 132, sctp())),
      132,
      tuple(version, mapped[version], vip[version], 40_002, 38_412),
    ],
    ['UDP-Lite', frame(version, packet(version, 136, withPayload(udp(0), 9))), 136, to, [0, 0]],
    ['DCCP', frame(version, packet(version, 33, new Uint8Array(16))), 33, to, [0, 0]],
    [
      'DCCP that is cut off before its checksum',
      frame(version, packet(version, 33, new Uint8Array(7))),
      33,
      to,
      [0, 0],
    ],
    ['GRE', frame(version, packet(version, 47, new Uint8Array(9))), 47, to, [0, 0]],
    ['nothing behind IP', frame(version, packet(version, 47, new Uint8Array(0))), 47, to, [0, 0]],
    ['a first fragment of UDP', first(17, datagram(24)), 17, to],
    ['a first fragment of TCP', first(6, withPayload(tcp(), 12)), 6, to],
    [
      'a first fragment of an echo',
      first(icmpOf[version], withPayload(icmp(echoOf[version], 0), 4)),
      icmpOf[version],
      tuple(version, mapped[version], vip[version], 12, 0),
      [12, echoOf[version] * 256],
    ],
    [
      'a first fragment of SCTP',
      first(132, withPayload(sctp(), 12)),
      132,
      tuple(version, mapped[version], vip[version], 40_002, 38_412),
    ],
    ['a later fragment of UDP', later(17, withPayload(bytes(), 9)), 17, to, [0, 0]],
    ['a later fragment of TCP', later(6, withPayload(bytes(), 30)), 6, to, [0, 0]],
    ['a later fragment of SCTP to another port', later(132, withPayload(bytes(), 30)), 132, to, [0, 0]],
  ])('%s', (_, raw, protocol, wanted, ports = [wanted.sourcePort, wanted.destinationPort]) => {
    const given = withChecksums(version, raw);
    const { returned, frame: made } = bed.translate(version, given, protocol, wanted);
    expect(verdictTexts[returned as Verdict]).toBe('passed');
    const headers = headersOf(slowParse(version, made));
    expect({ source: headers.source, destination: headers.destination }).toEqual({
      source: wanted.source,
      destination: wanted.destination,
    });
    expect([headers.sourcePort, headers.destinationPort]).toEqual(ports);
    expect(wrongChecksums(version, made)).toEqual([]);
    expect(comparable(version, made)).toEqual(comparable(version, slowRewrite(version, given, wanted) as Uint8Array));
  });

  test('UDP without a checksum stays without one', () => {
    const given = withChecksums(version, frame(version, packet(version, 17, udp(4))), ['UDP']);
    const { frame: made } = bed.translate(version, given, 17, to);
    const [checksum] = checksumsOf(version, made);
    expect(checksum?.name).toBe('UDP');
    expect(checksum && checksumAt(made, checksum)).toBe(0);
    expect(wrongChecksums(version, made)).toEqual([]);
  });

  test('a UDP checksum that adds up to 0 is written as 0xffff', () => {
    const given = withChecksums(version, frame(version, packet(version, 17, datagram(8))));
    // A port is part of the sum: the checksum with port 0 is the port with checksum 0.
    const withZero = slowRewrite(version, given, { ...to, sourcePort: 0 }) as Uint8Array;
    const [udpChecksum] = checksumsOf(version, withZero);
    if (udpChecksum === undefined) throw new Error('UDP has one');
    const wanted = { ...to, sourcePort: checksumAt(withZero, udpChecksum) };
    const { frame: made } = bed.translate(version, given, 17, wanted);
    const checksum = checksumsOf(version, made)[0];
    expect(checksum && checksumAt(made, checksum)).toBe(0xffff);
    expect(made).toEqual(slowRewrite(version, given, wanted));
  });

  test('SCTP to another port is refused, and nothing was changed', () => {
    const given = withChecksums(version, frame(version, packet(version, 132, sctp())));
    const { returned, frame: made } = bed.translate(version, given, 132, to);
    expect(returned).toBe(Verdict.sctpPort);
    expect(made).toEqual(given);
  });

  test('another protocol is refused, and nothing was changed', () => {
    const given = withChecksums(version, frame(version, packet(version, 17, udp(8))));
    const { returned, frame: made } = bed.translate(version, given, 6, to);
    expect(returned).toBe(Verdict.rewrite);
    expect(made).toEqual(given);
  });

  test('a wrong checksum stays wrong', () => {
    const given = withChecksums(version, frame(version, packet(version, 6, tcp())));
    const [checksum] = checksumsOf(version, given);
    if (checksum === undefined) throw new Error('TCP has one');
    setChecksum(given, checksum, 0x1234);
    const { frame: made } = bed.translate(version, given, 6, to);
    expect(checksum.sum(made)).toBe(0x1234);
  });

  test('forwarding takes one off the hop limit, and gives the frame other MACs', () => {
    const given = withChecksums(version, frame(version, packet(version, 6, tcp())));
    const place = version === 4 ? 22 : 21;
    for (const hops of [2, 64, 255]) {
      given[place] = hops;
      const { returned, frame: made } = bed.run(`forward${version}`, withChecksums(version, given));
      expect(returned).toBe(Verdict.passed);
      expect(made[place]).toBe(hops - 1);
      expect([...made.slice(0, 12)]).toEqual([2, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
      expect(wrongChecksums(version, made)).toEqual([]);
    }
  });

  test.each([0, 1])('a packet with hop limit %i is not forwarded', (hops) => {
    const given = frame(version, packet(version, 6, tcp()));
    given[version === 4 ? 22 : 21] = hops;
    const { returned, frame: made } = bed.run(`forward${version}`, given);
    expect(returned).toBe(Verdict.hopLimit);
    expect(made).toEqual(given);
  });
});

describe.each([4, 6] as const)('IPv%i: an ICMP error about a translated packet', (version) => {
  const [type, code] = version === 4 ? [3, 3] : [1, 4];
  /** The quoted packet went from one to two; to whom it really went was vip. */
  const to = tuple(version, one[version], vip[version], 40_001, 5353);
  const about = (quoted: Uint8Array, from: string = two[version], extras = false) =>
    frame(version, packet(version, icmpOf[version], icmpError(type, code, quoted), { from, to: one[version], extras }));
  const whole = (protocol: number, payload: Uint8Array, extras = false) =>
    packet(version, protocol, payload, { extras });
  const head = version === 4 ? 20 : 40;

  test.each<readonly [string, Uint8Array, number, WantedTuple?]>([
    ['UDP, whole', about(whole(17, datagram(40))), 17],
    ['UDP, 8 bytes of it', about(cut(whole(17, datagram(40)), head + 8)), 17],
    ['UDP of an odd length', about(whole(17, datagram(31))), 17],
    ['TCP, whole', about(whole(6, withPayload(tcp(), 40))), 6],
    ['TCP, 8 bytes of it', about(cut(whole(6, tcp()), head + 8)), 6],
    ['TCP up to its checksum', about(cut(whole(6, tcp()), head + 18)), 6],
    ['TCP up to half of its checksum', about(cut(whole(6, tcp()), head + 17)), 6],
    ['UDP behind options of IP', about(whole(17, datagram(40), true)), 17],
    ['UDP, quoted behind options of IP', about(whole(17, datagram(40)), two[version], true), 17],
    ['UDP, from a router', about(whole(17, datagram(40)), router[version]), 17],
    [
      'UDP whose source was translated',
      about(whole(17, datagram(40))),
      17,
      tuple(version, mapped[version], two[version], 1024, 53),
    ],
    ['UDP, both ends', about(whole(17, datagram(40))), 17, tuple(version, mapped[version], vip[version], 1024, 5353)],
    [
      'an echo',
      about(whole(icmpOf[version], icmp(echoOf[version], 0))),
      icmpOf[version],
      tuple(version, mapped[version], vip[version], 77, 0),
    ],
    ['SCTP', about(whole(132, sctp())), 132, tuple(version, mapped[version], vip[version], 40_002, 38_412)],
    ['GRE', about(whole(47, new Uint8Array(8))), 47],
    [
      'a first fragment',
      about(
        version === 4 ? ip4({ more: true }, datagram(64)) : ip6({ next: 44 }, fragment6(17, 0, true, datagram(64))),
      ),
      17,
    ],
    [
      'a later fragment',
      about(
        version === 4
          ? ip4({ offset: 64 }, new Uint8Array(24).fill(7))
          : ip6({ next: 44 }, fragment6(17, 64, false, new Uint8Array(24).fill(7))),
      ),
      17,
    ],
  ])('%s', (_, raw, protocol, wanted = to) => {
    const given = withChecksums(version, raw);
    const { returned, frame: made } = bed.translate(version, given, protocol, wanted);
    expect(verdictTexts[returned as Verdict]).toBe('passed');
    const result = slowParse(version, made) as Extract<SlowResult, { headers: SlowHeaders }>;
    const quoted = headersOf(result.quoted as SlowResult);
    expect({ source: quoted.source, destination: quoted.destination }).toEqual({
      source: wanted.source,
      destination: wanted.destination,
    });
    expect(result.headers.destination).toEqual(wanted.source);
    const isRouter = headersOf(slowParse(version, given)).source.join() === addressOf(version, router[version]).join();
    expect(result.headers.source).toEqual(isRouter ? addressOf(version, router[version]) : wanted.destination);
    expect(wrongChecksums(version, made)).toEqual([]);
    expect(comparable(version, made)).toEqual(comparable(version, slowRewrite(version, given, wanted) as Uint8Array));
  });

  test('a quoted UDP packet without a checksum stays without one', () => {
    const given = withChecksums(version, about(whole(17, udp(8))), ['quoted UDP']);
    const { frame: made } = bed.translate(version, given, 17, to);
    const [checksum] = checksumsOf(version, made);
    expect(checksum?.name).toBe('quoted UDP');
    expect(checksum && checksumAt(made, checksum)).toBe(0);
    expect(wrongChecksums(version, made)).toEqual([]);
  });

  test('a quoted UDP checksum that adds up to 0 is written as 0xffff', () => {
    const given = withChecksums(version, about(whole(17, datagram(8))));
    const withZero = slowRewrite(version, given, { ...to, destinationPort: 0 }) as Uint8Array;
    const [inner] = checksumsOf(version, withZero);
    if (inner === undefined) throw new Error('UDP has one');
    const wanted = { ...to, destinationPort: checksumAt(withZero, inner) };
    const { frame: made } = bed.translate(version, given, 17, wanted);
    expect(checksumAt(made, inner)).toBe(0xffff);
    expect(wrongChecksums(version, made)).toEqual([]);
  });

  test('a quoted SCTP packet to another port is refused, and nothing was changed', () => {
    const given = withChecksums(version, about(whole(132, sctp())));
    const { returned, frame: made } = bed.translate(version, given, 132, to);
    expect(returned).toBe(Verdict.sctpPort);
    expect(made).toEqual(given);
  });
});

describe('the slow twin', () => {
  const randomBytes = (random: Random, count: number) => Array.from({ length: count }, () => random.below(256));
  const address = (random: Random, version: Version): string => {
    const own = random.pick([one, two, vip, mapped])[version];
    if (random.chance(0.5)) return own;
    return version === 4
      ? randomBytes(random, 4).join('.')
      : Array.from({ length: 8 }, () => random.below(0x10000).toString(16)).join(':');
  };
  const content = (random: Random, version: Version): readonly [number, Uint8Array] => {
    const rest = randomBytes(random, random.weighted([3, 0], [3, random.below(40)], [1, random.below(700)]));
    return random.pick<() => readonly [number, Uint8Array]>([
      () => [6, bytes(tcp(random.below(256), 5), rest)],
      () => [17, bytes(udp(rest.length).slice(0, 8), rest)],
      () => [132, bytes(sctp(), rest)],
      () => [icmpOf[version], bytes(icmp(random.pick(version === 4 ? [0, 8, 13, 10] : [128, 129, 135]), 0), rest)],
      () => [random.pick([33, 136, 47]), new Uint8Array(rest)],
    ])();
  };
  const packetOf = (random: Random, version: Version, [protocol, raw]: readonly [number, Uint8Array]): Uint8Array => {
    const [from, to] = [address(random, version), address(random, version)];
    const kind = random.weighted([6, 'whole'], [1, 'first'], [1, 'later'], [1, 'extras']);
    if (kind === 'whole' || kind === 'extras')
      return packet(version, protocol, raw, { from, to, extras: kind === 'extras' });
    // The first fragment has whole headers; its length is a multiple of 8.
    const payload = bytes(raw, new Uint8Array((8 - (raw.length % 8)) % 8 || (raw.length === 0 ? 8 : 0)));
    const [offset, more] = kind === 'first' ? [0, true] : [64, random.chance(0.5)];
    return version === 4
      ? ip4({ protocol, from, to, offset, more, id: 9 }, payload)
      : ip6({ next: 44, from, to }, fragment6(protocol, offset, more, payload));
  };

  test('makes the same of any frame', () => {
    const random = new Random(seededRandom('bpf-rewrite'));
    const deadline = Date.now() + soakMs(2);
    const counts = { passed: 0, errors: 0, sctp: 0 };
    for (let round = 0; round < 500 || Date.now() < deadline; round += 1) {
      const version = random.pick<Version>([4, 6]);
      const inner = content(random, version);
      let [protocol, ip] = [inner[0], packetOf(random, version, inner)];
      const isError = random.chance(0.4);
      if (isError) {
        const length = random.chance(0.5) ? ip.length : Math.max(version === 4 ? 28 : 56, random.below(ip.length));
        const types = version === 4 ? [3, 4, 5, 11, 12] : [1, 2, 3, 4];
        const ends = { from: address(random, version), to: address(random, version), extras: random.chance(0.2) };
        ip = packet(version, icmpOf[version], icmpError(random.pick(types), 0, cut(ip, length)), ends);
      }
      let raw = frame(version, ip);
      if (random.chance(0.1)) raw = tagged(raw);
      if (random.chance(0.1)) raw = bytes(raw, randomBytes(random, random.below(9)));
      const parsed = slowParse(version, raw);
      if (!('headers' in parsed) || (isError && !(parsed.quoted && 'headers' in parsed.quoted))) continue;
      // IPv6: what is behind the extension headers of a later fragment.
      protocol = (isError ? headersOf(parsed.quoted as SlowResult) : parsed.headers).protocol;
      // Some of the checksums are right, some anything.
      const given = random.chance(0.7) ? withChecksums(version, raw) : raw;
      const same = isError ? headersOf(parsed.quoted as SlowResult) : parsed.headers;
      const to: WantedTuple = {
        source: random.chance(0.3) ? same.source : addressOf(version, address(random, version)),
        destination: random.chance(0.3) ? same.destination : addressOf(version, address(random, version)),
        sourcePort: random.chance(0.4) ? same.sourcePort : random.below(0x10000),
        destinationPort: random.chance(0.4) ? same.destinationPort : random.below(0x10000),
      };
      const slow = slowRewrite(version, given, to);
      const { returned, frame: made } = bed.translate(version, given, protocol, to);
      try {
        if (typeof slow === 'number') {
          counts.sctp += 1;
          expect(returned).toBe(slow);
        } else {
          counts[isError ? 'errors' : 'passed'] += 1;
          expect(returned).toBe(Verdict.passed);
          expect(Buffer.from(comparable(version, made)).toString('hex')).toBe(
            Buffer.from(comparable(version, slow)).toString('hex'),
          );
        }
      } catch (error) {
        throw new Error(`IPv${version} ${JSON.stringify(to)} ${Buffer.from(given).toString('hex')}`, { cause: error });
      }
    }
    process.stdout.write(`${JSON.stringify(counts)}\n`);
    for (const count of Object.values(counts)) expect(count).toBeGreaterThan(10);
  });
});
