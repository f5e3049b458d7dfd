/** The collector of deleted nodes against the IPAM of real agents: dead ones, living ones, and those that come back at any moment. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { parseAs, type KindMap, type KindName } from '#api/kinds.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { DatastoreError } from '#datastore/errors.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { takeFree } from '#ipam/block.ts';
import { challengeAnnotation } from '#ipam/challenge.ts';
import { BlockClaims } from '#ipam/claims.ts';
import {
  allocated,
  expectNoFindings,
  expectSoundBlocks,
  ManualClock,
  MortalDatastore,
  plain,
  put,
  putPool,
  Random,
  startNode,
  TestFolder,
  wants,
  type TestNode,
} from '#ipam/ipam-for-tests.ts';
import { DepartedNodes, type ClusterView } from './departed-nodes.ts';

const silent = pino({ level: 'silent' });
const answerMs = 30_000;

let clock: ManualClock;
let store: MemoryDatastore;
let folder: TestFolder;
let freed: [string, readonly string[]][];
const ends: AsyncDisposable[] = [];

beforeEach(async () => {
  clock = new ManualClock();
  store = new MemoryDatastore({ clock });
  folder = new TestFolder();
  freed = [];
  await putPool(store, 'v4', '10.65.0.0/26', { blockSize: 28 });
  for (const name of ['n1', 'n2']) await put(store, 'Node', name, {});
});

afterEach(async () => {
  for (const end of ends.splice(0)) await end[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
  await store[Symbol.asyncDispose]();
});

/** Everything as it is at this moment. */
async function view(): Promise<ClusterView> {
  const [blocks, nodes, pods] = await Promise.all([store.list('IPAMBlock'), store.list('Node'), store.list('Pod')]);
  return {
    blocks: () => blocks.items,
    node: (name) => nodes.items.find(({ metadata }) => metadata.name === name),
    pod: (namespace, name) =>
      pods.items.find(({ metadata }) => metadata.name === name && metadata.namespace === namespace),
    pods: () => pods.items,
  };
}

function collector(seen: ClusterView, datastore: Datastore = store, cooldownSeconds = 0): DepartedNodes {
  return new DepartedNodes({
    datastore,
    clock,
    log: silent,
    view: seen,
    cooldownSeconds: () => cooldownSeconds,
    answerMs,
    onFreed: (node, addresses) => freed.push([node, addresses]),
  });
}

/** One scan, the time to answer included. `meanwhile` happens between the question and the end of that time. */
async function scan(
  options: {
    readonly meanwhile?: () => Promise<void>;
    readonly datastore?: Datastore;
    readonly cooldown?: number;
  } = {},
) {
  const scanning = collector(await view(), options.datastore, options.cooldown).scan(new AbortController().signal);
  let isDone = false;
  const done = scanning.finally(() => (isDone = true));
  done.catch(() => {});
  await settled();
  await options.meanwhile?.();
  while (!isDone) {
    clock.advance(answerMs);
    await settled();
  }
  return done;
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 300; turn++) await new Promise(setImmediate);
}

/** An agent's IPAM that hears of blocks as an agent does, from now on. */
async function start(name: string, datastore: Datastore = store, live: readonly string[] = []): Promise<TestNode> {
  const node = await startNode(datastore, name, {
    folder,
    clock,
    facts: { live: new Map(live.map((address) => [address, undefined])) },
  });
  ends.push(node);
  listen(node);
  return node;
}

function listen({ ipam }: TestNode): void {
  const stop = new AbortController();
  const following = (async () => {
    const { items, resourceVersion } = await store.list('IPAMBlock');
    for (const block of items) ipam.noticeBlock(block.metadata.name, block);
    for await (const event of store.watch('IPAMBlock', { resourceVersion, signal: stop.signal })) {
      if (event.type === 'bookmark') continue;
      const { object } = event;
      ipam.noticeBlock(object.metadata.name, event.type === 'deleted' ? undefined : object);
    }
  })();
  ends.unshift({
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await following;
    },
  });
}

/** Kills an agent after it has given these pods an address each, and written it. */
async function dead(name: string, handles: readonly string[]): Promise<Map<string, string>> {
  const mortal = new MortalDatastore(store);
  const node = await startNode(mortal, name, { folder, clock });
  const given = new Map<string, string>();
  for (const handle of handles) given.set(handle, plain(await node.ipam.autoAssign(wants(handle)))[0] ?? '');
  await node.ipam.flush();
  mortal.kill();
  await node.facts[Symbol.asyncDispose]();
  return given;
}

async function names(kind: KindName): Promise<readonly string[]> {
  return (await store.list(kind)).items.map(({ metadata }) => metadata.name).toSorted();
}

function podOn(node: string, name: string, ...ips: readonly string[]): Promise<KindMap['Pod']> {
  const metadata = { name, namespace: 'default' };
  const status = ips.length === 0 ? {} : { phase: 'Running', podIPs: ips.map((ip) => ({ ip })) };
  return store.create(
    'Pod',
    parseAs('Pod', { apiVersion: 'v1', kind: 'Pod', metadata, spec: { nodeName: node }, status }).object,
  );
}

describe('what a deleted node leaves', () => {
  test('goes: addresses, block, affinity, handles, the reserve', async () => {
    await dead('n1', ['net.a', 'net.b']);
    await store.delete('Node', { name: 'n1' });
    await scan();
    expect(await names('IPAMBlock')).toEqual([]);
    expect(await names('BlockAffinity')).toEqual([]);
    expect(await names('IPAMHandle')).toEqual([]);
    expect(freed.map(([node, addresses]) => [node, addresses.length])).toEqual([['n1', 2 + 3]]);
  });

  test('stays as long as the Node is there, whatever the informers say', async () => {
    const given = await dead('n1', ['net.a']);
    const blind = { ...(await view()), node: () => undefined };
    const scanned = await collector(blind).scan(new AbortController().signal);
    expect(scanned.waiting.size).toBe(0);
    expect([...(await allocated(store)).keys()]).toContain(given.get('net.a'));
    expect((await store.list('IPAMBlock')).items[0]?.metadata.annotations).toBeUndefined();
  });

  test.each([
    ['that has its address', true],
    ['that does not say yet which it has', false],
  ])('stays with a Pod of that node %s, until that is gone', async (_what, says) => {
    const given = await dead('n1', ['net.a', 'net.b']);
    const address = given.get('net.a') ?? '';
    await podOn('n1', 'net.a', ...(says ? [address] : []));
    await store.delete('Node', { name: 'n1' });
    expect((await scan()).waiting.get('n1')).toContain('1 address');
    expect(await allocated(store)).toEqual(new Map([[address, 'net.a']]));
    expect(await names('BlockAffinity')).toHaveLength(1);
    await store.delete('Pod', { namespace: 'default', name: 'net.a' });
    expect((await scan()).waiting.size).toBe(0);
    expect(await names('IPAMBlock')).toEqual([]);
    expect(await names('IPAMHandle')).toEqual([]);
  });

  test('cools down where addresses must; the block is nobody’s until then, and goes at the second look', async () => {
    await put(store, 'IPAMConfiguration', 'default', { spec: { ipCooldownSeconds: 600 } });
    await dead('n1', ['net.a']);
    await store.delete('Node', { name: 'n1' });
    await scan({ cooldown: 600 });
    const [block] = (await store.list('IPAMBlock')).items;
    expect(block?.spec.affinity).toBeUndefined();
    expect(block?.spec.unallocated).toHaveLength(15);
    expect(await names('BlockAffinity')).toEqual([]);
    clock.advance(601_000);
    const later = collector(await view(), store, 600);
    await later.scan(new AbortController().signal);
    expect(await names('IPAMBlock')).toHaveLength(1);
    await later.scan(new AbortController().signal);
    expect(await names('IPAMBlock')).toEqual([]);
  });

  test('what it borrowed comes back, and the lender’s block is not touched otherwise', async () => {
    const lender = await start('n2');
    const own = await Promise.all(['net.x', 'net.y'].map((handle) => lender.ipam.autoAssign(wants(handle))));
    await lender.ipam.flush();
    const direct = await startNode(store, 'n1', { folder, clock, reserveSize: 0 });
    const [ip] = plain(
      await direct.ipam.assignIps({ handle: 'net.guest', attributes: {}, addresses: [nextFree(own)] }),
    );
    await direct.ipam.flush();
    await direct[Symbol.asyncDispose]();
    await store.delete('Node', { name: 'n1' });
    await scan();
    const left = await allocated(store);
    expect(left.has(ip ?? '')).toBe(false);
    for (const assignment of own) expect(left.has(plain(assignment)[0] ?? '')).toBe(true);
    expect(await names('BlockAffinity')).toHaveLength(1);
    await expectNoFindings(store);
  });

  test('an affinity without a block goes too, once its node is gone', async () => {
    const spec = { state: 'pending', node: 'n1', type: 'host', cidr: '10.65.0.0/28', deleted: false };
    await put(store, 'BlockAffinity', 'n1-10-65-0-0-28', { spec });
    await scan();
    expect(await names('BlockAffinity')).toHaveLength(1);
    await store.delete('Node', { name: 'n1' });
    await scan();
    expect(await names('BlockAffinity')).toEqual([]);
  });

  test('a collector that dies at any call leaves what the next one finishes', async () => {
    for (let call = 1; ; call++) {
      for (const { metadata, kind } of [...(await store.list('Node')).items]) {
        if (kind === 'Node' && metadata.name === 'n1') await store.delete('Node', { name: 'n1' });
      }
      await dead('n1', [`net.a${call}`, `net.b${call}`]);
      const mortal = new MortalDatastore(store, call, call % 2 === 0);
      const scanning = collector(await view(), mortal).scan(new AbortController().signal);
      let ended: unknown;
      void Promise.race([scanning, mortal.death]).then((how) => (ended = how));
      while (ended === undefined) {
        clock.advance(answerMs);
        await settled();
      }
      await scan();
      let seen = await view();
      const next = collector({
        blocks: () => seen.blocks(),
        node: (name) => seen.node(name),
        pod: (namespace, name) => seen.pod(namespace, name),
        pods: () => seen.pods(),
      });
      for (let look = 0; look < 2; look++) {
        await next.scan(new AbortController().signal);
        seen = await view();
      }
      // A handle whose block said nothing of it any more is all that may be left.
      expect([call, await names('IPAMBlock'), await names('BlockAffinity')]).toEqual([call, [], []]);
      if (ended !== 'dead') {
        expect(call).toBeGreaterThan(10);
        return;
      }
    }
  }, 30_000);
});

describe('whatever a deleted node’s blocks say, a living Pod keeps', () => {
  test('an address of the reserve that an agent gave it without the API server', async () => {
    await dead('n1', ['net.a']);
    const [reserved = ''] = [...(await allocated(store))].find(([, handle]) => handle.startsWith('tortie-')) ?? [];
    await podOn('n1', 'late', reserved);
    await store.delete('Node', { name: 'n1' });
    expect((await scan()).waiting.get('n1')).toContain('1 address');
    expect([...(await allocated(store)).keys()]).toEqual([reserved]);
    await store.delete('Pod', { namespace: 'default', name: 'late' });
    await scan();
    expect(await names('IPAMBlock')).toEqual([]);
  });

  test('an address that it says it has, though the block names another Pod, or its node has another name', async () => {
    const address = (await dead('n1', ['net.a'])).get('net.a') ?? '';
    await podOn('other-name', 'other', address);
    await store.delete('Node', { name: 'n1' });
    await scan();
    expect([...(await allocated(store)).keys()]).toEqual([address]);
  });

  test('both its addresses, though its status has one family only', async () => {
    await putPool(store, 'v6', 'fd00::/112', { blockSize: 124 });
    const mortal = new MortalDatastore(store);
    const node = await startNode(mortal, 'n1', { folder, clock });
    const both = plain(await node.ipam.autoAssign(wants('net.a', { want6: true })));
    await node.ipam.flush();
    mortal.kill();
    await node.facts[Symbol.asyncDispose]();
    await podOn('n1', 'net.a', both[0] ?? '');
    await store.delete('Node', { name: 'n1' });
    expect((await scan()).waiting.get('n1')).toContain('2 address');
    expect(new Set((await allocated(store)).keys())).toEqual(new Set(both));
  });

  test('an address that was written after the question, by somebody who knows of no questions', async () => {
    await dead('n1', ['net.a']);
    await store.delete('Node', { name: 'n1' });
    const meanwhile = async () => {
      const [block] = (await store.list('IPAMBlock')).items;
      if (block === undefined) throw new Error('no block');
      expect(block.metadata.annotations?.[challengeAnnotation]).toMatch(/^n1=/);
      await podOn('n1', 'net.late');
      const taken = takeFree(block.spec, { handle: 'net.late', attributes: lateAttributes }, 1, () => true);
      await store.update('IPAMBlock', { ...block, spec: taken.spec });
    };
    expect((await scan({ meanwhile })).waiting.get('n1')).toContain('1 address');
    expect([...(await allocated(store)).values()]).toEqual(['net.late']);
  });
});

const lateAttributes = { node: 'n1', namespace: 'default', pod: 'net.late' };

test('a block that can not be written does not keep what other nodes left', async () => {
  for (const name of ['n1', 'n2']) await dead(name, [`net.${name}`]);
  for (const name of ['n1', 'n2']) await store.delete('Node', { name });
  const bad = (await store.list('IPAMBlock')).items.find(({ spec }) => spec.affinity === 'host:n1');
  const refusing = new MortalDatastore(store);
  refusing.update = (kind, object) =>
    object.metadata.name === bad?.metadata.name
      ? Promise.reject(new DatastoreError('invalid', 'a webhook says no'))
      : store.update(kind, object);
  expect((await scan({ datastore: refusing })).waiting.get('n1')).toContain('webhook');
  expect((await store.list('IPAMBlock')).items.map(({ spec }) => spec.affinity)).toEqual(['host:n1']);
  await scan();
  expect(await names('IPAMBlock')).toEqual([]);
});

test('an affinity without a block stays with a node that claims the block again at the very moment', async () => {
  const spec = { state: 'confirmed', node: 'n1', type: 'host', cidr: '10.65.0.0/28', deleted: false };
  await put(store, 'BlockAffinity', 'n1-10-65-0-0-28', { spec });
  await store.delete('Node', { name: 'n1' });
  const late = new MortalDatastore(store);
  late.get = async (kind, key) => {
    const answer = await store.get(kind, key);
    // After the answer that there is no such block, each time that it is asked for.
    if (kind === 'IPAMBlock' && answer === undefined) {
      await new BlockClaims(store, 'n1', clock, () => 0).claim('10.65.0.0/28');
    }
    return answer;
  };
  await scan({ datastore: late });
  expect((await store.list('IPAMBlock')).items.map(({ spec: { affinity } }) => affinity)).toEqual(['host:n1']);
  expect((await store.list('BlockAffinity')).items.map(({ spec: { state } }) => state)).toEqual(['confirmed']);
});

describe('a node that is deleted while its agent is alive', () => {
  test('answers, and keeps everything', async () => {
    const node = await start('n1');
    const [address] = plain(await node.ipam.autoAssign(wants('net.a')));
    await node.ipam.flush();
    const before = await allocated(store);
    await store.delete('Node', { name: 'n1' });
    expect((await scan()).waiting.get('n1')).toContain('alive');
    expect(await allocated(store)).toEqual(before);
    expect(await node.ipam.addressesOf('net.a')).toEqual([address]);
    for (const { metadata, spec } of (await store.list('IPAMBlock')).items) {
      expect(metadata.annotations?.[challengeAnnotation]).toBeUndefined();
      expect(spec.affinity).toBe('host:n1');
    }
    expect((await store.list('BlockAffinity')).items.map(({ spec }) => spec.state)).toEqual(['confirmed']);
  });

  test('that is added again in time keeps everything, even if its agent was too slow to answer', async () => {
    const given = await dead('n1', ['net.a']);
    await store.delete('Node', { name: 'n1' });
    await scan({ meanwhile: async () => void (await put(store, 'Node', 'n1', {})) });
    expect((await allocated(store)).get(given.get('net.a') ?? '')).toBe('net.a');
    expect((await store.list('IPAMBlock')).items[0]?.metadata.annotations).toBeUndefined();
  });

  test('whose agent starts in between keeps what is live there', async () => {
    const given = await dead('n1', ['net.a']);
    const address = given.get('net.a') ?? '';
    await store.delete('Node', { name: 'n1' });
    await scan({ meanwhile: async () => void (await start('n1', store, [address])) });
    expect((await allocated(store)).get(address)).toBe('net.a');
  });

  test('that could not hear the question takes its addresses again, and what others have by then it says', async () => {
    const deaf = await startNode(store, 'n1', { folder, clock });
    ends.push(deaf);
    const [a] = plain(await deaf.ipam.autoAssign(wants('net.a')));
    const [b] = plain(await deaf.ipam.autoAssign(wants('net.b')));
    await deaf.ipam.flush();
    await store.delete('Node', { name: 'n1' });
    await scan();
    expect(await names('IPAMBlock')).toEqual([]);
    // Another node takes one of the two before the deaf one hears of it.
    const other = await startNode(store, 'n2', { folder, clock, reserveSize: 0 });
    ends.push(other);
    await other.ipam.assignIps({ handle: 'net.thief', attributes: {}, addresses: [b ?? ''] });
    await other.ipam.flush();
    await put(store, 'Node', 'n1', {});
    listen(deaf);
    await settled();
    for (const block of (await store.list('IPAMBlock')).items) deaf.ipam.noticeBlock(block.metadata.name, block);
    await settled();
    await deaf.ipam.flush();
    const now = await allocated(store);
    expect(now.get(a ?? '')).toBe('net.a');
    expect(now.get(b ?? '')).toBe('net.thief');
    expect(deaf.logs.join('\n')).toContain(`${b} is used by handle net.b on this node`);
    // And what it gives from now on is nobody else's.
    const more = await Promise.all([1, 2, 3, 4, 5, 6].map((n) => deaf.ipam.autoAssign(wants(`net.more${n}`))));
    const all = [a, b, ...more.flatMap(plain)];
    expect(new Set(all).size).toBe(all.length);
    await deaf.ipam.flush();
    await expectSoundBlocks(store);
  });
});

/** How long the random test runs, in ms. */
const budgetMs = Number(process.env['SOAK_SECONDS'] ?? 2) * 1000;

test(
  'no address is given twice while nodes are deleted, added, killed and started, in any order',
  async () => {
    const end = Date.now() + budgetMs;
    for (let seed = Number(process.env['IPAM_SEED'] ?? Date.now() % 1_000_000); Date.now() < end; seed++) {
      try {
        await simulate(new Random(seed));
      } catch (error) {
        throw new Error(`IPAM_SEED=${seed}: ${error instanceof Error ? error.message : String(error)}`, {
          cause: error,
        });
      }
      for (const one of ends.splice(0)) await one[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
      folder = new TestFolder();
      store = new MemoryDatastore({ clock });
      await putPool(store, 'v4', '10.65.0.0/26', { blockSize: 28 });
      for (const name of ['n1', 'n2']) await put(store, 'Node', name, {});
    }
  },
  budgetMs + 300_000,
);

/**
 * Either agents are never killed: they answer, and need no Pods to keep what they have. Or they are, and the Pods keep it, from before their ADD until
 * after their DEL.
 */
async function simulate(random: Random): Promise<void> {
  const areKilled = random.below(2) === 0;
  const held = new Map<string, string>();
  const running = new Map<string, { mortal: MortalDatastore; node: TestNode }>();
  const begin = async (name: string) => {
    const mortal = new MortalDatastore(store);
    const mine = [...held].filter(([, handle]) => handle.startsWith(`net.${name}`));
    const live = new Map(mine.map(([address, handle]) => [address, { handle }] as const));
    const node = await startNode(mortal, name, { folder, clock, facts: { live } });
    listen(node);
    running.set(name, { mortal, node });
  };
  for (const name of ['n1', 'n2']) await begin(name);
  const { signal } = new AbortController();
  const scans: Promise<unknown>[] = [];
  for (let step = 0; step < 25; step++) {
    const name = random.below(2) === 0 ? 'n1' : 'n2';
    const { node, mortal } = running.get(name) ?? fail(name);
    const isRegistered = (await store.get('Node', { name })) !== undefined;
    switch (random.below(7)) {
      case 0:
        await (isRegistered ? store.delete('Node', { name }) : put(store, 'Node', name, {}));
        break;
      case 1:
        scans.push(
          collector(await view())
            .scan(signal)
            .catch((error: unknown) => error),
        );
        break;
      case 2:
        clock.advance(answerMs / (1 + random.below(3)));
        break;
      case 3: {
        const handle = [...held.values()].find((owner) => owner.startsWith(`net.${name}`));
        if (handle === undefined) break;
        for (const [address, owner] of held) if (owner === handle) held.delete(address);
        await node.ipam.releaseHandle(handle);
        if (areKilled) await store.delete('Pod', { namespace: 'default', name: handle });
        break;
      }
      case 4:
        if (areKilled) {
          mortal.kill();
          clock.advance(random.below(2) * answerMs);
          await settled();
          await begin(name);
        }
        break;
      default: {
        const handle = `net.${name}-${step}`;
        if (areKilled) await podOn(name, handle);
        const [address = ''] = plain(await node.ipam.autoAssign(wants(handle)));
        if (held.has(address)) throw new Error(`${address} was given to ${handle}, but ${held.get(address)} has it`);
        held.set(address, handle);
      }
    }
    // A connected agent hears of a question long before the time to answer is over.
    await settled();
    const wrong = freed.splice(0).flatMap(([, addresses]) => addresses.filter((address) => held.has(address)));
    if (wrong.length > 0) throw new Error(`${wrong.join(', ')} was freed while somebody had it`);
  }
  for (let turn = 0; turn < 4; turn++) {
    clock.advance(answerMs);
    await settled();
  }
  expect(await Promise.all(scans)).toEqual(scans.map(() => ({ waiting: expect.any(Map) })));
  for (const { node } of running.values()) await node.ipam.flush();
  const stored = await allocated(store);
  for (const [address, handle] of held) expect([address, stored.get(address)]).toEqual([address, handle]);
  await expectSoundBlocks(store);
  for (const { node } of running.values()) await node[Symbol.asyncDispose]();
}

function fail(name: string): never {
  throw new Error(`${name} does not run`);
}

/** An address of the lender's block that nobody has. */
function nextFree(given: readonly { readonly addresses: readonly string[] }[]): string {
  const [first = ''] = plain(given[0] ?? { addresses: [] });
  return first.replace(/\d+$/, (last) => String((Number(last) & 0xf0) + 15));
}
