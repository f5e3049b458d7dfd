import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import type { KindMap } from '#api/kinds.ts';
import { DatastoreError } from '#datastore/errors.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { Informer } from './informer.ts';
import { until } from '#test/lab/until.ts';

const silent = pino({ level: 'silent' });
const namespace = (name: string, labels: Record<string, string> = {}): KindMap['Namespace'] => ({
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: { name, labels },
});

let datastore: MemoryDatastore;
let informer: Informer<'Namespace'>;
let changes: string[];

beforeEach(() => {
  datastore = new MemoryDatastore({ historyLimit: 3 });
  informer = new Informer(datastore, 'Namespace', silent);
  changes = [];
  informer.onChange((key, object) =>
    changes.push(`${key.name} ${object === undefined ? 'gone' : JSON.stringify(object.metadata.labels)}`),
  );
});
afterEach(async () => {
  await informer.stop();
  await datastore[Symbol.asyncDispose]();
});

describe('an informer', () => {
  test('hands over what is there, then every change', async () => {
    const a = await datastore.create('Namespace', namespace('a'));
    informer.start();
    await informer.synced();
    await datastore.update('Namespace', { ...a, metadata: { ...a.metadata, labels: { x: '1' } } });
    await datastore.delete('Namespace', { name: 'a' });
    await until(() => changes.length === 3);
    expect(changes).toEqual(['a {}', 'a {"x":"1"}', 'a gone']);
    expect(informer.size).toBe(0);
  });

  test('survives an expired watch without losing a change', async () => {
    informer.start();
    await informer.synced();
    const gone = await datastore.create('Namespace', namespace('gone'));
    await until(() => informer.size === 1);
    // The running watch is cut off: the next one starts at a point that is no longer there.
    datastore.failNext('watch', new DatastoreError('expired', 'too old'));
    await datastore.delete('Namespace', gone.metadata);
    for (let index = 0; index < 10; index++) await datastore.create('Namespace', namespace(`n${index}`));
    await until(() => informer.size === 10);
    expect(changes).toHaveLength(12);
  });

  test('does not list without a pause where every watch is too old from its beginning', async () => {
    let lists = 0;
    const list = datastore.list.bind(datastore);
    datastore.list = (kind, options) => {
      lists++;
      return list(kind, options);
    };
    for (let index = 0; index < 1_000; index++) datastore.failNext('watch', new DatastoreError('expired', 'too old'));
    informer.start();
    await informer.synced();
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(lists).toBeLessThan(10);
  });

  test('keeps what it knows while the datastore is away, says why, and recovers', async () => {
    datastore.failNext('list', new DatastoreError('unavailable', 'connection refused'));
    await datastore.create('Namespace', namespace('a'));
    informer.start();
    await until(() => informer.failure !== undefined);
    expect(informer.failure).toContain('connection refused');
    expect(informer.hasSynced).toBe(false);
    await informer.synced();
    expect(informer.failure).toBeUndefined();
    expect(informer.get({ name: 'a' })).toBeDefined();
  });

  test('gives an object to who waits for it, and nothing when the time is up', async () => {
    informer.start();
    await informer.synced();
    const waiting = informer.waitFor({ name: 'late' }, AbortSignal.timeout(5_000));
    await datastore.create('Namespace', namespace('late'));
    expect((await waiting)?.metadata.name).toBe('late');
    expect(await informer.waitFor({ name: 'never' }, AbortSignal.timeout(1))).toBeUndefined();
  });
});
