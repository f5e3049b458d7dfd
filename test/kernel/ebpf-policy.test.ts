import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import type { EndpointId } from '#dataplanes/messages.ts';
import type { PolicyId, RuleInfo } from '#dataplanes/policy.ts';
import { ANY_PEER, ANY_RULE } from '#dataplanes/shared/test-config.ts';
import { Peer } from '#test/lab/peer-client.ts';
import { until } from '#test/lab/until.ts';
import { type BedPod, EbpfBed, packetsOf } from './ebpf-bed.ts';

/*
 * Policy by the programs on a real kernel: units, slots and ways as the agent makes them.
 *
 *     pod 1 --> pod_out on cali1 (egress of 1, ingress of 2) --> pod 2
 */
let bed: EbpfBed;
const peers: Peer[] = [];

beforeEach(async () => {
  bed = await EbpfBed.create();
});

afterEach(async () => {
  for (const peer of peers.splice(0)) await peer[Symbol.asyncDispose]();
  await bed[Symbol.asyncDispose]();
});

const policy: PolicyId = 'NetworkPolicy default/p';

/** One rule of the policy, allowing what comes from the set, or everything. */
const allowFrom = (set?: string, index = 0): RuleInfo => ({
  ...ANY_RULE,
  source: { ...ANY_PEER, sets: set === undefined ? [] : [set] },
  id: `${policy} ingress ${index}`,
  action: 'allow',
});

const setPolicy = (dataplane: EbpfDataplane, ingress: readonly RuleInfo[]): void =>
  dataplane.onUpdate({
    type: 'policyUpdate',
    id: policy,
    policy: { tier: 'default', staged: false, ingress, egress: [] },
  });

/** The pod with the policy on what it gets. */
const selected = (pod: BedPod): BedPod['endpoint'] => ({
  ...pod.endpoint,
  tiers: [{ name: 'default', defaultAction: 'deny', ingress: [policy], egress: [] }],
});

const say = (dataplane: EbpfDataplane, pod: BedPod, endpoint = pod.endpoint): void =>
  dataplane.onUpdate({ type: 'workloadEndpointUpdate', id: pod.id, endpoint });

async function applied(dataplane: EbpfDataplane, ...programmed: readonly EndpointId[]): Promise<void> {
  expect(await dataplane.apply()).toMatchObject({ programmed, failed: [], repaired: [] });
}

async function active(): Promise<EbpfDataplane> {
  const dataplane = await bed.dataplane();
  await dataplane.activate();
  return dataplane;
}

async function twoPods(dataplane: EbpfDataplane): Promise<{ one: BedPod; two: BedPod; onePeer: Peer }> {
  const one = await bed.pod(1, dataplane);
  const two = await bed.pod(2, dataplane);
  const onePeer = await Peer.start(one.netns.path);
  peers.push(onePeer, await Peer.start(two.netns.path));
  return { one, two, onePeer };
}

const isReached = async (from: Peer, { ipv4, ipv6 }: BedPod, timeoutMs: number): Promise<boolean[]> =>
  Promise.all([ipv4, ipv6].map(async (host) => (await from.connect(host, timeoutMs)).ok));

describe('flows', () => {
  test('of a pod that is gone are not those of the next one with its address', async () => {
    const dataplane = await active();
    const { one, two, onePeer } = await twoPods(dataplane);
    for (const pod of [one, two]) say(dataplane, pod);
    await applied(dataplane, one.id, two.id);
    expect(await isReached(onePeer, two, 20_000)).toEqual([true, true]);
    const known = async (): Promise<number> => {
      let count = 0;
      for await (const flows of dataplane.flows.list({ addresses: [two.ipv4, two.ipv6] })) count += flows.length;
      return count;
    };
    expect(await known()).toBeGreaterThan(0);
    dataplane.onUpdate({ type: 'workloadEndpointRemove', id: two.id });
    const next = { ...two, id: 'k8s/default/next/eth0', endpoint: { ...two.endpoint, mac: '0a:00:00:00:00:99' } };
    say(dataplane, next);
    await applied(dataplane, next.id);
    expect(await known()).toBe(0);
  });

  test('that can not be deleted keep the next pod with the address waiting, however often it is tried', async () => {
    const dataplane = await active();
    const one = await bed.pod(1, dataplane);
    say(dataplane, one);
    await applied(dataplane, one.id);
    bed.conntrackFailure = new Error('ctnetlink: ENOBUFS');
    dataplane.onUpdate({ type: 'workloadEndpointRemove', id: one.id });
    const next = { ...one, id: 'k8s/default/next/eth0', endpoint: { ...one.endpoint, mac: '0a:00:00:00:00:99' } };
    say(dataplane, next);
    for (let attempt = 0; attempt < 3; attempt++) {
      const { failed } = await dataplane.apply();
      expect(failed).toContainEqual({
        object: `endpoint ${next.id}`,
        endpoint: next.id,
        reason: 'flows of the pod that had its address: ctnetlink: ENOBUFS',
      });
    }
    bed.conntrackFailure = undefined;
    expect((await dataplane.apply()).failed).toEqual([]);
  });
});

describe('policy', () => {
  test('is in force in both families, counts, and follows policies, sets and profiles', async () => {
    const dataplane = await active();
    const { one, two, onePeer } = await twoPods(dataplane);
    setPolicy(dataplane, []);
    say(dataplane, one);
    say(dataplane, two, selected(two));
    await applied(dataplane, one.id, two.id);
    expect(await isReached(onePeer, two, 300)).toEqual([false, false]);
    expect((await packetsOf(dataplane, 'cali2', 'to-pod'))['policy']).toBeGreaterThan(1);

    // A set without pod 1, then with it: a label that changes is no change of any endpoint.
    dataplane.onUpdate({ type: 'ipSetUpdate', id: 's', setType: 'net', members: [] });
    setPolicy(dataplane, [allowFrom('s')]);
    await applied(dataplane);
    expect(await isReached(onePeer, two, 300)).toEqual([false, false]);
    dataplane.onUpdate({ type: 'ipSetDelta', id: 's', added: [`${one.ipv4}/32`, `${one.ipv6}/128`], removed: [] });
    await applied(dataplane);
    expect(await isReached(onePeer, two, 20_000)).toEqual([true, true]);
    expect((await dataplane.ruleCounters()).get(`${policy} ingress 0`)?.packets).toBe(2);

    dataplane.onUpdate({ type: 'ipSetDelta', id: 's', added: [], removed: [`${one.ipv6}/128`] });
    await applied(dataplane);
    expect(await isReached(onePeer, two, 2_000)).toEqual([true, false]);
    say(dataplane, two);
    await applied(dataplane, two.id);
    expect(await isReached(onePeer, two, 20_000)).toEqual([true, true]);
  });

  test('what is said while an apply is under way is the next one’s: a policy that goes refuses nobody, and its pod leaves it', async () => {
    const dataplane = await active();
    const { one, two, onePeer } = await twoPods(dataplane);
    say(dataplane, one);
    // However far the apply has come: with its rules there are more pieces than turns are waited for.
    const rules = Array.from({ length: 2_000 }, (_, index) => ({
      ...allowFrom(undefined, index),
      destination: { ...ANY_PEER, nets: [`10.9.${index >> 8}.${index & 255}/32`] },
    }));
    for (let turns = 1; turns < 40; turns += 2) {
      setPolicy(dataplane, [...rules.slice(0, 50 * turns), allowFrom(undefined, 2_000)]);
      say(dataplane, two, selected(two));
      const underWay = dataplane.apply();
      for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
      say(dataplane, two);
      dataplane.onUpdate({ type: 'policyRemove', id: policy });
      expect(await underWay).toMatchObject({ failed: [] });
      expect(await isReached(onePeer, two, 20_000)).toEqual([true, true]);
      expect(dataplane.inForce?.units).toBe(6); // The policy's are there, beside those of pods without any.
      await applied(dataplane, two.id);
      expect(await isReached(onePeer, two, 20_000)).toEqual([true, true]);
      expect(dataplane.inForce?.units).toBe(4);
    }
  });

  test('whether a pod may send to tunnels is what the configuration says, also when it changes', async () => {
    const dataplane = await active();
    const { one, two, onePeer } = await twoPods(dataplane);
    say(dataplane, one);
    say(dataplane, two);
    await applied(dataplane, one.id, two.id);
    const refused = async (): Promise<number> =>
      (await packetsOf(dataplane, 'cali1', 'from-pod'))['encapsulation'] ?? 0;
    for (const host of [two.ipv4, two.ipv6]) await onePeer.probe(host, { protocol: 'udp', port: 4789, timeoutMs: 100 });
    const refusedAre = async (count: number): Promise<void> => {
      // The last one may be under way.
      await until(async () => (await refused()) >= count);
      expect(await refused()).toBe(count);
    };
    await refusedAre(2);
    await onePeer.sendRaw(4, 4, two.ipv4, '45000014');
    await refusedAre(3);

    const config = { ...bed.config, allowVxlanFromWorkloads: true, allowIpipFromWorkloads: true };
    dataplane.onUpdate({ type: 'configUpdate', config });
    await applied(dataplane);
    await onePeer.probe(two.ipv4, { protocol: 'udp', port: 4789, timeoutMs: 100 });
    await onePeer.sendRaw(4, 4, two.ipv4, '45000014');
    expect(await refused()).toBe(3);
  });

  test('that can not be made closes its endpoints only, with the reason, and opens them when it can', async () => {
    const dataplane = await active();
    const { one, two, onePeer } = await twoPods(dataplane);
    const three = await bed.pod(3, dataplane);
    peers.push(await Peer.start(three.netns.path));
    setPolicy(dataplane, [allowFrom('nobody-said-this')]);
    for (const pod of [one, three]) say(dataplane, pod);
    say(dataplane, two, selected(two));
    const report = await dataplane.apply();
    expect(report.programmed).toEqual([one.id, three.id]);
    expect(report.failed).toEqual([
      { object: `endpoint ${two.id}`, endpoint: two.id, reason: expect.stringContaining('nobody-said-this') },
    ]);
    expect(await isReached(onePeer, two, 300)).toEqual([false, false]);
    expect(await isReached(onePeer, three, 20_000)).toEqual([true, true]);
    dataplane.onUpdate({ type: 'ipSetUpdate', id: 'nobody-said-this', setType: 'net', members: [`${one.ipv4}/32`] });
    await applied(dataplane, two.id);
    expect(await isReached(onePeer, two, 2_000)).toEqual([true, false]);

    // It may also break while it is in force.
    setPolicy(dataplane, [allowFrom('nor-this')]);
    expect(await dataplane.apply()).toMatchObject({ programmed: [], failed: [{ endpoint: two.id }] });
    expect(await isReached(onePeer, two, 300)).toEqual([false, false]);
    setPolicy(dataplane, [allowFrom()]);
    await applied(dataplane, two.id);
    expect(await isReached(onePeer, two, 20_000)).toEqual([true, true]);
  });

  test('holds while another agent fills its own maps, and no packet meets half of them', async () => {
    const first = await active();
    const { one, two, onePeer } = await twoPods(first);
    setPolicy(first, []);
    say(first, one);
    say(first, two, selected(two));
    await applied(first, one.id, two.id);
    const stream = onePeer.stream(two.ipv4, 1, {}).catch(() => undefined); // Never gets through.
    await first[Symbol.asyncDispose](); // As if killed: what is pinned and attached stays.
    const second = bed.idle();
    second.onUpdate({ type: 'configUpdate', config: bed.config });
    await second.apply();
    await second.activate();
    // It knows no endpoint yet, and entered nothing: pod 2 is still open for nobody, pod 1 may still send.
    expect(await isReached(onePeer, two, 300)).toEqual([false, false]);
    const before = (await packetsOf(second, 'cali2', 'to-pod'))['policy'] ?? 0;
    expect(before).toBeGreaterThan(0);
    for (const update of bed.profiles) second.onUpdate(update);
    setPolicy(second, []);
    say(second, one);
    say(second, two, selected(two));
    second.onUpdate({ type: 'inSync' });
    await applied(second, one.id, two.id);
    expect(await isReached(onePeer, two, 300)).toEqual([false, false]);
    expect((await packetsOf(second, 'cali2', 'to-pod'))['policy']).toBeGreaterThan(before);
    setPolicy(second, [allowFrom()]);
    await applied(second);
    expect(await isReached(onePeer, two, 20_000)).toEqual([true, true]);
    await stream;
  });
});
