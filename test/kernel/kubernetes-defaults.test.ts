/** Many agents make a cluster's defaults at once, at a real API server and with the rights of the manifest. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { systemClock, type Clock } from '#api/clock.ts';
import { ClusterDefaults, type ClusterDefaultsParts } from '#agent/defaults/cluster-defaults.ts';
import { ObjectStore } from '#agent/store/object-store.ts';
import { openKubernetesDatastore } from '#datastore/kubernetes/kubernetes-datastore.ts';
import { rbacObjects } from '../../scripts/manifests/rbac.ts';
import { ControlPlane } from '../cluster/control-plane.ts';
import type { Printed } from './kubernetes-lab.ts';

const silent = pino({ level: 'silent' });
const crds = join(import.meta.dirname, '../../manifests/crds');
const agents = 12;
/** What waits for a podCIDR that never comes needn't do so for long. */
const hurried: Clock = {
  ...systemClock,
  now: () => systemClock.now() * 20,
  sleep: (ms, signal) => systemClock.sleep(ms / 20, signal),
};
let plane: ControlPlane;
let kubeconfig: string;

beforeAll(async () => {
  plane = await ControlPlane.start();
  const files = readdirSync(crds).map((name) => `--filename=${join(crds, name)}`);
  await plane.kubectl.run('apply', '--server-side', ...files);
  await plane.kubectl.run('wait', '--for=condition=Established', 'crd', '--all', '--timeout=100s');
  await plane.apply(rbacObjects().map(({ object }) => object));
  kubeconfig = await plane.kubeconfigFor({ namespace: 'kube-system', serviceAccount: 'tortie-node' });
});
afterAll(async () => plane?.stop());

/** One agent's part, with a connection of its own. */
async function open(stack: AsyncDisposableStack, routes: readonly string[]): Promise<ClusterDefaults> {
  const datastore = stack.use(await openKubernetesDatastore({ kubeconfig, clock: systemClock, log: () => {} }));
  const store = stack.use(new ObjectStore(datastore, silent));
  store.start();
  await store.synced();
  const host = {
    routes: () => Promise.resolve(routes.map((dst) => ({ dst }))),
    addresses: () => Promise.resolve([]),
  } as unknown as ClusterDefaultsParts['host'];
  return stack.use(new ClusterDefaults({ datastore, store, host, clock: hurried, log: silent }));
}

it(`${agents} agents, whose nodes have different routes, make one set, and none of them has a problem`, async () => {
  const addresses = [
    { type: 'InternalIP', address: '10.0.0.1' },
    { type: 'InternalIP', address: 'fd31::1' },
  ];
  await plane.apply([{ apiVersion: 'v1', kind: 'Node', metadata: { name: 'node1' } }]);
  const status = JSON.stringify({ status: { addresses } });
  await plane.kubectl.run('patch', 'node', 'node1', '--subresource=status', '--type=merge', `--patch=${status}`);
  await using stack = new AsyncDisposableStack();
  const free = ['192.168.0.0/24', '172.16.0.0/24', '172.17.0.0/24'];
  const all = await Promise.all(Array.from({ length: agents }, (_, index) => open(stack, free.slice(0, index % 4))));
  await Promise.all(all.map((defaults) => defaults.start()));
  expect(all.flatMap(({ problems, unavailableReason }) => [...problems, unavailableReason])).toEqual(
    Array.from({ length: agents }, () => undefined),
  );
  const kinds = ['felixconfigurations', 'ipamconfigurations', 'tiers', 'ippools', 'clusterinformations'];
  const { items } = await plane.kubectl.json<{ readonly items: readonly Printed[] }>(
    'get',
    kinds.map((plural) => `${plural}.projectcalico.org`).join(','),
  );
  expect(items.map(({ metadata }) => metadata.name).toSorted()).toEqual(
    [
      'default',
      'default',
      'default',
      'default',
      'default-ipv4-ippool',
      'default-ipv6-ippool',
      'kube-admin',
      'kube-baseline',
    ].toSorted(),
  );
});
