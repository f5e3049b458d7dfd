/** Who answers for a Service, and whose a later fragment is: bpf/service.h, bpf/fragment.h, by test runs. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Verdict } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import { bytes, v4, v6 } from '#test/lab/packets.ts';
import { extension, fragment6, frame4, frame6, icmp, ip4, ip6, tcp, udp } from './header-frames.ts';
import { addressOf, nativeWord, RewriteBed } from './rewrite-bed.ts';
import type { WantedTuple } from './slow-rewrite.ts';

let bed: RewriteBed;
beforeAll(async () => {
  bed = await RewriteBed.load();
});
afterAll(() => (bed as RewriteBed | undefined)?.[Symbol.dispose]());

const one = { 4: v4.podOne, 6: v6.podOne } as const;
const two = { 4: v4.podTwo, 6: v6.podTwo } as const;
const vip = { 4: '10.96.0.10', 6: 'fd96::a' } as const;
const size = { 4: 4, 6: 16 } as const;
/** As in bpf/service.h. */
const answers = { noFrontend: 0, backend: 1, noBackend: 2, sctpPort: 3 } as const;

describe.each([4, 6] as const)('IPv%i: a frontend', (version) => {
  const frontKey = (port: number, protocol: number) =>
    bytes(addressOf(version, vip[version]), nativeWord(port), [protocol, 0]);
  const fronts: Uint8Array[] = [];
  afterEach(() => {
    for (const key of fronts.splice(0)) bed.map(`tortie_front${version}`).delete(key);
  });
  const front = (port: number, protocol: number, first: number, count: number, flags = 0): void => {
    const key = frontKey(port, protocol);
    fronts.push(key);
    const value = (BigInt(first) << 32n) | BigInt(flags * 2 ** 24 + count);
    bed.map(`tortie_front${version}`).set(key, new Uint8Array(BigUint64Array.of(value).buffer));
  };
  const back = (index: number, last: number, port: number): void => {
    const address = addressOf(version, two[version]).slice(0, -1);
    bed.map(`tortie_back${version}`).set(u32Key(index), bytes(address, [last], nativeWord(port), [0, 0]));
  };
  const choose = (protocol: number, destination: string, destinationPort: number) => {
    const tuple: WantedTuple = {
      source: addressOf(version, one[version]),
      destination: addressOf(version, destination),
      sourcePort: 1234,
      destinationPort,
    };
    bed.want(version, protocol, tuple);
    const { returned } = bed.run(`choose${version}`, frame4(ip4({}, udp())));
    const chosen = bed.map(`chosen${version}`).get(u32Key(0)) as Uint8Array;
    const view = new DataView(chosen.buffer, chosen.byteOffset);
    return { answer: returned, last: chosen[size[version] - 1], port: view.getUint16(size[version], true) };
  };
  const nobody = { last: 0, port: 0 };

  test('with one backend has that one', () => {
    front(80, 6, 7, 1);
    back(7, 9, 8080);
    expect(choose(6, vip[version], 80)).toEqual({ answer: answers.backend, last: 9, port: 8080 });
  });

  test('with several has all of them in turn, and nobody else', () => {
    front(53, 17, 100, 5);
    for (const i of [0, 1, 2, 3, 4]) back(100 + i, 10 + i, 5300 + i);
    back(99, 99, 99);
    back(105, 99, 99);
    const seen = new Map<number, number>();
    for (let i = 0; i < 500; i += 1) {
      const { answer, last = 0, port } = choose(17, vip[version], 53);
      expect(answer).toBe(answers.backend);
      expect(port).toBe(5290 + last);
      seen.set(last, (seen.get(last) ?? 0) + 1);
    }
    expect(new Set(seen.keys())).toEqual(new Set([10, 11, 12, 13, 14]));
    // 100 each on average; 40 is six standard deviations away.
    for (const times of seen.values()) expect(times).toBeGreaterThan(40);
  });

  test('with flags has its backends all the same', () => {
    front(80, 6, 7, 1, 0xff);
    back(7, 9, 8080);
    expect(choose(6, vip[version], 80).answer).toBe(answers.backend);
  });

  test('without backends has none', () => {
    front(80, 6, 7, 0);
    expect(choose(6, vip[version], 80)).toEqual({ answer: answers.noBackend, ...nobody });
  });

  test('whose backends are outside of the table has none', () => {
    front(80, 6, 0xffffffff, 1);
    expect(choose(6, vip[version], 80)).toEqual({ answer: answers.noBackend, ...nobody });
  });

  test.each([
    ['port', 6, vip[version], 81],
    ['protocol', 17, vip[version], 80],
    ['address', 6, two[version], 80],
    ['protocol, which has no ports', version === 4 ? 1 : 58, vip[version], 80],
  ])('is not that of another %s', (_, protocol, destination, port) => {
    front(80, 6, 7, 1);
    expect(choose(protocol, destination, port)).toEqual({ answer: answers.noFrontend, ...nobody });
  });

  test('of SCTP may not have another port than its backend', () => {
    front(80, 132, 7, 1);
    back(7, 9, 80);
    expect(choose(132, vip[version], 80).answer).toBe(answers.backend);
    back(7, 9, 81);
    expect(choose(132, vip[version], 80).answer).toBe(answers.sctpPort);
  });
});

describe.each([4, 6] as const)('IPv%i: a later fragment', (version) => {
  const fragment = (
    id: number,
    offset: number,
    protocol: number,
    payload: Uint8Array,
    from = one[version] as string,
  ) => {
    const more = offset === 0;
    return version === 4
      ? frame4(ip4({ from, protocol, id, offset, more }, payload))
      : frame6(ip6({ next: 44, from }, fragment6(protocol, offset, more, payload, id)));
  };
  const rest = new Uint8Array(16);
  const told = () => {
    const tuple = bed.map(`wanted${version}`).get(u32Key(0)) as Uint8Array;
    const view = new DataView(tuple.buffer, tuple.byteOffset + 2 * size[version]);
    return [view.getUint16(0, true), view.getUint16(2, true), view.getUint8(4)];
  };
  const run = (frame: Uint8Array) => bed.run(`fragment${version}`, frame).returned;

  test.each([
    ['TCP', 6, bytes(tcp(), new Uint8Array(4)), [40_000, 443, 6]],
    ['UDP', 17, udp(8), [40_001, 53, 17]],
    [
      'an echo',
      version === 4 ? 1 : 58,
      bytes(icmp(version === 4 ? 8 : 128, 0), new Uint8Array(4)),
      [0x1234, version === 4 ? 0x0800 : 0x8000, version === 4 ? 1 : 58],
    ],
  ] as const)('of %s has the ports of the first', (_, protocol, payload, ports) => {
    expect(run(fragment(77, 0, protocol, payload))).toBe(0);
    expect(run(fragment(77, 64, protocol, rest))).toBe(Verdict.passed);
    expect(told()).toEqual(ports);
  });

  test('has the ports of the newest first one with its identification', () => {
    expect(run(fragment(78, 0, 17, udp(8)))).toBe(0);
    expect(run(fragment(78, 0, 17, udp(8).with(1, 7)))).toBe(0);
    expect(run(fragment(78, 64, 17, rest))).toBe(Verdict.passed);
    expect(told()).toEqual([(40_001 & 0xff00) | 7, 53, 17]);
  });

  test.each([
    ['identification', () => fragment(80, 64, 17, rest)],
    ['source', () => fragment(79, 64, 17, rest, two[version])],
    ...(version === 4 ? [['protocol', () => fragment(79, 64, 6, rest)] as const] : []),
  ] as const)('of another %s is nobody’s', (_, later) => {
    expect(run(fragment(79, 0, 17, udp(8)))).toBe(0);
    expect(run(later())).toBe(Verdict.fragment);
  });

  if (version === 6)
    test('has the protocol of the first, behind whatever headers that was', () => {
      expect(run(fragment(81, 0, 60, extension(60, 6, 0, bytes(tcp(), new Uint8Array(4)))))).toBe(0);
      expect(run(fragment(81, 64, 60, rest))).toBe(Verdict.passed);
      expect(told()).toEqual([40_000, 443, 6]);
    });
});
