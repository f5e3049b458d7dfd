/** The command line, on a node as it is in use, and `cleanup`, after which the node is as it was. */
import { afterEach, describe, expect, it } from '@jest/globals';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { AgentStatus } from '#agent/status.ts';
import type { EndpointReport } from '#agent/endpoints/endpoint-report.ts';
import type { IpamUsage } from '#ipam/report.ts';
import { dataplanes, eventually, startAgentLab } from '#test/lab/agent-lab.ts';
import { BpfIds } from '#test/lab/bpf-objects.ts';
import { checkFindsNothing, inUseBecomes, objectsOf } from '#test/lab/cluster-view.ts';
import { distDir } from '#test/lab/dist.ts';
import { exec } from '#test/lab/exec.ts';
import { Lab } from '#test/lab/lab.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { settledSnapshotOf, snapshotOf } from '#test/lab/node-snapshot.ts';
import { globalPolicy, hostEndpoint } from '../contract/objects.ts';

/** Of what a node has only with host endpoints: programs on its uplink, and rules in table raw. */
const hostPolicy = [
  hostEndpoint(
    'uplink',
    { node: 'node1', interfaceName: 'uplink', profiles: ['projectcalico-default-allow'] },
    { side: 'host' },
  ),
  globalPolicy('untracked', {
    selector: "side == 'host'",
    doNotTrack: true,
    applyOnForward: true,
    types: ['Ingress', 'Egress'],
    ingress: [{ action: 'Allow', protocol: 'UDP', destination: { ports: [4789] } }],
    egress: [{ action: 'Allow', protocol: 'UDP', source: { ports: [4789] } }],
  }),
];

describe('the command line', () => {
  let lab: Lab;
  afterEach(() => lab[Symbol.asyncDispose]());

  it.each(dataplanes)('shows the node as it is, as text and as JSON, $dataplane', async ({ bpfEnabled, dataplane }) => {
    lab = await startAgentLab({ bpfEnabled, nodes: 1, felix: { defaultEndpointToHostAction: 'Accept' } });
    const node = lab.node(0);
    const [pod, container] = [await node.addPod('pod'), await node.addPod('container', { isPod: false })];
    await node.peer();
    await pod.peer();
    await (await pod.peer()).connect(node.ipv4);
    const run = async (...args: string[]) => {
      const { status, stdout, stderr } = await node.tortie(...args);
      expect({ args, status, stderr }).toEqual({ args, status: 0, stderr: '' });
      return stdout;
    };

    const status = JSON.parse(await run('status', '-o', 'json')) as AgentStatus;
    expect(status).toMatchObject({
      node: 'node1',
      ready: true,
      reasons: [],
      dataplane: { active: dataplane, wanted: dataplane },
      endpoints: 2,
    });
    expect(await run('status')).toMatch(new RegExp(`^node +node1[^]*^ready +yes[^]*^dataplane +${dataplane}$`, 'm'));

    const endpoints = JSON.parse(await run('endpoints', '-o', 'json')) as readonly EndpointReport[];
    const nets = ({ ipv4, ipv6 }: LabPod) => [`${ipv4}/32`, `${ipv6}/128`];
    expect(endpoints).toMatchObject([
      { pod: null, container: container.container, addresses: nets(container), state: 'programmed' },
      { pod: 'pod', namespace: 'default', container: pod.container, addresses: nets(pod), state: 'programmed' },
    ]);
    const passed =
      endpoints[1]?.counters.find(({ direction }) => direction === 'from-pod')?.verdicts['passed']?.packets ?? 0;
    expect(passed > 0).toBe(bpfEnabled);
    const table = await run('endpoints');
    for (const text of [pod.ipv4, pod.ipv6, endpoints[1]?.device ?? '', 'k8s/default/pod/eth0', 'programmed'])
      expect(table).toContain(text);

    await inUseBecomes(lab, 4);
    const usage = JSON.parse(await run('ipam', 'show', '-o', 'json')) as IpamUsage;
    expect(usage.pools.map(({ name, inUse }) => ({ name, inUse }))).toEqual([
      { name: 'v4', inUse: 2 },
      { name: 'v6', inUse: 2 },
    ]);
    expect(await run('ipam', 'show')).toMatch(/^pool v4 +10\.65\.0\.0\/16/m);
    // What is decided is written a little later, and not all at once.
    await checkFindsNothing(lab);
    expect(await run('ipam', 'check')).toBe('nothing found\n');
    expect(await run('ipam', 'check', '-o', 'json')).toBe('[]\n');
  });

  it('says what is wrong with a command, and where the agent should be when there is none', async () => {
    lab = await Lab.create({ nodes: 1 });
    const node = lab.node(0);
    for (const args of [['status'], ['endpoints']]) {
      const { status, stdout, stderr } = await node.tortie(...args);
      expect({ args, status, stdout }).toEqual({ args, status: 1, stdout: '' });
      expect(stderr).toContain(node.runDir);
    }
    expect(await node.tortie('status', '-o', 'yaml')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('json'),
    });
    expect(await node.tortie('no-such-thing')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('no-such-thing'),
    });
    expect(await node.tortie('ipam')).toMatchObject({ status: 1, stderr: expect.stringContaining('ipam show') });
    // A reader that has seen enough is no failure.
    const piped = await exec('sh', ['-c', `${join(distDir, 'bin/tortie')} help | true`]);
    expect(piped).toMatchObject({ status: 0, stderr: '' });
  });

  it('releases an address by hand: not one in use, not one that nobody has, but one that was leaked', async () => {
    lab = await startAgentLab({ bpfEnabled: false, nodes: 2 });
    const [first, second] = [lab.node(0), lab.node(1)];
    const pod = await first.addPod('pod');
    const lost = await second.addPod('lost', { isPod: false });
    await inUseBecomes(lab, 4);
    const endpoints = () => objectsOf(lab, 'WorkloadEndpoint');
    await eventually(() => endpoints().length === 2, endpoints);
    expect(await first.tortie('ipam', 'release', pod.ipv4)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('in use'),
    });
    expect(await first.tortie('ipam', 'release', '10.65.255.254')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('10.65.255.254 is not allocated'),
    });

    // A node that never comes back, and whose endpoints somebody has deleted.
    await second.killAgent();
    for (const object of objectsOf(lab, 'WorkloadEndpoint').filter((name) => name.includes(second.name))) {
      rmSync(join(lab.datastoreDir, '.tortie', object));
    }
    const { ipv4 } = lost;
    expect(await first.tortie('ipam', 'release', ipv4)).toMatchObject({ status: 0, stdout: `released ${ipv4}\n` });
    await inUseBecomes(lab, 3);
    const handle = `k8s-pod-network.${lost.container}`;
    expect(await first.tortie('ipam', 'release', handle, '-o', 'json')).toMatchObject({ status: 0 });
    await inUseBecomes(lab, 2);
    expect(await first.tortie('ipam', 'release', handle)).toMatchObject({ status: 1 });
  });

  describe.each(dataplanes)('cleanup after $dataplane', ({ bpfEnabled, dataplane }) => {
    it('refuses while the agent runs or pods are wired; forced, it leaves the node as it was before', async () => {
      lab = await Lab.create({ nodes: 2 });
      lab.apply('host', hostPolicy);
      const node = lab.node(0);
      const before = await snapshotOf(node);
      const ids = new BpfIds();
      // What the other dataplane had before is not left, either.
      lab.configure({ bpfEnabled: !bpfEnabled });
      await Promise.all(lab.nodes.map((each) => each.startAgent()));
      await ids.note(node);
      lab.setBpfEnabled(bpfEnabled);
      await Promise.all(
        lab.nodes.map((each) => each.waitFor((status) => status.ready && status.dataplane.active === dataplane)),
      );
      const pods = [await node.addPod('pod'), await node.addPod('container', { isPod: false })];
      const far = await lab.node(1).addPod('far');
      await far.peer();
      expect(await (await (pods[0] as LabPod).peer()).connect(far.ipv4)).toMatchObject({ ok: true });

      await ids.note(node);
      for (const kind of ['prog', 'map'] as const) expect(ids.count(kind)).toBeGreaterThan(0);
      // A dataplane is active before the other one has been removed.
      const left = bpfEnabled ? /wl-src|cali-(PREROUTING|FORWARD|wl-link-local)/ : /tortie|clsact/;
      const running = await settledSnapshotOf(node, (now) =>
        Object.entries(now).every(
          ([kind, lines]) => /^links$| dir$/.test(kind) || !lines.some((line) => left.test(line)),
        ),
      );
      for (const kind of ['iptables-nft', 'ip6tables-nft'])
        expect(running[kind]?.join('\n')).toContain('-j CT --notrack');
      if (bpfEnabled) expect(running['BPF programs']?.join('\n')).toMatch(/^uplink /m);
      expect(await node.tortie('cleanup', '--force')).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('is running'),
      });
      expect(await snapshotOf(node)).toEqual(running);

      await node.stopAgent();
      const stopped = await snapshotOf(node);
      const devices = stopped['links']
        ?.filter((line) => line.includes('tortie:'))
        .map((line) => /^\d+: (cali\w+)/.exec(line)?.[1]);
      const refused = await node.tortie('cleanup');
      expect(refused.status).toBe(1);
      for (const device of devices ?? []) expect(refused.stderr).toContain(device);
      expect(await snapshotOf(node)).toEqual(stopped);

      expect(await node.tortie('cleanup', '--force')).toMatchObject({ status: 0 });
      expect(await snapshotOf(node)).toEqual(before);
      expect([node.runDir, node.stateDir, node.bpffs].filter((dir) => existsSync(dir))).toEqual([]);
      // The kernel frees what nobody holds in its own time.
      await eventually(
        async () => (await ids.left()).length === 0,
        () => ids.left(),
      );
      expect(await node.tortie('cleanup')).toMatchObject({ status: 0 });
    });

    it('the node can be used again', async () => {
      lab = await startAgentLab({ bpfEnabled, nodes: 1, felix: { defaultEndpointToHostAction: 'Accept' } });
      const node = lab.node(0);
      const pod = await node.addPod('pod');
      await pod.del();
      await node.stopAgent();
      expect(await node.tortie('cleanup')).toMatchObject({ status: 0 });
      await node.startAgent();
      const again = await node.addPod('again');
      await node.peer();
      expect(await (await again.peer()).connect(node.ipv4)).toMatchObject({ ok: true, seenAs: again.ipv4 });
    });
  });
});
