/** What a node writes for others: endpoint status files, and the folder of `tortie diags`. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, startAgentLab } from '#test/lab/agent-lab.ts';
import { distDir } from '#test/lab/dist.ts';
import { exec } from '#test/lab/exec.ts';
import { Lab } from '#test/lab/lab.ts';
import { settledSnapshotOf, snapshotOf } from '#test/lab/node-snapshot.ts';

const v3 = 'projectcalico.org/v3';
const policy = {
  apiVersion: v3,
  kind: 'GlobalNetworkPolicy',
  metadata: { name: 'web' },
  spec: { selector: "app == 'web'", types: ['Ingress'], ingress: [{ action: 'Allow', protocol: 'TCP' }] },
};

describe('endpoint status files', () => {
  let lab: Lab;
  beforeEach(async () => {
    lab = await Lab.create({ nodes: 1 });
  });
  afterEach(() => lab[Symbol.asyncDispose]());

  it('are there for what is programmed, across restarts and moves, and go with it and with a clean-up', async () => {
    const node = lab.node(0);
    const [first, second] = [join(lab.dir, 'first'), join(lab.dir, 'second')];
    const files = (prefix: string) => {
      const dir = join(prefix, 'endpoint-status');
      return existsSync(dir) ? readdirSync(dir).toSorted() : undefined;
    };
    /** Without the variable, which the lab sets and which would override the object. */
    const env = { FELIX_ENDPOINTSTATUSPATHPREFIX: '' };
    lab.configure({ endpointStatusPathPrefix: first });
    // Somebody else made the directory, and a file of an endpoint that nobody knows is in it.
    mkdirSync(join(first, 'endpoint-status'), { recursive: true });
    writeFileSync(join(first, 'endpoint-status', 'k8s default%2Fghost eth0'), '{}');
    await node.startAgent({ env });
    expect(files(first)).toEqual([]);

    const web = await node.addPod('web');
    const container = await node.addPod('container', { isPod: false });
    const [webFile, containerFile] = ['k8s default%2Fweb eth0', `cni ${container.container} eth0`];
    expect(files(first)).toEqual([containerFile, webFile].toSorted());
    const [endpoint] = (await node.endpoints()).filter(({ pod }) => pod === 'web');
    expect(JSON.parse(readFileSync(join(first, 'endpoint-status', webFile), 'utf8'))).toEqual({
      ifaceName: endpoint?.device,
      mac: endpoint?.mac,
      ipv4Nets: [`${web.ipv4}/32`],
      ipv6Nets: [`${web.ipv6}/128`],
      bgpPeerName: '',
    });

    await container.del();
    expect(files(first)).toEqual([webFile]);

    await node.killAgent();
    writeFileSync(join(first, 'endpoint-status', 'k8s default%2Fghost eth0'), '{}');
    await node.startAgent({ env });
    expect(files(first)).toEqual([webFile]);

    lab.configure({ endpointStatusPathPrefix: second });
    await eventually(
      () => files(second)?.join() === webFile && files(first) === undefined,
      () => [files(first), files(second)],
    );
    const late = await node.addPod('late');
    expect(files(second)).toEqual(['k8s default%2Flate eth0', webFile]);
    await late.del();
    expect(files(second)).toEqual([webFile]);

    await node.stopAgent();
    expect(files(second)).toEqual([webFile]);
    expect(await node.tortie('cleanup', '--force')).toMatchObject({ status: 0 });
    expect(files(second)).toBeUndefined();
    expect(existsSync(node.stateDir)).toBe(false);
  });

  it('that can not be written are said in status, and stop nothing', async () => {
    const node = lab.node(0);
    writeFileSync(join(lab.dir, 'file'), '');
    await node.startAgent({ env: { FELIX_ENDPOINTSTATUSPATHPREFIX: join(lab.dir, 'file') } });
    await node.addPod('pod');
    const { ready, services } = await node.status();
    expect({ ready, services }).toEqual({
      ready: true,
      services: {
        failures: [expect.stringMatching(/endpoint status files in .*ENOTDIR.*set endpointStatusPathPrefix/)],
      },
    });
  });
});

describe('tortie diags', () => {
  it('collects what looks into a node needs, changes nothing, and has no secret in it', async () => {
    const secrets = { variable: 'hunter2-variable', kubeconfig: 'hunter2-kubeconfig' };
    await using lab = await startAgentLab({
      bpfEnabled: false,
      nodes: 1,
      agentEnv: { FELIX_NOSUCHPASSWORD: secrets.variable, TOKEN: secrets.variable },
    });
    const node = lab.node(0);
    await node.addPod('web', { labels: { app: 'web' } });
    lab.apply('policy', [policy]);
    await eventually(
      async () => (await node.tortie('policy', 'show', 'web')).stdout.includes('GlobalNetworkPolicy web'),
      () => node.logTail(),
    );
    const kubeconfig = join(lab.dir, 'kubeconfig');
    writeFileSync(kubeconfig, JSON.stringify({ users: [{ user: { token: secrets.kubeconfig } }] }));
    // Said is not yet programmed.
    const before = await settledSnapshotOf(node, (now) =>
      ['iptables-nft', 'ip6tables-nft'].every((kind) =>
        now[kind]?.some((line) => line.includes('GlobalNetworkPolicy web')),
      ),
    );

    const dir = join(lab.dir, 'diags');
    const { status, stdout, stderr } = await exec(
      'nsenter',
      [`--net=${node.netnsPath}`, join(distDir, 'bin/tortie'), 'diags', dir, ...node.settings],
      { env: { KUBECONFIG: kubeconfig, FELIX_NOSUCHPASSWORD: secrets.variable } },
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(await snapshotOf(node)).toEqual(before);

    expect(statSync(dir).mode & 0o777).toBe(0o700);
    const text = (file: string) => readFileSync(join(dir, file), 'utf8');
    const all = readdirSync(dir);
    for (const file of all) expect(stdout).toContain(file);
    for (const file of all)
      for (const secret of Object.values(secrets))
        expect({ file, has: text(file).includes(secret) }).toEqual({ file, has: false });
    expect(JSON.parse(text('agent-status.json'))).toMatchObject({ node: 'node1', ready: true });
    expect(JSON.parse(text('agent-endpoints.json'))).toMatchObject([{ pod: 'web', state: 'programmed' }]);
    expect(JSON.parse(text('agent-state.json'))).toMatchObject({
      policies: { 'GlobalNetworkPolicy web': { ingress: [{ action: 'allow' }] } },
      endpoints: { 'k8s/default/web/eth0': {} },
    });
    expect(text('agent-metrics.txt')).toMatch(/^felix_active_local_endpoints 1$/m);
    const device = (await node.endpoints())[0]?.device ?? '';
    expect(text('ip_-d_link.txt')).toContain(device);
    expect(text('ip_-4_route_show_table_all.txt')).toContain(device);
    expect(text('iptables-nft-save_-c.txt')).toContain('cali-from-wl-dispatch');
    expect(text('ip6tables-nft-save_-c.txt')).toContain('cali-from-wl-dispatch');
    expect(text('ipset_list.txt')).toContain('cali40wl-src');
    expect(text(all.find((file) => file.startsWith('sysctl')) ?? '')).toContain('net.ipv4.ip_forward = 1');
  });
});
