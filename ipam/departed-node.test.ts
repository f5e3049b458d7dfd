/** Each step of freeing by itself; with agents and in random order it is in departed-nodes.test.ts. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { withoutChallenge } from './challenge.ts';
import { DepartedNode } from './departed-node.ts';
import { allocated, ManualClock, MortalDatastore, putPool, startNode, TestFolder, wants } from './ipam-for-tests.ts';

const cidr = '10.65.0.0/28';
const keepNothing = () => Promise.resolve(new Set<string>());

let clock: ManualClock;
let store: MemoryDatastore;
let folder: TestFolder;
let before: ReadonlyMap<string, string>;

beforeEach(async () => {
  clock = new ManualClock();
  store = new MemoryDatastore({ clock });
  folder = new TestFolder();
  await putPool(store, 'v4', cidr, { blockSize: 28 });
  const mortal = new MortalDatastore(store);
  const node = await startNode(mortal, 'n1', { folder, clock });
  await node.ipam.autoAssign(wants('net.a'));
  await node.ipam.flush();
  mortal.kill();
  await node.facts[Symbol.asyncDispose]();
  before = await allocated(store);
});
afterEach(async () => {
  folder[Symbol.dispose]();
  await store[Symbol.asyncDispose]();
});

function asker(nonce: string, datastore = new MortalDatastore(store)): DepartedNode {
  return new DepartedNode({ datastore, clock, cooldownSeconds: () => 0 }, 'n1', nonce);
}

async function answer(): Promise<void> {
  const [block] = (await store.list('IPAMBlock')).items;
  if (block === undefined) throw new Error('no block');
  await store.update('IPAMBlock', withoutChallenge(block, 'n1'));
}

test('who asked before another did frees nothing', async () => {
  const [first, second] = [asker('1'), asker('2')];
  await first.challenge(cidr);
  expect(await first.hasAnswered(cidr)).toBe(false);
  await second.challenge(cidr);
  expect([await first.hasAnswered(cidr), await second.hasAnswered(cidr)]).toEqual([true, false]);
  expect(await first.collect(cidr, keepNothing)).toBe('answered');
  expect(await allocated(store)).toEqual(before);
  expect(await second.collect(cidr, keepNothing)).toMatchObject({ kept: 0 });
  expect((await allocated(store)).size).toBe(0);
});

test('an answer frees nothing, even one at the moment before the write', async () => {
  const late = new MortalDatastore(store);
  const node = asker('1', late);
  await node.challenge(cidr);
  late.update = async (kind, object) => {
    if (kind === 'IPAMBlock') await answer();
    return store.update(kind, object);
  };
  expect(await node.collect(cidr, keepNothing)).toBe('answered');
  expect(await allocated(store)).toEqual(before);
  expect((await store.list('BlockAffinity')).items.map(({ spec: { state } }) => state)).toEqual(['confirmed']);
});

test('the handle of a reserve stays as long as a block has something under it', async () => {
  await asker('1').dropReserve();
  expect((await store.list('IPAMHandle')).items.map(({ metadata: { name } }) => name)).toContain('tortie-reserve-n1');
});
