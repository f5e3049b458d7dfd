import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { parseAs } from '#api/kinds.ts';
import { FakeClock } from '#api/fake-clock.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import { DatastoreError } from '#datastore/errors.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { EndpointFiles } from './endpoint-files.ts';
import { EndpointPublisher } from './endpoint-publisher.ts';
import { EndpointStatusFiles } from './endpoint-status-files.ts';
import { EndpointStore, type EndpointSink } from './endpoint-store.ts';
import { ObjectWriter } from './object-writer.ts';
import { until } from '#test/lab/until.ts';

const silent = pino({ level: 'silent' });
const name = 'node1-k8s-web-eth0';
const endpoint = (container: string, address = '10.65.0.1/32'): LocalEndpoint => ({
  endpoint: {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: { name, namespace: 'default' },
    spec: {
      orchestrator: 'k8s',
      node: 'node1',
      pod: 'web',
      endpoint: 'eth0',
      containerID: container,
      interfaceName: 'cali12345678901',
      mac: '02:00:00:00:00:01',
      ipNetworks: [address],
      profiles: [],
      ports: [],
    },
  },
  network: 'k8s-pod-network',
  ifname: 'eth0',
  netns: '/run/netns/x',
});

let dir: string;
let clock: FakeClock;
let datastore: MemoryDatastore;
let publisher: EndpointPublisher;
let told: string[];
let sink: EndpointSink;
let store: EndpointStore;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tortie-endpoints-'));
  clock = new FakeClock();
  datastore = new MemoryDatastore();
  publisher = new EndpointPublisher(new ObjectWriter(datastore), clock, silent);
  told = [];
  sink = {
    set: (id, value) => told.push(`${id} ${value?.endpoint.spec.containerID ?? 'gone'}`),
    programmed: async () => {},
  };
  store = new EndpointStore(new EndpointFiles(dir, silent), publisher, sink, new EndpointStatusFiles(dir, silent));
});
afterEach(async () => {
  await publisher.close(AbortSignal.abort());
  await datastore[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true });
});

const stored = () => datastore.get('WorkloadEndpoint', { namespace: 'default', name });

describe('the endpoint store', () => {
  test('tells calc, keeps a file, and writes the object in the background', async () => {
    await store.add(endpoint('c1'));
    expect(told).toEqual(['k8s/default/web/eth0 c1']);
    expect(new EndpointFiles(dir, silent).load()).toEqual([endpoint('c1')]);
    await publisher.close(new AbortController().signal);
    expect((await stored())?.spec.containerID).toBe('c1');
  });

  test('an ADD does not wait for a datastore that is away', async () => {
    for (let index = 0; index < 100; index++) datastore.failNext('get', new DatastoreError('unavailable', 'away'));
    await store.add(endpoint('c1'));
    expect(store.list()).toHaveLength(1);
  });

  test('writes the object when the datastore comes back, the last wish winning', async () => {
    datastore.failNext('get', new DatastoreError('unavailable', 'away'));
    await store.add(endpoint('c1'));
    await until(() => clock.pending > 0);
    expect(publisher.failure).toContain('away');
    await store.add(endpoint('c2', '10.65.0.2/32'));
    clock.advance(10_000);
    await publisher.close(new AbortController().signal);
    expect((await stored())?.spec.ipNetworks).toEqual(['10.65.0.2/32']);
    expect(publisher.failure).toBeUndefined();
  });

  test('an object that the datastore refuses does not keep the others from being written', async () => {
    const refused = 'node1-k8s-refused-eth0';
    const create = datastore.create.bind(datastore);
    datastore.create = (kind, object) =>
      object.metadata.name === refused
        ? Promise.reject(new DatastoreError('invalid', 'labels: too long'))
        : create(kind, object);
    await store.add({
      ...endpoint('c0'),
      endpoint: { ...endpoint('c0').endpoint, metadata: { namespace: 'default', name: refused } },
    });
    await store.add(endpoint('c1'));
    await until(() => clock.pending > 0);
    clock.advance(10_000);
    await until(() => publisher.backlog === 1);
    expect(await stored()).toBeDefined();
    expect(publisher.failure).toContain(`default/${refused}: labels: too long`);
  });

  describe('writes that fail', () => {
    let tried: string[];
    /** Why nothing, or an endpoint, can't be written. */
    let refused: (pod: string) => boolean;
    const named = (pod: string): LocalEndpoint => {
      const { endpoint: object, ...rest } = endpoint('c1');
      return { ...rest, endpoint: { ...object, metadata: { namespace: 'default', name: pod } } };
    };
    beforeEach(() => {
      tried = [];
      const put = async ({ endpoint: { metadata } }: LocalEndpoint) => {
        tried.push(metadata.name);
        if (refused(metadata.name)) throw new DatastoreError('unavailable', `${metadata.name} is forbidden`);
      };
      const subject = ({ endpoint: { metadata } }: LocalEndpoint) => metadata.name;
      publisher = new EndpointPublisher({ subject, put, remove: put }, clock, silent);
    });

    test('for one endpoint keep no other waiting, however often they fail', async () => {
      refused = (pod) => pod === 'bad';
      publisher.put(named('bad'));
      for (let round = 0; round < 5; round++) {
        await until(() => clock.pending > 0);
        clock.advance(clock.nextInMs ?? 0);
        await until(() => tried.length === round + 2);
      }
      await until(() => clock.pending > 0);
      const { backlog } = publisher;
      publisher.put(named('good'));
      await until(() => tried.at(-1) === 'good'); // The clock stands still.
      await until(() => publisher.backlog === backlog);
      expect(publisher.failure).toBe("can't write bad: bad is forbidden");
    });

    test('for all are few: when some fail in a row the rest waits with them, longer each time', async () => {
      let isAway = true;
      refused = () => isAway;
      for (let index = 0; index < 100; index++) publisher.put(named(`pod-${index}`));
      await until(() => clock.pending > 0 && tried.length >= 3);
      clock.advance(60_000);
      await until(() => tried.length > 3);
      for (let round = 0; round < 10; round++) {
        await until(() => clock.pending > 0);
        clock.advance(10_000);
      }
      expect(tried.length).toBeLessThan(20);
      isAway = false;
      while (publisher.backlog > 0) {
        await until(() => clock.pending > 0 || publisher.backlog === 0);
        clock.advance(10_000);
      }
      expect(publisher.failure).toBeUndefined();
      expect(new Set(tried).size).toBe(100);
    });
  });

  test('closing does not wait longer than it may for a datastore that hangs', async () => {
    const hanging: Pick<typeof datastore, 'get'> = { get: () => new Promise(() => {}) };
    const patient = new EndpointPublisher(
      new ObjectWriter(Object.assign(Object.create(datastore), hanging)),
      clock,
      silent,
    );
    patient.put(endpoint('c1'));
    const abort = new AbortController();
    const closed = patient.close(abort.signal);
    abort.abort();
    await closed;
  });

  test('keeps endpoints of the longest names, each in a file of its own', async () => {
    const long = (container: string): LocalEndpoint => ({
      ...endpoint(container),
      endpoint: {
        ...endpoint(container).endpoint,
        metadata: { namespace: 'n'.repeat(63), name: `${'w'.repeat(251)}${container}` },
      },
    });
    await store.add(long('c1'));
    await store.add(long('c2'));
    const containers = () => new EndpointFiles(dir, silent).load().map(({ endpoint: { spec } }) => spec.containerID);
    expect(new Set(containers())).toEqual(new Set(['c1', 'c2']));
    await store.remove('n'.repeat(63), `${'w'.repeat(251)}c1`, 'c1');
    expect(containers()).toEqual(['c2']);
  });

  test('counts an endpoint as added when the kernel has it, and not before', async () => {
    const gate = Promise.withResolvers<void>();
    sink.programmed = () => gate.promise;
    const adding = store.add(endpoint('c1'));
    expect(store.list()).toHaveLength(1);
    expect(store.added()).toEqual([]);
    gate.resolve();
    await adding;
    expect(store.added()).toEqual([endpoint('c1')]);
  });

  test('forgets an endpoint that never got into the kernel, and says why', async () => {
    sink.programmed = () => Promise.reject(new Error('the set is full'));
    await expect(store.add(endpoint('c1'))).rejects.toThrow('the set is full');
    expect(told.at(-1)).toBe('k8s/default/web/eth0 gone');
    expect(readdirSync(join(dir, 'endpoints'))).toEqual([]);
    expect(store.list()).toEqual([]);
  });

  describe('a pod that is labelled anew', () => {
    const pod = (labels: Record<string, string>, name = 'web') =>
      parseAs('Pod', {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace: 'default', labels },
        spec: { nodeName: 'node1', containers: [{ name: 'main' }] },
      }).object;

    test('keeps its labels when its object goes first: for calc, the next agent and other nodes', async () => {
      const made = endpoint('c1');
      const labels = { app: 'web', 'projectcalico.org/orchestrator': 'k8s' };
      await store.add({ ...made, endpoint: { ...made.endpoint, metadata: { ...made.endpoint.metadata, labels } } });
      store.relabel(pod({ app: 'web' }));
      store.relabel(pod({ app: 'db' }, 'other'));
      expect(told).toHaveLength(1);
      store.relabel(pod({ quarantine: 'yes' }));
      const expected = { quarantine: 'yes', 'projectcalico.org/orchestrator': 'k8s' };
      expect(store.get('default', name)?.endpoint.metadata.labels).toEqual(expected);
      expect(told).toHaveLength(2);
      expect(new EndpointFiles(dir, silent).load()[0]?.endpoint.metadata.labels).toEqual(expected);
      await publisher.close(new AbortController().signal);
      expect((await stored())?.metadata.labels).toEqual(expected);
    });

    test('keeps its own labels when a successor of the same name comes; the mirror of a static pod is no successor', async () => {
      await store.add({ ...endpoint('c1'), podUid: 'u1' });
      const anew = pod({ may: 'pass' });
      const successor = { ...anew, metadata: { ...anew.metadata, uid: 'u2' } };
      store.relabel(successor);
      expect(store.get('default', name)?.endpoint.metadata.labels).toBeUndefined();
      const annotations = { 'kubernetes.io/config.mirror': 'hash' };
      store.relabel({ ...successor, metadata: { ...successor.metadata, annotations } });
      expect(store.get('default', name)?.endpoint.metadata.labels).toEqual({ may: 'pass' });
    });

    test('has its labels with each of its endpoints, also when they can not be written', async () => {
      const files = new EndpointFiles(dir, silent);
      const second = `${name}-net1`;
      store = new EndpointStore(files, publisher, sink, new EndpointStatusFiles(dir, silent));
      const made = endpoint('c1');
      await store.add(made);
      await store.add({
        ...made,
        ifname: 'net1',
        endpoint: { ...made.endpoint, metadata: { ...made.endpoint.metadata, name: second } },
      });
      files.save = () => {
        throw new Error('no space left');
      };
      expect(() => store.relabel(pod({ quarantine: 'yes' }))).toThrow('no space left');
      for (const each of [name, second])
        expect(store.get('default', each)?.endpoint.metadata.labels).toEqual({ quarantine: 'yes' });
      expect(told).toHaveLength(4);
    });

    test('is forgotten like others when its ADD fails', async () => {
      sink.programmed = () => {
        store.relabel(pod({ quarantine: 'yes' }));
        return Promise.reject(new Error('the set is full'));
      };
      await expect(store.add(endpoint('c1'))).rejects.toThrow('the set is full');
      expect(store.list()).toEqual([]);
    });
  });

  test('an old container does not remove the newer one of the same pod, neither here nor in the datastore', async () => {
    await store.add(endpoint('new'));
    await store.remove('default', name, 'old');
    expect(store.get('default', name)?.endpoint.spec.containerID).toBe('new');
    await publisher.close(new AbortController().signal);
    expect(await stored()).toBeDefined();
  });

  test('removing takes calc, file and object back', async () => {
    await store.add(endpoint('c1'));
    await until(() => publisher.backlog === 0);
    await store.remove('default', name, 'c1');
    await publisher.close(new AbortController().signal);
    expect(told.at(-1)).toBe('k8s/default/web/eth0 gone');
    expect(new EndpointFiles(dir, silent).load()).toEqual([]);
    expect(await stored()).toBeUndefined();
  });

  test('a file that cannot be read is set aside, the others are loaded', async () => {
    await store.add(endpoint('c1'));
    writeFileSync(join(dir, 'endpoints', 'broken.json'), '{"endpoint": {');
    writeFileSync(join(dir, 'endpoints', 'half.json.tmp'), '{');
    expect(new EndpointFiles(dir, silent).load()).toHaveLength(1);
    expect(readdirSync(join(dir, 'endpoints')).toSorted()).toEqual(['broken.json.broken', `default@${name}.json`]);
  });
});
