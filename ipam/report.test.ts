import { describe, expect, test } from '@jest/globals';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { DirectIpam } from './direct-ipam.ts';
import { Handles } from './handles.ts';
import { ManualClock, plain, put, putPool, startNode, TestFolder, wants } from './ipam-for-tests.ts';
import { releaseByHand } from './release.ts';
import { checkIpam, ipamUsage } from './report.ts';

interface World {
  readonly store: MemoryDatastore;
  readonly clock: ManualClock;
  readonly ipam: DirectIpam;
}

/** A node `n1` with pod `default/web` on a pool of /29 blocks. */
async function world(): Promise<World & { address: string; block: string }> {
  const clock = new ManualClock();
  const store = new MemoryDatastore({ clock });
  await putPool(store, 'p', '10.65.0.0/24', { blockSize: 29 });
  await put(store, 'Node', 'n1', {});
  const ipam = new DirectIpam(store, 'n1', clock);
  const [address = ''] = plain(
    await ipam.autoAssign(wants('net.web', { attributes: { namespace: 'default', pod: 'web' } })),
  );
  await putPod(store, 'web', address);
  const block = (await store.list('IPAMBlock')).items[0]?.spec.cidr ?? '';
  return { store, clock, ipam, address, block };
}

async function putPod(store: MemoryDatastore, name: string, address: string, more: object = {}): Promise<void> {
  await put(store, 'Pod', name, {
    metadata: { namespace: 'default' },
    spec: more,
    status: { phase: 'Running', podIPs: [{ ip: address }] },
  });
}

async function findings(store: MemoryDatastore): Promise<string[]> {
  return (await checkIpam(store)).map(({ kind, subject }) => `${kind} ${subject}`);
}

describe('usage', () => {
  test('counts what is in use, in reserve, cooling and free, and who borrows', async () => {
    const clock = new ManualClock();
    const store = new MemoryDatastore({ clock });
    using folder = new TestFolder();
    await putPool(store, 'p', '10.65.0.0/28', { blockSize: 28 });
    await put(store, 'IPAMConfiguration', 'default', { spec: { ipCooldownSeconds: 60 } });
    await using node = await startNode(store, 'n1', { folder, clock });
    await node.ipam.autoAssign(wants('net.a'));
    await node.ipam.autoAssign(wants('net.b'));
    await node.ipam.releaseHandle('net.b');
    await node.ipam.flush();
    const borrowed = plain(await new DirectIpam(store, 'n2', clock).autoAssign(wants('net.c')))[0];
    const usage = await ipamUsage(store);
    const cidr = '10.65.0.0/28';
    expect(usage.pools).toEqual([
      {
        name: 'p',
        cidr,
        disabled: false,
        size: 16,
        inUse: 2,
        blocks: [{ cidr, node: 'n1', size: 16, inUse: 2, reserved: 3, cooling: 1, free: 10 }],
      },
    ]);
    expect(usage.borrowed).toEqual([{ address: borrowed, block: cidr, blockNode: 'n1', node: 'n2', handle: 'net.c' }]);
    await store.delete('IPPool', { name: 'p' });
    expect((await ipamUsage(store)).strayBlocks.map((block) => block.cidr)).toEqual([cidr]);
  });
});

describe('check', () => {
  test('finds nothing in a sound world', async () => {
    const { store } = await world();
    expect(await findings(store)).toEqual([]);
  });

  test.each<
    [
      string,
      (world: World & { address: string; block: string }) => Promise<unknown>,
      (w: { address: string; block: string }) => string[],
    ]
  >([
    [
      'a handle without allocation',
      ({ store, block }) => new Handles(store).add('net.gone', block, 1),
      () => ['handle-without-allocation net.gone'],
    ],
    [
      'a count that is too high',
      ({ store, block }) => new Handles(store).add('net.web', block, 1),
      () => ['handle-count-wrong net.web'],
    ],
    [
      'an allocation without handle',
      ({ store }) => store.delete('IPAMHandle', { name: 'net.web' }),
      () => ['allocation-without-handle net.web'],
    ],
    [
      'a block without affinity',
      async ({ store }) => store.delete('BlockAffinity', (await store.list('BlockAffinity')).items[0]!.metadata),
      ({ block }) => [`block-without-affinity ${block}`],
    ],
    [
      'an affinity without block',
      ({ store }) =>
        put(store, 'BlockAffinity', 'n1-10-65-9-0-29', {
          spec: { state: 'confirmed', node: 'n1', type: 'host', cidr: '10.65.9.0/29' },
        }),
      () => ['affinity-without-block 10.65.9.0/29'],
    ],
    [
      'an allocation of a node that is gone',
      ({ store }) => store.delete('Node', { name: 'n1' }),
      ({ address }) => [`allocation-without-node ${address}`],
    ],
    [
      'an allocation of a pod that is gone',
      ({ store }) => store.delete('Pod', { namespace: 'default', name: 'web' }),
      ({ address }) => [`allocation-without-pod ${address}`],
    ],
    [
      'two pods with one address',
      ({ store, address }) => putPod(store, 'twin', address),
      ({ address }) => [`duplicate ${address}`],
    ],
    [
      'a pod and an endpoint with one address',
      ({ store, address }) =>
        put(store, 'WorkloadEndpoint', 'n1-cni-x-eth0', {
          metadata: { namespace: 'default' },
          spec: {
            orchestrator: 'cni',
            node: 'n1',
            endpoint: 'eth0',
            interfaceName: 'cali1',
            ipNetworks: [`${address}/32`],
          },
        }),
      ({ address }) => [`duplicate ${address}`],
    ],
    [
      'a pod whose address its block says is free',
      async ({ store, ipam }) => {
        await ipam.releaseHandle('net.web');
        return store;
      },
      ({ address }) => [`address-outside-ipam ${address}`],
    ],
  ])('finds %s', async (_, damage, expected) => {
    const sound = await world();
    await damage(sound);
    expect(await findings(sound.store)).toEqual(expected(sound));
  });

  test('takes no offence at a pod and its own endpoint', async () => {
    const { store, address } = await world();
    await put(store, 'WorkloadEndpoint', 'n1-k8s-web-eth0', {
      metadata: { namespace: 'default' },
      spec: {
        orchestrator: 'k8s',
        node: 'n1',
        pod: 'web',
        endpoint: 'eth0',
        interfaceName: 'cali1',
        ipNetworks: [`${address}/32`],
      },
    });
    expect(await findings(store)).toEqual([]);
  });

  test("takes no offence at a host-networked pod with its node's address, or at a finished one", async () => {
    const { store, address } = await world();
    await putPod(store, 'host', address, { hostNetwork: true });
    await put(store, 'Pod', 'done', {
      metadata: { namespace: 'default' },
      status: { phase: 'Succeeded', podIPs: [{ ip: address }] },
    });
    expect(await findings(store)).toEqual([]);
  });
});

describe('release by hand', () => {
  test.each(['address', 'handle'] as const)('by %s refuses what a pod uses, unless forced', async (by) => {
    const { store, clock, address } = await world();
    const target = by === 'address' ? address : 'net.web';
    await expect(releaseByHand(store, clock, target, { force: false })).rejects.toMatchObject({
      code: 'taken',
      message: expect.stringContaining('Pod default/web'),
    });
    expect(await releaseByHand(store, clock, target, { force: true })).toEqual([address]);
    expect(await findings(store)).toEqual([`address-outside-ipam ${address}`]);
  });

  test('frees what nobody uses, and repairs a handle without addresses', async () => {
    const { store, clock, address, block } = await world();
    await store.delete('Pod', { namespace: 'default', name: 'web' });
    expect(await releaseByHand(store, clock, address, { force: false })).toEqual([address]);
    await new Handles(store).add('net.gone', block, 2);
    expect(await releaseByHand(store, clock, 'net.gone', { force: false })).toEqual([]);
    expect(await findings(store)).toEqual([]);
  });

  test("refuses a node's reserve, and what is not allocated", async () => {
    const { store, clock } = await world();
    using folder = new TestFolder();
    await using node = await startNode(store, 'n2', { folder, clock });
    await node.ipam.autoAssign(wants('net.x'));
    await node.ipam.flush();
    await expect(releaseByHand(store, clock, 'tortie-reserve-n2', { force: false })).rejects.toMatchObject({
      code: 'taken',
      message: expect.stringContaining('node n2'),
    });
    await expect(releaseByHand(store, clock, '10.65.0.254', { force: true })).rejects.toMatchObject({
      code: 'bad-request',
    });
    await expect(releaseByHand(store, clock, 'net.nobody', { force: true })).rejects.toMatchObject({
      code: 'bad-request',
    });
  });
});
