import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { parseObject, type KindName } from '#api/kinds.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import type { AnyObject } from '#datastore/stored-object.ts';
import type { WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import { ObjectStore } from '../store/object-store.ts';
import { Directory } from './directory.ts';
import type { PolicyView } from './policy-view.ts';

const local = 'k8s/default/here/eth0';
const endpoint = { ipv4Nets: ['10.65.0.1/32'], ipv6Nets: ['fd00::1/128'] } as unknown as WorkloadEndpointInfo;
const view = {
  endpoint: (id: string) => (id === local ? endpoint : undefined),
  endpoints: () => [[local, endpoint]],
} as unknown as PolicyView;

const pod = (name: string, nodeName: string, podIPs: string[], more: object = {}, phase = 'Running') => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name },
  spec: { nodeName, ...more },
  status: { phase, podIPs: podIPs.map((ip) => ({ ip })) },
});
const node = (name: string, address: string) => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name },
  status: { addresses: [{ type: 'InternalIP', address }] },
});
const objects = [
  node('node1', '172.31.0.11'),
  node('node2', '172.31.0.12'),
  pod('here', 'node1', ['10.65.0.1']),
  pod('done', 'node2', ['10.65.0.1', '10.65.1.1'], {}, 'Succeeded'),
  pod('far', 'node2', ['10.65.1.1', 'FD00::B']),
  pod('proxy', 'node1', ['172.31.0.11'], { hostNetwork: true }),
  pod('proxy2', 'node2', ['172.31.0.12'], { hostNetwork: true }),
  {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: { name: 'node2-cni-c1-eth0' },
    spec: {
      orchestrator: 'cni',
      node: 'node2',
      endpoint: 'eth0',
      interfaceName: 'cali2',
      ipNetworks: ['FD00:0::C/128'],
    },
  },
  pod('soon', 'node1', ['10.65.0.9']),
];

let store: ObjectStore;
let directory: Directory;

beforeEach(async () => {
  const datastore = new MemoryDatastore();
  for (const raw of objects) {
    const { kind, object } = parseObject(raw) as { kind: KindName; object: AnyObject };
    await datastore.create(kind, object);
  }
  store = new ObjectStore(datastore, pino({}, { write: () => {} }));
  store.start();
  await store.synced();
  directory = new Directory(store, 'node1', view);
});

afterEach(() => store[Symbol.asyncDispose]());

test.each([
  ['a local pod', 'here', { kind: 'local endpoint', name: 'pod default/here', addresses: ['10.65.0.1', 'fd00::1'] }],
  ["a local pod's address", '10.65.0.1', { kind: 'local endpoint', name: 'pod default/here' }],
  ['an IPv6 address in another spelling', 'FD00:0::1', { kind: 'local endpoint', addresses: ['fd00::1'] }],
  ['a pod elsewhere', 'default/far', { kind: 'remote pod', node: 'node2', addresses: ['10.65.1.1', 'fd00::b'] }],
  ['an address that a pod had before this one', '10.65.1.1', { kind: 'remote pod', name: 'pod default/far' }],
  ["a node's address, which its host's pods have too", '172.31.0.11', { kind: 'this host', name: 'node node1' }],
  ["a pod in this host's network", 'proxy', { kind: 'this host', name: 'pod default/proxy' }],
  ["a pod in another host's network", 'proxy2', { kind: 'other node', node: 'node2', addresses: ['172.31.0.12'] }],
  ["another node's container", 'fd00::c', { kind: 'remote pod', name: 'endpoint node2-cni-c1-eth0', node: 'node2' }],
  ['host', 'host', { kind: 'this host', addresses: ['172.31.0.11'] }],
  ['an address that nobody has', '192.0.2.1', { kind: 'outside', name: '192.0.2.1' }],
])('%s: %s', (_what, text, party) => {
  expect(directory.find(text)).toMatchObject(party);
});

test.each([
  ['nobody', 'is no endpoint of this node and no pod in the datastore'],
  ['done', 'is no endpoint of this node and no pod in the datastore'],
  ['soon', 'has no endpoint yet'],
  ['10.65.0.9', 'has no endpoint yet'],
])('%s is unknown: %s', (text, message) => {
  expect(() => directory.find(text)).toThrow(message);
  expect(() => directory.find(text)).toThrow(expect.objectContaining({ code: 'unknown-party' }));
});
