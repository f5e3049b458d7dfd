import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { flowConstants, Jump } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { macBytes, u32Key } from '#dataplanes/ebpf/keys.ts';
import type { LoadedObject } from '#native/bpf.ts';
import { arp, bytes, ethernet, icmpv6, ipv4, mld, v4, v6 } from '#test/lab/packets.ts';
import { namesOf } from './bpf-flow-names.ts';
import { frameOf } from './bpf-flow-words.ts';
import { HostBed, type HostPolicy, macOf } from './bpf-host-bed.ts';
import { ip4, ip6, tagged, udp } from './header-frames.ts';

/* What a frame must be for a host endpoint to have a say, in traffic control and in XDP, and the filters in front of the programs. */
let bed: HostBed;
let filters: LoadedObject;

beforeAll(async () => {
  bed = await HostBed.create();
  filters = await bed.load('attach');
});
afterAll(async () => {
  (filters as LoadedObject | undefined)?.[Symbol.dispose]();
  await (bed as HostBed | undefined)?.[Symbol.asyncDispose]();
});
beforeEach(async () => await bed.reset());

const everything: HostPolicy = {
  in: 'deny',
  out: 'deny',
  preDnat: 'deny',
  'untracked in': 'deny',
  'untracked out': 'deny',
};
/** To the device. */
const to = (frame: Uint8Array): Uint8Array => bytes(macBytes('ee:ee:ee:ee:ff:00'), frame.slice(6));
const four = to(ipv4({ from: v4.stranger, to: v4.gateway }));

const link: readonly [string, Uint8Array][] = [
  ['ARP', arp({ senderIp: v4.stranger, targetIp: v4.gateway })],
  ['LLDP', ethernet(0x88cc, new Uint8Array(40))],
  ['a neighbour solicitation', icmpv6(135, { from: v6.linkLocal })],
  ['a neighbour advertisement', icmpv6(136, { from: v6.linkLocal })],
  ['a router solicitation', icmpv6(133, { from: v6.linkLocal })],
  ['a router advertisement', icmpv6(134, { from: v6.linkLocal, to: v6.allNodes })],
  ['a listener query', mld(130, { from: v6.linkLocal, to: v6.allNodes })],
  ['a listener report', mld(143, { from: v6.unspecified })],
];

describe('what belongs to the link', () => {
  test.each(link)('%s is never judged', (_, frame) => {
    bed.host('uplink', everything);
    expect(bed.runFrame('uplink', 'in', to(frame))).toBe('local');
    expect(bed.runFrame('uplink', 'out', to(frame))).toBe('passed');
    expect(bed.runFrame('uplink', 'frame', to(frame))).toBe('passed');
  });
  test.each<[string, Uint8Array]>([
    ['a neighbour solicitation that was forwarded', icmpv6(135, { from: v6.podOne, hopLimit: 254 })],
    ['a redirect', icmpv6(137, { from: v6.linkLocal })],
    ['an echo request', icmpv6(128, { from: v6.linkLocal })],
  ])('%s is', (_, frame) => {
    bed.host('uplink', { in: 'deny', out: 'deny' });
    expect(bed.runFrame('uplink', 'in', to(frame))).toBe('not local');
    expect(bed.runFrame('uplink', 'out', to(frame))).toBe('dropped: policy');
  });
});

describe('what the frame is', () => {
  test.each<[string, Uint8Array, string]>([
    ['of a VLAN: its device is asked, if anybody', tagged(four), 'pass'],
    ['of no VLAN, twice: the kernel takes both tags off', tagged(four, 0x8100, 0), 'dropped: ethertype'],
    ['cut', to(ipv4({ from: v4.stranger, to: v4.gateway, totalLengthClaim: 33 })), 'dropped: truncated'],
    ['of another version', to(ipv4({ from: v4.stranger, to: v4.gateway, versionClaim: 5 })), 'dropped: malformed'],
  ])('%s', (_, frame, expected) => {
    bed.host('uplink', { in: 'allow' });
    expect(bed.runFrame('uplink', 'in', frame)).toBe(expected);
  });

  // The kernel of a test run takes the first bytes for a link header: for all (IPv6 by its traffic class), and bytes 12 and 13 say what follows.
  test.each<[string, Uint8Array]>([
    ['IPv4', ip4({ from: '8.0.0.1', to: '10.1.0.1' }, udp(30))],
    ['IPv6', bytes([0x61], ip6({ from: '2001:db8:86dd::1', to: 'fd01::1' }, udp(30)).slice(1))],
  ])('%s on a device without Ethernet', (_, packet) => {
    bed.host('uplink', { in: 'deny', out: 'deny' }, flowConstants.hostWithoutEthernet);
    expect(bed.runFrame('uplink', 'in', packet)).toBe('not local');
    expect(bed.runFrame('uplink', 'out', packet)).toBe('dropped: policy');
    bed.host('uplink', { in: 'allow' });
    expect(bed.runFrame('uplink', 'in', packet)).toMatch(/^dropped: (malformed|truncated)$/);
  });

  test('a node without IPv6 has no say in it', async () => {
    using programs = await bed.load('host', { ipv6Enabled: 0 });
    bed.host('uplink', everything);
    const six = to(icmpv6(128, { from: v6.stranger, to: v6.podOne }));
    expect(bed.runFrame('uplink', 'in', six, { programs })).toBe('pass');
    expect(bed.runFrame('uplink', 'out', six, { programs })).toBe('pass');
    expect(bed.runFrame('uplink', 'in', four, { programs })).toBe('dropped: policy');
  });
});

describe.each([4, 6] as const)('XDP, IPv%i', (version) => {
  test.each<[string, HostPolicy | undefined, readonly string[]]>([
    ['no host endpoint', undefined, ['tcp S away:1 > node:80 -> passed']],
    ['no untracked policy', { in: 'deny', preDnat: 'deny' }, ['tcp S away:1 > node:80 -> passed']],
    [
      'untracked policy that denies',
      { 'untracked in': 'deny 80' },
      [
        'tcp S away:1 > node:80 -> dropped',
        'udp away:1 > node:80 -> dropped',
        'tcp S away:1 > node:22 -> passed',
        'tcp S away:1 > one:80 -> dropped',
        'tcp S away:1 > node:80 stranger -> passed',
        'udp away:1 > node:80 first=7 -> dropped',
        'udp away > node later=7 -> passed',
        'tcp S away:1 > node:80 options -> dropped',
      ],
    ],
    ['untracked policy that allows', { 'untracked in': 'allow' }, ['tcp S away:1 > node:80 -> passed']],
    [
      'failsafe ports, and their answers',
      { 'untracked in': 'deny' },
      [
        'tcp S away:1 > node:22 -> passed',
        'udp away:53 > node:1 -> passed',
        'udp away:1 > node:22 -> dropped',
        'udp away > node later=7 -> passed',
      ],
    ],
  ])('%s', (_, policy, steps) => {
    bed.host('uplink', policy);
    bed.failsafe(version, 'in', 6, 22);
    bed.failsafe(version, 'out', 17, 53);
    const lines = steps.map((line) => {
      const [packet = ''] = line.split(' -> ');
      return `${packet} -> ${bed.run(version, `uplink frame ${packet}`)}`;
    });
    expect(lines).toEqual(steps);
  });

  test('leaves to traffic control what has the device’s own address, as what programs give to an uplink', () => {
    bed.host('uplink', { 'untracked in': 'deny' });
    const { frame } = frameOf(version, namesOf[version], 'tcp S away:1 > node:80');
    const own = bytes(macBytes(macOf('uplink')), macBytes(macOf('uplink')), frame.slice(12));
    expect(bed.runFrame('uplink', 'frame', own)).toBe('passed');
    expect(bed.runFrame('uplink', 'in', own)).toBe('dropped: policy');
    expect(bed.runFrame('uplink', 'frame', to(frame))).toBe('dropped');
  });

  test('counts a rule for what it drops, and none for what goes on', () => {
    bed.host('uplink', { 'untracked in': 'deny 80' });
    const hits = (): bigint => bed.hits();
    const before = hits();
    bed.run(version, 'uplink frame tcp S away:1 > node:22');
    expect(hits() - before).toBe(0n);
    bed.run(version, 'uplink frame tcp S away:1 > node:80');
    expect(hits() - before).toBe(1n);
  });
});

describe('the filters', () => {
  const run = (name: string): number => {
    const { frame } = frameOf(4, namesOf[4], 'tcp S away:1 > node:80');
    const context = new Uint8Array(192);
    new DataView(context.buffer).setUint32(40, bed.ifindexOf('uplink'), true);
    return filters.program(name).testRun({ data: to(frame), context, netns: { path: bed.netns.path } }).returned;
  };
  test.each([
    ['tortie_from_net', Jump.hostIn, 'tortie_host_in'],
    ['tortie_to_net', Jump.hostOut, 'tortie_host_out'],
  ] as const)('%s goes on with what is loaded, and lets pass without', (filter, place, program) => {
    bed.host('uplink', everything);
    const jump = filters.map('tortie_jump');
    expect(run(filter)).toBe(-1);
    jump.set(u32Key(place), u32Key(bed.hostPrograms.program(program).fd));
    expect(run(filter)).toBe(2);
    jump.delete(u32Key(place));
  });
});
