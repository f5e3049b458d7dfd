import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { parseAs, type KindMap } from '#api/kinds.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import {
  allocated,
  expectNoFindings,
  ManualClock,
  MortalDatastore,
  plain,
  put,
  putPool,
  startNode,
  TestFolder,
  wants,
  type TestNode,
} from '#ipam/ipam-for-tests.ts';
import { LeakedAddresses, type LeakedAddressesDeps, type LocalEndpoints } from './leaked-addresses.ts';

const silent = pino({ level: 'silent' });
const graceMs = 900_000;

/** What the node has besides its IPAM. */
class FakeEndpoints implements LocalEndpoints {
  endpoints: LocalEndpoint[] = [];
  devices = new Set<string>();
  routes = new Set<string>();

  add(pod: string, containerId: string): void {
    const metadata = { name: `n1-k8s-${pod}-eth0`, namespace: 'default' };
    const spec = {
      node: 'n1',
      orchestrator: 'k8s',
      workload: pod,
      pod,
      endpoint: 'eth0',
      containerID: containerId,
      interfaceName: `cali${pod}`,
    };
    const endpoint = parseAs('WorkloadEndpoint', {
      apiVersion: 'projectcalico.org/v3',
      kind: 'WorkloadEndpoint',
      metadata,
      spec,
    }).object;
    this.endpoints.push({ endpoint, network: 'net', ifname: 'eth0', netns: '' });
    this.devices.add(containerId);
  }

  list = () => this.endpoints;
  hasDevice = ({ endpoint }: LocalEndpoint) => this.devices.has(endpoint.spec.containerID ?? '');
  routed = () => Promise.resolve(this.routes);

  async remove(namespace: string, name: string, containerId: string): Promise<void> {
    this.endpoints = this.endpoints.filter(
      ({ endpoint: { metadata, spec } }) =>
        metadata.namespace !== namespace || metadata.name !== name || spec.containerID !== containerId,
    );
  }
}

let clock: ManualClock;
let store: MemoryDatastore;
let folder: TestFolder;
let node: TestNode;
let endpoints: FakeEndpoints;
let pods: Map<string, KindMap['Pod']>;
let released: string[];
let leaked: LeakedAddresses;

beforeEach(async () => {
  clock = new ManualClock();
  store = new MemoryDatastore({ clock });
  folder = new TestFolder();
  endpoints = new FakeEndpoints();
  pods = new Map();
  released = [];
  await putPool(store, 'v4', '10.65.0.0/26', { blockSize: 28 });
  await put(store, 'Node', 'n1', {});
  node = await startNode(store, 'n1', { folder, clock, reserveSize: 2 });
  leaked = collector(graceMs);
});
afterEach(async () => {
  await node[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
  await store[Symbol.asyncDispose]();
});

function collector(grace: number, others: Partial<LeakedAddressesDeps> = {}): LeakedAddresses {
  return new LeakedAddresses({
    nodeName: 'n1',
    datastore: store,
    clock,
    log: silent,
    ipam: node.ipam,
    endpoints,
    pod: (namespace, name) => pods.get(`${namespace}/${name}`),
    blocks: () => [],
    graceMs: grace,
    onReleased: (addresses) => released.push(...addresses),
    ...others,
  });
}

/** A pod that was added: its Pod in the API and in the informer, its address, its endpoint with a device. */
async function added(name: string): Promise<string> {
  const handle = `net.${name}`;
  const [ip = ''] = plain(
    await node.ipam.autoAssign(wants(handle, { attributes: { namespace: 'default', pod: name } })),
  );
  await node.ipam.flush();
  const metadata = { name, namespace: 'default' };
  const status = { phase: 'Running', podIPs: [{ ip }] };
  const pod = parseAs('Pod', { apiVersion: 'v1', kind: 'Pod', metadata, spec: { nodeName: 'n1' }, status }).object;
  pods.set(`default/${name}`, await store.create('Pod', pod));
  endpoints.add(name, name);
  return ip;
}

async function deletePod(name: string, where: { readonly api: boolean } = { api: true }): Promise<void> {
  pods.delete(`default/${name}`);
  if (where.api) await store.delete('Pod', { namespace: 'default', name });
}

/** Looks, and looks again when the time of grace is over. */
async function look(): Promise<readonly string[]> {
  await leaked.scan();
  await leaked.scan();
  clock.advance(graceMs + 1);
  await leaked.scan();
  await node.ipam.flush();
  return released;
}

describe('an address whose container died without a DEL', () => {
  test('is released after the time of grace, with its endpoint and handle', async () => {
    const ip = await added('a');
    const other = await added('b');
    await deletePod('a');
    endpoints.devices.delete('a');
    await leaked.scan();
    expect(leaked.candidates()).toEqual([ip]);
    clock.advance(graceMs - 1);
    await leaked.scan();
    expect(released).toEqual([]);
    clock.advance(1);
    await leaked.scan();
    expect(released).toEqual([ip]);
    expect(leaked.candidates()).toEqual([]);
    await node.ipam.flush();
    const left = await allocated(store);
    expect(left.get(ip)).not.toBe('net.a');
    expect(left.get(other)).toBe('net.b');
    expect(endpoints.list()).toHaveLength(1);
    expect((await store.list('IPAMHandle')).items.map(({ metadata }) => metadata.name)).not.toContain('net.a');
    await expectNoFindings(store);
  });

  test('is released if its Pod has ended, has other addresses by now, or is on another node', async () => {
    for (const name of ['ended', 'restarted', 'moved']) {
      await added(name);
      endpoints.devices.delete(name);
    }
    const change = async (name: string, fields: { spec?: object; status?: object }) => {
      const old = pods.get(`default/${name}`);
      if (old === undefined) throw new Error(name);
      const next = { ...old, spec: { ...old.spec, ...fields.spec }, status: { ...old.status, ...fields.status } };
      pods.set(`default/${name}`, await store.update('Pod', next));
    };
    await change('ended', { status: { phase: 'Succeeded' } });
    await change('restarted', { status: { podIPs: [{ ip: '10.65.0.99' }] } });
    await change('moved', { spec: { nodeName: 'n2' }, status: { podIPs: [] } });
    expect(await look()).toHaveLength(3);
  });

  test('that was given anew in between begins its time again', async () => {
    await added('a');
    await deletePod('a');
    endpoints.devices.delete('a');
    await leaked.scan();
    await leaked.scan();
    clock.advance(graceMs - 1);
    await node.ipam.releaseHandle('net.a');
    await node.ipam.autoAssign(wants('net.a', { attributes: { namespace: 'default', pod: 'a' } }));
    await node.ipam.flush();
    clock.advance(1);
    await leaked.scan();
    expect(released).toEqual([]);
  });

  test('in the block of another node is found there', async () => {
    const allocation = { handle: 'net.stray', attributes: { node: 'n1', namespace: 'default', pod: 'stray' } };
    const other = await startNode(store, 'n2', { folder, clock, reserveSize: 0 });
    const [ip = ''] = plain(await other.ipam.autoAssign(wants('net.own')));
    await other.ipam.flush();
    await other[Symbol.asyncDispose]();
    const [block] = (await store.list('IPAMBlock')).items.filter(({ spec }) => spec.affinity === 'host:n2');
    if (block === undefined) throw new Error('no block');
    const attributes = [{ handle_id: allocation.handle, secondary: allocation.attributes }];
    const foreign = await store.update('IPAMBlock', { ...block, spec: { ...block.spec, attributes } });
    leaked = new LeakedAddresses({
      nodeName: 'n1',
      datastore: store,
      clock,
      log: silent,
      ipam: node.ipam,
      endpoints,
      pod: () => undefined,
      blocks: () => [foreign],
      graceMs,
      onReleased: (addresses) => released.push(...addresses),
    });
    expect(await look()).toEqual([ip]);
    expect((await allocated(store)).has(ip)).toBe(false);
  });
});

describe('an address is kept', () => {
  test('while its ADD gets no further because the agent stands still for hours', async () => {
    // Its Pod has the address of the sandbox before; there is no device yet.
    await added('a');
    endpoints.devices.clear();
    const old = pods.get('default/a') ?? fail('a');
    pods.set(
      'default/a',
      await store.update('Pod', { ...old, status: { ...old.status, podIPs: [{ ip: '10.65.0.99' }] } }),
    );
    await leaked.scan();
    expect(leaked.candidates()).toHaveLength(1);
    clock.advance(10 * graceMs);
    await leaked.scan();
    expect(released).toEqual([]);
    endpoints.devices.add('a');
    await leaked.scan();
    expect([released, leaked.candidates()]).toEqual([[], []]);
  });

  test('if its device comes while the API server is asked for its Pod', async () => {
    await added('a');
    await deletePod('a');
    endpoints.devices.clear();
    const slow = new MortalDatastore(store);
    slow.get = async (kind, key) => {
      endpoints.devices.add('a');
      return store.get(kind, key);
    };
    leaked = collector(graceMs, { datastore: slow });
    expect(await look()).toEqual([]);
  });

  test('while a request of its handle is under way', async () => {
    await added('a');
    await deletePod('a');
    endpoints.devices.clear();
    const { ipam } = node;
    const busy = {
      owned: () => ipam.owned(),
      isBusy: (handle: string) => handle === 'net.a',
      releaseLeaked: ipam.releaseLeaked.bind(ipam),
      spareBlocks: () => [],
      releaseSpare: () => Promise.resolve(false),
    };
    leaked = collector(graceMs, { ipam: busy });
    expect(await look()).toEqual([]);
  });

  test('no longer than the time of grace although the clock is set back meanwhile', async () => {
    await added('a');
    await deletePod('a');
    endpoints.devices.clear();
    await leaked.scan();
    clock.advance(-10 * graceMs);
    expect(await look()).toHaveLength(1);
  });

  test('as long as its container has its device, Pod or not', async () => {
    await added('a');
    await deletePod('a');
    expect(await look()).toEqual([]);
  });

  test('as long as a route leads to it', async () => {
    endpoints.routes.add(await added('a'));
    await deletePod('a');
    endpoints.devices.clear();
    expect(await look()).toEqual([]);
  });

  test('as long as the API server knows its Pod, whatever the informer says', async () => {
    const ip = await added('a');
    await deletePod('a', { api: false });
    endpoints.devices.clear();
    expect(await look()).toEqual([]);
    await store.delete('Pod', { namespace: 'default', name: 'a' });
    await leaked.scan();
    expect(released).toEqual([ip]);
  });

  test('as long as the API server does not answer', async () => {
    await added('a');
    await deletePod('a');
    endpoints.devices.clear();
    store.failNext('get', new Error('away'), { kind: 'Pod' });
    await expect(look()).rejects.toThrow('away');
    expect(released).toEqual([]);
  });

  test('if it is the reserve’s, and for ever if the time of grace is 0', async () => {
    await added('a');
    await deletePod('a');
    endpoints.devices.clear();
    leaked = collector(Infinity);
    expect(await look()).toEqual([]);
    expect([...(await allocated(store)).values()].filter((handle) => handle.startsWith('tortie-reserve'))).toHaveLength(
      2,
    );
  });
});

test('a block that no pod needs any more is given up at the second look, but the last one never', async () => {
  const handles = Array.from({ length: 20 }, (_, n) => `net.p${n}`);
  for (const handle of handles) await node.ipam.autoAssign(wants(handle));
  await node.ipam.flush();
  expect((await store.list('IPAMBlock')).items).toHaveLength(2);
  for (const handle of handles) await node.ipam.releaseHandle(handle);
  await node.ipam.flush();
  leaked = collector(graceMs);
  await leaked.scan();
  expect((await store.list('IPAMBlock')).items).toHaveLength(2);
  await leaked.scan();
  expect((await store.list('IPAMBlock')).items).toHaveLength(1);
  expect((await store.list('BlockAffinity')).items).toHaveLength(1);
  await leaked.scan();
  await leaked.scan();
  expect((await store.list('IPAMBlock')).items).toHaveLength(1);
  await node.ipam.autoAssign(wants('net.next'));
  await node.ipam.flush();
  await expectNoFindings(store);
});

function fail(name: string): never {
  throw new Error(`there is no ${name}`);
}
