/** What every implementation of `Ipam` does: the agent's (with and without a reserve) and the stand-alone one. */
import { describe, expect, test } from '@jest/globals';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { DirectIpam } from './direct-ipam.ts';
import type { Ipam } from './ipam.ts';
import {
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
} from './ipam-for-tests.ts';

interface World extends AsyncDisposable {
  readonly store: MemoryDatastore;
  readonly clock: ManualClock;
  node(name: string): Promise<Ipam>;
  /** Everything that was decided is in the datastore. */
  settle(): Promise<void>;
}

type Implementation = (world: {
  store: MemoryDatastore;
  clock: ManualClock;
  folder: TestFolder;
  name: string;
}) => Promise<{
  ipam: Ipam;
  settle: () => Promise<void>;
  end: () => Promise<void>;
}>;

const agent =
  (reserveSize: number): Implementation =>
  async ({ store, clock, folder, name }) => {
    const node = await startNode(store, name, { folder, clock, reserveSize });
    return { ipam: node.ipam, settle: () => node.ipam.flush(), end: async () => node[Symbol.asyncDispose]() };
  };

/** Name, maker, and how many requests a node makes at a time (a process each, for the stand-alone one). */
const implementations: readonly [string, Implementation, number][] = [
  ['agent with a reserve', agent(8), 250],
  ['agent without a reserve', agent(0), 250],
  [
    'stand-alone',
    async ({ store, clock, name }) => ({
      ipam: new DirectIpam(store, name, clock),
      settle: async () => {},
      end: async () => {},
    }),
    10,
  ],
];

function makeWorld(implementation: Implementation): World {
  const clock = new ManualClock();
  const store = new MemoryDatastore({ clock });
  const folder = new TestFolder();
  const nodes: Awaited<ReturnType<Implementation>>[] = [];
  return {
    store,
    clock,
    node: async (name) => {
      const node = await implementation({ store, clock, folder, name });
      nodes.push(node);
      return node.ipam;
    },
    settle: async () => {
      for (const node of nodes) {
        await node.settle();
      }
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all(nodes.map((node) => node.end()));
      await store[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    },
  };
}

async function assignMany(ipam: Ipam, count: number, prefix = 'h'): Promise<string[]> {
  const addresses: string[] = [];
  for (let i = 0; i < count; i++) {
    addresses.push(...plain(await ipam.autoAssign(wants(`net.${prefix}${i}`))));
  }
  return addresses;
}

/** Runs jobs, so many at a time. */
async function inParallel(jobs: readonly (() => Promise<void>)[], width: number): Promise<void> {
  const queue = [...jobs];
  const worker = async (): Promise<void> => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      await job();
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
}

/** The memory datastore's events arrive within a few turns. */
async function watchesDeliver(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) {
    await new Promise(setImmediate);
  }
}

async function affinitiesOf(store: MemoryDatastore, node: string): Promise<number> {
  return (await store.list('BlockAffinity')).items.filter(
    ({ spec }) => spec.node === node && spec.state === 'confirmed',
  ).length;
}

describe.each(implementations)('%s', (_, implementation, width) => {
  test('gives /32 and /128, IPv4 first, and records node and owner', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'v4', '10.65.0.0/24');
    await putPool(world.store, 'v6', 'fd00:65::/64');
    const ipam = await world.node('n1');
    const { addresses } = await ipam.autoAssign(wants('net.a', { want6: true }));
    expect(addresses).toEqual([
      expect.stringMatching(/^10\.65\.0\.\d+\/32$/),
      expect.stringMatching(/^fd00:65::.*\/128$/),
    ]);
    expect(await ipam.allocations()).toEqual(
      new Map([
        [
          'net.a',
          {
            addresses: expect.arrayContaining([...plain({ addresses })]),
            attributes: { namespace: 'default', pod: 'net.a', node: 'n1' },
          },
        ],
      ]),
    );
    expect(new Set(await ipam.addressesOf('net.a'))).toEqual(new Set(plain({ addresses })));
    await world.settle();
    await expectNoFindings(world.store);
  });

  test('uses every address of a block, the first and the last too', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/29', { blockSize: 29 });
    expect(new Set(await assignMany(await world.node('n1'), 8))).toEqual(
      new Set(Array.from({ length: 8 }, (_unused, i) => `10.65.0.${i}`)),
    );
  });

  test('five pods on /30 blocks make two affinities', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/24', { blockSize: 30 });
    expect(new Set(await assignMany(await world.node('n1'), 5)).size).toBe(5);
    expect(await affinitiesOf(world.store, 'n1')).toBe(2);
  });

  test('maxBlocksPerHost 1 with strictAffinity refuses the fifth pod of a /30', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/24', { blockSize: 30 });
    await put(world.store, 'IPAMConfiguration', 'default', { spec: { strictAffinity: true, maxBlocksPerHost: 1 } });
    const ipam = await world.node('n1');
    await assignMany(ipam, 4);
    await expect(ipam.autoAssign(wants('net.fifth'))).rejects.toMatchObject({
      code: 'no-free-address',
      message: expect.stringContaining('p (10.65.0.0/24)'),
    });
    await world.settle();
    expect((await allocatedToPods(world.store)).size).toBe(4);
    await expectNoFindings(world.store);
  });

  test('borrows from another node when every block is taken, unless strict', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/30', { blockSize: 30 });
    const [one, two] = [await world.node('n1'), await world.node('n2')];
    const [first] = await assignMany(one, 1, 'one');
    const [borrowed] = await assignMany(two, 1, 'two');
    expect(borrowed).not.toBe(first);
    expect(await affinitiesOf(world.store, 'n2')).toBe(0);
    expect(await two.allocations()).toEqual(
      new Map([['net.two0', expect.objectContaining({ addresses: [borrowed] })]]),
    );
    expect(await two.releaseHandle('net.two0')).toEqual([borrowed]);
    await world.settle();
    expect([...(await allocatedToPods(world.store)).keys()]).toEqual([first]);

    await put(world.store, 'IPAMConfiguration', 'default', { spec: { strictAffinity: true } });
    await watchesDeliver();
    await expect(two.autoAssign(wants('net.strict'))).rejects.toMatchObject({ code: 'no-free-address' });
    await expectNoFindings(world.store);
  });

  test('with autoAllocateBlocks off a node without blocks gets nothing when strict', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/24');
    await put(world.store, 'IPAMConfiguration', 'default', {
      spec: { strictAffinity: true, autoAllocateBlocks: false },
    });
    await expect((await world.node('n1')).autoAssign(wants('net.a'))).rejects.toMatchObject({
      code: 'no-free-address',
    });
    expect(await affinitiesOf(world.store, 'n1')).toBe(0);
  });

  test('gives a released address again only after all others', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/29', { blockSize: 29 });
    const ipam = await world.node('n1');
    const [first] = await assignMany(ipam, 1, 'first');
    await ipam.releaseHandle('net.first0');
    await world.settle();
    const next = await assignMany(ipam, 8, 'next');
    expect(next.indexOf(first ?? '')).toBe(7);
  });

  test('a full pool gives what was just released', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/30', { blockSize: 30 });
    const ipam = await world.node('n1');
    const addresses = await assignMany(ipam, 4);
    expect(await ipam.releaseHandle('net.h2')).toEqual([addresses[2]]);
    expect(await assignMany(ipam, 1, 'again')).toEqual([addresses[2]]);
  });

  test('releasing twice and releasing the unknown succeed, and the handle is gone', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/24');
    const ipam = await world.node('n1');
    const [address] = await assignMany(ipam, 1);
    expect(await ipam.releaseHandle('net.h0')).toEqual([address]);
    expect(await ipam.releaseHandle('net.h0')).toEqual([]);
    expect(await ipam.releaseHandle('net.never')).toEqual([]);
    await world.settle();
    expect((await allocatedToPods(world.store)).size).toBe(0);
    expect(await world.store.get('IPAMHandle', { name: 'net.h0' })).toBeUndefined();
    await expectSoundBlocks(world.store);
  });

  test('dual stack is all or nothing', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'v4', '10.65.0.0/24');
    const ipam = await world.node('n1');
    await ipam.autoAssign(wants('net.warm'));
    await world.settle();
    await expect(ipam.autoAssign(wants('net.both', { want6: true }))).rejects.toMatchObject({ code: 'no-pool' });
    expect(await ipam.addressesOf('net.both')).toEqual([]);
    await world.settle();
    expect([...(await allocatedToPods(world.store)).values()]).toEqual(['net.warm']);
    await expectNoFindings(world.store);
  });

  test('an exact address is honoured, and refused to the second with who has it', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/24');
    const [one, two] = [await world.node('n1'), await world.node('n2')];
    const request = { handle: 'net.a', attributes: { namespace: 'ns', pod: 'web' }, addresses: ['10.65.0.77'] };
    expect(await one.assignIps(request)).toEqual({ addresses: ['10.65.0.77/32'] });
    for (const ipam of [one, two]) {
      await expect(ipam.assignIps({ ...request, handle: 'net.b' })).rejects.toMatchObject({
        code: 'taken',
        message: expect.stringContaining('ns/web'),
      });
    }
    await expect(one.assignIps({ ...request, addresses: ['10.65.0.78', '10.66.0.1'] })).rejects.toMatchObject({
      code: 'not-in-pool',
    });
    await expect(one.assignIps({ ...request, addresses: ['10.65.0.78/32'] })).rejects.toMatchObject({
      code: 'bad-request',
    });
    await world.settle();
    expect([...(await allocatedToPods(world.store)).keys()]).toEqual(['10.65.0.77']);
    await expectNoFindings(world.store);
  });

  test('a reserved range is never given automatically, but to who asks for it', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/28', { blockSize: 29 });
    await put(world.store, 'IPReservation', 'r', { spec: { reservedCIDRs: ['10.65.0.0/30', '10.65.0.8/29'] } });
    const ipam = await world.node('n1');
    expect(new Set(await assignMany(ipam, 4))).toEqual(new Set(['10.65.0.4', '10.65.0.5', '10.65.0.6', '10.65.0.7']));
    await expect(ipam.autoAssign(wants('net.more'))).rejects.toMatchObject({ code: 'no-free-address' });
    expect(await ipam.assignIps({ handle: 'net.x', attributes: {}, addresses: ['10.65.0.1'] })).toEqual({
      addresses: ['10.65.0.1/32'],
    });
  });

  test('a pool asked for is used by name and by CIDR, without fallback when it is full or disabled', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'a', '10.65.0.0/24');
    await putPool(world.store, 'b', '10.66.0.0/30', { blockSize: 30, nodeSelector: 'has(nothing)' });
    await putPool(world.store, 'm', '10.67.0.0/24', { assignmentMode: 'Manual' });
    const ipam = await world.node('n1');
    expect(plain(await ipam.autoAssign(wants('net.0', { pools4: ['b'] })))).toEqual([
      expect.stringMatching(/^10\.66\./),
    ]);
    expect(plain(await ipam.autoAssign(wants('net.1', { pools4: ['10.66.0.0/30'] })))).toEqual([
      expect.stringMatching(/^10\.66\./),
    ]);
    expect(plain(await ipam.autoAssign(wants('net.2', { pools4: ['m'] })))).toEqual([
      expect.stringMatching(/^10\.67\./),
    ]);
    await ipam.autoAssign(wants('net.3', { pools4: ['b'] }));
    await ipam.autoAssign(wants('net.4', { pools4: ['b'] }));
    await expect(ipam.autoAssign(wants('net.5', { pools4: ['b'] }))).rejects.toMatchObject({ code: 'no-free-address' });
    await patchSpec(world.store, 'IPPool', 'b', { disabled: true });
    await ipam.releaseHandle('net.0');
    await expect(ipam.autoAssign(wants('net.6', { pools4: ['b'] }))).rejects.toMatchObject({
      code: 'pool-disabled',
      message: expect.stringContaining('IPPool b'),
    });
    await expect(ipam.autoAssign(wants('net.7', { pools4: ['c'] }))).rejects.toMatchObject({ code: 'no-pool' });
    expect(await assignMany(ipam, 20)).toEqual(Array.from({ length: 20 }, () => expect.stringMatching(/^10\.65\./)));
  });

  test('a pool with a namespaceSelector serves only that namespace', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'blue', '10.66.0.0/24', { namespaceSelector: 'team == "blue"' });
    const ipam = await world.node('n1');
    const blue = { name: 'b', labels: { team: 'blue' } };
    await expect(ipam.autoAssign(wants('net.none'))).rejects.toMatchObject({ code: 'no-pool' });
    await expect(ipam.autoAssign(wants('net.red', { namespace: { name: 'r', labels: {} } }))).rejects.toMatchObject({
      code: 'no-pool',
    });
    expect(plain(await ipam.autoAssign(wants('net.blue', { namespace: blue })))).toEqual([
      expect.stringMatching(/^10\.66\./),
    ]);
    await putPool(world.store, 'any', '10.65.0.0/24');
    await expect(ipam.autoAssign(wants('net.now', { namespace: { name: 'r', labels: {} } }))).resolves.toMatchObject({
      addresses: [expect.stringMatching(/^10\.65\./)],
    });
  });

  test('a pool serves only the nodes that its nodeSelector selects, and an empty block of it is given up', async () => {
    await using world = makeWorld(implementation);
    const node = await put(world.store, 'Node', 'n1', { metadata: { labels: { zone: 'a' } } });
    await putPool(world.store, 'a', '10.65.0.0/24', { nodeSelector: 'zone == "a"' });
    const [one, two] = [await world.node('n1'), await world.node('n2')];
    await assignMany(one, 1);
    await expect(two.autoAssign(wants('net.x'))).rejects.toMatchObject({
      code: 'no-pool',
      message: expect.stringContaining('nodeSelector'),
    });
    await one.releaseHandle('net.h0');
    await world.settle();
    await world.store.update('Node', { ...node, metadata: { ...node.metadata, labels: { zone: 'b' } } });
    await putPool(world.store, 'b', '10.66.0.0/24');
    await patchSpec(world.store, 'IPPool', 'a', { nodeSelector: 'has(nobody)' });
    await watchesDeliver();
    await one.autoAssign(wants('net.y'));
    await world.settle();
    expect((await world.store.list('IPAMBlock')).items.map(({ spec }) => spec.cidr)).toEqual([
      expect.stringMatching(/^10\.66\./),
    ]);
    await expectNoFindings(world.store);
  });

  test('an address cools down for ipCooldownSeconds', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/30', { blockSize: 30 });
    await put(world.store, 'IPAMConfiguration', 'default', { spec: { strictAffinity: true, ipCooldownSeconds: 60 } });
    const ipam = await world.node('n1');
    const [address] = await assignMany(ipam, 4);
    await ipam.releaseHandle('net.h0');
    await world.settle();
    world.clock.advance(59_000);
    await expect(ipam.autoAssign(wants('net.early'))).rejects.toMatchObject({ code: 'no-free-address' });
    world.clock.advance(2_000);
    expect(plain(await ipam.autoAssign(wants('net.late')))).toEqual([address]);
    await world.settle();
    await expectSoundBlocks(world.store);
    await expectNoFindings(world.store);
  });

  test("another node's empty block is taken when its claim is a minute old", async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/30', { blockSize: 30 });
    await put(world.store, 'IPAMConfiguration', 'default', { spec: { strictAffinity: true } });
    const [one, two] = [await world.node('n1'), await world.node('n2')];
    await assignMany(one, 1);
    await one.releaseHandle('net.h0');
    await world.settle();
    await expect(two.autoAssign(wants('net.early'))).rejects.toMatchObject({ code: 'no-free-address' });
    world.clock.advance(61_000);
    await two.autoAssign(wants('net.two'));
    expect([await affinitiesOf(world.store, 'n1'), await affinitiesOf(world.store, 'n2')]).toEqual([0, 1]);
    // Its former owner notices, and gets nothing from it.
    await expect(one.autoAssign(wants('net.back'))).rejects.toMatchObject({ code: 'no-free-address' });
    await world.settle();
    await expectNoFindings(world.store);
  });

  test('500 addresses from two nodes at once are 500 different ones', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/22', { blockSize: 28 });
    const nodes = [await world.node('n1'), await world.node('n2')];
    const addresses: string[] = [];
    await Promise.all(
      nodes.map((ipam, n) =>
        inParallel(
          Array.from(
            { length: 250 },
            (_unused, i) => async () => void addresses.push(...plain(await ipam.autoAssign(wants(`net.n${n}-${i}`)))),
          ),
          width,
        ),
      ),
    );
    expect(new Set(addresses).size).toBe(500);
    await world.settle();
    expect((await allocatedToPods(world.store)).size).toBe(500);
    await expectSoundBlocks(world.store);
    await expectNoFindings(world.store);
  });

  test.each([
    ['neither family', wants('net.x', { want4: false })],
    ['an empty handle', wants('')],
  ])('refuses a request for %s', async (_case, request) => {
    await using world = makeWorld(implementation);
    await expect((await world.node('n1')).autoAssign(request)).rejects.toMatchObject({ code: 'bad-request' });
  });

  test('a datastore that fails is said as unavailable, and the next request works', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/24');
    const ipam = await world.node('n1');
    world.store.failNext('create', new Error('no route to host'), { kind: 'IPAMHandle' });
    await expect(ipam.autoAssign(wants('net.a'))).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('no route to host'),
    });
    await expect(ipam.autoAssign(wants('net.a'))).resolves.toBeDefined();
    await world.settle();
    await expectNoFindings(world.store);
  });

  test('an assignment whose answer was lost is released with its handle', async () => {
    await using world = makeWorld(implementation);
    await putPool(world.store, 'p', '10.65.0.0/24');
    const ipam = await world.node('n1');
    world.store.failNext('update', new Error('timeout'), { kind: 'IPAMBlock', when: 'after' });
    await expect(ipam.autoAssign(wants('net.a'))).rejects.toMatchObject({ code: 'unavailable' });
    await ipam.releaseHandle('net.a');
    await world.settle();
    expect((await allocatedToPods(world.store)).size).toBe(0);
    await expectNoFindings(world.store);
  });
});
