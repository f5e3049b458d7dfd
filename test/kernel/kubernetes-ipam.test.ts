/** IPAM over a real API server with a real etcd: what its objects may be called, races between nodes, kills, and how many requests an ADD costs. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { join } from 'node:path';
import { systemClock } from '#api/clock.ts';
import { hostAffinity } from '#api/names.ts';
import { parseJson } from '#api/sequence.ts';
import { openKubernetesDatastore, type KubernetesDatastore } from '#datastore/kubernetes/kubernetes-datastore.ts';
import { addressesIn, reserveHandle } from '#ipam/allocations.ts';
import { allocationsOf } from '#ipam/block.ts';
import { challengeAnnotation } from '#ipam/challenge.ts';
import { BlockClaims } from '#ipam/claims.ts';
import { DepartedNode } from '#ipam/departed-node.ts';
import { Handles } from '#ipam/handles.ts';
import {
  allocatedToPods,
  expectNoFindings,
  expectSoundBlocks,
  MortalDatastore,
  plain,
  putPool,
  Random,
  startNode,
  TestFolder,
  wants,
  type TestNode,
} from '#ipam/ipam-for-tests.ts';
import { defaultReserveSize } from '#ipam/node-ipam.ts';
import { deleteInTwoSteps, markDeleted, removeMarked } from '#ipam/two-step-delete.ts';
import { eventually } from '#test/lab/agent-lab.ts';
import { ControlPlane } from '../cluster/control-plane.ts';

const patienceMs = 300_000;
const clock = systemClock;
const kinds = ['IPAMHandle', 'BlockAffinity', 'IPAMBlock', 'IPPool'] as const;
let plane: ControlPlane;
let store: KubernetesDatastore;
let folder: TestFolder;
const nodes: TestNode[] = [];

beforeAll(async () => {
  plane = await ControlPlane.start();
  await plane.kubectl.run('apply', '-f', join(import.meta.dirname, '../../manifests/crds'));
  await plane.kubectl.run('wait', '--for=condition=Established', 'crd', '--all', '--timeout=100s');
  store = await openKubernetesDatastore({ kubeconfig: plane.kubeconfig, clock, log: () => {} });
  // What is established is served a moment later.
  for (const kind of kinds) {
    await eventually(
      () =>
        store.list(kind).then(
          () => true,
          () => false,
        ),
      () => `${kind} is not served`,
    );
  }
}, patienceMs);
afterAll(async () => {
  await store?.[Symbol.asyncDispose]();
  await plane?.stop();
}, patienceMs);

beforeEach(() => {
  folder = new TestFolder();
});
afterEach(async () => {
  for (const node of nodes.splice(0)) await node[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
  for (const kind of kinds) {
    for (const { metadata } of (await store.list(kind)).items) await store.delete(kind, { name: metadata.name });
  }
}, patienceMs);

const sorted = (owners: ReadonlyMap<string, string>) => [...owners].toSorted(([a], [b]) => (a < b ? -1 : 1));

async function start(name: string, datastore: MortalDatastore | KubernetesDatastore = store): Promise<TestNode> {
  const node = await startNode(datastore, name, { folder, clock });
  nodes.push(node);
  return node;
}

describe('names and shapes', () => {
  test.each([
    ['of a pod', `k8s-pod-network.${'0123456789abcdef'.repeat(4)}`],
    ['with capitals and an underscore', 'My_Network.Container_ID'],
    ['that begins and ends oddly', '.net-.-id_'],
    ['that is very long', `net.${'x'.repeat(400)}`],
    ['that is no ASCII', 'netz.büchse'],
  ])('a handle %s is stored, counted, found again and deleted', async (_what, handle) => {
    const handles = new Handles(store);
    await handles.add(handle, '10.65.0.0/26', 2);
    await handles.add(handle, 'fd00:65::/122', 1);
    expect(await handles.counts(handle)).toEqual({ '10.65.0.0/26': 2, 'fd00:65::/122': 1 });
    await handles.drop(handle, ['10.65.0.0/26', 'fd00:65::/122']);
    expect((await store.list('IPAMHandle')).items).toEqual([]);
  });

  test.each([
    ['with dots', 'ip-10-0-0-1.eu-central-1.compute.internal'],
    ['as long as names may be', `${'n'.repeat(60)}.${'o'.repeat(60)}.${'d'.repeat(60)}.${'e'.repeat(60)}.x`],
  ])('a node’s name %s makes affinities, blocks of both families and a reserve', async (_what, name) => {
    await putPool(store, 'v4', '10.65.0.0/24');
    await putPool(store, 'v6', 'fd00:65::/112');
    const node = await start(name);
    const addresses = plain(await node.ipam.autoAssign(wants('net.a', { want6: true })));
    await node.ipam.flush();
    expect([...(await allocatedToPods(store)).keys()].toSorted()).toEqual([...addresses].toSorted());
    expect((await store.list('BlockAffinity')).items.map(({ spec }) => [spec.node, spec.state])).toEqual([
      [name, 'confirmed'],
      [name, 'confirmed'],
    ]);
    await expectNoFindings(store);
  });

  test('a delete in two steps hits exactly what was read', async () => {
    const claims = new BlockClaims(store, 'n1', clock, () => 0);
    const block = await claims.claim('10.65.0.0/26');
    if (block === undefined) throw new Error('no block');
    const newer = await store.update('IPAMBlock', { ...block, spec: { ...block.spec, sequenceNumber: 7 } });
    expect(await deleteInTwoSteps(store, 'IPAMBlock', block)).toBe(false);
    const marked = await markDeleted(store, 'IPAMBlock', newer);
    await removeMarked(store, 'IPAMBlock', marked);
    const again = await claims.claim('10.65.0.0/26');
    await removeMarked(store, 'IPAMBlock', marked); // Of the first one: the second has another uid.
    expect((await store.get('IPAMBlock', { name: '10-65-0-0-26' }))?.metadata.uid).toBe(again?.metadata.uid);
  });

  test('sequence numbers beyond 2^53, as Calico’s, stay exact', async () => {
    await putPool(store, 'v4', '10.65.0.0/24');
    const first = await start('n1');
    await first.ipam.autoAssign(wants('net.a'));
    await first.ipam.close();
    const patch = '{"spec":{"sequenceNumber":1767225600123456789}}';
    const [block] = (await store.list('IPAMBlock')).items;
    await plane.kubectl.run(
      'patch',
      'ipamblocks.projectcalico.org',
      block?.metadata.name ?? '',
      '--type=merge',
      `--patch=${patch}`,
    );
    const second = await start('n1');
    await second.ipam.autoAssign(wants('net.b'));
    await second.ipam.flush();
    const text = await plane.kubectl.run('get', 'ipamblocks.projectcalico.org', '--output=json');
    const { items } = parseJson(text) as { items: { spec: { sequenceNumber: bigint; attributes: unknown[] } }[] };
    const number = items[0]?.spec.sequenceNumber ?? 0n;
    expect(number > 1767225600123456789n && number < 1767225600123456889n).toBe(true);
  });

  test('the question to a deleted node stands in its block until it is answered', async () => {
    await putPool(store, 'v4', '10.65.0.0/24');
    const node = await start('n1');
    await node.ipam.autoAssign(wants('net.a'));
    await node.ipam.flush();
    const departed = new DepartedNode({ datastore: store, clock, cooldownSeconds: () => 0 }, 'n1', 'nonce');
    const [block] = (await store.list('IPAMBlock')).items;
    const cidr = block?.spec.cidr ?? '';
    await departed.challenge(cidr);
    const asked = await store.get('IPAMBlock', { name: block?.metadata.name ?? '' });
    expect(asked?.metadata.annotations?.[challengeAnnotation]).toBe('n1=nonce');
    expect(await departed.hasAnswered(cidr)).toBe(false);
    node.ipam.noticeBlock(block?.metadata.name ?? '', asked);
    await node.ipam.flush();
    expect(await departed.hasAnswered(cidr)).toBe(true);
    expect(await departed.collect(cidr, () => Promise.resolve(new Set()))).toBe('answered');
  });
});

describe('two nodes', () => {
  test(
    'that want 500 addresses at once get each of them once',
    async () => {
      await putPool(store, 'v4', '10.65.0.0/21');
      const both = await Promise.all(['n1', 'n2'].map((name) => start(name)));
      const given = await Promise.all(
        both.flatMap(({ ipam, name }) =>
          Array.from({ length: 250 }, async (_, n) => plain(await ipam.autoAssign(wants(`net.${name}-${n}`)))),
        ),
      );
      const addresses = given.flat();
      expect(addresses).toHaveLength(500);
      expect(new Set(addresses).size).toBe(500);
      await Promise.all(both.map(({ ipam }) => ipam.flush()));
      expect((await allocatedToPods(store)).size).toBe(500);
      await expectSoundBlocks(store);
      await expectNoFindings(store);
    },
    patienceMs,
  );

  test('and more that claim one block at the same time: it is one’s', async () => {
    const claims = Array.from({ length: 8 }, (_, n) => new BlockClaims(store, `n${n}`, clock, () => 0));
    const won = (await Promise.all(claims.map((one) => one.claim('10.65.0.0/26')))).filter(
      (block) => block !== undefined,
    );
    expect(won).toHaveLength(1);
    expect((await store.list('BlockAffinity')).items.map(({ spec }) => `host:${spec.node} ${spec.state}`)).toEqual([
      `${won[0]?.spec.affinity} confirmed`,
    ]);
  });
});

test('an ADD from the warm reserve waits for no request; what it costs after is one handle and a share of a block', async () => {
  await putPool(store, 'v4', '10.65.0.0/24');
  const counting = new MortalDatastore(store);
  let gate = Promise.withResolvers<void>();
  gate.resolve();
  for (const verb of ['get', 'list', 'create', 'update', 'delete'] as const) {
    const call = counting[verb] as (...args: unknown[]) => Promise<unknown>;
    Object.assign(counting, { [verb]: (...args: unknown[]) => gate.promise.then(() => call(...args)) });
  }
  const node = await start('n1', counting);
  await node.ipam.autoAssign(wants('net.first'));
  await node.ipam.flush();
  const before = counting.calls;
  // What is written behind them has to wait: they would never end if they waited for it.
  gate = Promise.withResolvers();
  const given = await Promise.all([1, 2, 3, 4].map((n) => node.ipam.autoAssign(wants(`net.${n}`))));
  gate.resolve();
  await node.ipam.flush();
  // A handle each, the block once or twice (what came in between), and the count of the reserve's handle.
  expect(counting.calls - before).toBeLessThanOrEqual(given.length + 4);
  const released = counting.calls;
  gate = Promise.withResolvers();
  await Promise.all([1, 2, 3, 4].map((n) => node.ipam.releaseHandle(`net.${n}`)));
  gate.resolve();
  await node.ipam.flush();
  // A handle is read, marked and deleted.
  expect(counting.calls - released).toBeLessThanOrEqual(3 * given.length + 4);
});

test(
  'a process that is killed at any moment costs nobody an address, and gives none twice',
  async () => {
    const seed = Number(process.env['IPAM_SEED'] ?? Date.now() % 1_000_000);
    const end = Date.now() + Number(process.env['SOAK_SECONDS'] ?? 6) * 1000;
    const random = new Random(seed);
    await putPool(store, 'v4', '10.65.0.0/24', { blockSize: 28 });
    const other = await start('n2');
    const held = new Map<string, string>();
    const others: Promise<void>[] = [];
    const give = (handle: string, addresses: readonly string[]) => {
      for (const address of addresses) {
        if (held.has(address))
          throw new Error(`IPAM_SEED=${seed}: ${address} is ${handle}'s and ${held.get(address)}'s`);
        held.set(address, handle);
      }
    };
    for (let life = 0; Date.now() < end && held.size < 150; life++) {
      const mortal = new MortalDatastore(store, 5 + random.below(40), random.below(2) === 0);
      const live = new Map(
        [...held].flatMap(([address, handle]) => (handle.startsWith('net.n1') ? [[address, { handle }] as const] : [])),
      );
      const work = async () => {
        const node = await startNode(mortal, 'n1', { folder, clock, facts: { live } });
        for (let n = 0; ; n++) {
          const handle = `net.n1-${life}-${n}`;
          const addresses = plain(await node.ipam.autoAssign(wants(handle)));
          if (mortal.isDead) return;
          give(handle, addresses);
          if (n % 4 === 3) await node.ipam.flush();
        }
      };
      const given = other.ipam.autoAssign(wants(`net.n2-${life}`)).then((got) => give(`net.n2-${life}`, plain(got)));
      others.push(given);
      await Promise.race([mortal.death, Promise.all([work(), given])]);
      mortal.kill();
    }
    await Promise.all(others);
    const live = new Map(
      [...held].flatMap(([address, handle]) => (handle.startsWith('net.n1') ? [[address, { handle }] as const] : [])),
    );
    const last = await startNode(store, 'n1', { folder, clock, facts: { live } });
    nodes.push(last);
    await last.ipam.gc(new Set([...held.values()]), new Set());
    await Promise.all([last.ipam.flush(), other.ipam.flush()]);
    expect([seed, sorted(await allocatedToPods(store))]).toEqual([seed, sorted(held)]);
    // The reserves are filled again in the background: as far as blocks have something free, which may be too little for any.
    const reserves = async () => {
      const blocks = (await store.list('IPAMBlock')).items;
      return ['n1', 'n2'].map((node) => {
        const own = blocks.filter(({ spec }) => spec.affinity === hostAffinity(node));
        const addresses = own.flatMap(({ spec }) => addressesIn(spec));
        const held = addresses.filter(({ handle }) => handle === reserveHandle(node)).length;
        const free = own.reduce((sum, { spec }) => sum + spec.unallocated.length, 0);
        return { node, held, free, due: Math.min(defaultReserveSize, Math.floor((held + free) / 4)) };
      });
    };
    await eventually(
      async () => (await reserves()).every(({ held, due }) => held === due),
      async () => `IPAM_SEED=${seed}: ${JSON.stringify(await reserves())}`,
    );
    await expectSoundBlocks(store);
    for (const { spec } of (await store.list('IPAMBlock')).items)
      expect(allocationsOf(spec).length).toBeLessThanOrEqual(16);
  },
  patienceMs,
);
