/** Garbage collection of addresses by agents on a real API server: what dies without a DEL, and Nodes that are deleted. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseAs } from '#api/kinds.ts';
import { addressAllocationsOf } from '#ipam/allocations.ts';
import { eventually } from '#test/lab/agent-lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { KubernetesLab } from './kubernetes-lab.ts';

/** A deleted node's agent has the same time to answer. */
const graceMs = 6_000;
/** A lease that nobody renews, two looks at it, a slow machine. */
const takeoverMs = 150_000;

describe('agents in a cluster', () => {
  let cluster: KubernetesLab;

  beforeAll(async () => {
    cluster = await KubernetesLab.create({ nodes: 3 });
    await Promise.all(cluster.lab.nodes.map((node) => cluster.register(node)));
    await Promise.all(cluster.lab.nodes.map(startAgent));
  }, 300_000);
  afterAll(async () => cluster?.[Symbol.asyncDispose]());

  it('addresses of a pod that died without a DEL come back after the grace time, never while it lives', async () => {
    const node = cluster.node(0);
    const lives = await cluster.addPod(node, 'lives');
    const unlisted = await cluster.addPod(node, 'unlisted');
    const listed = await cluster.addPod(node, 'listed');
    const dead = await cluster.addPod(node, 'dead');
    const [ofDead, ofListed, ofUnlisted, ofLives] = [dead, listed, unlisted, lives].map(addressesOf);
    const kept = async (...pods: readonly (readonly string[] | undefined)[]) => {
      const given = new Set((await owners()).map(([address]) => address));
      return pods.flatMap((addresses) => addresses ?? []).filter((address) => given.has(address)).length;
    };
    await annotated(listed);
    await deletePod('unlisted'); // Its sandbox stays.
    await deletePod('dead');
    await Promise.all([dead.loseNamespace(), listed.loseNamespace()]); // Without a DEL.
    await becomesFree(ofDead);
    await sleep(2 * graceMs);
    expect(await kept(ofListed, ofUnlisted, ofLives)).toBe(6);
    // The Pod was all that kept it.
    await deletePod('listed');
    await becomesFree(ofListed);
    expect(await kept(ofUnlisted, ofLives)).toBe(4);
    await node.waitFor(({ endpoints }) => endpoints === 2);
    await Promise.all([lives.del(), unlisted.del()]);
    await becomesFree([...(ofUnlisted ?? []), ...(ofLives ?? [])]);
    await deletePod('lives');
  }, 400_000);

  it("a deleted node's blocks and addresses come back", async () => {
    // Its agent may be the one that collects: another takes over.
    const name = (await holder()).split('_')[0];
    const node = cluster.lab.nodes.find((one) => one.name === name) ?? cluster.node(2);
    const lost = await cluster.addPod(node, 'lost');
    await written(lost);
    const blocks = (await affinitiesOf(node)).map(({ spec }) => String(spec['cidr']));
    expect(blocks.length).toBeGreaterThan(0);
    await node.killAgent();
    await cluster.plane.kubectl.run('delete', 'node', node.name);
    // The pod collector of Kubernetes deletes it; until then its addresses stay.
    await sleep(2 * graceMs);
    expect((await owners()).filter(([address]) => addressesOf(lost).includes(address))).toHaveLength(2);
    await deletePod('lost');
    const left = async () => [
      ...(await affinitiesOf(node)).map(({ metadata }) => metadata.name),
      ...(await owners()).filter(([, , on]) => on === node.name).map(([address]) => address),
      ...(await cluster.list('ipamhandles.projectcalico.org'))
        .filter(({ spec }) => Object.keys(spec['block'] as object).some((cidr) => blocks.includes(cidr)))
        .map(({ metadata }) => metadata.name),
    ];
    await eventually(
      async () => (await left()).length === 0,
      async () => `${(await left()).join(', ')}\n${cluster.lab.nodes.map((one) => one.logTail()).join('\n')}`,
      takeoverMs,
    );
  }, 500_000);

  it('a Node that is deleted while its agent is alive, and added again, loses nothing', async () => {
    const alive = cluster.lab.nodes.filter((node) => node.agentPid !== undefined);
    const leading = await eventuallyLeading(alive);
    const node = alive.find((one) => one !== leading) ?? cluster.node(0);
    const pods = await Promise.all(['a', 'b', 'c'].map((name) => cluster.addPod(node, `stays-${name}`)));
    await Promise.all(pods.map(written));
    const before = await owners();
    // Nothing but the agent's answer keeps them.
    for (const pod of pods) await deletePod(pod.name);
    await cluster.plane.kubectl.run('delete', 'node', node.name);
    // On a slow machine another may lead by now.
    const isAsked = () => alive.some((one) => one.log().includes('a node that was deleted is alive'));
    await eventually(isAsked, () => alive.map((one) => one.logTail()).join('\n'), takeoverMs);
    await cluster.register(node);
    const more = await Promise.all(['d', 'e', 'f'].map((name) => cluster.addPod(leading, `new-${name}`)));
    const addresses = [...pods, ...more].flatMap(addressesOf);
    expect(new Set(addresses).size).toBe(addresses.length);
    const stays = new Set(pods.flatMap(addressesOf));
    expect((await owners()).filter(([address]) => stays.has(address))).toEqual(
      before.filter(([address]) => stays.has(address)),
    );
    await eventuallyLeading(alive);
  }, 500_000);

  function startAgent(node: LabNode): Promise<void> {
    return node.startAgent({ env: { TORTIE_IPAM_LEAK_GRACE: `${graceMs}ms` } });
  }

  async function deletePod(name: string): Promise<void> {
    await cluster.plane.kubectl.run('delete', 'pod', name, '--force', '--grace-period=0');
  }

  async function annotated(pod: LabPod): Promise<void> {
    await cluster.becomes(
      () => cluster.podAnnotations(pod.name),
      (now) => now['cni.projectcalico.org/podIP'] === `${pod.ipv4}/32`,
    );
  }

  async function written(pod: LabPod): Promise<void> {
    await cluster.becomes(owners, (now) =>
      addressesOf(pod).every((mine) => now.some(([address, handle]) => address === mine && !isReserve(handle))),
    );
  }

  /** What is allocated: address, handle and node. */
  async function owners(): Promise<readonly (readonly [string, string, string])[]> {
    const blocks = await cluster.list('ipamblocks.projectcalico.org');
    return blocks
      .map((block) => parseAs('IPAMBlock', block).object)
      .flatMap(({ spec }) => addressAllocationsOf(spec))
      .map(({ address, handle = '', attributes }) => [address, handle, attributes['node'] ?? ''] as const)
      .toSorted(([a], [b]) => (a < b ? -1 : 1));
  }

  /** No pod has them; the reserve of a node may. */
  async function becomesFree(addresses: readonly string[] = []): Promise<void> {
    expect(addresses).not.toHaveLength(0);
    await cluster.becomes(owners, (now) =>
      now.every(([address, handle]) => !addresses.includes(address) || isReserve(handle)),
    );
  }

  async function affinitiesOf(node: LabNode) {
    const all = await cluster.list('blockaffinities.projectcalico.org');
    return all.filter(({ spec }) => spec['node'] === node.name);
  }

  async function holder(): Promise<string> {
    let name = '';
    await eventually(
      async () => {
        const args = [
          'get',
          'lease',
          'tortie-controllers',
          '--namespace=kube-system',
          '--ignore-not-found',
          '--output=name',
        ];
        if ((await cluster.plane.kubectl.run(...args)) === '') return false;
        const { spec } = await cluster.get('lease', 'tortie-controllers', '--namespace=kube-system');
        const { holderIdentity } = spec as { readonly holderIdentity?: string };
        name = holderIdentity ?? '';
        return name !== '';
      },
      () => cluster.lab.nodes.map((node) => node.logTail()).join('\n'),
    );
    return name;
  }

  async function eventuallyLeading(nodes: readonly LabNode[]): Promise<LabNode> {
    let leading: LabNode | undefined;
    await eventually(
      async () => {
        for (const node of nodes) if ((await node.status()).addresses?.leads === true) leading = node;
        return leading !== undefined;
      },
      () => 'nobody leads',
      takeoverMs,
    );
    if (leading === undefined) throw new Error('nobody leads');
    return leading;
  }
});

const addressesOf = ({ ipv4, ipv6 }: LabPod): readonly string[] => [ipv4, ipv6];

function isReserve(handle: string): boolean {
  return handle.startsWith('tortie-reserve-');
}
