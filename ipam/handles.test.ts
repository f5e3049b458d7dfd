import { describe, expect, test } from '@jest/globals';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { handleObjectName, Handles } from './handles.ts';

const block = '10.65.0.0/26';

async function make(): Promise<{ store: MemoryDatastore; handles: Handles }> {
  const store = new MemoryDatastore();
  return { store, handles: new Handles(store) };
}

test('counts up and down, and goes with the last address', async () => {
  const { store, handles } = await make();
  await handles.add('net.a', block, 1);
  await handles.add('net.a', '10.65.0.64/26', 2);
  await handles.add('net.a', block, 1);
  expect(await handles.counts('net.a')).toEqual({ [block]: 2, '10.65.0.64/26': 2 });
  await handles.drop('net.a', ['10.65.0.64/26']);
  await handles.add('net.a', block, -2);
  expect(await handles.counts('net.a')).toBeUndefined();
  expect((await store.list('IPAMHandle')).items).toEqual([]);
});

test('a handle that another process marked as deleted is cleared away and made anew', async () => {
  const { store, handles } = await make();
  await handles.add('net.a', block, 3);
  const object = await store.get('IPAMHandle', { name: 'net.a' });
  await store.update('IPAMHandle', { ...object!, spec: { ...object!.spec, deleted: true } });
  expect(await handles.counts('net.a')).toBeUndefined();
  await handles.add('net.a', block, 1);
  expect(await handles.counts('net.a')).toEqual({ [block]: 1 });
});

test('a count raised between the decision to delete and the deletion survives', async () => {
  const { store, handles } = await make();
  await handles.add('net.a', block, 1);
  store.beforeNext('update', () => new Handles(store).add('net.a', '10.65.0.64/26', 1), { kind: 'IPAMHandle' });
  await handles.add('net.a', block, -1);
  expect(await handles.counts('net.a')).toEqual({ '10.65.0.64/26': 1 });
});

test('twenty concurrent changes all count', async () => {
  const { handles } = await make();
  await Promise.all(Array.from({ length: 20 }, () => handles.add('net.a', block, 1)));
  expect(await handles.counts('net.a')).toEqual({ [block]: 20 });
});

test('gives up on endless conflicts with what it was about', async () => {
  const { store, handles } = await make();
  await handles.add('net.a', block, 1);
  for (let i = 0; i < 200; i++) {
    store.failNext('update', Object.assign(new Error('conflict'), { name: 'DatastoreError', code: 'conflict' }));
  }
  await expect(handles.add('net.a', block, 1)).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining('net.a'),
  });
});

describe("a handle's object name", () => {
  test.each([
    ['k8s-pod-network.0123abcdef', 'k8s-pod-network.0123abcdef'],
    ['Net.ABC', 'net.abc'],
  ])('%s is %s', (handle, name) => {
    expect(handleObjectName(handle)).toBe(name);
  });

  test.each(['my_net.abc', 'net.', '-a', '..', '_', `net.${'a'.repeat(300)}`])('%s becomes a valid one', (handle) => {
    expect(handleObjectName(handle)).toMatch(/^[a-z0-9]([-a-z0-9]{0,251}[a-z0-9])?$/);
  });

  test('keeps handles apart that differ only in what names may not hold', () => {
    expect(new Set(['a_b', 'a-b', 'a/b', 'a b'].map(handleObjectName)).size).toBe(4);
  });
});
