import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { scheduler } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { ApplyReport } from '#dataplanes/contract.ts';
import { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { ourFilter } from '#dataplanes/ebpf/filters.ts';
import { probeEbpf } from '#dataplanes/ebpf/probe.ts';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import { VariantChoice } from '#dataplanes/netfilter/variant-choice.ts';
import { silentLogger } from '#dataplanes/silent-logger.ts';
import { ALLOW_ALL, TEST_CONFIG } from '#dataplanes/shared/test-config.ts';
import { loadObject, openPinnedMap } from '#native/bpf.ts';
import { eventually } from '#test/lab/agent-lab.ts';
import { must } from '#test/lab/exec.ts';
import { Peer } from '#test/lab/peer-client.ts';
import { until } from '#test/lab/until.ts';
import { type BedPod, drive, EbpfBed, ebpfObjects, packetsOf } from './ebpf-bed.ts';

/*
 * The eBPF dataplane on a real kernel. Pods talk TCP and UDP with real programs in their namespaces:
 *
 *     pod 1 --> from-pod on cali1 --> node's routes --> to-pod on cali2 --> pod 2
 */
const attachElf = new URL('../../dist/bpf/attach.bpf.o', import.meta.url).pathname;
const countElf = new URL('../../build/bpf/count.bpf.o', import.meta.url).pathname;

let bed: EbpfBed;
const peers: Peer[] = [];

beforeEach(async () => {
  bed = await EbpfBed.create();
});

afterEach(async () => {
  for (const peer of peers.splice(0)) await peer[Symbol.asyncDispose]();
  await bed[Symbol.asyncDispose]();
});

afterAll(() => {
  expect(peers).toEqual([]);
});

/** Two pods wired through an active dataplane, with a program in each. */
async function twoPods(dataplane: EbpfDataplane): Promise<{ one: BedPod; two: BedPod; onePeer: Peer }> {
  const one = await bed.pod(1, dataplane);
  const two = await bed.pod(2, dataplane);
  const onePeer = await Peer.start(one.netns.path);
  peers.push(onePeer, await Peer.start(two.netns.path));
  return { one, two, onePeer };
}

async function announce(dataplane: EbpfDataplane, ...pods: BedPod[]): Promise<void> {
  for (const { id, endpoint } of pods) dataplane.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint });
  expect(await dataplane.apply()).toMatchObject({
    programmed: expect.arrayContaining(pods.map(({ id }) => id)),
    failed: [],
  });
}

async function active(): Promise<EbpfDataplane> {
  const dataplane = await bed.dataplane();
  await dataplane.activate();
  return dataplane;
}

/** Ids of our programs on a device, by direction. */
async function attachedIds(device: string): Promise<(number | undefined)[]> {
  const filters = [...(await bed.host.filters(device, 'ingress')), ...(await bed.host.filters(device, 'egress'))];
  return filters
    .filter(({ handle, priority }) => handle === ourFilter.handle && priority === ourFilter.priority)
    .map(({ programId }) => programId);
}

/** How many echo requests a pod has got, over IPv4 and IPv6. */
async function echoesIn({ netns }: BedPod): Promise<number[]> {
  const v6 = /^Icmp6InEchos\s+(\d+)/m.exec(await netns.exec('cat', '/proc/net/snmp6'))?.[1];
  const [names = '', values = ''] = (await netns.exec('cat', '/proc/net/snmp'))
    .split('\n')
    .filter((line) => line.startsWith('Icmp:'));
  return [Number(values.split(' ')[names.split(' ').indexOf('InEchos')]), Number(v6)];
}

describe('a pod', () => {
  test('passes nothing before it is announced, and then both families both ways', async () => {
    const dataplane = await active();
    const { one, two, onePeer } = await twoPods(dataplane);
    await announce(dataplane, two);
    for (const host of [two.ipv4, two.ipv6]) expect(await onePeer.connect(host, 300)).toMatchObject({ ok: false });
    const before = await packetsOf(dataplane, 'cali1', 'from-pod');
    expect(before['not-announced']).toBeGreaterThan(0);
    expect(before['passed']).toBeUndefined();
    await announce(dataplane, one);
    for (const [host, seenAs] of [
      [two.ipv4, one.ipv4],
      [two.ipv6, one.ipv6],
    ] as const) {
      expect(await onePeer.connect(host, 20_000)).toEqual({ ok: true, seenAs });
      expect(await onePeer.datagram(host, 20_000)).toEqual({ ok: true, seenAs });
    }
    for (const device of ['cali1', 'cali2']) {
      for (const direction of ['from-pod', 'to-pod'] as const)
        expect((await packetsOf(dataplane, device, direction))['passed']).toBeGreaterThan(3);
    }
  });

  test('cannot send from an address that is not its own, and each try is counted', async () => {
    const dataplane = await active();
    const { one, two, onePeer } = await twoPods(dataplane);
    await announce(dataplane, one, two);
    // The gateways are resolved by this: a neighbour solicitation in a foreign name would be dropped, and counted, in a ping's place.
    for (const host of [two.ipv4, two.ipv6]) expect(await onePeer.connect(host, 20_000)).toMatchObject({ ok: true });
    await one.netns.ip('addr', 'add', '203.0.113.9/32', 'dev', 'eth0');
    await one.netns.ip('addr', 'add', '2001:db8::9/128', 'dev', 'eth0', 'nodad');
    const spoofedBefore = (await packetsOf(dataplane, 'cali1', 'from-pod'))['spoofed-source'] ?? 0;
    await one.netns.exec(
      'sh',
      '-c',
      `ping -c 3 -i 0.01 -W 0.2 -I 203.0.113.9 ${two.ipv4}; ping -c 2 -i 0.01 -W 0.2 -I 2001:db8::9 ${two.ipv6}; true`,
    );
    // The last ones may be under way.
    const spoofed = async () => (await packetsOf(dataplane, 'cali1', 'from-pod'))['spoofed-source'] ?? 0;
    await until(async () => (await spoofed()) >= spoofedBefore + 5);
    expect(await spoofed()).toBe(spoofedBefore + 5);
    expect(await echoesIn(two)).toEqual([0, 0]);
    await one.netns.exec('ping', '-c', '1', '-W', '30', two.ipv4);
    await one.netns.exec('ping', '-c', '1', '-W', '30', two.ipv6);
    expect(await echoesIn(two)).toEqual([1, 1]);
  });

  test('may use its allowedSourcePrefixes only where the configuration lets it', async () => {
    const dataplane = await active();
    const one = await bed.pod(1, dataplane);
    const endpoint = { ...one.endpoint, allowedSourcePrefixes: ['198.51.100.0/24'] };
    await announce(dataplane, { ...one, endpoint });
    const ping = (): Promise<string> =>
      one.netns.exec('sh', '-c', 'ping -c 1 -W 0.1 -I 198.51.100.7 169.254.1.1; true');
    await one.netns.ip('addr', 'add', '198.51.100.7/32', 'dev', 'eth0');
    await one.netns.exec('sh', '-c', 'ping -c 1 -W 0.1 -I 10.65.0.1 169.254.1.1; true'); // Resolves the gateway first.
    await until(async () => 'lladdr' in ((await one.netns.ip('neigh', 'show', '169.254.1.1'))[0] ?? {}));
    await ping();
    const spoofed = async () => (await packetsOf(dataplane, 'cali1', 'from-pod'))['spoofed-source'] ?? 0;
    await until(async () => (await spoofed()) > 0);
    expect(await spoofed()).toBe(1);
    dataplane.onUpdate({ type: 'configUpdate', config: { ...TEST_CONFIG, workloadSourceSpoofing: 'any' } });
    expect(await dataplane.apply()).toMatchObject({ programmed: [one.id], failed: [] });
    await ping();
    expect((await packetsOf(dataplane, 'cali1', 'from-pod'))['spoofed-source']).toBe(1);
  });

  test('that is removed is closed at once, and of its device nothing stays when that goes', async () => {
    const dataplane = await active();
    const { one, two, onePeer } = await twoPods(dataplane);
    await announce(dataplane, one, two);
    expect(await onePeer.connect(two.ipv4, 20_000)).toMatchObject({ ok: true });
    dataplane.onUpdate({ type: 'workloadEndpointRemove', id: one.id });
    // Its flows are forgotten behind that: only then it counts as removed. Events disturb, too.
    let disturbed = Promise.withResolvers<void>();
    dataplane.onDisturbed(() => disturbed.resolve());
    expect(await dataplane.apply()).toMatchObject({ removed: [], failed: [] });
    expect(await onePeer.connect(two.ipv4, 300)).toMatchObject({ ok: false });
    let removed: readonly string[] = [];
    while (removed.length === 0) {
      await disturbed.promise;
      disturbed = Promise.withResolvers();
      const report = await dataplane.apply();
      expect(report.failed).toEqual([]);
      ({ removed } = report);
    }
    expect(removed).toEqual([one.id]);
    await bed.host.run([{ op: 'link.del', link: 'cali1' }]);
    dataplane.requestResync();
    await dataplane.apply();
    expect((await dataplane.deviceCounters()).map(({ ifaceName }) => ifaceName)).toEqual(['cali2', 'cali2']);
    for (const [name, count] of [
      ['tortie_devices', 1],
      ['tortie_sources', 2],
      ['tortie_counters', 1],
    ] as const) {
      using map = openPinnedMap(join(bed.bpffs, 'v2', name));
      expect(await map?.entries()).toHaveLength(count);
    }
  });

  test('whose device is not there is reported, and is opened when it comes', async () => {
    const dataplane = await active();
    const driven = drive(dataplane);
    const pod = await bed.pod(1, dataplane);
    await bed.host.run([{ op: 'link.del', link: 'cali1' }]);
    dataplane.onUpdate({ type: 'workloadEndpointUpdate', id: pod.id, endpoint: pod.endpoint });
    expect(await dataplane.apply()).toMatchObject({
      programmed: [],
      failed: [{ endpoint: pod.id, reason: 'its device cali1 is not there' }],
    });
    await bed.wire(pod, dataplane);
    await driven.idle();
    const report = await dataplane.apply();
    const link = bed.host.link('cali1');
    using devices = openPinnedMap(join(bed.bpffs, 'v2', 'tortie_devices'));
    expect({ isOpen: devices?.get(u32Key(link?.index ?? 0)) !== undefined, failed: report.failed }).toEqual({
      isOpen: true,
      failed: [],
    });
  });
});

describe('a device that another one follows under the same ifindex', () => {
  test('inherits nothing, even if the agent is not running meanwhile', async () => {
    const dataplane = await active();
    const one = await bed.pod(1, dataplane);
    await announce(dataplane, one);
    const { index } = bed.host.link('cali1') ?? { index: 0 };
    const ops = dataplane.podDeviceOps('cali9');
    await bed.host.run([{ op: 'link.del', link: 'cali1' }]);
    await must(
      'ip',
      '-n',
      bed.node.name,
      'link',
      'add',
      'cali9',
      'index',
      `${index}`,
      'type',
      'veth',
      'peer',
      'name',
      'eth9',
      'netns',
      one.netns.name,
    );
    expect(bed.host.link('cali9')?.index).toBe(index);
    await bed.host.run([...ops, { op: 'link.set', link: 'cali9', up: true }]);
    await one.netns.ip('link', 'set', 'eth9', 'up');
    await one.netns.ip('addr', 'add', `${one.ipv4}/32`, 'dev', 'eth9');
    await one.netns.exec('sh', '-c', `ip route add 10.65.0.7/32 dev eth9; ping -c 2 -i 0.01 -W 0.2 10.65.0.7; true`);
    const counted = await packetsOf(dataplane, 'cali9', 'from-pod');
    expect(counted['not-announced']).toBeGreaterThan(0);
  });
});

describe('an agent that comes after another', () => {
  test('adopts programs and maps, before it knows any endpoint, and a running flow loses nothing', async () => {
    const first = await active();
    const { one, two, onePeer } = await twoPods(first);
    await announce(first, one, two);
    const ids = await attachedIds('cali1');
    expect(ids).toHaveLength(2);
    const stream = await onePeer.stream(two.ipv4, 1);
    // Each is gone before the next begins, with every descriptor it had: what stays is what the kernel holds by pins and filters.
    let last: EbpfDataplane = first;
    for (let restarts = 0; restarts < 3; restarts += 1) {
      await last[Symbol.asyncDispose]();
      const next = bed.idle();
      last = next;
      next.onUpdate({ type: 'configUpdate', config: TEST_CONFIG });
      next.onUpdate(ALLOW_ALL);
      await next.apply();
      await next.activate();
      for (const { id, endpoint } of [one, two]) next.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint });
      next.onUpdate({ type: 'inSync' });
      expect(await next.apply()).toMatchObject({ failed: [], repaired: [] });
      expect(await attachedIds('cali1')).toEqual(ids);
    }
    const report = await stream.stop();
    expect(report).toMatchObject({ failure: null, answered: report.sent });
    expect(report.sent).toBeGreaterThan(0);
  });

  test('with another configuration has the filters go on with its own programs, under a running flow', async () => {
    const first = await active();
    const { one, two, onePeer } = await twoPods(first);
    await announce(first, one, two);
    const before = await attachedIds('cali1');
    const stream = await onePeer.stream(two.ipv4, 1);
    const second = await bed.dataplane([one, two], { config: { ipv6Support: false } });
    expect(await onePeer.connect(two.ipv6, 20_000)).toMatchObject({ ok: true }); // The first agent's still.
    await second.activate();
    expect(await attachedIds('cali1')).toEqual(before);
    const report = await stream.stop();
    expect(report).toMatchObject({ failure: null, answered: report.sent });
    expect(readdirSync(join(bed.bpffs, 'v2')).filter((name) => name.startsWith('programs-'))).toHaveLength(1);
    expect(await onePeer.connect(two.ipv6, 300)).toMatchObject({ ok: false });
    expect((await packetsOf(second, 'cali1', 'from-pod'))['ipv6-disabled']).toBeGreaterThan(0);
  });

  test('takes a map of another size into use with what it held, under a running flow', async () => {
    const first = await active();
    const { one, two, onePeer } = await twoPods(first);
    await announce(first, one, two);
    const counted = (await packetsOf(first, 'cali1', 'from-pod'))['not-announced'];
    const stream = await onePeer.stream(two.ipv6, 1);
    const second = await bed.dataplane([], { sizes: { devices: 16 }, inSync: false });
    await second.activate();
    using sources = openPinnedMap(join(bed.bpffs, 'v2', 'tortie_sources'));
    expect(sources?.shape.maxEntries).toBe(64);
    const report = await stream.stop();
    expect(report).toMatchObject({ failure: null, answered: report.sent });
    expect((await packetsOf(second, 'cali1', 'from-pod'))['not-announced']).toBe(counted);
  });

  test('closes what no endpoint has any more, once it knows all of them', async () => {
    const first = await active();
    const { one, two, onePeer } = await twoPods(first);
    await announce(first, one, two);
    const second = await bed.dataplane([two], { inSync: false });
    await second.activate();
    expect(await onePeer.connect(two.ipv4, 20_000)).toMatchObject({ ok: true });
    second.onUpdate({ type: 'inSync' });
    await second.apply();
    expect(await onePeer.connect(two.ipv4, 300)).toMatchObject({ ok: false });
  });
});

describe('what somebody else changes', () => {
  test.each([
    ['a filter', ['filter', 'del', 'dev', 'cali1', 'ingress', 'pref', '1']],
    ['the qdisc with both filters', ['qdisc', 'del', 'dev', 'cali1', 'clsact']],
    ['all filters of a direction', ['filter', 'del', 'dev', 'cali1', 'egress']],
  ])('is repaired: %s removed', async (_, command) => {
    const dataplane = await active();
    const { one, two, onePeer } = await twoPods(dataplane);
    await announce(dataplane, one, two);
    const driven = drive(dataplane); // From here on: before, an apply for some event could be the one that opens the pods.
    const before = await attachedIds('cali1');
    const repaired = driven.next();
    await bed.node.exec('tc', ...command);
    expect(await repaired).toEqual({ repaired: ['BPF filters of cali1'], failed: [] });
    expect(await attachedIds('cali1')).toEqual(before);
    expect(await onePeer.connect(two.ipv4, 20_000)).toMatchObject({ ok: true });
    await driven.idle();
  });

  test('is repaired at the next comparison: map entries removed', async () => {
    const dataplane = await active();
    const one = await bed.pod(1, dataplane);
    await announce(dataplane, one);
    using sources = openPinnedMap(join(bed.bpffs, 'v2', 'tortie_sources'));
    const [first] = (await sources?.entries()) ?? [];
    sources?.delete(first?.key ?? new Uint8Array());
    dataplane.requestResync();
    expect(await dataplane.apply()).toMatchObject({
      repaired: [`BPF map entries of endpoint ${one.id} (cali1)`],
      programmed: [one.id],
    });
    expect(await sources?.entries()).toHaveLength(2);
    dataplane.requestResync();
    expect(await dataplane.apply()).toMatchObject({ repaired: [], programmed: [] });
  });
});

describe("another program's filters", () => {
  /** A filter of another classifier: matches everything, does nothing. */
  const otherKind = ['u32', 'match', 'u32', '0', '0'];

  test('on the same clsact keep running, and stay with their qdisc when we go', async () => {
    const dataplane = await active();
    const { one, two, onePeer } = await twoPods(dataplane);
    await announce(dataplane, one, two);
    using other = await loadObject({ name: 'count', elf: countElf });
    const { fd } = other.program('count');
    await bed.host.run([
      { op: 'filter.replace', link: 'cali1', direction: 'ingress', priority: 77, handle: 1, name: 'other', fd },
    ]);
    await bed.node.exec('tc', 'filter', 'add', 'dev', 'cali2', 'egress', 'pref', '78', ...otherKind);
    expect(await onePeer.connect(two.ipv4, 20_000)).toMatchObject({ ok: true });
    // What is given to the node's stack; what goes to a pod of this node is redirected, and comes by nobody else.
    await one.netns.exec('sh', '-c', 'ping -c 3 -i 0.01 -W 0.1 198.51.100.1; true');
    await until(
      () => new DataView((other.map('seen').get(u32Key(0)) ?? new Uint8Array(8)).buffer).getBigUint64(0, true) > 2n,
    );
    await dataplane.release();
    expect(await bed.host.filters('cali1', 'ingress')).toMatchObject([{ kind: 'bpf', priority: 77, name: 'other' }]);
    expect(await bed.host.filters('cali1', 'egress')).toEqual([]);
    for (const { kind, priority } of await bed.host.filters('cali2', 'egress'))
      expect([kind, priority]).toEqual(['u32', 78]);
    expect(await bed.host.hasClsact('cali2')).toBe(true);
  });

  test('that were there before us stay as they were, and so does an empty qdisc', async () => {
    const one = await bed.pod(1);
    const two = await bed.pod(2);
    await bed.node.exec('tc', 'qdisc', 'add', 'dev', 'cali1', 'clsact');
    const dataplane = await bed.dataplane([one, two]);
    await dataplane.activate();
    expect(await attachedIds('cali1')).toHaveLength(2);
    // A later agent, which hasn't seen how it began, cleans up.
    await bed.idle().cleanup();
    expect([await bed.host.hasClsact('cali1'), await bed.host.hasClsact('cali2')]).toEqual([true, false]);
  });

  test('in our place keep us out: nothing is attached and the reason says where', async () => {
    const one = await bed.pod(1);
    const two = await bed.pod(2);
    await bed.node.exec('tc', 'qdisc', 'add', 'dev', 'cali2', 'clsact');
    await bed.node.exec('tc', 'filter', 'add', 'dev', 'cali2', 'ingress', 'pref', '1', ...otherKind);
    const dataplane = await bed.dataplane([one, two]);
    await expect(dataplane.activate()).rejects.toThrow(/cali2 \(endpoint .*\): filter\.replace/);
    expect([await attachedIds('cali1'), await attachedIds('cali2')]).toEqual([[], []]);
    expect(dataplane.podDeviceOps('cali3')).toEqual([]);
  });
});

describe('entering and leaving the path', () => {
  test('nothing is attached before activate; then every device is, and release takes all off again', async () => {
    const one = await bed.pod(1);
    const dataplane = await bed.dataplane([one]);
    expect(dataplane.podDeviceOps('cali2')).toEqual([]);
    expect(await bed.host.hasClsact('cali1')).toBe(false);
    const unknown = await bed.pod(2);
    await dataplane.activate();
    expect(await attachedIds('cali1')).toHaveLength(2);
    expect(await attachedIds(unknown.device)).toHaveLength(2); // Closed: nobody has announced it.
    await dataplane.release();
    for (const device of ['cali1', 'cali2']) expect(await bed.host.hasClsact(device)).toBe(false);
  });

  test('a pod that is there keeps its flow when the dataplane enters the path', async () => {
    const one = await bed.pod(1);
    const two = await bed.pod(2);
    const onePeer = await Peer.start(one.netns.path);
    peers.push(onePeer, await Peer.start(two.netns.path));
    const stream = await onePeer.stream(two.ipv4, 1);
    const dataplane = await bed.dataplane([one, two]);
    await dataplane.activate();
    await dataplane.release();
    await dataplane.activate();
    const report = await stream.stop();
    expect(report).toMatchObject({ failure: null, answered: report.sent });
  });

  test('cleanup by an agent that knows nothing leaves no filter, pin, program, map or mount', async () => {
    const dataplane = await active();
    const one = await bed.pod(1, dataplane);
    await announce(dataplane, one);
    const programs = (await attachedIds('cali1')).filter((id) => id !== undefined);
    const sources = openPinnedMap(join(bed.bpffs, 'v2', 'tortie_sources'));
    sources?.[Symbol.dispose]();
    await dataplane[Symbol.asyncDispose]();
    expect(existsSync(join(bed.bpffs, 'v2'))).toBe(true);
    await bed.idle().cleanup();
    expect(await bed.host.hasClsact('cali1')).toBe(false);
    expect(existsSync(bed.bpffs)).toBe(false);
    expect(await must('cat', '/proc/self/mountinfo')).not.toContain(dirname(bed.bpffs));
    // The kernel frees what nobody holds in its own time; what is held stays until this test's time is up.
    const isLeft = async (kind: string, ids: readonly (number | undefined)[]): Promise<boolean> =>
      (JSON.parse(await must('bpftool', '-j', kind, 'show')) as { id: number }[]).some(({ id }) => ids.includes(id));
    // Not at once: what bpftool opens in its last moments may stay for good (ebpf-leaks.test.ts).
    do await scheduler.wait(300);
    while ((await isLeft('prog', programs)) || (await isLeft('map', [sources?.id])));
    await bed.idle().cleanup(); // Twice is once.
  });
});

describe('when a map is full', () => {
  test.each([
    ['tortie_devices', 1, 0, 'tortie_slots'],
    // Four sources a device: 2 and 7 are one too many.
    ['tortie_sources', 2, 5, 'tortie_sources'],
  ])(
    '(%s) the endpoint stays closed with the reason, the others work, and room opens it',
    async (_, room, more, named) => {
      const dataplane = await bed.dataplane([], { sizes: { devices: room } });
      await dataplane.activate();
      const one = await bed.pod(1, dataplane);
      const two = await bed.pod(2);
      dataplane.onUpdate({ type: 'workloadEndpointUpdate', id: one.id, endpoint: one.endpoint });
      await dataplane.apply();
      const further = Array.from({ length: more }, (_, index) => `10.66.0.${index}/32`);
      const endpoint = { ...two.endpoint, ipv4Nets: [...two.endpoint.ipv4Nets, ...further] };
      dataplane.onUpdate({ type: 'workloadEndpointUpdate', id: two.id, endpoint });
      expect(await dataplane.apply()).toMatchObject({
        programmed: [],
        failed: [{ endpoint: two.id, reason: expect.stringMatching(`map ${named} is full.*raise bpfMapSizeIfState`) }],
      });
      expect(await attachedIds('cali2')).toHaveLength(2);
      expect((await dataplane.apply()).failed).toHaveLength(1);
      dataplane.onUpdate({ type: 'workloadEndpointRemove', id: one.id });
      await bed.host.run([{ op: 'link.del', link: 'cali1' }]);
      dataplane.requestResync();
      // What the failed tries and the one that is gone had waits for a grace period, which nobody waits for here.
      let report: ApplyReport | undefined;
      await eventually(
        async () => (report = await dataplane.apply()).failed.length === 0,
        () => report?.failed,
      );
      using devices = openPinnedMap(join(bed.bpffs, 'v2', 'tortie_devices'));
      expect(await devices?.entries()).toHaveLength(1);
    },
  );
});

describe('the probe', () => {
  test('finds nothing missing here', async () => {
    expect(await bed.idle().probe()).toEqual([]);
  });

  test('refuses a kernel whose softirqs interrupt each other, whatever it can', async () => {
    const config = { path: '/proc/config.gz', text: '# CONFIG_PREEMPT_RT_NEEDS_BH_LOCK is not set\n' };
    const kernel = { release: '6.18.2', version: '#1 SMP PREEMPT_RT', realtime: undefined, config: () => config };
    expect(await probeEbpf(bed.bpffs, ebpfObjects, kernel)).toEqual([expect.stringContaining('PREEMPT_RT')]);
  });

  test('says where pins cannot go, and that programs are missing', async () => {
    const dataplane = new EbpfDataplane({
      host: bed.host,
      conntrack: { deleteOf: () => Promise.reject(new Error('not needed')) },
      openMonitor: () => {
        throw new Error('not needed');
      },
      place: { dir: '/proc/nothing/bpf/tortie', objects: '/nothing' },
      nodeName: 'node',
      commands: { run: () => Promise.reject(new Error('not needed')) },
      variants: new VariantChoice({ run: () => Promise.reject(new Error('not needed')) }, silentLogger),
      hasIpv6: () => true,
      readSysctl: () => undefined,
      clock: { now: () => 0, sleep: () => Promise.resolve(), after: () => ({ [Symbol.dispose]: () => {} }) },
      log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
    });
    expect(await dataplane.probe()).toEqual([
      expect.stringMatching(/^no bpf file system at \/proc\/nothing\/bpf, and none can be mounted there: ENOENT/),
      expect.stringMatching(/^the programs are not installed: ENOENT.*\/nothing\/attach\.bpf\.o/),
    ]);
  });

  test('a pinned map of a layout that nobody knows is refused by name, and cleanup gets rid of it', async () => {
    const first = await bed.dataplane();
    await first[Symbol.asyncDispose]();
    using object = await loadObject({ name: 'tortie', elf: attachElf });
    await must('rm', join(bed.bpffs, 'v2', 'tortie_sources'));
    object.map('tortie_devices').pin(join(bed.bpffs, 'v2', 'tortie_sources'));
    const second = bed.idle();
    second.onUpdate({ type: 'configUpdate', config: TEST_CONFIG });
    second.onUpdate(ALLOW_ALL);
    expect(await second.apply()).toMatchObject({
      failed: [
        {
          object: 'BPF programs',
          reason: expect.stringContaining('v2/tortie_sources is not tortie_sources: type is 25'),
        },
      ],
    });
    await second.cleanup();
    expect(existsSync(bed.bpffs)).toBe(false);
  });
});
