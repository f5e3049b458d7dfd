import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  DeviceCounters,
  Direction,
  Jump,
  PodConfig,
  type Verdict,
  verdictTexts,
} from '#dataplanes/ebpf/bpf-types.gen.ts';
import { macBytes, sourceKey, u32Key } from '#dataplanes/ebpf/keys.ts';
import { loadObject, type BpfMap, type LoadedObject } from '#native/bpf.ts';
import { arp, bytes, cut, ethernet, icmpv6, ipv4, ipv6, mld, u16, v4, v6 } from '#test/lab/packets.ts';
import { FlowNode, podConfig } from './bpf-flow-node.ts';

/*
 * What a frame must be before anybody asks whose flow it is of, through the whole chain, by BPF_PROG_TEST_RUN. (What the kernel refuses to
 * test-run, IP frames shorter than their header, is sent for real in ebpf-frames.test.ts.)
 *
 *   pod one --[frame]--> tortie_from_pod (announced?) --tortie_jump--> tortie_pod_out (link, sender) --> verdict, counted
 */
const attachElf = new URL('../../dist/bpf/attach.bpf.o', import.meta.url).pathname;
const endpointElf = new URL('../../dist/bpf/endpoint.bpf.o', import.meta.url).pathname;
const actions = { passed: -1, dropped: 2 };
/** Of ifindex in `struct __sk_buff`, and its size. */
const skb = { size: 192, ifindex: 40 } as const;

let node: FlowNode;
let filters: LoadedObject;
let withoutIpv6: LoadedObject;
let device: number;
let counters: BpfMap;

beforeAll(async () => {
  node = await FlowNode.create();
  device = node.devices.get('one')?.ifindex ?? 0;
  counters = node.map('tortie_counters');
  const shared = { tortie_counters: { use: counters } };
  filters = await loadObject({ name: 'tortie', elf: attachElf, maps: shared });
  withoutIpv6 = await loadObject({
    name: 'tortie',
    elf: endpointElf,
    config: { pod_config: PodConfig.encode({ ...podConfig, ipv6Enabled: 0 }) },
    maps: {
      ...shared,
      ...Object.fromEntries(
        [
          'tortie_sources',
          'tortie_slots',
          'tortie_pods',
          'tortie_units',
          'tortie_records',
          'tortie_rules',
          'tortie_hits',
        ].map((name) => [name, { use: node.map(name) }]),
      ),
    },
  });
  node.map('tortie_sources').set(sourceKey(device, '198.51.100.0/28'), u32Key(1));
});

afterAll(async () => {
  (filters as LoadedObject | undefined)?.[Symbol.dispose]();
  (withoutIpv6 as LoadedObject | undefined)?.[Symbol.dispose]();
  await (node as FlowNode | undefined)?.[Symbol.asyncDispose]();
});

function enter(object: LoadedObject): void {
  const jump = filters.map('tortie_jump');
  jump.set(u32Key(Jump.podOut), u32Key(object.program('tortie_pod_out').fd));
  jump.set(u32Key(Jump.podIn), u32Key(object.program('tortie_pod_in').fd));
}

beforeEach(() => {
  filters.map('tortie_devices').set(u32Key(device), u32Key(device), 'any', { path: node.netns.path });
  enter(node.object);
});

/** Runs a filter on a frame; returns the verdict that was counted, checked against the action and the size. */
function verdictOf(direction: Direction, frame: Uint8Array): string {
  const data = bytes(macBytes(node.devices.get('one')?.mac ?? ''), frame.slice(6));
  const context = new Uint8Array(skb.size);
  new DataView(context.buffer).setUint32(skb.ifindex, device, true);
  counters.delete(u32Key(device));
  const program = filters.program(direction === Direction.fromPod ? 'tortie_from_pod' : 'tortie_to_pod');
  const { returned } = program.testRun({ data, context, netns: { path: node.netns.path } });
  const all = counters.get(u32Key(device));
  if (all === undefined) throw new Error('nothing was counted');
  const counted: string[] = [];
  for (let cpu = 0; cpu < counters.cpus; cpu += 1) {
    DeviceCounters.read(new DataView(all.buffer, cpu * counters.valueStride)).by.forEach((verdicts, way) =>
      verdicts.forEach(({ packets, bytes: size }, verdict) => {
        if (packets === 0n) return;
        expect({ way, packets, size }).toEqual({ way: direction, packets: 1n, size: BigInt(data.length) });
        counted.push(verdictTexts[verdict as Verdict]);
      }),
    );
  }
  expect(counted).toHaveLength(1);
  // Redirects are other tests': nothing here is for a pod.
  expect(returned).toBe(counted[0] === 'passed' ? actions.passed : actions.dropped);
  return counted[0] ?? '';
}

const four = (packet: Partial<Parameters<typeof ipv4>[0]>) => ipv4({ from: v4.podOne, to: v4.stranger, ...packet });
const six = (packet: Partial<Parameters<typeof ipv6>[0]>) => ipv6({ from: v6.podOne, to: v6.stranger, ...packet });

describe('from a pod', () => {
  test.each<[string, Uint8Array, string]>([
    ['IPv4 from its address', four({}), 'passed'],
    ["IPv4 from another pod's address", four({ from: v4.podTwo }), 'spoofed-source'],
    ["IPv4 from nobody's address", four({ from: v4.gateway }), 'spoofed-source'],
    ['IPv4 from 0.0.0.0', four({ from: '0.0.0.0' }), 'spoofed-source'],
    ['IPv4 from 127.0.0.1', four({ from: '127.0.0.1' }), 'spoofed-source'],
    ['IPv4 from inside its prefix', four({ from: '198.51.100.15' }), 'passed'],
    ['IPv4 from just outside its prefix', four({ from: '198.51.100.16' }), 'spoofed-source'],
    ['IPv4 in a frame padded to 60 bytes', bytes(four({}), Array<number>(14).fill(0)), 'passed'],
    ['IPv4 that says version 5', four({ versionClaim: 5 }), 'malformed'],
    ['IPv4 with a header of 16 bytes', four({ headerLengthClaim: 4 }), 'malformed'],
    ['IPv4 shorter in all than its header', four({ totalLengthClaim: 19 }), 'malformed'],
    ['IPv4 that says 0 bytes and is no GSO packet', four({ totalLengthClaim: 0 }), 'malformed'],
    ['IPv4 that says more than there is', four({ totalLengthClaim: 33 }), 'truncated'],
    ['IPv4 cut in its UDP header', four({ payload: bytes(u16(1), u16(2)) }), 'truncated'],

    ['IPv6 from its address', six({}), 'passed'],
    ["IPv6 from another pod's address", six({ from: v6.podTwo }), 'spoofed-source'],
    ["IPv6 from nobody's address", six({ from: v6.stranger }), 'spoofed-source'],
    ['IPv6 from ::1', six({ from: '::1' }), 'spoofed-source'],
    ['IPv6 with its IPv4 address in the first bytes', six({ from: 'a41:3::' }), 'spoofed-source'],
    ['IPv6 that says version 4', six({ versionClaim: 4 }), 'malformed'],
    ['IPv6 that says more than there is', six({ payloadLengthClaim: 13 }), 'truncated'],

    ['UDP from link-local', six({ from: v6.linkLocal }), 'spoofed-source'],
    ['UDP from ::', six({ from: v6.unspecified }), 'spoofed-source'],
    ['a neighbour solicitation from link-local', icmpv6(135, { from: v6.linkLocal, to: 'fe80::1' }), 'passed'],
    [
      'a neighbour solicitation from :: (is my address taken?)',
      icmpv6(135, { from: v6.unspecified, to: 'ff02::1:ff00:3' }),
      'passed',
    ],
    ['a neighbour advertisement from link-local', icmpv6(136, { from: v6.linkLocal, to: 'fe80::1' }), 'passed'],
    ['a neighbour advertisement from link-local to elsewhere', icmpv6(136, { from: v6.linkLocal }), 'spoofed-source'],
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
    ['a VLAN tag in the frame', ethernet(0x8100, bytes([0, 5, 8, 0], four({}).slice(14))), 'ethertype'],
  ])('%s', (_, frame, expected) => {
    expect(verdictOf(Direction.fromPod, frame)).toBe(expected);
  });

  test.each<[string, Uint8Array]>([
    ['ARP', arp({ senderIp: v4.podOne })],
    ['a neighbour solicitation', icmpv6(135, { from: v6.linkLocal, to: 'ff02::1:ff00:3' })],
    ['a neighbour solicitation from its own address', icmpv6(135, { from: v6.podOne, to: 'fe80::1' })],
    ['a listener report', mld(143, { from: v6.unspecified })],
  ])('no policy judges %s', async (_, frame) => {
    await node.reset();
    node.policy({ 'one egress': 'deny' });
    expect(verdictOf(Direction.fromPod, frame)).toBe('passed');
    expect(verdictOf(Direction.fromPod, four({}))).toBe('policy');
    node.policy();
  });

  test.each<[string, Uint8Array]>([
    ['a router solicitation to elsewhere', icmpv6(133, { from: v6.podOne, to: v6.stranger })],
    ['a neighbour solicitation to elsewhere', icmpv6(135, { from: v6.podOne, to: v6.stranger })],
    ['a neighbour advertisement to another pod', icmpv6(136, { from: v6.podOne })],
    ['a neighbour advertisement to a group beyond the link', icmpv6(136, { from: v6.podOne, to: 'ff05::2' })],
  ])('policy judges %s: the node forwards it', async (_, frame) => {
    await node.reset();
    node.policy({ 'one egress': 'deny' });
    expect(verdictOf(Direction.fromPod, frame)).toBe('policy');
    node.policy();
  });

  test('the same address of another device is not its own', () => {
    node.map('tortie_sources').set(sourceKey(device + 100, `${v4.gateway}/32`), u32Key(1));
    expect(verdictOf(Direction.fromPod, four({ from: v4.gateway }))).toBe('spoofed-source');
  });

  test('a node without IPv6', () => {
    enter(withoutIpv6);
    expect(verdictOf(Direction.fromPod, six({}))).toBe('ipv6-disabled');
    expect(verdictOf(Direction.toPod, ipv6({ from: v6.stranger, to: v6.podOne }))).toBe('ipv6-disabled');
    expect(verdictOf(Direction.fromPod, arp({ senderIp: v4.podOne }))).toBe('passed');
  });
});

describe('to a pod', () => {
  test.each<[string, Uint8Array]>([
    ['ARP', arp({ senderIp: v4.gateway, targetIp: v4.podOne, operation: 2 })],
    ['a neighbour advertisement', icmpv6(136, { from: v6.linkLocal, to: v6.podOne })],
    ['a router advertisement', icmpv6(134, { from: v6.linkLocal, to: v6.allNodes })],
    ['a listener query', mld(130, { from: v6.linkLocal, to: v6.allNodes })],
  ])('no policy judges %s', async (_, frame) => {
    await node.reset();
    node.policy({ 'one ingress': 'deny' });
    expect(verdictOf(Direction.toPod, frame)).toBe('passed');
    expect(verdictOf(Direction.toPod, ipv4({ from: v4.stranger, to: v4.podOne }))).toBe('policy');
    expect(verdictOf(Direction.toPod, ipv6({ from: v6.stranger, to: v6.podOne }))).toBe('policy');
    node.policy();
  });

  test('what can not be read is dropped', () => {
    const frame = ipv4({ from: v4.stranger, to: v4.podOne, totalLengthClaim: 33 });
    expect(verdictOf(Direction.toPod, frame)).toBe('truncated');
  });
});

describe.each([Direction.fromPod, Direction.toPod])('not announced or not loaded, direction %i', (direction) => {
  test.each<[string, Uint8Array]>([
    ['IPv4', ipv4({ from: v4.podOne, to: v4.podOne })],
    ['IPv6', ipv6({ from: v6.podOne, to: v6.podOne })],
    ['a neighbour solicitation', icmpv6(135, { from: v6.linkLocal })],
    ['ARP', arp({ senderIp: v4.podOne })],
    ['what nobody knows', ethernet(0x88cc, new Uint8Array(40))],
  ])('%s is dropped', (_, frame) => {
    filters.map('tortie_devices').delete(u32Key(device));
    expect(verdictOf(direction, frame)).toBe('not-announced');
    filters.map('tortie_devices').set(u32Key(device), u32Key(device), 'any', { path: node.netns.path });
    filters.map('tortie_jump').delete(u32Key(direction === Direction.fromPod ? Jump.podOut : Jump.podIn));
    expect(verdictOf(direction, frame)).toBe('not-loaded');
  });
});

test('a drop on a device for which there is no room to count stays a drop', async () => {
  using small = await loadObject({ name: 'tortie', elf: attachElf, maps: { tortie_counters: { maxEntries: 1 } } });
  const full = small.map('tortie_counters');
  full.set(u32Key(99), new Uint8Array(full.cpus * full.valueStride));
  const { returned } = small.program('tortie_from_pod').testRun({ data: four({}), netns: { path: node.netns.path } });
  expect(returned).toBe(actions.dropped);
  expect(full.get(u32Key(1))).toBeUndefined();
});
