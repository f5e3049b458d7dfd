import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { KindMap } from '#api/kinds.ts';
import type { Datastore, WatchEvent } from './datastore.ts';
import {
  block,
  counted,
  countOf,
  handle,
  kubernetesNetworkPolicy,
  networkPolicy,
  networkSet,
} from './objects-for-tests.ts';

/** A watch as short texts: `added a=1`. */
export function eventText(event: WatchEvent<'IPAMHandle'>): string {
  return event.type === 'bookmark'
    ? 'bookmark'
    : `${event.type} ${event.object.metadata.name}=${countOf(event.object)}`;
}

/** The first `count` events of a watch on handles, as texts. */
export async function take(store: Datastore, resourceVersion: string, count: number): Promise<string[]> {
  const texts: string[] = [];
  for await (const event of store.watch('IPAMHandle', { resourceVersion })) {
    if (event.type === 'bookmark') continue;
    texts.push(eventText(event));
    if (texts.length >= count) {
      break;
    }
  }
  return texts;
}

/** What every `Datastore` that keeps its own objects must do; one call per backend. */
export function describeDatastore(
  name: string,
  open: () => Promise<{ readonly store: Datastore; readonly close: () => Promise<void> }>,
): void {
  describe(`${name} as a Datastore`, () => {
    let store: Datastore;
    let close: () => Promise<void>;
    beforeEach(async () => {
      ({ store, close } = await open());
    });
    afterEach(() => close());

    test('create gives uid, resourceVersion and time, and get returns the same', async () => {
      const created = await store.create('IPAMHandle', handle('a'));
      expect(created.metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
      expect(created.metadata.resourceVersion).toBeDefined();
      expect(Date.parse(created.metadata.creationTimestamp ?? '')).not.toBeNaN();
      expect(await store.get('IPAMHandle', { name: 'a' })).toEqual(created);
    });

    test('get of nothing is undefined', async () => {
      expect(await store.get('IPAMHandle', { name: 'a' })).toBeUndefined();
    });

    test('namespaces keep objects of one name apart, and list selects one', async () => {
      await store.create('NetworkSet', networkSet('x', 'y.z'));
      await store.create('NetworkSet', networkSet('x-y', 'z'));
      await store.create('NetworkSet', networkSet('y', 'y.z'));
      expect((await store.list('NetworkSet')).items).toHaveLength(3);
      const listing = await store.list('NetworkSet', { namespace: 'x' });
      expect(listing.items.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`)).toEqual(['x/y.z']);
    });

    test('two kinds that are called the same in YAML are two kinds, also under one name', async () => {
      const calico = await store.create('NetworkPolicy', networkPolicy('a'));
      const kubernetes = await store.create('KubernetesNetworkPolicy', kubernetesNetworkPolicy('a'));
      const key = { namespace: 'default', name: 'a' };
      expect(await store.get('NetworkPolicy', key)).toEqual(calico);
      expect(await store.get('KubernetesNetworkPolicy', key)).toEqual(kubernetes);
      await store.delete('NetworkPolicy', key);
      expect((await store.list('NetworkPolicy')).items).toEqual([]);
      expect((await store.list('KubernetesNetworkPolicy')).items).toEqual([kubernetes]);
      await expect(
        store.create('NetworkPolicy', kubernetesNetworkPolicy('b') as unknown as KindMap['NetworkPolicy']),
      ).rejects.toMatchObject({ code: 'invalid', message: expect.stringContaining('apiVersion') });
    });

    test('what is returned is frozen throughout', async () => {
      const created = await store.create('IPAMHandle', handle('a', 1));
      for (const object of [
        created,
        await store.get('IPAMHandle', { name: 'a' }),
        (await store.list('IPAMHandle')).items[0],
      ]) {
        expect(() => Object.assign(object?.spec.block ?? {}, { [block]: 2 })).toThrow(TypeError);
        expect(() => Object.assign(object?.metadata ?? {}, { name: 'c' })).toThrow(TypeError);
      }
    });

    test('update replaces the object under a new resourceVersion and keeps uid and creation time', async () => {
      const created = await store.create('IPAMHandle', handle('a'));
      const updated = await store.update('IPAMHandle', {
        ...counted(created, 1),
        metadata: { ...created.metadata, creationTimestamp: '1999-01-01T00:00:00Z' },
      });
      expect(updated.metadata.resourceVersion).not.toBe(created.metadata.resourceVersion);
      expect(updated.metadata.uid).toBe(created.metadata.uid);
      expect(updated.metadata.creationTimestamp).toBe(created.metadata.creationTimestamp);
      expect(countOf(await store.get('IPAMHandle', { name: 'a' }))).toBe(1);
    });

    test('an update that changes nothing writes nothing', async () => {
      const created = await store.create('IPAMHandle', handle('a'));
      expect(await store.update('IPAMHandle', created)).toEqual(created);
    });

    test.each<[string, string, () => Promise<unknown>]>([
      ['create of what exists', 'already-exists', () => store.create('IPAMHandle', handle('a'))],
      [
        'create with a resourceVersion',
        'invalid',
        () => store.create('IPAMHandle', { ...handle('b'), metadata: { name: 'b', resourceVersion: '1' } }),
      ],
      [
        'create of an invalid object',
        'invalid',
        () =>
          store.create('IPAMHandle', {
            ...handle('b'),
            spec: { handleID: 'b', block: { [block]: -1 }, deleted: false },
          }),
      ],
      [
        'create under a name that leads elsewhere',
        'invalid',
        () => store.create('IPAMHandle', { ...handle('b'), metadata: { name: '../b' } }),
      ],
      [
        'update of nothing',
        'not-found',
        () => store.update('IPAMHandle', { ...handle('b'), metadata: { name: 'b', resourceVersion: '1' } }),
      ],
      ['update without a resourceVersion', 'invalid', () => store.update('IPAMHandle', handle('a'))],
      [
        'update from an old resourceVersion',
        'conflict',
        () => store.update('IPAMHandle', { ...handle('a'), metadata: { name: 'a', resourceVersion: 'old' } }),
      ],
      ['delete of nothing', 'not-found', () => store.delete('IPAMHandle', { name: 'b' })],
      ['delete with another uid', 'conflict', () => store.delete('IPAMHandle', { name: 'a' }, { uid: 'other' })],
      [
        'delete with an old resourceVersion',
        'conflict',
        () => store.delete('IPAMHandle', { name: 'a' }, { resourceVersion: 'old' }),
      ],
      ['get by a name that leads elsewhere', 'invalid', () => store.get('IPAMHandle', { name: '../IPAMHandle/a' })],
      ['get of a namespaced kind without a namespace', 'invalid', () => store.get('NetworkSet', { name: 'a' })],
    ])('%s is refused as %s', async (_what, code, attempt) => {
      const before = await store.create('IPAMHandle', handle('a'));
      await expect(attempt()).rejects.toMatchObject({ name: 'DatastoreError', code });
      expect((await store.list('IPAMHandle')).items).toEqual([before]);
    });

    test('an object made again is another one: old uid and resourceVersion conflict', async () => {
      const first = await store.create('IPAMHandle', handle('a'));
      await store.delete('IPAMHandle', { name: 'a' }, first.metadata);
      const second = await store.create('IPAMHandle', handle('a'));
      expect(second.metadata.resourceVersion).not.toBe(first.metadata.resourceVersion);
      expect(second.metadata.uid).not.toBe(first.metadata.uid);
      await expect(store.update('IPAMHandle', counted(first, 1))).rejects.toMatchObject({ code: 'conflict' });
      await expect(store.delete('IPAMHandle', { name: 'a' }, { uid: first.metadata.uid })).rejects.toMatchObject({
        code: 'conflict',
      });
    });

    test('of many updates from one state exactly one wins', async () => {
      const created = await store.create('IPAMHandle', handle('a'));
      const results = await Promise.allSettled(
        [1, 2, 3, 4, 5].map((count) => store.update('IPAMHandle', counted(created, count))),
      );
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      for (const result of results) {
        expect(result.status === 'rejected' ? result.reason : { code: 'conflict' }).toMatchObject({ code: 'conflict' });
      }
    });

    test('increments by retried compare-and-swap are all counted', async () => {
      await store.create('IPAMHandle', handle('a'));
      const increment = async (): Promise<void> => {
        for (;;) {
          const read = (await store.get('IPAMHandle', { name: 'a' })) ?? handle('a');
          try {
            await store.update('IPAMHandle', counted(read, (countOf(read) ?? 0) + 1));
            return;
          } catch (error) {
            expect(error).toMatchObject({ code: 'conflict' });
          }
        }
      };
      await Promise.all(Array.from({ length: 10 }, increment));
      expect(countOf(await store.get('IPAMHandle', { name: 'a' }))).toBe(10);
    });

    test('a watch from a listing reports what comes after it, in order', async () => {
      await store.create('IPAMHandle', handle('before'));
      const { resourceVersion } = await store.list('IPAMHandle');
      const seen = take(store, resourceVersion, 3);
      const created = await store.create('IPAMHandle', handle('a'));
      await store.create('NetworkSet', networkSet('x', 'other-kind'));
      await store.update('IPAMHandle', counted(created, 7));
      await store.delete('IPAMHandle', { name: 'a' });
      expect(await seen).toEqual(['added a=0', 'modified a=7', 'deleted a=7']);
    });

    test('a watch resumes behind the event whose resourceVersion it is given', async () => {
      const { resourceVersion } = await store.list('IPAMHandle');
      for (const name of ['a', 'b', 'c']) {
        await store.create('IPAMHandle', handle(name));
      }
      for await (const event of store.watch('IPAMHandle', { resourceVersion })) {
        if (event.type === 'bookmark') continue;
        expect(eventText(event)).toBe('added a=0');
        expect(await take(store, event.resourceVersion, 2)).toEqual(['added b=0', 'added c=0']);
        break;
      }
    });

    test('several watches see the same', async () => {
      const { resourceVersion } = await store.list('IPAMHandle');
      const seen = [take(store, resourceVersion, 2), take(store, resourceVersion, 2)];
      await store.create('IPAMHandle', handle('a'));
      await store.create('IPAMHandle', handle('b'));
      expect(await Promise.all(seen)).toEqual([
        ['added a=0', 'added b=0'],
        ['added a=0', 'added b=0'],
      ]);
    });

    test.each(['', '17', 'nonsense', '000000000000-0'])(
      'a watch from the foreign point "%s" is expired',
      async (resourceVersion) => {
        await expect(take(store, resourceVersion, 1)).rejects.toMatchObject({ code: 'expired' });
      },
    );

    test('an abort ends a waiting watch without an error', async () => {
      const abort = new AbortController();
      const { resourceVersion } = await store.list('IPAMHandle');
      const watch = store.watch('IPAMHandle', { resourceVersion, signal: abort.signal })[Symbol.asyncIterator]();
      expect(await watch.next()).toEqual({ done: false, value: { type: 'bookmark', resourceVersion } });
      const next = watch.next();
      abort.abort();
      expect(await next).toEqual({ done: true, value: undefined });
    });

    test('closing the store ends its watches', async () => {
      const { resourceVersion } = await store.list('IPAMHandle');
      const seen = take(store, resourceVersion, 1);
      await store[Symbol.asyncDispose]();
      expect(await seen).toEqual([]);
    });
  });
}
