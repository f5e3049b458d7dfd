import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import type { DataplaneConfig } from '#dataplanes/messages.ts';
import { Peer } from '#test/lab/peer-client.ts';
import { until } from '#test/lab/until.ts';
import { type BedPod, EbpfBed, packetsOf } from './ebpf-bed.ts';

/*
 * What netfilter has to do while programs judge:
 *
 *     pod 1 --> programs on cali1 --> INPUT (the node's own) or FORWARD --> others
 *     node --> OUTPUT (marks) --> programs on cali1 --> pod 1
 */
let bed: EbpfBed;
const peers: Peer[] = [];
const node = { ipv4: '192.0.2.1', ipv6: '2001:db8::1' };

beforeEach(async () => {
  bed = await EbpfBed.create();
  await bed.node.ip('addr', 'add', `${node.ipv4}/32`, 'dev', 'lo');
  await bed.node.ip('addr', 'add', `${node.ipv6}/128`, 'dev', 'lo', 'nodad');
});

afterEach(async () => {
  for (const peer of peers.splice(0)) await peer[Symbol.asyncDispose]();
  await bed[Symbol.asyncDispose]();
});

async function wired(config: Partial<DataplaneConfig> = {}): Promise<{
  dataplane: EbpfDataplane;
  one: BedPod;
  two: BedPod;
  onePeer: Peer;
  nodePeer: Peer;
}> {
  const dataplane = await bed.dataplane([], { config });
  await dataplane.activate();
  const [one, two] = [await bed.pod(1, dataplane), await bed.pod(2, dataplane)];
  for (const { id, endpoint } of [one, two]) dataplane.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint });
  expect(await dataplane.apply()).toMatchObject({ programmed: [one.id, two.id], failed: [] });
  const [onePeer, twoPeer, nodePeer] = [
    await Peer.start(one.netns.path),
    await Peer.start(two.netns.path),
    await Peer.start(bed.node.path),
  ];
  peers.push(onePeer, twoPeer, nodePeer);
  return { dataplane, one, two, onePeer, nodePeer };
}

/** A policy that allows nothing. */
const none = 'NetworkPolicy default/none';
const denyAll = (dataplane: EbpfDataplane): void =>
  dataplane.onUpdate({
    type: 'policyUpdate',
    id: none,
    policy: { tier: 'default', staged: false, ingress: [], egress: [] },
  });

const rules = async (): Promise<string> =>
  [
    await bed.node.exec('iptables-nft-save'),
    await bed.node.exec('ip6tables-nft-save'),
    await bed.node.exec('nft', 'list', 'ruleset'),
  ].join('\n');

describe('the node and its pods', () => {
  test.each([
    ['drop', false],
    ['accept', true],
    ['return', true],
  ] as const)(
    'what a pod may have of the node is defaultEndpointToHostAction: %s',
    async (endpointToHostAction, ok) => {
      const { onePeer } = await wired({ endpointToHostAction });
      for (const host of [node.ipv4, node.ipv6])
        expect(await onePeer.connect(host, ok ? 20_000 : 300)).toMatchObject({ ok });
    },
  );

  test('the node reaches a pod whatever its policy says', async () => {
    const { dataplane, one, two, onePeer, nodePeer } = await wired();
    denyAll(dataplane);
    const tiers = [{ name: 'default', defaultAction: 'deny' as const, ingress: [none], egress: [none] }];
    for (const { id, endpoint } of [one, two])
      dataplane.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint: { ...endpoint, tiers } });
    expect(await dataplane.apply()).toMatchObject({
      programmed: expect.arrayContaining([one.id, two.id]),
      failed: [],
    });
    for (const host of [two.ipv4, two.ipv6]) {
      expect(await nodePeer.connect(host, 20_000)).toMatchObject({ ok: true });
      expect(await onePeer.connect(host, 300)).toMatchObject({ ok: false });
    }
  });
});

describe('what the node sends', () => {
  test("from an address that isn't its own is judged: IPVS forwards like that", async () => {
    const { dataplane, two, nodePeer } = await wired();
    const tiers = [{ name: 'default', defaultAction: 'deny' as const, ingress: [none], egress: [] }];
    denyAll(dataplane);
    dataplane.onUpdate({ type: 'workloadEndpointUpdate', id: two.id, endpoint: { ...two.endpoint, tiers } });
    expect(await dataplane.apply()).toMatchObject({ programmed: [two.id], failed: [] });
    // Of IPv6 only: an IPv4 route is found for own addresses.
    await bed.node.exec('sysctl', '-qw', 'net.ipv6.ip_nonlocal_bind=1');
    await nodePeer.datagram(two.ipv6, 100, '2001:db8:9::9');
    const refused = async () => (await packetsOf(dataplane, 'cali2', 'to-pod'))['policy'] ?? 0;
    await until(async () => (await refused()) > 0);
    expect(await refused()).toBe(1);
    for (const [host, from] of [
      [two.ipv4, node.ipv4],
      [two.ipv6, node.ipv6],
    ] as const)
      expect(await nodePeer.connect(host, 20_000, from)).toMatchObject({ ok: true });
  });
});

describe('what is forwarded', () => {
  test('of pods passes whatever the policy of FORWARD is', async () => {
    await bed.node.exec('iptables-nft', '-P', 'FORWARD', 'DROP');
    await bed.node.exec('ip6tables-nft', '-P', 'FORWARD', 'DROP');
    const { onePeer, two } = await wired();
    for (const host of [two.ipv4, two.ipv6]) expect(await onePeer.connect(host, 20_000)).toMatchObject({ ok: true });
  });

  test('from a device whose filters somebody has removed is nothing, until they are back', async () => {
    const { dataplane, onePeer, two } = await wired();
    for (const device of ['cali1', 'cali2']) await bed.node.exec('tc', 'qdisc', 'del', 'dev', device, 'clsact');
    for (const host of [two.ipv4, two.ipv6]) expect(await onePeer.connect(host, 300)).toMatchObject({ ok: false });
    dataplane.requestResync();
    expect((await dataplane.apply()).repaired).toEqual(['BPF filters of cali1', 'BPF filters of cali2']);
    for (const host of [two.ipv4, two.ipv6]) expect(await onePeer.connect(host, 20_000)).toMatchObject({ ok: true });
  });
});

describe('the rules', () => {
  test('that somebody removed come back with the next comparison', async () => {
    const { dataplane } = await wired();
    const before = await rules();
    await bed.node.exec('iptables-nft', '-F', 'FORWARD');
    dataplane.requestResync();
    expect((await dataplane.apply()).repaired).toEqual([
      'table filter (iptables-nft): our rules in chain FORWARD had been changed',
    ]);
    const withoutCounts = (text: string): string => text.replaceAll(/\d+:\d+|packets \d+ bytes \d+|^#.*$/gm, '');
    expect(withoutCounts(await rules())).toBe(withoutCounts(before));
  });

  test('stand only while packets come by the programs, and cleanup by an agent that knows nothing leaves none', async () => {
    const empty = await bed.node.exec('nft', 'list', 'ruleset');
    const { dataplane } = await wired();
    expect(await rules()).toContain('-j tortie-FORWARD');
    await dataplane.release();
    expect(await rules()).not.toContain('-j tortie-FORWARD');
    await dataplane.activate();
    expect(await rules()).toContain('-j tortie-FORWARD');
    await dataplane[Symbol.asyncDispose]();
    await bed.idle().cleanup();
    expect(await bed.node.exec('nft', 'list', 'ruleset')).toBe(empty);
  });

  test('that can not be made, because the mask has too few bits, are a failure that says so', async () => {
    const dataplane = await bed.dataplane([], { config: { markMask: 0x1f } });
    expect((await dataplane.apply()).failed[0]).toMatchObject({
      object: 'BPF programs',
      reason: expect.stringContaining('has 5 bits'),
    });
    await expect(dataplane.activate()).rejects.toThrow(/not loaded/);
  });
});
