import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { annotation } from '#api/annotations.ts';
import { FakeClock } from '#api/fake-clock.ts';
import { parseAs, type KindMap } from '#api/kinds.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import { DatastoreError } from '#datastore/errors.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { until } from '#test/lab/until.ts';
import { MemoryClusterWrites } from '../cluster-writes-for-tests.ts';
import { ObjectStore } from '../store/object-store.ts';
import { EndpointPublisher } from './endpoint-publisher.ts';
import { PodWriter } from './pod-writer.ts';

const silent = pino({ level: 'silent' });
const key = { namespace: 'default', name: 'web' };
let datastore: MemoryDatastore;
let cluster: MemoryClusterWrites;
let store: ObjectStore;
let told: string[];
let writer: PodWriter;

beforeEach(async () => {
  datastore = new MemoryDatastore();
  cluster = new MemoryClusterWrites(datastore);
  store = new ObjectStore(datastore, silent);
  told = [];
  const log = pino({}, { write: (line: string) => told.push((JSON.parse(line) as { msg: string }).msg) });
  writer = new PodWriter({ nodeName: 'node1', cluster, datastore, store, log });
  store.start();
  await store.synced();
});
afterEach(async () => {
  await store[Symbol.asyncDispose]();
  await datastore[Symbol.asyncDispose]();
});

/** A Pod on a node, and the watch has brought it. Returns its uid. */
async function createPod(node = 'node1', annotations?: Record<string, string>): Promise<string> {
  const metadata = { ...key, ...(annotations === undefined ? {} : { annotations }) };
  const raw = { apiVersion: 'v1', kind: 'Pod', metadata, spec: { nodeName: node } };
  const { uid = '' } = (await datastore.create('Pod', parseAs('Pod', raw).object)).metadata;
  await until(() => store.of('Pod').get(key)?.metadata.uid === uid);
  return uid;
}

function local(
  containerID: string,
  podUid?: string,
  spec: Partial<KindMap['WorkloadEndpoint']['spec']> = {},
): LocalEndpoint {
  const { object: endpoint } = parseAs('WorkloadEndpoint', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: { namespace: 'default', name: 'node1-k8s-web-eth0' },
    spec: {
      orchestrator: 'k8s',
      node: 'node1',
      pod: 'web',
      endpoint: 'eth0',
      containerID,
      interfaceName: 'cali1',
      ipNetworks: ['10.0.0.1/32', 'fd00::1/128'],
      ...spec,
    },
  });
  return {
    endpoint,
    network: 'pods',
    ifname: endpoint.spec.endpoint,
    netns: '',
    ...(podUid === undefined ? {} : { podUid }),
  };
}

const annotations = async () => (await datastore.get('Pod', key))?.metadata.annotations;
const wired = (containerID: string) => ({
  [annotation.podIP]: '10.0.0.1/32',
  [annotation.podIPs]: '10.0.0.1/32,fd00::1/128',
  [annotation.containerID]: containerID,
});
const blank = (containerID: string) => ({
  [annotation.podIP]: '',
  [annotation.podIPs]: '',
  [annotation.containerID]: containerID,
});
const conflict = new DatastoreError('conflict', 'changed meanwhile');

describe('the annotations of a Pod', () => {
  test('say its addresses and its sandbox; what others wrote stays', async () => {
    const uid = await createPod('node1', { theirs: 'x' });
    await writer.put(local('c1', uid));
    expect(await annotations()).toEqual({ theirs: 'x', ...wired('c1') });
  });

  test('are not written again where they stand: a restarted agent writes nothing', async () => {
    await writer.put(local('c1', await createPod('node1', wired('c1'))));
    expect(cluster.written).toEqual([]);
  });

  test('are blank after a DEL, but for the sandbox', async () => {
    const uid = await createPod();
    await writer.put(local('c1', uid));
    await writer.remove(local('c1', uid));
    expect(await annotations()).toEqual(blank('c1'));
    await writer.remove(local('c1', uid));
    expect(cluster.written).toHaveLength(2);
  });

  test('are blank after a DEL though the watch has not brought what was written', async () => {
    const uid = await createPod();
    await store[Symbol.asyncDispose]();
    await writer.put(local('c1', uid));
    await writer.remove(local('c1', uid));
    expect(await annotations()).toEqual(blank('c1'));
  });

  test('are there again after a DEL and an ADD of the same sandbox, though the watch still shows the first ones', async () => {
    const uid = await createPod('node1', wired('c1'));
    await store[Symbol.asyncDispose]();
    await writer.remove(local('c1', uid));
    await writer.put(local('c1', uid));
    expect(await annotations()).toEqual(wired('c1'));
  });

  test('stay when an old sandbox goes late', async () => {
    const uid = await createPod();
    await writer.put(local('c2', uid));
    await writer.remove(local('c1', uid));
    expect(await annotations()).toEqual(wired('c2'));
  });

  test.each(['put', 'remove'] as const)('of a successor of the same name are not touched: %s', async (verb) => {
    await createPod('node1', wired('c1'));
    await writer[verb](local('c1', 'the uid of its predecessor', { ipNetworks: ['10.0.0.2/32'] }));
    expect([cluster.written, await annotations()]).toEqual([[], wired('c1')]);
  });

  test.each(['put', 'remove'] as const)('of a Pod that is on another node by now are not touched: %s', async (verb) => {
    await createPod('node2', wired('c1'));
    await writer[verb](local('c1', undefined, { ipNetworks: ['10.0.0.2/32'] }));
    expect(cluster.written).toEqual([]);
  });

  test.each(['put', 'remove'] as const)('of a Pod that is gone need nothing: %s', async (verb) => {
    await writer[verb](local('c1', 'u'));
    const uid = await createPod('node1', { [annotation.containerID]: 'c1' });
    cluster.failNext(new DatastoreError('not-found', 'gone'));
    await writer[verb](local('c1', uid));
    expect(cluster.written).toEqual([]);
  });

  test('are written to the Pod as it is by now when another write was first', async () => {
    const uid = await createPod('node1', wired('c1'));
    datastore.beforeNext('get', () => {}, { kind: 'Pod' }); // The writer's look; what comes next is the API server's.
    const label = async () => {
      const stored = await datastore.get('Pod', key);
      if (stored === undefined) return;
      await datastore.update('Pod', { ...stored, metadata: { ...stored.metadata, labels: { a: 'b' } } });
    };
    datastore.beforeNext('get', label, { kind: 'Pod' });
    await writer.remove(local('c1', uid));
    expect(await annotations()).toEqual(blank('c1'));
    expect((await datastore.get('Pod', key))?.metadata.labels).toEqual({ a: 'b' });
    cluster.failNext(conflict);
    await writer.put(local('c2', uid));
    expect(await annotations()).toEqual(wired('c2'));
  });

  test('are given up for now after five lost races', async () => {
    const uid = await createPod();
    cluster.failNext(...Array.from({ length: 5 }, () => conflict));
    await expect(writer.put(local('c1', uid))).rejects.toMatchObject({ code: 'conflict' });
    await writer.put(local('c1', uid));
    expect(await annotations()).toEqual(wired('c1'));
  });
});

describe('what is no Pod', () => {
  test.each([
    ['a container', { orchestrator: 'cni', pod: undefined, endpoint: 'eth0' }],
    ['a second interface', { endpoint: 'net1' }],
  ])('%s has no object, and that is said once', async (_title, spec) => {
    await createPod();
    for (const container of ['c1', 'c2']) {
      await writer.put(local(container, undefined, spec));
      await writer.remove(local(container, undefined, spec));
    }
    expect(cluster.written).toEqual([]);
    expect(told).toEqual([expect.stringContaining('has no object in Kubernetes')]);
  });
});

test('a write that the API refuses is named in status until it succeeds', async () => {
  const uid = await createPod();
  const clock = new FakeClock();
  const publisher = new EndpointPublisher(writer, clock, silent);
  cluster.failNext(new DatastoreError('unavailable', 'annotate Pod default/web: pods "web" is forbidden'));
  publisher.put(local('c1', uid));
  await until(() => clock.pending > 0);
  expect(publisher.failure).toBe(`can't write Pod default/web: annotate Pod default/web: pods "web" is forbidden`);
  clock.advance(10_000);
  await publisher.close(new AbortController().signal);
  expect(publisher.failure).toBeUndefined();
  expect(await annotations()).toEqual(wired('c1'));
});
