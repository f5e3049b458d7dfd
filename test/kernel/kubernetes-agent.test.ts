/** Agents on a real API server, with the rights of the manifest only: what they make, write and follow there, and what happens without it. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { EndpointReport } from '#agent/endpoints/endpoint-report.ts';
import { eventually } from '#test/lab/agent-lab.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { losses, Traffic } from '#test/lab/traffic.ts';
import { getFrom } from './agent-http.ts';
import { KubernetesLab } from './kubernetes-lab.ts';

const wired = (pod: LabPod) => ({
  'cni.projectcalico.org/podIP': `${pod.ipv4}/32`,
  'cni.projectcalico.org/podIPs': `${pod.ipv4}/32,${pod.ipv6}/128`,
  'cni.projectcalico.org/containerID': pod.container,
});

/** Pods with their addresses. */
const addressesOf = (endpoints: readonly EndpointReport[]) =>
  Object.fromEntries(endpoints.map(({ pod, addresses }) => [pod, addresses]));

describe('agents in a cluster', () => {
  let cluster: KubernetesLab;
  let from: LabPod;
  let near: LabPod;
  let far: LabPod;

  beforeAll(async () => {
    cluster = await KubernetesLab.create({ nodes: 2 });
    const [one, two] = [cluster.node(0), cluster.node(1)];
    await Promise.all([cluster.register(one), cluster.register(two)]);
    await Promise.all([one.startAgent(), two.startAgent()]);
    from = await cluster.addPod(one, 'from');
    near = await cluster.addPod(one, 'near');
    far = await cluster.addPod(two, 'far');
  }, 300_000);
  afterAll(async () => cluster?.[Symbol.asyncDispose]());

  it('make what the cluster needs, once', async () => {
    const names = async (resource: string) => (await cluster.list(resource)).map(({ metadata }) => metadata.name);
    expect({
      pools: await names('ippools.projectcalico.org'),
      tiers: (await names('tiers.projectcalico.org')).toSorted(),
      felix: await names('felixconfigurations.projectcalico.org'),
      ipam: await names('ipamconfigurations.projectcalico.org'),
      cluster: await names('clusterinformations.projectcalico.org'),
    }).toEqual({
      pools: ['default-ipv4-ippool', 'default-ipv6-ippool'],
      tiers: ['default', 'kube-admin', 'kube-baseline'],
      felix: ['default'],
      ipam: ['default'],
      cluster: ['default'],
    });
    expect((await cluster.get('clusterinformations.projectcalico.org', 'default')).spec).toMatchObject({
      datastoreReady: true,
    });
    expect((await cluster.list('ippools.projectcalico.org')).map(({ spec }) => spec)).toEqual([
      expect.objectContaining({ cidr: '192.168.0.0/16', natOutgoing: true, vxlanMode: 'Never' }),
      expect.objectContaining({ cidr: expect.stringMatching(/^fd.*::\/48$/), natOutgoing: true }),
    ]);
    for (const node of cluster.lab.nodes) {
      expect(await node.status()).toMatchObject({
        ready: true,
        cluster: { problems: [] },
        datastore: { location: 'kubernetes', failures: [], absentKinds: ['ClusterNetworkPolicy'] },
      });
    }
  });

  it('say on their Nodes which addresses they have and that the network is there, and say it again', async () => {
    const node = cluster.node(0);
    const read = () => cluster.get('node', node.name);
    const network = ({ status }: Awaited<ReturnType<typeof read>>) =>
      status?.conditions?.find(({ type }) => type === 'NetworkUnavailable');
    await cluster.becomes(read, (now) => network(now)?.status === 'False');
    expect((await read()).metadata.annotations).toMatchObject({
      'projectcalico.org/IPv4Address': `${node.ipv4}/24`,
      'projectcalico.org/IPv6Address': `${node.ipv6}/64`,
    });
    await cluster.setNodeStatus(node, {
      conditions: [{ type: 'NetworkUnavailable', status: 'True', reason: 'NoRouteCreated' }],
    });
    await cluster.becomes(read, (now) => network(now)?.reason === 'TortieIsUp');
  });

  it('write on a Pod what it has, blank it after its DEL, and pods of two nodes talk', async () => {
    await cluster.becomes(
      () => cluster.podAnnotations('from'),
      (now) => isDeepStrictEqual(now, wired(from)),
    );
    await far.peer();
    const peer = await from.peer();
    // The other node's block is news that travels.
    for (const address of [far.ipv4, far.ipv6]) {
      await cluster.becomes(
        () => peer.connect(address),
        ({ ok }) => ok,
      );
    }
    const leaving = await cluster.addPod(cluster.node(0), 'leaving');
    const { container } = leaving;
    await cluster.becomes(
      () => cluster.podAnnotations('leaving'),
      (now) => now['cni.projectcalico.org/containerID'] === container,
    );
    await leaving.del();
    await cluster.becomes(
      () => cluster.podAnnotations('leaving'),
      (now) => now['cni.projectcalico.org/podIP'] === '',
    );
    expect(await cluster.podAnnotations('leaving')).toEqual({
      'cni.projectcalico.org/podIP': '',
      'cni.projectcalico.org/podIPs': '',
      'cni.projectcalico.org/containerID': container,
    });
    await leaving.destroy();
    await cluster.plane.kubectl.run('delete', 'pod', 'leaving', '--force', '--grace-period=0');
  });

  it('let pods go on without the API server, say so, and hold what was written meanwhile when it is back', async () => {
    const node = cluster.node(0);
    const traffic = await Traffic.start(from, [near, far]);
    await cluster.plane.killApiServer();
    const away = await node.waitFor(({ datastore }) => datastore.failures.join('\n').includes(cluster.plane.server));
    expect(away).toMatchObject({ ready: true, reasons: [] });
    await sleep(3_000);
    expect((await node.status()).ready).toBe(true);
    await cluster.plane.startApiServer();
    await node.waitFor(({ datastore }) => datastore.failures.length === 0);
    const report = await traffic.stop();
    expect(losses(report)).toEqual({});
    await cluster.plane.apply([
      {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { name: 'closed', namespace: 'default' },
        spec: {
          podSelector: {},
          policyTypes: ['Ingress'],
          ingress: [{ from: [{ podSelector: { matchLabels: { may: 'pass' } } }] }],
        },
      },
    ]);
    const peer = await from.peer();
    await far.peer();
    const passes = async () => (await peer.connect(far.ipv4, 500)).ok;
    await cluster.becomes(passes, (ok) => !ok);
    await cluster.plane.kubectl.run('label', 'pod', 'from', 'may=pass');
    await cluster.becomes(passes, (ok) => ok);
    await cluster.plane.kubectl.run('delete', 'networkpolicy', 'closed');
  }, 300_000);

  it('take over what an earlier agent left, and write nothing that stands', async () => {
    const node = cluster.node(0);
    const versionOf = async () => (await cluster.get('pod', 'from')).metadata.resourceVersion;
    const before = { endpoints: addressesOf(await node.endpoints()), version: await versionOf() };
    const traffic = await Traffic.start(from, [near, far]);
    await node.killAgent();
    await node.startAgent();
    await node.stopAgent();
    await node.startAgent();
    expect({ endpoints: addressesOf(await node.endpoints()), version: await versionOf() }).toEqual(before);
    expect(losses(await traffic.stop())).toEqual({});
  }, 300_000);

  it('find their pods by Pods and devices when the state dir is lost', async () => {
    const node = cluster.node(0);
    const before = await node.endpoints();
    const traffic = await Traffic.start(from, [near, far]);
    await node.killAgent();
    rmSync(join(node.stateDir), { recursive: true });
    await node.startAgent();
    expect(addressesOf(await node.endpoints())).toEqual(addressesOf(before));
    expect(losses(await traffic.stop())).toEqual({});
    expect(await node.status()).toMatchObject({ ready: true, dataplane: { failures: [] } });
    const fresh = await cluster.addPod(node, 'fresh');
    expect([from, near].map(({ ipv4 }) => ipv4)).not.toContain(fresh.ipv4);
    await fresh.del();
    await fresh.destroy();
    await cluster.plane.kubectl.run('delete', 'pod', 'fresh', '--force', '--grace-period=0');
  }, 300_000);

  it('answer every question of the command line', async () => {
    const node = cluster.node(0);
    const ask = async (...args: string[]) => {
      const { status, stdout, stderr } = await node.tortie(...args);
      expect([args, stderr, status]).toEqual([args, '', 0]);
      return stdout;
    };
    expect(await ask('ipam', 'show')).toContain('default-ipv4-ippool');
    // What the tests before have released is written a moment later.
    await cluster.becomes(
      () => node.tortie('ipam', 'check'),
      (now) => isDeepStrictEqual(now, { status: 0, stdout: 'nothing found\n', stderr: '' }),
    );
    expect(await ask('explain', 'from', far.ipv4, 'tcp', '80')).toContain('default/far');
    expect(await ask('policy', 'show', 'from')).toContain('from');
    expect(await ask('endpoints')).toContain(from.ipv4);
    expect(await ask('explain', 'from', 'default/far', 'tcp', '80')).toContain('default/far');
    expect(await ask('status')).toContain('no ClusterNetworkPolicy');
    expect(await ask('diags', join(cluster.lab.dir, 'diags'))).toContain('agent-status.json');
    // Without being told, by what the agent says of itself.
    const { status, stdout } = await node.tortieAsFound('ipam', 'show', '-o', 'json');
    expect([status, stdout]).toEqual([0, expect.stringContaining('default-ipv6-ippool')]);
  });

  it('change their dataplane when the one field is patched', async () => {
    const set = async (bpfEnabled: boolean, active: string) => {
      const patch = JSON.stringify({ spec: { bpfEnabled } });
      const what = ['felixconfigurations.projectcalico.org', 'default'];
      await cluster.plane.kubectl.run('patch', ...what, '--type=merge', `--patch=${patch}`);
      for (const node of cluster.lab.nodes) await node.waitFor(({ dataplane }) => dataplane.active === active);
    };
    const peer = await from.peer();
    await far.peer();
    await set(true, 'ebpf');
    expect(await peer.connect(far.ipv4)).toMatchObject({ ok: true });
    await set(false, 'iptables');
    expect(await peer.connect(far.ipv4)).toMatchObject({ ok: true });
  }, 300_000);

  it('follow a Node that is deleted and added again with another address', async () => {
    const [one, two] = [cluster.node(0), cluster.node(1)];
    const routes = () => one.exec('ip', '-4', 'route');
    await cluster.becomes(routes, (now) => now.includes(`via ${two.ipv4} `));
    await cluster.plane.kubectl.run('delete', 'node', two.name);
    await cluster.becomes(routes, (now) => !now.includes(`via ${two.ipv4} `));
    await two.exec('ip', 'addr', 'add', '172.31.0.77/24', 'dev', 'uplink');
    await cluster.register(two, ['172.31.0.77', two.ipv6]);
    await cluster.becomes(routes, (now) => now.includes('via 172.31.0.77 '));
    await cluster.becomes(
      async () => (await cluster.get('node', two.name)).metadata.annotations?.['projectcalico.org/IPv4Address'],
      (now) => now === '172.31.0.77/24',
    );
    const peer = await from.peer();
    expect(await peer.connect(far.ipv4)).toMatchObject({ ok: true });
  }, 300_000);
});

it('an agent waits for the API server and for the CRDs, and says what it waits for', async () => {
  await using cluster = await KubernetesLab.create({ nodes: 1, withCrds: false });
  const node = cluster.node(0);
  await cluster.register(node);
  await cluster.plane.apply([
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { namespace: 'kube-system', name: 'tortie-config' },
      data: { podCIDR: 'wrong' },
    },
  ]);
  await cluster.plane.killApiServer();
  await node.startAgent({ wait: false });
  const says = (...parts: readonly string[]) =>
    node.waitFor(({ ready, reasons }) => !ready && parts.every((part) => reasons.join('\n').includes(part)));
  await says('reading the datastore', 'kinds (Node, ', cluster.plane.server, 'ECONNREFUSED');
  expect(await getFrom(node, '9099/liveness')).toEqual({ status: 200, text: 'ok\n' });
  expect(await getFrom(node, '9099/readiness')).toEqual({
    status: 503,
    text: expect.stringContaining(cluster.plane.server),
  });
  await cluster.plane.startApiServer();
  await says('apply manifests/tortie.yaml');
  await cluster.applyCrds();
  await says('ConfigMap kube-system/tortie-config: podCIDR must be');
  expect(await cluster.list('tiers.projectcalico.org')).toEqual([]);
  const pod = await cluster.createPod(node, 'early');
  await eventually(
    async () => (await pod.tryAdd())?.msg.includes('podCIDR must be') ?? false,
    async () => (await pod.tryAdd())?.msg,
  );
  const data = JSON.stringify({ data: { podCIDR: '10.77.0.0/16', podCIDRv6: 'fd77::/48' } });
  await cluster.plane.kubectl.run(
    'patch',
    'configmap',
    'tortie-config',
    '--namespace=kube-system',
    '--type=merge',
    `--patch=${data}`,
  );
  await node.waitFor(({ ready }) => ready);
  await pod.add();
  expect(pod.ipv4).toMatch(/^10\.77\./);
  await pod.del();
}, 300_000);
