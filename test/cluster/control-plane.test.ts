/** The control plane alone: what other tests of a real API server build on. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { existsSync, readFileSync } from 'node:fs';
import { ControlPlane } from './control-plane.ts';

let plane: ControlPlane;
beforeAll(async () => {
  plane = await ControlPlane.start();
});
afterAll(async () => {
  await plane.stop();
  expect(existsSync(plane.dir)).toBe(false);
});

test('objects are there after the API server was killed and etcd restarted', async () => {
  await plane.apply([
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'kept', namespace: 'default' }, data: { a: 'b' } },
  ]);
  await plane.killApiServer();
  expect((await plane.kubectl.try(['get', 'configmap', 'kept', '--request-timeout=2s'])).status).not.toBe(0);
  await plane.restartEtcd();
  await plane.startApiServer();
  expect(await plane.kubectl.json('get', 'configmap', 'kept')).toMatchObject({ data: { a: 'b' } });
});

test('a service account gets a kubeconfig that may only do what its roles say', async () => {
  await plane.apply([
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'somebody', namespace: 'kube-system' } },
  ]);
  const path = await plane.kubeconfigFor({ namespace: 'kube-system', serviceAccount: 'somebody' });
  expect(readFileSync(path, 'utf8')).toContain('token');
  const { status, stderr } = await plane.kubectl.try(['get', 'pods', `--kubeconfig=${path}`]);
  expect(status).toBe(1);
  expect(stderr).toContain('"system:serviceaccount:kube-system:somebody" cannot list resource "pods"');
});
