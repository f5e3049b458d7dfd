import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { DatastoreError } from '#datastore/errors.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { hostAffinity } from '#api/names.ts';
import { addressesIn, reserveHandle, type AddressAllocation } from './allocations.ts';
import { releaseOrdinals, takeExact } from './block.ts';
import type { IPAMBlock } from './block-store.ts';
import { challengeTo, withChallenge } from './challenge.ts';
import {
  allocated,
  expectNoFindings,
  ManualClock,
  MortalDatastore,
  plain,
  putPool,
  startNode,
  TestFolder,
  wants,
  type TestNode,
} from './ipam-for-tests.ts';

let clock: ManualClock;
let store: MemoryDatastore;
let folder: TestFolder;
let datastore: MortalDatastore;
let node: TestNode;

beforeEach(async () => {
  clock = new ManualClock();
  store = new MemoryDatastore({ clock });
  folder = new TestFolder();
  await putPool(store, 'v4', '10.65.0.0/28', { blockSize: 28 });
  datastore = new MortalDatastore(store);
  node = await startNode(datastore, 'n1', { folder, clock });
});
afterEach(async () => {
  await node[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
  await store[Symbol.asyncDispose]();
});

async function settled(): Promise<void> {
  for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate);
}

async function ownBlock(): Promise<IPAMBlock> {
  const block = (await store.list('IPAMBlock')).items.find(({ spec }) => spec.affinity === hostAffinity('n1'));
  if (block === undefined) throw new Error('n1 has no block');
  return block;
}

/** Somebody else frees addresses of this node's block, which stays this node's. Returns the block as written. */
async function freeBehindItsBack(which: (allocation: AddressAllocation) => boolean): Promise<IPAMBlock> {
  const block = await ownBlock();
  const ordinals = addressesIn(block.spec)
    .filter(which)
    .map(({ ordinal }) => ordinal);
  const spec = releaseOrdinals(block.spec, ordinals, { now: clock.now(), cooldownSeconds: 0 });
  return store.update('IPAMBlock', { ...block, spec });
}

test('an address that others free in a block that stays this node’s is taken again, if it is in use', async () => {
  const [address = ''] = plain(await node.ipam.autoAssign(wants('net.a')));
  await node.ipam.flush();
  const seen = await freeBehindItsBack(({ handle }) => handle === 'net.a');
  node.ipam.noticeBlock(seen.metadata.name, seen);
  await settled();
  await node.ipam.flush();
  expect((await allocated(store)).get(address)).toBe('net.a');
  expect(node.logs.join('\n')).toContain(`somebody freed ${address}`);
  await expectNoFindings(store);
});

test('the same if a conflicting write shows it before the watch does', async () => {
  const [address = ''] = plain(await node.ipam.autoAssign(wants('net.a')));
  await node.ipam.flush();
  await freeBehindItsBack(({ handle }) => handle === 'net.a');
  await node.ipam.autoAssign(wants('net.b'));
  await node.ipam.flush();
  await node.ipam.flush();
  expect((await allocated(store)).get(address)).toBe('net.a');
});

test('what others took from the reserve by way of a block that stays this node’s is given to nobody', async () => {
  await node.ipam.autoAssign(wants('net.a'));
  await node.ipam.flush();
  const reserve = addressesIn((await ownBlock()).spec).filter(({ handle }) => handle === reserveHandle('n1'));
  expect(reserve.length).toBeGreaterThan(0);
  const freed = await freeBehindItsBack(({ handle }) => handle === reserveHandle('n1'));
  const thief = { handle: 'net.thief', attributes: { node: 'n2' } };
  const spec = reserve.reduce((before, { ordinal }) => takeExact(before, ordinal, thief) ?? before, freed.spec);
  const seen = await store.update('IPAMBlock', { ...freed, spec });
  node.ipam.noticeBlock(seen.metadata.name, seen);
  await settled();
  for (let n = 0; n < 3; n++) {
    const [address = ''] = plain(await node.ipam.autoAssign(wants(`net.b${n}`)));
    expect(reserve.map((one) => one.address)).not.toContain(address);
  }
});

test('a node’s own writes, seen by the watch before and after their answers, cost no reads', async () => {
  await node.ipam.autoAssign(wants('net.a'));
  await node.ipam.flush();
  let reads = 0;
  datastore.get = (kind, key) => {
    if (kind === 'IPAMBlock') reads++;
    return store.get(kind, key);
  };
  datastore.update = async (kind, object) => {
    const written = await store.update(kind, object);
    if (written.kind === 'IPAMBlock') node.ipam.noticeBlock(written.metadata.name, written);
    await settled();
    return written;
  };
  const old = await ownBlock();
  for (const handle of ['net.b', 'net.c']) {
    await node.ipam.autoAssign(wants(handle));
    await node.ipam.flush();
  }
  node.ipam.noticeBlock(old.metadata.name, old);
  await settled();
  expect(reads).toBe(0);
});

test('a question is answered although a pass gets no further', async () => {
  await node.ipam.autoAssign(wants('net.a'));
  await node.ipam.flush();
  const hanging = Promise.withResolvers<never>();
  datastore.create = () => hanging.promise;
  await node.ipam.autoAssign(wants('net.b'));
  clock.advance(10);
  await settled();
  const seen = await store.update('IPAMBlock', withChallenge(await ownBlock(), 'n1', 'nonce'));
  node.ipam.noticeBlock(seen.metadata.name, seen);
  await settled();
  expect(challengeTo(await ownBlock(), 'n1')).toBeUndefined();
  hanging.reject(new Error('the end of the test'));
});

test('a question that comes while an earlier one is being answered is answered, too, also when that fails at first', async () => {
  await node.ipam.autoAssign(wants('net.a'));
  await node.ipam.flush();
  const ask = async (nonce: string): Promise<void> => {
    const seen = await store.update('IPAMBlock', withChallenge(await ownBlock(), 'n1', nonce));
    node.ipam.noticeBlock(seen.metadata.name, seen);
  };
  const reply = Promise.withResolvers<void>();
  const update = datastore.update.bind(datastore);
  let failure: Error | undefined;
  datastore.update = async (kind, object) => {
    if (failure !== undefined) throw failure;
    const written = await update(kind, object);
    await reply.promise;
    return written;
  };
  await ask('one');
  await settled();
  expect(challengeTo(await ownBlock(), 'n1')).toBeUndefined();
  await ask('two');
  failure = new DatastoreError('unavailable', 'no route to host');
  reply.resolve();
  await settled();
  expect(challengeTo(await ownBlock(), 'n1')).toBeDefined();
  failure = undefined;
  for (let pass = 0; pass < 5; pass++) {
    clock.advance(60_000);
    await settled();
  }
  expect(challengeTo(await ownBlock(), 'n1')).toBeUndefined();
});
