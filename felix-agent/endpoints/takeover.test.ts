import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { FakeClock } from '#api/fake-clock.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { aliasOf } from '#cni/names.ts';
import type { NodeIpam } from '#ipam/node-ipam.ts';
import type { Netlink, OpResult } from '#native/types.ts';
import { EndpointFiles } from './endpoint-files.ts';
import { EndpointPublisher } from './endpoint-publisher.ts';
import { EndpointStatusFiles } from './endpoint-status-files.ts';
import { EndpointStore } from './endpoint-store.ts';
import { ObjectWriter } from './object-writer.ts';
import { Takeover } from './takeover.ts';

const silent = pino({ level: 'silent' });
let dir: string;
let datastore: MemoryDatastore;
let publisher: EndpointPublisher;
/** Devices of the node: name and alias. */
let links: { readonly index: number; readonly name: string; readonly alias: string }[];
let deletion: OpResult;
let told: Parameters<NodeIpam['start']>[0] | undefined;
let handles: readonly string[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tortie-takeover-'));
  datastore = new MemoryDatastore();
  publisher = new EndpointPublisher(new ObjectWriter(datastore), new FakeClock(), silent);
  links = [];
  deletion = { ok: true };
  told = undefined;
  handles = [];
});
afterEach(async () => {
  await publisher.close(AbortSignal.abort());
  await datastore[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true });
});

async function takeOver(): Promise<{ readonly endpoints: EndpointStore; readonly files: EndpointFiles }> {
  const files = new EndpointFiles(dir, silent);
  const endpoints = new EndpointStore(
    files,
    publisher,
    { set: () => {}, programmed: () => Promise.resolve() },
    new EndpointStatusFiles(dir, silent),
  );
  const host = {
    links: () => Promise.resolve(links),
    routes: () => Promise.resolve([]),
    link: (name: string) => links.find((link) => link.name === name),
    batch: (ops: readonly unknown[]) => Promise.resolve(ops.map(() => deletion)),
  } as unknown as Netlink;
  const ipam = {
    start: (facts) => {
      told = facts;
      return Promise.resolve();
    },
    allocations: () => Promise.resolve(new Map(handles.map((handle) => [handle, { addresses: [], attributes: {} }]))),
  } as Pick<NodeIpam, 'start' | 'allocations'> as NodeIpam;
  const parts = { nodeName: 'node1', log: silent, datastore, host, files, endpoints, publisher, ipam };
  await new Takeover({ ...parts, interfacePrefix: () => 'cali' }).run();
  return { endpoints, files };
}

async function storedEndpoint(containerID: string, ifname: string, address: string): Promise<void> {
  await datastore.create('WorkloadEndpoint', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: { name: `node1-k8s-web-${ifname}`, namespace: 'default' },
    spec: {
      orchestrator: 'k8s',
      node: 'node1',
      pod: 'web',
      endpoint: ifname,
      containerID,
      interfaceName: `cali-${ifname}`,
      mac: '02:00:00:00:00:01',
      ipNetworks: [address],
      profiles: [],
      ports: [],
    },
  });
}

describe('the takeover', () => {
  test('without the state dir, endpoints whose devices are there go on, and IPAM learns their handles', async () => {
    await storedEndpoint('c1', 'eth0', '10.0.0.1/32');
    await storedEndpoint('c1', 'net1', '10.0.0.2/32');
    links = ['eth0', 'net1'].map((ifname, index) => ({
      index,
      name: `cali-${ifname}`,
      alias: aliasOf({ network: 'pods', containerId: 'c1', ifname }),
    }));
    const { endpoints, files } = await takeOver();
    expect(told).toEqual({
      live: new Map([
        ['10.0.0.1', { handle: 'pods.c1' }],
        ['10.0.0.2', { handle: 'pods.c1.net1' }],
      ]),
      valid: new Set(['pods.c1', 'pods.c1.net1']),
    });
    expect(endpoints.list().map(({ network }) => network)).toEqual(['pods', 'pods']);
    expect(files.load()).toHaveLength(2);
  });

  test('a network whose name is too long for the alias is found in the handle', async () => {
    const network = 'n'.repeat(120);
    await storedEndpoint('c1', 'net1', '10.0.0.2/32');
    links = [{ index: 1, name: 'cali-net1', alias: aliasOf({ network, containerId: 'c1', ifname: 'net1' }) }];
    handles = [`other.c2`, `${network}.c1.net1`];
    const { endpoints } = await takeOver();
    expect(endpoints.list().map((endpoint) => endpoint.network)).toEqual([network]);
  });

  test.each(['ENODEV', 'EBUSY'])('an ADD that never finished: its device cannot be deleted, %s', async (code) => {
    links = [{ index: 7, name: 'cali-x', alias: aliasOf({ network: 'pods', containerId: 'x', ifname: 'eth0' }) }];
    const error = Object.assign(new Error(code), { code, errno: 1, syscall: 'sendmsg', object: 'link.del 7' });
    deletion = { ok: false, error };
    const done = await takeOver().then(
      () => 'done',
      (thrown: unknown) => (thrown as Error).message,
    );
    // Gone in between is what was wanted.
    expect(done).toBe(code === 'ENODEV' ? 'done' : code);
  });
});
