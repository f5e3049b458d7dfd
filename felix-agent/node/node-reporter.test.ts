import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { annotation } from '#api/annotations.ts';
import { FakeClock } from '#api/fake-clock.ts';
import { parseAs, type KindMap } from '#api/kinds.ts';
import { DatastoreError } from '#datastore/errors.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import type { Netlink } from '#native/types.ts';
import { until } from '#test/lab/until.ts';
import { MemoryClusterWrites } from '../cluster-writes-for-tests.ts';
import { ObjectStore } from '../store/object-store.ts';
import { NodeReporter } from './node-reporter.ts';

const silent = pino({ level: 'silent' });
const { nodeIPv4 } = annotation;
let datastore: MemoryDatastore;
let cluster: MemoryClusterWrites;
let store: ObjectStore;
let clock: FakeClock;
let devices: string[];
let reporter: NodeReporter;

beforeEach(async () => {
  datastore = new MemoryDatastore();
  cluster = new MemoryClusterWrites(datastore);
  store = new ObjectStore(datastore, silent);
  clock = new FakeClock();
  devices = ['172.31.0.11/24', '172.31.0.12/24'];
  const host = { addresses: () => Promise.resolve(devices.map((address) => ({ address }))) } as unknown as Netlink;
  reporter = new NodeReporter({ nodeName: 'node1', cluster, store, host, clock, log: silent });
  store.start();
  await store.synced();
  reporter.start();
});
afterEach(async () => {
  await reporter[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
  await datastore[Symbol.asyncDispose]();
});

const create = (name: string, address?: string) =>
  datastore.create(
    'Node',
    parseAs('Node', {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name },
      status: { addresses: address === undefined ? [] : [{ type: 'InternalIP', address }] },
    }).object,
  );
async function change(status: Partial<KindMap['Node']['status']>): Promise<void> {
  const node = await datastore.get('Node', { name: 'node1' });
  if (node !== undefined) await datastore.update('Node', { ...node, status: { ...node.status, ...status } });
}
const annotationIs = (value: string | undefined) =>
  until(() => store.of('Node').get({ name: 'node1' })?.metadata.annotations?.[nodeIPv4] === value);
const internal = (address: string) => ({ addresses: [{ type: 'InternalIP', address }] });

describe('what an agent says on its Node', () => {
  test('comes with the Node, follows its address, and comes again with a Node that is added anew', async () => {
    await create('node1');
    await create('node2', '172.31.0.99');
    await change(internal('172.31.0.11'));
    await annotationIs('172.31.0.11/24');
    await change(internal('172.31.0.12'));
    await annotationIs('172.31.0.12/24');
    await datastore.delete('Node', { name: 'node1' });
    await until(() => store.of('Node').get({ name: 'node1' }) === undefined);
    await create('node1', '172.31.0.11');
    await annotationIs('172.31.0.11/24');
    expect(cluster.written.filter((line) => !line.startsWith('Node node1'))).toEqual([]);
  });

  test('follows the subnet of a device within a minute', async () => {
    devices = [];
    await create('node1', '172.31.0.11');
    await annotationIs('172.31.0.11/32');
    devices = ['172.31.0.11/20'];
    await until(() => clock.pending === 1);
    clock.advance(60_000);
    await annotationIs('172.31.0.11/20');
  });

  test('is that the network is there, once pods can be wired, and again whenever somebody says otherwise', async () => {
    await create('node1', '172.31.0.11');
    await annotationIs('172.31.0.11/24');
    expect(cluster.written).toHaveLength(1);
    reporter.networkIsThere();
    const isSaid = () => until(() => store.of('Node').get({ name: 'node1' })?.status.conditions[0]?.status === 'False');
    await isSaid();
    await change({ conditions: [{ type: 'NetworkUnavailable', status: 'True' }] });
    await until(() => cluster.written.length === 3);
    await isSaid();
    expect(cluster.written.slice(1)).toEqual(['Node node1 TortieIsUp', 'Node node1 TortieIsUp']);
  });

  test('is tried again when the API refuses, and the reason is named meanwhile', async () => {
    cluster.failNext(new DatastoreError('unavailable', 'annotate Node node1: nodes "node1" is forbidden'));
    await create('node1', '172.31.0.11');
    await until(() => reporter.failure !== undefined);
    expect(reporter.failure).toBe(`can't write Node node1: annotate Node node1: nodes "node1" is forbidden`);
    await until(() => clock.pending === 1);
    clock.advance(500);
    await annotationIs('172.31.0.11/24');
    await until(() => reporter.failure === undefined);
  });

  test('is no failure when the Node goes in that moment', async () => {
    cluster.failNext(new DatastoreError('not-found', 'gone'));
    await create('node1', '172.31.0.11');
    await until(() => clock.pending === 1);
    expect(reporter.failure).toBeUndefined();
  });
});
