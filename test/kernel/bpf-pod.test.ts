import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  DeviceCounters,
  Direction,
  directionTexts,
  PodConfig,
  type Verdict,
  verdictTexts,
} from '#dataplanes/ebpf/bpf-types.gen.ts';
import { sourceKey, u32Key } from '#dataplanes/ebpf/keys.ts';
import { loadObject, type LoadedObject } from '#native/bpf.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';
import { arp, cut, ethernet, icmpv6, ipv4, ipv6, mld, v4, v6 } from '#test/lab/packets.ts';

/*
 * The pod programs on packets of ours, by BPF_PROG_TEST_RUN. The device is the loopback device of a namespace of the test's own,
 * ifindex 1. (What the kernel refuses to test-run, IP frames shorter than their header, is sent for real in ebpf-frames.test.ts.) It is announced as a pod with the addresses of "pod one" and a prefix of its own.
 *
 *   pod one --[frame]--> (veth, host's end) tortie_from_pod --> verdict, counted
 */
const lo = 1;
const elf = new URL('../../dist/bpf/pod.bpf.o', import.meta.url).pathname;
const actions = { passed: -1, dropped: 2 };

let netns: TestNetns;
let object: LoadedObject;
let withoutIpv6: LoadedObject;

beforeAll(async () => {
  netns = await createNetns();
  object = await loadObject({ name: 'tortie', elf });
  withoutIpv6 = await loadObject({ name: 'tortie', elf, config: { pod_config: PodConfig.encode({ ipv6Enabled: 0, markSeen: 0, markHost: 0 }) } });
  for (const cidr of [`${v4.podOne}/32`, `${v6.podOne}/128`, '198.51.100.0/28']) {
    for (const loaded of [object, withoutIpv6]) loaded.map('tortie_sources').set(sourceKey(lo, cidr), u32Key(1));
  }
});

afterAll(async () => {
  (object as LoadedObject | undefined)?.[Symbol.dispose]();
  (withoutIpv6 as LoadedObject | undefined)?.[Symbol.dispose]();
  await netns[Symbol.asyncDispose]();
});

beforeEach(() => {
  for (const loaded of [object, withoutIpv6]) {
    loaded.map('tortie_devices').set(u32Key(lo), u32Key(lo), 'any', { path: netns.path });
    loaded.map('tortie_counters').delete(u32Key(lo));
  }
});

/** Runs a program on a frame; returns the verdict that was counted, checked against the action and the size. */
function verdictOf(loaded: LoadedObject, direction: Direction, data: Uint8Array, context?: Uint8Array): string {
  const program = loaded.program(direction === Direction.fromPod ? 'tortie_from_pod' : 'tortie_to_pod');
  const { returned } = program.testRun({
    data,
    netns: { path: netns.path },
    ...(context === undefined ? {} : { context }),
  });
  const map = loaded.map('tortie_counters');
  const all = map.get(u32Key(lo));
  if (all === undefined) throw new Error('nothing was counted');
  const counted: string[] = [];
  for (let cpu = 0; cpu < map.cpus; cpu += 1) {
    DeviceCounters.read(new DataView(all.buffer, cpu * map.valueStride)).by.forEach((verdicts, way) =>
      verdicts.forEach(({ packets, bytes }, verdict) => {
        if (packets === 0n) return;
        expect({ way, packets, bytes }).toEqual({ way: direction, packets: 1n, bytes: BigInt(data.length) });
        counted.push(verdictTexts[verdict as Verdict]);
      }),
    );
  }
  expect(counted).toHaveLength(1);
  expect(returned).toBe(counted[0] === 'passed' ? actions.passed : actions.dropped);
  return counted[0] ?? '';
}

describe('from a pod', () => {
  test.each<[string, Uint8Array, string]>([
    ['IPv4 from its address', ipv4({ from: v4.podOne }), 'passed'],
    ["IPv4 from another pod's address", ipv4({ from: v4.podTwo }), 'spoofed-source'],
    ["IPv4 from nobody's address", ipv4({ from: v4.stranger }), 'spoofed-source'],
    ['IPv4 from 0.0.0.0', ipv4({ from: '0.0.0.0' }), 'spoofed-source'],
    ['IPv4 from 127.0.0.1', ipv4({ from: '127.0.0.1' }), 'spoofed-source'],
    ['IPv4 from inside its prefix', ipv4({ from: '198.51.100.15' }), 'passed'],
    ['IPv4 from just outside its prefix', ipv4({ from: '198.51.100.16' }), 'spoofed-source'],
    ['IPv4 with options', ipv4({ from: v4.podOne, headerLengthClaim: 7 }), 'passed'],
    [
      'IPv4 in a frame padded to 60 bytes',
      new Uint8Array([...ipv4({ from: v4.podOne }), ...new Uint8Array(14)]),
      'passed',
    ],
    ['IPv4 that says version 5', ipv4({ from: v4.podOne, versionClaim: 5 }), 'malformed'],
    ['IPv4 with a header of 16 bytes', ipv4({ from: v4.podOne, headerLengthClaim: 4 }), 'malformed'],
    ['IPv4 shorter in all than its header', ipv4({ from: v4.podOne, totalLengthClaim: 19 }), 'malformed'],
    ['IPv4 that says 0 bytes and is no GSO packet', ipv4({ from: v4.podOne, totalLengthClaim: 0 }), 'malformed'],
    ['IPv4 that says more than there is', ipv4({ from: v4.podOne, totalLengthClaim: 33 }), 'truncated'],

    ['IPv6 from its address', ipv6({ from: v6.podOne }), 'passed'],
    ["IPv6 from another pod's address", ipv6({ from: v6.podTwo }), 'spoofed-source'],
    ["IPv6 from nobody's address", ipv6({ from: v6.stranger }), 'spoofed-source'],
    ['IPv6 from ::1', ipv6({ from: '::1' }), 'spoofed-source'],
    ['IPv6 with its IPv4 address in the first bytes', ipv6({ from: 'a41:3::' }), 'spoofed-source'],
    ['IPv6 that says version 4', ipv6({ from: v6.podOne, versionClaim: 4 }), 'malformed'],
    ['IPv6 that says more than there is', ipv6({ from: v6.podOne, payloadLengthClaim: 13 }), 'truncated'],

    ['UDP from link-local', ipv6({ from: v6.linkLocal }), 'spoofed-source'],
    ['UDP from ::', ipv6({ from: v6.unspecified }), 'spoofed-source'],
    ['a neighbour solicitation from link-local', icmpv6(135, { from: v6.linkLocal }), 'passed'],
    [
      'a neighbour solicitation from :: (is my address taken?)',
      icmpv6(135, { from: v6.unspecified, to: 'ff02::1:ff00:3' }),
      'passed',
    ],
    ['a neighbour advertisement from link-local', icmpv6(136, { from: v6.linkLocal }), 'passed'],
    ['a router solicitation from ::', icmpv6(133, { from: v6.unspecified, to: v6.allRouters }), 'passed'],
    ['a router advertisement from link-local', icmpv6(134, { from: v6.linkLocal, to: v6.allNodes }), 'spoofed-source'],
    ['a redirect from link-local', icmpv6(137, { from: v6.linkLocal }), 'spoofed-source'],
    ['an echo request from link-local', icmpv6(128, { from: v6.linkLocal }), 'spoofed-source'],
    [
      'a neighbour solicitation that may have been routed',
      icmpv6(135, { from: v6.linkLocal, hopLimit: 254 }),
      'spoofed-source',
    ],
    ["a neighbour solicitation from another pod's address", icmpv6(135, { from: v6.podTwo }), 'spoofed-source'],
    [
      'a neighbour solicitation cut before its type',
      cut(icmpv6(135, { from: v6.linkLocal, payloadLengthClaim: 0 }), 54),
      'truncated',
    ],
    ['a version 2 listener report from ::', mld(143, { from: v6.unspecified }), 'passed'],
    ['a version 1 listener report from link-local', mld(131, { from: v6.linkLocal }), 'passed'],
    ['a listener done from link-local', mld(132, { from: v6.linkLocal }), 'passed'],
    ['a listener query from link-local', mld(130, { from: v6.linkLocal }), 'spoofed-source'],
    ['a listener report with a hop limit of 2', mld(143, { from: v6.linkLocal, hopLimit: 2 }), 'spoofed-source'],
    [
      'a listener report cut inside its options',
      cut(mld(143, { from: v6.linkLocal, payloadLengthClaim: 0 }), 54 + 7),
      'truncated',
    ],
    [
      'a listener report cut before its type',
      cut(mld(143, { from: v6.linkLocal, payloadLengthClaim: 0 }), 54 + 8),
      'truncated',
    ],

    ['an ARP request from its address to the gateway', arp({ senderIp: v4.podOne, targetIp: v4.gateway }), 'passed'],
    ['an ARP answer from its address', arp({ senderIp: v4.podOne, operation: 2 }), 'passed'],
    ['an ARP probe from 0.0.0.0', arp({ senderIp: '0.0.0.0', targetIp: v4.podOne }), 'passed'],
    ['an ARP answer from 0.0.0.0', arp({ senderIp: '0.0.0.0', operation: 2 }), 'spoofed-arp'],
    ["an ARP request in another pod's name", arp({ senderIp: v4.podTwo }), 'spoofed-arp'],
    ["an ARP answer in the gateway's name", arp({ senderIp: v4.gateway, operation: 2 }), 'spoofed-arp'],
    ['a reverse ARP operation', arp({ senderIp: v4.podOne, operation: 3 }), 'malformed'],
    ['ARP for another hardware', arp({ senderIp: v4.podOne, hardwareType: 6 }), 'malformed'],
    ['ARP that is cut', cut(arp({ senderIp: v4.podOne }), 14 + 27), 'truncated'],

    ['IPX', ethernet(0x8137, new Uint8Array(40)), 'ethertype'],
    ['LLDP', ethernet(0x88cc, new Uint8Array(40)), 'ethertype'],
    ['an 802.3 length instead of a type', ethernet(40, new Uint8Array(40)), 'ethertype'],
    [
      'a VLAN tag in the frame',
      ethernet(0x8100, new Uint8Array([0, 5, 8, 0, ...ipv4({ from: v4.podOne }).slice(14)])),
      'ethertype',
    ],
  ])('%s', (_, frame, expected) => {
    expect(verdictOf(object, Direction.fromPod, frame)).toBe(expected);
  });

  test('the same address of another device is not its own', () => {
    object.map('tortie_sources').set(sourceKey(2, `${v4.podTwo}/32`), u32Key(1));
    expect(verdictOf(object, Direction.fromPod, ipv4({ from: v4.podTwo }))).toBe('spoofed-source');
  });

  test('IPv6 where the node has none', () => {
    expect(verdictOf(withoutIpv6, Direction.fromPod, ipv6({ from: v6.podOne }))).toBe('ipv6-disabled');
  });

  test('IPv4 where the node has no IPv6', () => {
    expect(verdictOf(withoutIpv6, Direction.fromPod, ipv4({ from: v4.podOne }))).toBe('passed');
  });
});

describe('to a pod', () => {
  test.each<[string, Uint8Array]>([
    ['IPv4', ipv4({ from: v4.stranger, to: v4.podOne })],
    ['IPv6', ipv6({ from: v6.stranger, to: v6.podOne })],
    ['ARP', arp({ senderIp: v4.gateway, targetIp: v4.podOne, operation: 2 })],
  ])('%s passes', (_, frame) => {
    expect(verdictOf(object, Direction.toPod, frame)).toBe('passed');
  });

  test('IPv6 where the node has none', () => {
    expect(verdictOf(withoutIpv6, Direction.toPod, ipv6({ from: v6.stranger, to: v6.podOne }))).toBe('ipv6-disabled');
  });
});

describe.each([Direction.fromPod, Direction.toPod])('not announced, direction %i', (direction) => {
  test.each<[string, Uint8Array]>([
    ['IPv4', ipv4({ from: v4.podOne, to: v4.podOne })],
    ['IPv6', ipv6({ from: v6.podOne, to: v6.podOne })],
    ['a neighbour solicitation', icmpv6(135, { from: v6.linkLocal })],
    ['ARP', arp({ senderIp: v4.podOne })],
    ['what nobody knows', ethernet(0x88cc, new Uint8Array(40))],
  ])('%s is dropped', (_, frame) => {
    object.map('tortie_devices').delete(u32Key(lo));
    expect(verdictOf(object, direction, frame)).toBe('not-announced');
    expect(directionTexts[direction]).toMatch(/pod$/);
  });
});

test('every verdict that the sender alone decides is in these tables', () => {
  expect(Object.values(verdictTexts).slice(0, 10)).toEqual([
    'passed',
    'not-announced',
    'truncated',
    'malformed',
    'ethertype',
    'spoofed-source',
    'spoofed-arp',
    'ipv6-disabled',
    // These two are transport headers', in bpf-headers.test.ts.
    'bad-fragment',
    'extensions',
  ]);
});

test('a drop on a device for which there is no room to count stays a drop', async () => {
  using small = await loadObject({ name: 'tortie', elf, maps: { tortie_counters: { maxEntries: 1 } } });
  const counters = small.map('tortie_counters');
  counters.set(u32Key(99), new Uint8Array(counters.cpus * counters.valueStride));
  const { returned } = small
    .program('tortie_from_pod')
    .testRun({ data: ipv4({ from: v4.podOne }), netns: { path: netns.path } });
  expect(returned).toBe(actions.dropped);
  expect(counters.get(u32Key(lo))).toBeUndefined();
});
