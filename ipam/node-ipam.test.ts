import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { MemoryDatastore, type OperationCall } from '#datastore/memory/memory-datastore.ts';
import { DirectIpam } from './direct-ipam.ts';
import {
  allocated,
  allocatedToPods,
  expectNoFindings,
  expectSoundBlocks,
  ManualClock,
  patchSpec,
  plain,
  put,
  putPool,
  startNode,
  TestFolder,
  wants,
  type TestNode,
} from './ipam-for-tests.ts';
import type { NodeFacts } from './reconcile-node.ts';

/** A node with a pool of each family whose reserve is warm. Counts the datastore's calls. */
async function warmNode(): Promise<{
  store: MemoryDatastore;
  calls: OperationCall[];
  clock: ManualClock;
  folder: TestFolder;
  node: TestNode;
}> {
  const calls: OperationCall[] = [];
  const clock = new ManualClock();
  const store = new MemoryDatastore({ clock, pause: (call) => void calls.push(call) });
  await putPool(store, 'v4', '10.65.0.0/24');
  await putPool(store, 'v6', 'fd00:65::/64');
  const folder = new TestFolder();
  const node = await startNode(store, 'n1', { folder, clock });
  await node.ipam.autoAssign(wants('net.first', { want6: true }));
  await node.ipam.flush();
  calls.length = 0;
  return { store, calls, clock, folder, node };
}

async function reserveOf(store: MemoryDatastore, node = 'n1'): Promise<string[]> {
  return [...(await allocated(store))]
    .filter(([, handle]) => handle === `tortie-reserve-${node}`)
    .map(([address]) => address);
}

/** The same node after its process died: the journal and the datastore are all there is. */
function restarted(
  world: { store: MemoryDatastore; folder: TestFolder; clock: ManualClock },
  facts: NodeFacts,
): Promise<TestNode> {
  return startNode(world.store, 'n1', { ...world, facts });
}

function live(entries: Record<string, string | undefined>): NodeFacts['live'] {
  return new Map(
    Object.entries(entries).map(([address, handle]) => [address, handle === undefined ? undefined : { handle }]),
  );
}

describe('the warm reserve', () => {
  test('holds eight addresses per family, written as allocated before anyone gets one', async () => {
    const { store, folder, node } = await warmNode();
    using _folder = folder;
    await using _node = node;
    const reserve = await reserveOf(store);
    expect(reserve.filter((address) => !address.includes(':'))).toHaveLength(8);
    expect(reserve.filter((address) => address.includes(':'))).toHaveLength(8);
    expect((await store.get('IPAMHandle', { name: 'tortie-reserve-n1' }))?.spec.block).toEqual({
      [await blockOf(store, 4)]: 8,
      [await blockOf(store, 6)]: 8,
    });
  });

  test('serves an ADD without a single call to the datastore', async () => {
    const { store, calls, folder, node } = await warmNode();
    using _folder = folder;
    await using _node = node;
    const reserve = await reserveOf(store);
    calls.length = 0;
    const addresses = plain(await node.ipam.autoAssign(wants('net.fast', { want6: true })));
    expect(calls).toEqual([]);
    expect(reserve).toEqual(expect.arrayContaining([...addresses]));
    expect(await node.ipam.addressesOf('net.fast')).toEqual(addresses);
    await node.ipam.flush();
    const stored = await allocatedToPods(store);
    expect(addresses.map((address) => stored.get(address))).toEqual(['net.fast', 'net.fast']);
    expect(await reserveOf(store)).toHaveLength(16);
    await expectNoFindings(store);
  });

  test('serves a DEL without a single call to the datastore', async () => {
    const { store, calls, folder, node } = await warmNode();
    using _folder = folder;
    await using _node = node;
    expect(await node.ipam.releaseHandle('net.first')).toHaveLength(2);
    expect(calls).toEqual([]);
    await node.ipam.flush();
    expect((await allocatedToPods(store)).size).toBe(0);
    await expectNoFindings(store);
  });

  test('an address given and released before it was written goes back to the tail of the queue', async () => {
    const { store, folder, node } = await warmNode();
    using _folder = folder;
    await using _node = node;
    const [address = ''] = plain(await node.ipam.autoAssign(wants('net.short')));
    await node.ipam.releaseHandle('net.short');
    await node.ipam.flush();
    const block = (await store.list('IPAMBlock')).items.find(({ spec }) => !spec.cidr.includes(':'));
    expect(block?.spec.unallocated.at(-1)).toBe(Number(address.split('.')[3]) % 64);
    await expectNoFindings(store);
  });

  test('fifty parallel ADDs cost a few writes of the block', async () => {
    const { store, calls, folder, node } = await warmNode();
    using _folder = folder;
    await using _node = node;
    const results = await Promise.all(
      Array.from({ length: 50 }, (_unused, i) => node.ipam.autoAssign(wants(`net.p${i}`))),
    );
    await node.ipam.flush();
    expect(new Set(results.flatMap(plain)).size).toBe(50);
    expect(
      calls.filter(({ operation, kind }) => operation === 'update' && kind === 'IPAMBlock').length,
    ).toBeLessThanOrEqual(8);
    await expectSoundBlocks(store);
    await expectNoFindings(store);
  });

  test('never holds more than a quarter of what is free, and claims no block', async () => {
    const store = new MemoryDatastore();
    using folder = new TestFolder();
    await putPool(store, 'p', '10.65.0.0/24', { blockSize: 29 });
    await using node = await startNode(store, 'n1', { folder });
    await node.ipam.flush();
    expect((await store.list('IPAMBlock')).items).toEqual([]);
    await node.ipam.autoAssign(wants('net.a'));
    await node.ipam.flush();
    expect(await reserveOf(store)).toHaveLength(1);
    expect((await store.list('IPAMBlock')).items).toHaveLength(1);
  });

  test('is returned by a clean shutdown, and then nothing of the node is left but its pods', async () => {
    const { store, folder, node } = await warmNode();
    using _folder = folder;
    await node.ipam.close();
    expect(await reserveOf(store)).toEqual([]);
    expect(await store.get('IPAMHandle', { name: 'tortie-reserve-n1' })).toBeUndefined();
    expect(readFileSync(folder.journal('n1'), 'utf8')).toBe('');
    await expectNoFindings(store);
    await node[Symbol.asyncDispose]();
  });

  test.each([
    ['disabled', (store: MemoryDatastore) => patchSpec(store, 'IPPool', 'v4', { disabled: true })],
    ['deleted', (store: MemoryDatastore) => store.delete('IPPool', { name: 'v4' })],
    [
      'restricted to a namespace',
      (store: MemoryDatastore) => patchSpec(store, 'IPPool', 'v4', { namespaceSelector: 'has(x)' }),
    ],
    [
      'reserved',
      (store: MemoryDatastore) => put(store, 'IPReservation', 'r', { spec: { reservedCIDRs: ['10.65.0.0/24'] } }),
    ],
  ])('drops its addresses when their pool is %s', async (_case, change) => {
    const { store, folder, node } = await warmNode();
    using _folder = folder;
    await using _node = node;
    await change(store);
    await new Promise(setImmediate);
    await expect(node.ipam.autoAssign(wants('net.x'))).rejects.toMatchObject({
      code: expect.stringMatching(/no-pool|no-free-address/),
    });
    await node.ipam.flush();
    expect((await reserveOf(store)).filter((address) => !address.includes(':'))).toEqual([]);
    expect(await reserveOf(store)).toHaveLength(8);
  });

  test('a pool asked for, and one that only the namespace may use, go the awaited way', async () => {
    const { store, calls, folder, node } = await warmNode();
    using _folder = folder;
    await using _node = node;
    await putPool(store, 'blue', '10.66.0.0/24', { namespaceSelector: 'team == "blue"' });
    await new Promise(setImmediate);
    calls.length = 0;
    await node.ipam.autoAssign(wants('net.a', { namespace: { name: 'b', labels: { team: 'blue' } } }));
    expect(calls.length).toBeGreaterThan(0);
    calls.length = 0;
    await node.ipam.autoAssign(wants('net.b', { pools4: ['v4'] }));
    expect(calls.length).toBeGreaterThan(0);
  });

  test('an exact address that this node holds in reserve is given; another node is told who holds it', async () => {
    const { store, clock, folder, node } = await warmNode();
    using _folder = folder;
    await using _node = node;
    const [address = ''] = await reserveOf(store);
    await using other = await startNode(store, 'n2', { folder, clock });
    const request = { handle: 'net.x', attributes: {}, addresses: [address] };
    await expect(other.ipam.assignIps(request)).rejects.toMatchObject({
      code: 'taken',
      message: expect.stringContaining('on node n1'),
    });
    await node.ipam.flush();
    expect(plain(await node.ipam.assignIps(request))).toEqual([address]);
  });
});

describe('while the datastore fails', () => {
  test('the reserve still serves, decisions are kept, and they are written when it works again', async () => {
    const { store, clock, folder, node } = await warmNode();
    using _folder = folder;
    await using _node = node;
    for (let i = 0; i < 3; i++) {
      store.failNext('update', new Error('no route to host'), { kind: 'IPAMBlock' });
    }
    const addresses = plain(await node.ipam.autoAssign(wants('net.a')));
    await expect(node.ipam.flush()).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('no route to host'),
    });
    expect(node.logs).toEqual([expect.stringContaining('no route to host')]);
    await node.ipam.releaseHandle('net.first');
    clock.advance(60_000);
    await new Promise(setImmediate);
    clock.advance(60_000);
    await node.ipam.flush();
    expect([...(await allocatedToPods(store))]).toEqual([[addresses[0], 'net.a']]);
    await expectNoFindings(store);
  });

  test.each(['before', 'after'] as const)(
    'a block write that fails %s its effect gives no address twice',
    async (when) => {
      const { store, folder, node } = await warmNode();
      using _folder = folder;
      await using _node = node;
      const addresses: string[] = [];
      for (let i = 0; i < 20; i++) {
        store.failNext('update', new Error('timeout'), { kind: 'IPAMBlock', when });
        addresses.push(...(await node.ipam.autoAssign(wants(`net.${i}`)).then(plain, () => [])));
        await node.ipam.flush().catch(() => {});
      }
      await node.ipam.flush();
      expect(new Set(addresses).size).toBe(addresses.length);
      expect(addresses.length).toBeGreaterThan(10);
      const stored = await allocatedToPods(store);
      expect(addresses.filter((address) => !stored.has(address))).toEqual([]);
      await expectSoundBlocks(store);
    },
  );
});

test('a request while counts of its handle are compared with the blocks waits: what it counts is not taken for too much', async () => {
  let isHeld = false;
  let reads = 0;
  const gate = Promise.withResolvers<void>();
  let onRead = async (): Promise<void> => {};
  const clock = new ManualClock();
  const store = new MemoryDatastore({
    clock,
    pause: async ({ operation, kind }) => {
      if (isHeld && operation === 'update' && kind === 'IPAMBlock') await gate.promise;
      if (operation === 'get' && kind === 'IPAMHandle' && ++reads === 2) await onRead();
    },
  });
  await putPool(store, 'v4', '10.65.0.0/24');
  using folder = new TestFolder();
  await using node = await startNode(store, 'n1', { folder, clock, reserveSize: 0 });
  await node.ipam.autoAssign(wants('net.first'));
  await node.ipam.flush();
  store.failNext('update', new Error('timeout'), { kind: 'IPAMBlock' });
  await expect(node.ipam.autoAssign(wants('net.a'))).rejects.toMatchObject({ code: 'unavailable' });
  let again: Promise<unknown> = Promise.resolve();
  onRead = async () => {
    // The blocks have been looked at. The request counts itself, and gets no further.
    isHeld = true;
    again = node.ipam.autoAssign(wants('net.a'));
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
  };
  reads = 0;
  await node.ipam.flush();
  gate.resolve();
  await again;
  expect((await store.get('IPAMHandle', { name: 'net.a' }))?.spec.block).toEqual({ [await blockOf(store, 4)]: 1 });
  await node.ipam.flush();
  await expectNoFindings(store);
});

describe('after a crash', () => {
  test('before start nothing is given', async () => {
    const { folder, node } = await warmNode();
    using _folder = folder;
    await node.ipam.close();
    await expect(node.ipam.autoAssign(wants('net.x'))).rejects.toMatchObject({ code: 'unavailable' });
    expect(node.ipam.unavailableReason()).toContain('shutting down');
    await node[Symbol.asyncDispose]();
  });

  test('a journalled owner keeps its address, whether it is live or not', async () => {
    const world = await warmNode();
    using _folder = world.folder;
    const [address = ''] = plain(await world.node.ipam.autoAssign(wants('net.a')));
    const [wired = ''] = plain(await world.node.ipam.autoAssign(wants('net.b')));
    // The datastore has neither yet: the old process ends here.
    await using node = await restarted(world, { live: live({ [wired]: 'net.b' }) });
    await node.ipam.flush();
    expect(await node.ipam.addressesOf('net.a')).toEqual([address]);
    expect((await allocatedToPods(world.store)).get(address)).toBe('net.a');
    expect((await allocatedToPods(world.store)).get(wired)).toBe('net.b');
    await expectNoFindings(world.store);
  });

  test('a journalled release is carried out', async () => {
    const world = await warmNode();
    using _folder = world.folder;
    await world.node.ipam.releaseHandle('net.first');
    const [address] = plain(await world.node.ipam.autoAssign(wants('net.short')));
    await world.node.ipam.releaseHandle('net.short');
    await using node = await restarted(world, { live: new Map() });
    await node.ipam.flush();
    expect((await allocatedToPods(world.store)).size).toBe(0);
    expect(address).toBeDefined();
    await expectNoFindings(world.store);
  });

  test('an address of the reserve that is live under an unknown owner is kept out until garbage collection', async () => {
    const world = await warmNode();
    using _folder = world.folder;
    const [strange = ''] = await reserveOf(world.store);
    await using node = await restarted(world, { live: live({ [strange]: undefined }) });
    const given = await Promise.all(
      Array.from({ length: 40 }, (_unused, i) => node.ipam.autoAssign(wants(`net.${i}`))),
    );
    expect(given.flatMap(plain)).not.toContain(strange);
    const handles = new Set((await node.ipam.allocations()).keys());
    expect(await node.ipam.gc(handles, new Set([strange]))).toEqual([]);
    expect(await node.ipam.gc(handles, new Set())).toEqual([strange]);
    await node.ipam.flush();
    await expectNoFindings(world.store);
  });

  test('a free address that is live on the node is taken out of the block', async () => {
    const world = await warmNode();
    using _folder = world.folder;
    const block = (await world.store.list('IPAMBlock')).items.find(({ spec }) => !spec.cidr.includes(':'));
    const prefix = block?.spec.cidr.split('/')[0]?.split('.').slice(0, 3).join('.');
    const free = (block?.spec.unallocated ?? []).map(
      (ordinal) => `${prefix}.${Number(block?.spec.cidr.split('/')[0]?.split('.')[3]) + ordinal}`,
    );
    const [known = '', unknown = ''] = free;
    await using node = await restarted(world, { live: live({ [known]: 'net.found', [unknown]: undefined }) });
    const given = await Promise.all(
      Array.from({ length: 40 }, (_unused, i) => node.ipam.autoAssign(wants(`net.${i}`))),
    );
    expect(given.flatMap(plain)).not.toEqual(expect.arrayContaining([known]));
    expect(given.flatMap(plain)).not.toEqual(expect.arrayContaining([unknown]));
    await node.ipam.flush();
    expect((await allocated(world.store)).get(known)).toBe('net.found');
    expect((await allocated(world.store)).get(unknown)).toBe('tortie-reserve-n1');
    await expectSoundBlocks(world.store);
    await expectNoFindings(world.store);
  });

  test('after a reboot what is proven gone is released, borrowed addresses too', async () => {
    const world = await warmNode();
    using _folder = world.folder;
    await using other = await startNode(world.store, 'n2', { folder: world.folder, clock: world.clock });
    await putPool(world.store, 'tiny', '10.70.0.0/30', { blockSize: 30, assignmentMode: 'Manual' });
    await other.ipam.autoAssign(wants('net.other', { pools4: ['tiny'] }));
    await other.ipam.flush();
    await world.node.ipam.autoAssign(wants('net.borrows', { pools4: ['tiny'] }));
    await world.node.ipam.flush();
    await using node = await restarted(world, { live: new Map(), valid: new Set() });
    await node.ipam.flush();
    expect([...(await allocatedToPods(world.store)).values()]).toEqual(['net.other']);
    await expectNoFindings(world.store);
  });

  test('without proof nothing of a pod is released at the start, but garbage collection does it', async () => {
    const world = await warmNode();
    using _folder = world.folder;
    await using node = await restarted(world, { live: new Map() });
    await node.ipam.flush();
    expect(await node.ipam.addressesOf('net.first')).toHaveLength(2);
    expect(await node.ipam.gc(new Set(), new Set())).toHaveLength(2);
    await node.ipam.flush();
    expect((await allocatedToPods(world.store)).size).toBe(0);
    await expectNoFindings(world.store);
  });

  test("a live address that the datastore gives to another node's pod is said and not touched", async () => {
    const world = await warmNode();
    using _folder = world.folder;
    await using other = await startNode(world.store, 'n2', { folder: world.folder, clock: world.clock });
    const [address = ''] = plain(await other.ipam.autoAssign(wants('net.theirs')));
    await other.ipam.flush();
    await using node = await restarted(world, { live: live({ [address]: 'net.mine' }) });
    await node.ipam.flush();
    expect(node.logs).toEqual([expect.stringContaining(`${address} is used by handle net.mine`)]);
    expect((await allocatedToPods(world.store)).get(address)).toBe('net.theirs');
    await node.ipam.releaseHandle('net.mine');
    await node.ipam.flush();
    expect((await allocatedToPods(world.store)).get(address)).toBe('net.theirs');
  });
});

test('a write of the process before, arriving after the start, fails', async () => {
  const world = await warmNode();
  using _folder = world.folder;
  const old = (await world.store.list('IPAMBlock')).items;
  await using node = await restarted(world, { live: new Map() });
  for (const block of old) {
    const late = { ...block, spec: { ...block.spec, sequenceNumber: 1 } };
    await expect(world.store.update('IPAMBlock', late)).rejects.toMatchObject({ code: 'conflict' });
  }
  await node.ipam.flush();
});

test('garbage collection finds what other processes of the node assigned, in its own blocks and borrowed', async () => {
  const { store, clock, folder, node } = await warmNode();
  using _folder = folder;
  await using _node = node;
  await using other = await startNode(store, 'n2', { folder, clock });
  await putPool(store, 'tiny', '10.70.0.0/30', { blockSize: 30, assignmentMode: 'Manual' });
  await other.ipam.autoAssign(wants('net.other', { pools4: ['tiny'] }));
  const standAlone = new DirectIpam(store, 'n1', clock);
  const strays = [
    ...plain(await standAlone.autoAssign(wants('net.s1'))),
    ...plain(await standAlone.autoAssign(wants('net.s2', { pools4: ['tiny'] }))),
  ];
  expect(new Set(await node.ipam.gc(new Set(['net.first']), new Set()))).toEqual(new Set(strays));
  await node.ipam.flush();
  expect(new Set((await allocatedToPods(store)).values())).toEqual(new Set(['net.first', 'net.other']));
  await expectNoFindings(store);
});

test('a release waits for an assignment of the same handle that is under way, and undoes it', async () => {
  const { store, folder, node } = await warmNode();
  using _folder = folder;
  await using _node = node;
  const assigning = node.ipam.autoAssign(wants('net.race', { pools4: ['v4'] }));
  const released = await node.ipam.releaseHandle('net.race');
  expect(released).toEqual(plain(await assigning));
  await node.ipam.flush();
  expect([...(await allocatedToPods(store)).values()]).not.toContain('net.race');
  await expectNoFindings(store);
});

async function blockOf(store: MemoryDatastore, family: 4 | 6): Promise<string> {
  return (
    (await store.list('IPAMBlock')).items
      .map(({ spec }) => spec.cidr)
      .find((cidr) => cidr.includes(':') === (family === 6)) ?? ''
  );
}
