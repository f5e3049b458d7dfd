import { describe, expect, test } from '@jest/globals';
import { parseCidr } from '#api/cidr.ts';
import { blockAffinityName, blockName } from '#api/names.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { takeFree } from './block.ts';
import { BlockClaims, candidates } from './claims.ts';
import { readFacts } from './facts.ts';
import { Handles } from './handles.ts';
import { expectNoFindings, ManualClock, putPool } from './ipam-for-tests.ts';
import type { Pool } from './pools.ts';

const cidr = '10.65.0.0/30';

function world(): { store: MemoryDatastore; clock: ManualClock; claimsOf: (node: string) => BlockClaims } {
  const clock = new ManualClock();
  const store = new MemoryDatastore({ clock });
  return { store, clock, claimsOf: (node) => new BlockClaims(store, node, clock, () => 0) };
}

async function poolOf(store: MemoryDatastore, range: string, blockSize: number): Promise<Pool> {
  await putPool(store, 'p', range, { blockSize });
  const pool = (await readFacts(store, 'n1')).pools[0];
  if (pool === undefined) {
    throw new Error('no pool');
  }
  return pool;
}

async function affinityOf(store: MemoryDatastore, node: string) {
  return (await store.get('BlockAffinity', { name: blockAffinityName(node, cidr) }))?.spec;
}

/** Takes an address of the block, as its node does. */
async function use(store: MemoryDatastore): Promise<void> {
  await new Handles(store).add('h', cidr, 1);
  const block = await store.get('IPAMBlock', { name: blockName(cidr) });
  if (block !== undefined) {
    await store.update('IPAMBlock', {
      ...block,
      spec: takeFree(block.spec, { handle: 'h', attributes: {} }, 1, () => true).spec,
    });
  }
}

describe('claiming a block', () => {
  test('makes a confirmed affinity and the block', async () => {
    const { store, claimsOf } = world();
    expect((await claimsOf('n1').claim(cidr))?.spec).toMatchObject({
      cidr,
      affinity: 'host:n1',
      affinityClaimTime: '2026-11-21T00:00:00.000Z',
    });
    expect(await affinityOf(store, 'n1')).toEqual({
      state: 'confirmed',
      node: 'n1',
      type: 'host',
      cidr,
      deleted: false,
    });
  });

  test("leaves another node's alone and drops the own affinity", async () => {
    const { store, claimsOf } = world();
    await claimsOf('n1').claim(cidr);
    expect(await claimsOf('n2').claim(cidr)).toBeUndefined();
    expect(await affinityOf(store, 'n2')).toBeUndefined();
    expect(await affinityOf(store, 'n1')).toMatchObject({ state: 'confirmed' });
  });

  test('is won by exactly one of two that race', async () => {
    const { store, claimsOf } = world();
    const other = claimsOf('n2');
    store.beforeNext('create', async () => void (await other.claim(cidr)), { kind: 'IPAMBlock' });
    expect(await claimsOf('n1').claim(cidr)).toBeUndefined();
    expect((await store.get('IPAMBlock', { name: blockName(cidr) }))?.spec.affinity).toBe('host:n2');
    await expectNoFindings(store);
  });

  test.each(['pending', 'pendingDeletion'] as const)('finishes one that a crash left %s', async (state) => {
    const { store, claimsOf } = world();
    await claimsOf('n1').claim(cidr);
    const affinity = await store.get('BlockAffinity', { name: blockAffinityName('n1', cidr) });
    await store.update('BlockAffinity', { ...affinity!, spec: { ...affinity!.spec, state } });
    expect((await claimsOf('n1').ownBlocks()).map((block) => block.spec.cidr)).toEqual([cidr]);
    expect(await affinityOf(store, 'n1')).toMatchObject({ state: 'confirmed' });
  });

  test.each(['IPAMBlock', 'BlockAffinity'] as const)(
    'clears away a %s that a crash left marked as deleted',
    async (kind) => {
      const { store, claimsOf } = world();
      await claimsOf('n1').claim(cidr);
      const name = kind === 'IPAMBlock' ? blockName(cidr) : blockAffinityName('n1', cidr);
      const object = await store.get(kind, { name });
      await store.update(kind, { ...object, spec: { ...object?.spec, deleted: true } } as never);
      expect((await claimsOf('n1').claim(cidr))?.spec.deleted).toBe(false);
      await expectNoFindings(store);
    },
  );

  test('makes the block anew when only the affinity is left', async () => {
    const { store, claimsOf } = world();
    await claimsOf('n1').claim(cidr);
    await store.delete('IPAMBlock', { name: blockName(cidr) });
    expect(await claimsOf('n1').ownBlocks()).toHaveLength(1);
    await expectNoFindings(store);
  });
});

describe('claiming any block of a pool', () => {
  test('skips those that exist and those that are not usable', async () => {
    const { store, claimsOf } = world();
    const pool = await poolOf(store, '10.65.0.0/28', 30);
    await claimsOf('n2').claim('10.65.0.0/30');
    const usable = (block: { text: string }) => block.text !== '10.65.0.4/30';
    const claimed = [await claimsOf('n1').claimAny(pool, usable), await claimsOf('n1').claimAny(pool, usable)];
    expect(new Set(claimed.map((block) => block?.spec.cidr))).toEqual(new Set(['10.65.0.8/30', '10.65.0.12/30']));
    expect(await claimsOf('n1').claimAny(pool, usable)).toBeUndefined();
  });

  test.each([
    ['takes an empty block whose claim is over a minute old', 60_001, false, true],
    ['leaves a younger one', 59_000, false, false],
    ['leaves one in use', 3_600_000, true, false],
  ])('%s', async (_, ageMs, isUsed, isTaken) => {
    const { store, clock, claimsOf } = world();
    const pool = await poolOf(store, cidr, 30);
    await claimsOf('n2').claim(cidr);
    if (isUsed) {
      await use(store);
    }
    clock.advance(ageMs);
    expect((await claimsOf('n1').claimAny(pool, () => true))?.spec.affinity).toBe(isTaken ? 'host:n1' : undefined);
    expect(await affinityOf(store, isTaken ? 'n2' : 'n1')).toBeUndefined();
    await expectNoFindings(store);
  });

  test('loses against the owner that takes an address at that moment', async () => {
    const { store, clock, claimsOf } = world();
    const pool = await poolOf(store, cidr, 30);
    await claimsOf('n2').claim(cidr);
    clock.advance(120_000);
    store.beforeNext('update', () => use(store), { kind: 'IPAMBlock' });
    expect(await claimsOf('n1').claimAny(pool, () => true)).toBeUndefined();
    expect((await store.get('IPAMBlock', { name: blockName(cidr) }))?.spec).toMatchObject({
      affinity: 'host:n2',
      deleted: false,
    });
    expect(await affinityOf(store, 'n2')).toMatchObject({ state: 'confirmed' });
  });
});

describe('giving up a block', () => {
  test('removes block and affinity', async () => {
    const { store, claimsOf } = world();
    const block = await claimsOf('n1').claim(cidr);
    expect(await claimsOf('n1').release(block!)).toBe(true);
    expect([(await store.list('IPAMBlock')).items, (await store.list('BlockAffinity')).items]).toEqual([[], []]);
  });

  test("keeps one in use, one that just got an address, and another node's", async () => {
    const { store, claimsOf } = world();
    const block = await claimsOf('n1').claim(cidr);
    expect(await claimsOf('n2').release(block!)).toBe(false);
    await use(store);
    expect(await claimsOf('n1').release(block!)).toBe(false);
    expect(await claimsOf('n1').release((await store.get('IPAMBlock', { name: blockName(cidr) }))!)).toBe(false);
    await expectNoFindings(store);
    expect(await affinityOf(store, 'n1')).toMatchObject({ state: 'confirmed' });
  });
});

describe('the order of candidates', () => {
  test('holds each block once, and is its own for each node', async () => {
    const { store } = world();
    const pool = await poolOf(store, '10.65.0.0/22', 28);
    const orders = ['n1', 'n2'].map((node) => [...candidates(pool, node)].map((block) => block.text));
    expect(orders.map((order) => new Set(order).size)).toEqual([64, 64]);
    expect(orders[0]).not.toEqual(orders[1]);
    expect([...candidates(pool, 'n1')].map((block) => block.text)).toEqual(orders[0]);
  });

  test('ends in a pool of 2^74 blocks too', async () => {
    const { store } = world();
    const pool = await poolOf(store, 'fd00::/48', 122);
    const order = [...candidates(pool, 'n1')];
    expect(new Set(order.map((block) => block.text)).size).toBe(65_536);
    expect(order.every((block) => block.prefix === 122 && block.family === parseCidr('fd00::/48').family)).toBe(true);
  });
});
