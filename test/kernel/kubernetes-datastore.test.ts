/** The Kubernetes datastore on a real API server with a real etcd: contract, faults, rights. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { createSign } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { systemClock } from '#api/clock.ts';
import type { KindMap, KindName } from '#api/kinds.ts';
import { Informer } from '#agent/store/informer.ts';
import { describeDatastore } from '#datastore/contract-suite.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { openKubernetesDatastore, type KubernetesDatastore } from '#datastore/kubernetes/kubernetes-datastore.ts';
import { counted, handle, namespaces } from '#datastore/objects-for-tests.ts';
import { Wire } from '#datastore/kubernetes/wire-for-tests.ts';
import { until } from '#test/lab/until.ts';
import { ControlPlane } from '../cluster/control-plane.ts';

const silent = pino({ level: 'silent' });
const patienceMs = 300_000;
let plane: ControlPlane;
let dir: string;
const opened: KubernetesDatastore[] = [];
const log: string[] = [];

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), `tt${process.pid}-kds-`));
  plane = await ControlPlane.start();
  await plane.kubectl.run('apply', '-f', join(import.meta.dirname, '../../manifests/crds'));
  await plane.kubectl.run('wait', '--for=condition=Established', 'crd', '--all', '--timeout=100s');
  await plane.apply(namespaces.map((name) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })));
  // What is established is served a moment later.
  const store = await open();
  for (const kind of ['IPAMHandle', 'NetworkSet', 'NetworkPolicy'] as const) await patiently(() => store.list(kind));
}, patienceMs);
afterAll(async () => {
  await plane.stop();
  rmSync(dir, { recursive: true, force: true });
}, patienceMs);
afterEach(async () => {
  for (const store of opened.splice(0)) await store[Symbol.asyncDispose]();
});

async function open(kubeconfig = plane.kubeconfig): Promise<KubernetesDatastore> {
  const store = await openKubernetesDatastore({
    kubeconfig,
    clock: systemClock,
    log: (_level, message) => log.push(message),
  });
  opened.push(store);
  return store;
}

/** Tries again while the API server is away, as long as a test may take. */
async function patiently<T>(attempt: () => Promise<T>): Promise<T> {
  for (const deadline = Date.now() + 120_000; ;) {
    try {
      return await attempt();
    } catch (error) {
      if ((error as { code?: string }).code !== 'unavailable' || Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

async function removeAll(store: Datastore, kind: KindName): Promise<void> {
  for (const { metadata } of (await store.list(kind)).items) await store.delete(kind, keyOf(metadata));
}

function keyOf({ namespace, name }: { readonly namespace?: string | undefined; readonly name: string }) {
  return namespace === undefined ? { name } : { namespace, name };
}

describeDatastore('KubernetesDatastore', async () => {
  const store = await open();
  for (const kind of ['IPAMHandle', 'NetworkSet', 'NetworkPolicy', 'KubernetesNetworkPolicy'] as const) {
    await removeAll(store, kind);
  }
  return { store, close: async () => store[Symbol.asyncDispose]() };
});

describe('an informer on a real API server', () => {
  let informer: Informer<'IPAMHandle'>;
  let lists: number;
  /** How often the API server said that a point is too old. */
  let expired: number;
  const start = async (store: KubernetesDatastore) => {
    lists = 0;
    expired = 0;
    const list = store.list.bind(store);
    store.list = async (kind, options) => {
      const listing = await list(kind, options);
      lists++; // One that failed is done once more.
      return listing;
    };
    const watch = store.watch.bind(store);
    store.watch = async function* (kind, options) {
      try {
        yield* watch(kind, options);
      } catch (error) {
        if ((error as { code?: string }).code === 'expired') expired++;
        throw error;
      }
    };
    informer = new Informer(store, 'IPAMHandle', silent);
    informer.start();
    await informer.synced();
  };
  const knows = () =>
    [...informer.all()].map(({ metadata, spec }) => `${metadata.name}=${Object.values(spec.block)[0]}`).sort();
  /** Makes a handle while the API server may be away: one that was made although its answer was lost is found. */
  const make = (store: KubernetesDatastore, name: string, count: number) =>
    patiently(async () => (await store.get('IPAMHandle', { name })) ?? store.create('IPAMHandle', handle(name, count)));
  afterEach(async () => {
    await informer.stop();
    // A test that failed between the two leaves the next ones an API server.
    await plane.startApiServer();
  }, patienceMs);

  test(
    'a connection that is cut is taken up where it was: without listing, and nothing is missed',
    async () => {
      await using wire = await Wire.to(plane.server);
      const path = join(dir, 'over-the-wire');
      writeFileSync(path, readFileSync(plane.kubeconfig, 'utf8').replace(plane.server, wire.url));
      const other = await open();
      await removeAll(other, 'IPAMHandle');
      await start(await open(path));
      for (let turn = 1; turn <= 3; turn++) {
        wire.cut();
        await other.create('IPAMHandle', handle(`h${turn}`, turn));
        await untilLong(() => informer.size === turn);
      }
      expect(lists).toBe(1);
    },
    patienceMs,
  );

  test(
    'an API server that is killed and started: everything stays, and nothing is missed',
    async () => {
      const store = await open();
      await removeAll(store, 'IPAMHandle');
      await start(store);
      const other = await open();
      await other.create('IPAMHandle', handle('a', 1));
      await until(() => informer.size === 1);
      await plane.killApiServer();
      // What is told first depends on what was under way: a request, a handshake of TLS, nothing.
      await until(() => informer.failure?.includes('ECONNREFUSED') === true);
      expect(informer.failure).toContain(`no answer from the API server ${plane.server}: `);
      expect(knows()).toEqual(['a=1']);
      await plane.startApiServer();
      const b = await make(other, 'b', 2);
      await other.update('IPAMHandle', counted(b, 3));
      await other.delete('IPAMHandle', { name: 'a' });
      await untilLong(() => knows().join() === 'b=3' && informer.failure === undefined);
    },
    patienceMs,
  );

  test(
    'etcd is restarted: writes fail with a reason or work, and all that was written is seen',
    async () => {
      const store = await open();
      await removeAll(store, 'IPAMHandle');
      await start(store);
      const restarting = plane.restartEtcd();
      await Promise.all(Array.from({ length: 8 }, (_, index) => make(store, `h${index}`, index)));
      await restarting;
      await untilLong(() => informer.size === 8);
      // The API server may have had to list, too; its watches from before are then too old.
      expect(lists).toBe(1 + expired);
    },
    patienceMs,
  );

  test(
    'history that is compacted while nobody looks: the watch is expired, and a list finds everything',
    async () => {
      const store = await open();
      await removeAll(store, 'IPAMHandle');
      await start(store);
      await plane.killApiServer();
      await until(() => informer.failure !== undefined);
      // Behind the API server's back: history goes on, and its past is thrown away.
      const { etcdPort } = JSON.parse(readFileSync(join(plane.dir, 'control-plane.json'), 'utf8')) as {
        etcdPort: number;
      };
      const etcd = async (path: string, body: object) => {
        const answer = await fetch(`http://127.0.0.1:${etcdPort}/v3/kv/${path}`, {
          method: 'POST',
          body: JSON.stringify(body),
        });
        return (await answer.json()) as { header: { revision: string } };
      };
      const base64 = (text: string) => Buffer.from(text).toString('base64');
      let revision = '';
      for (let turn = 0; turn < 5; turn++) {
        ({ revision } = (await etcd('put', { key: base64('/tortie-test'), value: base64(String(turn)) })).header);
      }
      await etcd('compaction', { revision, physical: true });
      await plane.startApiServer();
      await make(store, 'after', 1);
      await untilLong(() => knows().join() === 'after=1');
      expect([lists > 1, expired > 0]).toEqual([true, true]);
    },
    patienceMs,
  );
});

async function untilLong(isSo: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 120_000; !isSo();) {
    if (Date.now() > deadline) throw new Error('it never became so');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe('Pods and Nodes of a real API server', () => {
  const pod = { namespace: 'default', name: 'web-0' };
  const annotated = { 'cni.projectcalico.org/podIP': '10.0.0.1/32', 'cni.projectcalico.org/podIPs': '10.0.0.1/32' };
  let store: KubernetesDatastore;

  /** As a service account that may patch what the writes need, read Pods and Nodes, and nothing else. */
  beforeAll(async () => {
    await plane.apply([
      { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'small', namespace: 'kube-system' } },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'ClusterRole',
        metadata: { name: 'small' },
        rules: [
          { apiGroups: [''], resources: ['pods', 'nodes'], verbs: ['get', 'list'] },
          { apiGroups: [''], resources: ['pods/status', 'nodes/status'], verbs: ['patch'] },
        ],
      },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'ClusterRoleBinding',
        metadata: { name: 'small' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'small' },
        subjects: [{ kind: 'ServiceAccount', name: 'small', namespace: 'kube-system' }],
      },
      { apiVersion: 'v1', kind: 'Node', metadata: { name: 'node-1', annotations: { 'others.io/a': 'stays' } } },
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { ...pod, labels: { app: 'web' } },
        spec: {
          nodeName: 'node-1',
          containers: [{ name: 'c', image: 'i', ports: [{ containerPort: 80, name: 'http' }] }],
        },
      },
    ]);
    // A role is in force a moment later.
    const may = ['auth', 'can-i', 'patch', 'nodes', '--subresource=status'];
    const as = '--as=system:serviceaccount:kube-system:small';
    await until(async () => (await plane.kubectl.try([...may, as])).status === 0);
  }, patienceMs);

  async function openAsSmall(): Promise<void> {
    store = await open(await plane.kubeconfigFor({ namespace: 'kube-system', serviceAccount: 'small' }));
  }

  async function stored(): Promise<KindMap['Pod']> {
    const found = await store.get('Pod', pod);
    if (found === undefined) throw new Error('the pod is gone');
    return found;
  }

  test("a Pod's annotations are written by its status alone, and its WorkloadEndpoint is made of it", async () => {
    await openAsSmall();
    const name = 'node--1-k8s-web--0-eth0';
    expect((await store.get('WorkloadEndpoint', { namespace: 'default', name }))?.spec.ipNetworks).toEqual([]);
    const { metadata } = await stored();
    await store.annotatePod(pod, annotated, { uid: metadata.uid ?? '', resourceVersion: metadata.resourceVersion });
    expect((await stored()).metadata.annotations).toEqual(annotated);
    const { items } = await store.list('WorkloadEndpoint', { namespace: 'default' });
    expect(items).toMatchObject([
      {
        metadata: { namespace: 'default', name, labels: { app: 'web', 'projectcalico.org/orchestrator': 'k8s' } },
        spec: { node: 'node-1', pod: 'web-0', ipNetworks: ['10.0.0.1/32'], ports: [{ name: 'http', port: 80 }] },
      },
    ]);
    expect(await store.get('WorkloadEndpoint', { namespace: 'default', name })).toEqual(items[0]);
    expect(
      await store.get('WorkloadEndpoint', { namespace: 'default', name: 'other-k8s-web--0-eth0' }),
    ).toBeUndefined();
  });

  test('another pod of that name, an older state, and none at all are told apart', async () => {
    await openAsSmall();
    const { metadata } = await stored();
    const uid = metadata.uid ?? '';
    const other = '00000000-0000-0000-0000-000000000000';
    await expect(store.annotatePod(pod, annotated, { uid: other })).rejects.toMatchObject({ code: 'conflict' });
    const mark = { 'cni.projectcalico.org/containerID': 'c1' };
    await expect(store.annotatePod(pod, mark, { uid, resourceVersion: '1' })).rejects.toMatchObject({
      code: 'conflict',
    });
    await expect(store.annotatePod({ ...pod, name: 'none' }, mark, { uid })).rejects.toMatchObject({
      code: 'not-found',
    });
    expect((await stored()).metadata.annotations).toEqual(annotated);
    await store.annotatePod(pod, mark, { uid });
    expect((await stored()).metadata.annotations).toEqual({ ...annotated, ...mark });
  });

  test("a Node's annotations come and go, its network becomes available, and nothing else of it changes", async () => {
    await openAsSmall();
    await plane.kubectl.run(
      ...['patch', 'node', 'node-1', '--subresource=status', '--type=merge', '-p'],
      JSON.stringify({
        status: {
          conditions: [
            { type: 'Ready', status: 'True' },
            { type: 'NetworkUnavailable', status: 'True' },
          ],
        },
      }),
    );
    await store.annotateNode('node-1', { 'projectcalico.org/IPv4Address': '10.0.0.9/24', 'projectcalico.org/x': 'y' });
    await store.annotateNode('node-1', { 'projectcalico.org/x': null });
    await store.reportNetworkAvailable('node-1', 'TortieIsUp', 'Tortie is running on this node');
    const node = await plane.kubectl.json<{
      metadata: { annotations: Record<string, string> };
      status: { conditions: { type: string; status: string; reason?: string }[] };
    }>('get', 'node', 'node-1');
    expect(node.metadata.annotations).toMatchObject({
      'others.io/a': 'stays',
      'projectcalico.org/IPv4Address': '10.0.0.9/24',
    });
    expect(node.metadata.annotations).not.toHaveProperty(['projectcalico.org/x']);
    expect(node.status.conditions).toHaveLength(2);
    expect(node.status.conditions).toContainEqual(expect.objectContaining({ type: 'Ready', status: 'True' }));
    expect(node.status.conditions).toContainEqual(
      expect.objectContaining({ type: 'NetworkUnavailable', status: 'False', reason: 'TortieIsUp' }),
    );
    expect((await store.get('Node', { name: 'node-1' }))?.metadata.annotations).toEqual({
      'projectcalico.org/IPv4Address': '10.0.0.9/24',
    });
  });

  test.each<[string, () => Promise<unknown>, string]>([
    ['what it may not', () => store.create('IPAMHandle', handle('a')), 'unavailable'],
    ['a Pod whole', async () => store.update('Pod', await stored()), 'invalid'],
    ['a WorkloadEndpoint', () => store.delete('WorkloadEndpoint', { namespace: 'default', name: 'a' }), 'invalid'],
  ])('who writes %s is refused with a reason', async (_what, attempt, code) => {
    await openAsSmall();
    await expect(attempt()).rejects.toMatchObject({ code });
  });

  test('a token that has expired is followed by the one that its file has then, without a restart', async () => {
    const account = await plane.kubectl.json<{ metadata: { uid: string } }>('get', 'sa', 'small', '-n', 'kube-system');
    const file = join(dir, 'token');
    const expired = serviceAccountToken('small', account.metadata.uid, -600);
    writeFileSync(file, expired);
    const path = join(dir, 'kubeconfig');
    const admin = JSON.parse(readFileSync(plane.kubeconfig, 'utf8')) as Record<string, unknown>;
    writeFileSync(path, JSON.stringify({ ...admin, users: [{ name: 'user', user: { tokenFile: 'token' } }] }));
    const store = await open(path);
    const error = await store.list('Pod').catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'unavailable', message: expect.stringContaining('401') });
    const fresh = serviceAccountToken('small', account.metadata.uid, 600);
    writeFileSync(file, fresh);
    expect((await store.list('Pod')).items).toHaveLength(1);
    for (const token of [expired, fresh]) expect(`${String(error)} ${log.join()}`).not.toContain(token);
  });
});

/** As a kubelet gets it from the API server; `seconds`: so long it is good. */
function serviceAccountToken(name: string, uid: string, seconds: number): string {
  const now = Math.floor(Date.now() / 1000);
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const issuer = 'https://kubernetes.default.svc';
  const text = `${part({ alg: 'RS256' })}.${part({
    iss: issuer,
    aud: [issuer],
    sub: `system:serviceaccount:kube-system:${name}`,
    iat: now - 3600,
    nbf: now - 3600,
    exp: now + seconds,
    'kubernetes.io': { namespace: 'kube-system', serviceaccount: { name, uid } },
  })}`;
  const signature = createSign('RSA-SHA256').update(text).sign(readFileSync(plane.serviceAccountKey));
  return `${text}.${signature.toString('base64url')}`;
}
