import { describe, expect, test } from '@jest/globals';
import { describeDatastore, take } from '../contract-suite.ts';
import { DatastoreError } from '../errors.ts';
import { counted, countOf, handle } from '../objects-for-tests.ts';
import { MemoryDatastore } from './memory-datastore.ts';

describeDatastore('memory', () => {
  const store = new MemoryDatastore();
  return Promise.resolve({ store, close: () => store[Symbol.asyncDispose]() });
});

describe('faults on demand', () => {
  const lost = new DatastoreError('unavailable', 'connection lost');

  test('failNext fails one call and leaves the store as it was', async () => {
    const store = new MemoryDatastore();
    store.failNext('create', lost);
    await expect(store.create('IPAMHandle', handle('a'))).rejects.toBe(lost);
    expect((await store.list('IPAMHandle')).items).toEqual([]);
    await store.create('IPAMHandle', handle('a'));
  });

  test('failNext after the write leaves the write in place', async () => {
    const store = new MemoryDatastore();
    store.failNext('create', lost, { when: 'after' });
    await expect(store.create('IPAMHandle', handle('a'))).rejects.toBe(lost);
    expect((await store.list('IPAMHandle')).items).toHaveLength(1);
  });

  test('failNext for one kind leaves calls on others alone', async () => {
    const store = new MemoryDatastore();
    store.failNext('list', lost, { kind: 'IPAMBlock' });
    await store.list('IPAMHandle');
    await expect(store.list('IPAMBlock')).rejects.toBe(lost);
  });

  test('what beforeNext writes wins the race', async () => {
    const store = new MemoryDatastore();
    const read = await store.create('IPAMHandle', handle('a'));
    store.beforeNext('update', async () => {
      await store.update('IPAMHandle', counted(read, 5));
    });
    await expect(store.update('IPAMHandle', counted(read, 1))).rejects.toMatchObject({ code: 'conflict' });
    expect(countOf(await store.get('IPAMHandle', { name: 'a' }))).toBe(5);
  });

  test('expireHistory expires old points, and a new listing gives a good one', async () => {
    const store = new MemoryDatastore();
    const { resourceVersion } = await store.list('IPAMHandle');
    await store.create('IPAMHandle', handle('a'));
    store.expireHistory();
    await expect(take(store, resourceVersion, 1)).rejects.toMatchObject({ code: 'expired' });
    const seen = take(store, (await store.list('IPAMHandle')).resourceVersion, 1);
    await store.create('IPAMHandle', handle('b'));
    expect(await seen).toEqual(['added b=0']);
  });

  test('a watcher that falls too far behind is expired', async () => {
    const store = new MemoryDatastore({ historyLimit: 2 });
    const { resourceVersion } = await store.list('IPAMHandle');
    for (const name of ['a', 'b', 'c', 'd', 'e']) {
      await store.create('IPAMHandle', handle(name));
    }
    await expect(take(store, resourceVersion, 1)).rejects.toMatchObject({ code: 'expired' });
  });
});
