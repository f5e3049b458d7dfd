import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { parseAs, type KindMap } from '#api/kinds.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { Informer } from '../store/informer.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { lookUpPod } from './pod-lookup.ts';

const silent = pino({ level: 'silent' });
const kinds = ['Pod', 'Namespace', 'ServiceAccount'] as const;
type Kind = (typeof kinds)[number];

let datastore: MemoryDatastore;
let informers: Map<Kind, Informer<Kind>>;
let store: Pick<ObjectStore, 'of'>;

beforeEach(() => {
  datastore = new MemoryDatastore();
  informers = new Map(kinds.map((kind) => [kind, new Informer(datastore, kind, silent)]));
  store = { of: (kind: Kind) => informers.get(kind) } as unknown as Pick<ObjectStore, 'of'>;
});
afterEach(async () => {
  for (const informer of informers.values()) await informer.stop();
  await datastore[Symbol.asyncDispose]();
});

async function create(kind: Kind, metadata: object, rest: object = {}): Promise<KindMap[Kind]> {
  return datastore.create(kind, parseAs(kind, { apiVersion: 'v1', kind, metadata, ...rest }).object);
}
const createPod = () =>
  create('Pod', { name: 'web', namespace: 'shop' }, { spec: { nodeName: 'me', containers: [{ name: 'main' }] } });
async function follow(...which: readonly Kind[]): Promise<void> {
  for (const kind of which) informers.get(kind)?.start();
  for (const kind of which) await informers.get(kind)?.synced();
}
const lookUp = (uid?: string, patience?: { watch: number; total: number }) =>
  lookUpPod(store, datastore, 'shop', 'web', uid, patience);
const impatient = { watch: 1, total: 20 };

describe('the look-up of a pod', () => {
  test('gives pod and namespace as the watches have brought them', async () => {
    await create('Namespace', { name: 'shop', labels: { env: 'prod' } });
    await createPod();
    await follow(...kinds);
    expect(await lookUp()).toMatchObject({
      pod: { metadata: { name: 'web' } },
      namespace: { metadata: { labels: { env: 'prod' } } },
    });
  });

  test('gives the pod without a namespace where no object of it exists', async () => {
    await createPod();
    await follow(...kinds);
    expect((await lookUp())?.namespace).toBeUndefined();
  });

  test.each([
    ['Namespace', { name: 'shop' }],
    ['ServiceAccount', { name: 'default', namespace: 'shop' }],
  ] as const)('waits for a %s that exists and that calc has not been told of', async (kind, key) => {
    await create(kind, key);
    await createPod();
    await follow(...kinds.filter((other) => other !== kind));
    let isDone = false;
    const looking = lookUp().finally(() => (isDone = true));
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(isDone).toBe(false);
    await follow(kind);
    expect(await looking).toBeDefined();
  });

  test('says what the watch has not brought in time', async () => {
    await create('Namespace', { name: 'shop' });
    await createPod();
    await follow('Pod', 'ServiceAccount');
    await expect(lookUp(undefined, impatient)).rejects.toMatchObject({
      code: 11,
      message: expect.stringContaining('Namespace shop'),
    });
  });

  test('knows a static pod, whose uid at the runtime is not that of its mirror in the API', async () => {
    const mirror = { name: 'web', namespace: 'shop', annotations: { 'kubernetes.io/config.mirror': 'hash' } };
    await create('Pod', mirror, { spec: { nodeName: 'me', containers: [{ name: 'main' }] } });
    await follow(...kinds);
    expect((await lookUp('hash', impatient))?.pod.metadata.annotations).toEqual(mirror.annotations);
  });

  test('takes nothing from the datastore while calc still has the predecessor', async () => {
    await createPod();
    await follow(...kinds);
    await informers.get('Pod')?.stop();
    await datastore.delete('Pod', { namespace: 'shop', name: 'web' });
    const { uid } = (await createPod()).metadata;
    const informer = informers.get('Pod');
    const get = datastore.get.bind(datastore);
    let asked = 0;
    datastore.get = (kind, key) => {
      if (kind === 'Pod') asked++;
      return get(kind, key);
    };
    expect(informer?.get({ namespace: 'shop', name: 'web' })?.metadata.uid).not.toBe(uid);
    expect(await lookUp(uid, impatient)).toBeUndefined();
    expect(asked).toBe(0);
  });
});
