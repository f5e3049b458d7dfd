/** Packets turned into ICMP errors: bpf/refuse.h, by test runs. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import { arp, bytes, u16, v4, v6 } from '#test/lab/packets.ts';
import type { Version } from './classifier-bed.ts';
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
import { RewriteBed } from './rewrite-bed.ts';
import { withChecksums, wrongChecksums } from './slow-checksums.ts';

let bed: RewriteBed;
beforeAll(async () => {
  bed = await RewriteBed.load();
});
afterAll(() => (bed as RewriteBed | undefined)?.[Symbol.dispose]());

/** Test runs are on the loopback device. */
const device = u32Key(1);
beforeEach(() => void bed.map('tortie_refused').delete(device));

/** As in bpf/refuse.h. */
const refusals = { port: 0, hops: 1, tooBig: 2 } as const;
type Refusal = keyof typeof refusals;

const four = (packet: Ip4, payload: Uint8Array) => frame4(ip4(packet, payload));
const six = (packet: Ip6, payload: Uint8Array) => frame6(ip6(packet, payload));
const refuse = (version: Version, frame: Uint8Array, refusal: Refusal = 'port', mtu = 0, gsoSize = 0) =>
  bed.run(`refuse${version}`, frame, { cb: [refusals[refusal], mtu], gsoSize });

/** The answer to a frame, written down as the RFCs say. */
function answerTo(
  version: Version,
  frame: Uint8Array,
  type: number,
  code: number,
  value: readonly number[],
): Uint8Array {
  const packet = frame.slice(14);
  const length =
    version === 4 ? (packet[2] ?? 0) * 256 + (packet[3] ?? 0) : 40 + (packet[4] ?? 0) * 256 + (packet[5] ?? 0);
  const quoted = packet.slice(0, Math.min(length, version === 4 ? 548 : 1232));
  const message = bytes([type, code, 0, 0], value, quoted);
  const macs = [...frame.slice(6, 12), ...frame.slice(0, 6)];
  const [source, destination] =
    version === 4 ? [packet.slice(12, 16), packet.slice(16, 20)] : [packet.slice(8, 24), packet.slice(24, 40)];
  const header =
    version === 4
      ? bytes([0x45, 0xc0], u16(20 + message.length), [0, 0, 0x40, 0, 64, 1, 0, 0], destination, source)
      : bytes([0x60, 0, 0, 0], u16(message.length), [58, 64], destination, source);
  const answer = bytes(macs, u16(version === 4 ? 0x0800 : 0x86dd), header, message);
  return withChecksums(version, answer, ['quoted IP', 'quoted TCP', 'quoted UDP', 'quoted ICMP']);
}

/** A datagram whose payload isn't all zeros. */
const datagram = (length: number): Uint8Array => udp(length).map((byte, i) => (i < 8 ? byte : (i * 37 + 11) & 255));

describe.each([4, 6] as const)('IPv%i', (version) => {
  const packet = (protocol: number, payload: Uint8Array) =>
    version === 4 ? four({ protocol }, payload) : six({ next: protocol }, payload);
  const [unreachable, portCode] = version === 4 ? [3, 3] : [1, 4];
  const echo = version === 4 ? icmp(8, 0) : icmp(128, 0);
  const icmpNumber = version === 4 ? 1 : 58;

  test.each([
    ['a datagram', packet(17, udp())],
    ['a datagram of nothing', packet(17, datagram(0))],
    ['a datagram of an odd length', packet(17, datagram(3))],
    ['a datagram one byte longer than whole words', packet(17, datagram(5))],
    ['a datagram two bytes longer than whole words', packet(17, datagram(6))],
    ['a datagram that is as long as can be quoted', packet(17, datagram((version === 4 ? 548 - 20 : 1232 - 40) - 8))],
    ['one byte more than can be quoted', packet(17, datagram((version === 4 ? 548 - 20 : 1232 - 40) - 7))],
    ['a datagram of 3,000 bytes', packet(17, datagram(3000))],
    ['SCTP', packet(132, sctp())],
    ['an echo request', packet(icmpNumber, echo)],
    ['a datagram and padding of the link', bytes(packet(17, datagram(2)), new Uint8Array(16).fill(9))],
    [
      'options',
      version === 4 ? four({ options: [1, 1, 1, 1] }, udp()) : six({ next: 60 }, extension(60, 17, 2, udp())),
    ],
    [
      'a first fragment',
      version === 4 ? four({ more: true }, udp(8)) : six({ next: 44 }, fragment6(17, 0, true, udp(8))),
    ],
  ])('%s is answered: nobody listens', (_, frame) => {
    const given = withChecksums(version, frame);
    const { returned, frame: made } = refuse(version, given);
    expect(returned).toBe(1);
    expect(Buffer.from(made).toString('hex')).toBe(
      Buffer.from(answerTo(version, given, unreachable, portCode, [0, 0, 0, 0])).toString('hex'),
    );
    expect(wrongChecksums(version, made).filter((name) => !name.startsWith('quoted'))).toEqual([]);
  });

  test('many packets in one are answered once', () => {
    const given = withChecksums(version, packet(6, bytes(tcp(0x10), new Uint8Array(3500).fill(5))));
    const { returned, frame: made } = refuse(version, given, 'hops', 0, 1200);
    expect(returned).toBe(1);
    expect(made).toEqual(answerTo(version, given, version === 4 ? 11 : 3, 0, [0, 0, 0, 0]));
  });

  const segment = (flags: number, sequence: number, acknowledged: number, data = 0, optionBytes = 0) => {
    const header = tcp(flags, 5 + optionBytes / 4, optionBytes);
    new DataView(header.buffer).setUint32(4, sequence);
    new DataView(header.buffer).setUint32(8, acknowledged);
    return withChecksums(version, packet(6, bytes(header, new Uint8Array(data).fill(3))));
  };
  test.each([
    ['a SYN', segment(0x02, 1000, 0), { flags: 0x14, sequence: 0, acknowledged: 1001 }],
    ['a SYN with options', segment(0x02, 1000, 0, 0, 20), { flags: 0x14, sequence: 0, acknowledged: 1001 }],
    ['a SYN with data and options', segment(0x02, 1000, 0, 13, 12), { flags: 0x14, sequence: 0, acknowledged: 1014 }],
    ['the last number', segment(0x02, 0xffffffff, 0), { flags: 0x14, sequence: 0, acknowledged: 0 }],
    ['a FIN without ACK', segment(0x01, 7, 5, 3), { flags: 0x14, sequence: 0, acknowledged: 11 }],
    ['no flag', segment(0, 7, 5, 3), { flags: 0x14, sequence: 0, acknowledged: 10 }],
    ['an ACK', segment(0x10, 1000, 0x89abcdef, 50), { flags: 0x04, sequence: 0x89abcdef, acknowledged: 0 }],
    ['a SYN ACK', segment(0x12, 1000, 77), { flags: 0x04, sequence: 77, acknowledged: 0 }],
  ])('TCP, %s, is answered with RST (RFC 9293 3.10.7.1)', (_, given, { flags, sequence, acknowledged }) => {
    for (const padding of [0, 6]) {
      const { returned, frame: made } = refuse(version, bytes(given, new Uint8Array(padding)), 'port');
      expect(returned).toBe(1);
      const header = tcp(flags);
      const view = new DataView(header.buffer);
      view.setUint16(0, 443);
      view.setUint16(2, 40_000);
      view.setUint32(4, sequence);
      view.setUint32(8, acknowledged);
      const expected =
        version === 4
          ? four({ protocol: 6, from: v4.podTwo, to: v4.podOne }, header)
          : six({ next: 6, from: v6.podTwo, to: v6.podOne }, header);
      expected.set([...given.slice(6, 12), ...given.slice(0, 6)]);
      if (version === 4) expected[20] = 0x40;
      expect(Buffer.from(made).toString('hex')).toBe(Buffer.from(withChecksums(version, expected)).toString('hex'));
    }
    // They are not counted: each is shorter than what it answers.
    expect(bed.map('tortie_refused').get(device)).toBeUndefined();
  });

  test('TCP of a long packet is answered with RST', () => {
    const { returned, frame: made } = refuse(version, segment(0x10, 5, 6, 3500), 'port', 0, 1200);
    expect(returned).toBe(1);
    expect(made.length).toBe(version === 4 ? 54 : 74);
    expect(wrongChecksums(version, made)).toEqual([]);
  });

  test.each([0x04, 0x14, 0x06])('TCP with RST (flags %i) is not answered', (flags) => {
    const given = segment(flags, 1, 2);
    expect(refuse(version, given, 'port')).toEqual({ returned: 0, frame: given });
  });

  test('TCP of which the first fragment is there gets an ICMP error', () => {
    const payload = bytes(tcp(), new Uint8Array(12));
    const given = withChecksums(
      version,
      version === 4 ? four({ protocol: 6, more: true }, payload) : six({ next: 44 }, fragment6(6, 0, true, payload)),
    );
    const { returned, frame: made } = refuse(version, given);
    expect(returned).toBe(1);
    expect(made).toEqual(answerTo(version, given, unreachable, portCode, [0, 0, 0, 0]));
  });

  test('a used up hop limit is told', () => {
    const given = withChecksums(version, packet(17, udp()));
    const { returned, frame: made } = refuse(version, given, 'hops');
    expect(returned).toBe(1);
    expect(made).toEqual(answerTo(version, given, version === 4 ? 11 : 3, 0, [0, 0, 0, 0]));
  });

  test('the MTU is told', () => {
    const given = withChecksums(version, packet(17, datagram(1400)));
    const { returned, frame: made } = refuse(version, given, 'tooBig', 1350);
    expect(returned).toBe(1);
    expect(made).toEqual(answerTo(version, given, version === 4 ? 3 : 2, version === 4 ? 4 : 0, [0, 0, ...u16(1350)]));
  });

  const quoted = version === 4 ? ip4({}, udp()) : ip6({}, udp());
  const errors = version === 4 ? [3, 4, 5, 11, 12] : [1, 2, 3, 4];
  const withGroupBit = packet(17, udp()).with(0, 0x33);
  test.each([
    ...errors.map((type) => [`an error (${type})`, packet(icmpNumber, icmpError(type, 0, quoted))] as const),
    ...(version === 4 ? [19, 41, 255] : [0, 100, 127, 137]).map(
      (type) => [`ICMP of type ${type}, which is or may be an error`, packet(icmpNumber, icmp(type, 0))] as const,
    ),
    [
      'a later fragment',
      version === 4 ? four({ offset: 64 }, udp()) : six({ next: 44 }, fragment6(17, 64, false, udp())),
    ],
    ['a frame to many stations', withGroupBit],
    ['a tagged frame', tagged(packet(17, udp()))],
    ...(version === 4
      ? (
          [
            ['multicast', { to: '224.0.0.251' }],
            ['broadcast', { to: '255.255.255.255' }],
            ['nobody', { from: '0.0.0.0' }],
            ['a loopback', { from: '127.0.0.1' }],
            ['a multicast source', { from: '239.1.2.3' }],
            ['a broadcast source', { from: '255.255.255.255' }],
          ] as const
        ).map(([name, ends]) => [name, four(ends, udp())] as const)
      : (
          [
            ['multicast', { to: v6.allNodes }],
            ['nobody', { from: '::' }],
            ['a loopback', { from: '::1' }],
            ['a multicast source', { from: v6.allRouters }],
          ] as const
        ).map(([name, ends]) => [name, six(ends, udp())] as const)),
  ])('%s is not answered, and not changed', (_, frame) => {
    for (const refusal of Object.keys(refusals) as Refusal[]) {
      const { returned, frame: made } = refuse(version, frame, refusal);
      expect(returned).toBe(0);
      expect(made).toEqual(frame);
    }
    // Nor is it counted.
    expect(bed.map('tortie_refused').get(device)).toBeUndefined();
  });

  test('a device that had enough of them gets none, until its time has come', () => {
    const given = withChecksums(version, packet(17, udp()));
    const until = (time: bigint) =>
      bed.map('tortie_refused').set(device, new Uint8Array(BigUint64Array.of(time).buffer));
    const known = () =>
      new DataView((bed.map('tortie_refused').get(device) as Uint8Array).slice().buffer).getBigUint64(0, true);
    until(1n << 62n);
    expect(refuse(version, given)).toEqual({ returned: 0, frame: given });
    expect(known()).toBe(1n << 62n);
    until(1n);
    expect(refuse(version, given).returned).toBe(1);
    const first = known();
    expect(first).toBeGreaterThan(1n);
    expect(refuse(version, given).returned).toBe(1);
    // Each takes a millisecond of it.
    expect(known() - first).toBeGreaterThanOrEqual(1_000_000n);
  });
});

test('what is no packet of the family is left alone', () => {
  for (const [version, frame] of [
    [4, six({}, udp())],
    [6, four({}, udp())],
    [4, arp({ senderIp: v4.podOne })],
  ] as const) {
    const { returned, frame: made } = refuse(version, frame);
    expect(returned).toBeGreaterThan(1);
    expect(made).toEqual(frame);
  }
});
