/** Metrics of a running agent: each value follows what it is about; the port is as the settings say. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { eventually, startAgentLab } from '#test/lab/agent-lab.ts';
import { distDir } from '#test/lab/dist.ts';
import { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { metricTable } from '#agent/metrics/metric-table.ts';
import { getFrom, scrape } from './agent-http.ts';

const v3 = 'projectcalico.org/v3';
const policy = (name: string, spec: object) => ({
  apiVersion: v3,
  kind: 'GlobalNetworkPolicy',
  metadata: { name },
  spec,
});
const webFromClient = policy('web', {
  selector: "app == 'web'",
  types: ['Ingress'],
  ingress: [{ action: 'Allow', protocol: 'TCP', source: { selector: "app == 'client'" } }, { action: 'Deny' }],
});
const allowRule = 'tortie_policy_rule_packets_total{rule="GlobalNetworkPolicy web ingress 0"}';
const denyRule = 'tortie_policy_rule_packets_total{rule="GlobalNetworkPolicy web ingress 1"}';
const ruleRows = /^tortie_policy_rule_packets_total/;

describe('metrics of an agent in iptables mode', () => {
  let lab: Lab;
  let node: LabNode;
  let web: LabPod;
  let client: LabPod;

  beforeAll(async () => {
    lab = await startAgentLab({ bpfEnabled: false, nodes: 1 });
    node = lab.node(0);
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  /** By how much each value has grown that has, of those that don't change by themselves. */
  const grown = async (
    deed: () => Promise<unknown>,
    done: (now: Readonly<Record<string, number>>, growth: Readonly<Record<string, number>>) => boolean,
  ) => {
    const before = await scrape(node);
    await deed();
    let now = before;
    const delta = () =>
      Object.fromEntries(
        Object.entries(now)
          .map(([name, value]): [string, number] => [name, value - (before[name] ?? 0)])
          .filter(([name, difference]) => difference !== 0 && !/^process_|_sum|quantile=|felix_exec_time/.test(name)),
      );
    await eventually(async () => done((now = await scrape(node)), delta()), delta);
    return delta();
  };

  it('every metric of the table is served, and no other', async () => {
    const { text } = await getFrom(node, '9091/metrics');
    const names = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name ?? '');
    expect(names.toSorted()).toEqual(Object.keys(metricTable).toSorted());
    expect(text).not.toContain("can't be read");
    expect(await scrape(node)).toMatchObject({
      'felix_host{host="node1"}': 1,
      'tortie_dataplane_active{kind="iptables"}': 1,
      felix_cluster_num_hosts: 1,
      felix_active_local_endpoints: 0,
      felix_resync_state: 3,
      tortie_ready: 1,
      tortie_objects_not_programmed: 0,
      felix_iptables_restore_errors: 0,
    });
  });

  it('pods count as endpoints of the node and of the cluster; a further one with known policy costs no process', async () => {
    const first = await grown(
      async () => {
        web = await node.addPod('web', { labels: { app: 'web' } });
      },
      (now, growth) => now['felix_cluster_num_workload_endpoints'] === 1 && 'felix_active_local_endpoints' in growth,
    );
    expect(first).toMatchObject({ felix_active_local_endpoints: 1, felix_cluster_num_workload_endpoints: 1 });
    const second = await grown(
      async () => {
        client = await node.addPod('client', { labels: { app: 'client' } });
      },
      (now, growth) => now['felix_cluster_num_workload_endpoints'] === 2 && 'felix_active_local_endpoints' in growth,
    );
    expect(second).toMatchObject({
      felix_active_local_endpoints: 1,
      'felix_int_dataplane_messages{type="workloadEndpointUpdate"}': 1,
    });
    expect(second).not.toHaveProperty('felix_iptables_restore_calls');
  });

  it('a policy counts, and its sets, messages and writes; one that selects nobody here is the cluster’s only', async () => {
    const written = ['felix_iptables_restore_calls', 'felix_int_dataplane_apply_time_seconds_count'];
    const delta = await grown(
      async () => {
        lab.apply('policy', [webFromClient]);
        await Promise.resolve();
      },
      // The rules are there before the turn that wrote them has ended.
      (now, growth) => allowRule in now && written.every((name) => name in growth),
    );
    expect(delta).toMatchObject({
      felix_active_local_policies: 1,
      felix_active_local_selectors: 1,
      felix_cluster_num_policies: 1,
      felix_ipsets_calico: 1,
      'felix_int_dataplane_messages{type="policyUpdate"}': 1,
      'felix_int_dataplane_messages{type="ipSetUpdate"}': 1,
      felix_iptables_restore_calls: expect.any(Number),
      felix_int_dataplane_apply_time_seconds_count: expect.any(Number),
    });
    const unused = await grown(
      async () => {
        lab.apply('unused', [policy('unused', { selector: "app == 'nobody'", types: ['Ingress'] })]);
        await Promise.resolve();
      },
      (now) => now['felix_cluster_num_policies'] === 2,
    );
    expect(unused).toMatchObject({ felix_cluster_num_policies: 1 });
    for (const name of [
      'felix_active_local_policies',
      'felix_calc_graph_output_events',
      'felix_iptables_restore_calls',
    ])
      expect(unused).not.toHaveProperty(name);
  });

  it('what a selector selects changes without a process', async () => {
    const delta = await grown(
      async () => {
        client.relabel({ app: 'other' });
        await Promise.resolve();
      },
      (now) => 'felix_int_dataplane_messages{type="ipSetDelta"}' in now,
    );
    expect(delta).not.toHaveProperty('felix_iptables_restore_calls');
    client.relabel();
    await eventually(
      async () => (await (await client.peer()).connect(await peerOf(web), 200)).ok,
      () => 'the client is not let in again',
    );
  });

  it('rules count packets by the name of the rule', async () => {
    const peer = await client.peer();
    const address = await peerOf(web);
    const delta = await grown(
      async () => {
        await peer.connect(address, 3_000);
        await peer.connect(web.ipv6, 3_000);
        await peer.datagram(address, 200);
      },
      (now) => denyRule in now,
    );
    expect(delta).toMatchObject({ [allowRule]: 2, [denyRule]: 1 });
    lab.apply('policy', []);
    await eventually(
      async () => !Object.keys(await scrape(node)).some((name) => ruleRows.test(name) && name.includes('Policy web')),
      () => 'a policy that is gone is still counted',
    );
  });

  it('what others break and the agent puts right is counted', async () => {
    lab.configure({ bpfEnabled: false, iptablesRefreshInterval: '1s' });
    const delta = await grown(
      () => node.exec('sh', '-c', '$(command -v iptables-nft) -F cali-FORWARD'),
      (_, growth) => ['tortie_repairs_total', 'felix_iptables_restore_calls'].every((name) => name in growth),
    );
    expect(delta).toMatchObject({
      tortie_repairs_total: expect.any(Number),
      felix_iptables_restore_calls: expect.any(Number),
    });
    lab.configure({ bpfEnabled: false });
  });

  it('tiers, host endpoints and what can not be enforced as it is written', async () => {
    const http = { action: 'Allow', http: { methods: ['GET'] } };
    const delta = await grown(
      async () => {
        lab.apply('more', [
          { apiVersion: v3, kind: 'Tier', metadata: { name: 'security' }, spec: { order: 1 } },
          {
            apiVersion: v3,
            kind: 'HostEndpoint',
            metadata: { name: 'spare' },
            spec: { node: 'node1', interfaceName: 'spare0' },
          },
          policy('layer7', { selector: "app == 'nobody'", types: ['Ingress'], ingress: [http] }),
        ]);
        await Promise.resolve();
      },
      (now, growth) =>
        now['tortie_conversion_problems'] === 1 &&
        ['felix_cluster_num_tiers', 'felix_cluster_num_host_endpoints', 'felix_active_local_endpoints'].every(
          (name) => name in growth,
        ),
    );
    expect(delta).toMatchObject({
      felix_cluster_num_tiers: 1,
      felix_cluster_num_host_endpoints: 1,
      felix_active_local_endpoints: 1,
      tortie_conversion_problems: 1,
    });
    lab.apply('more', []);
  });

  it('prometheusMetricsEnabled closes the port, prometheusMetricsPort moves it, without a restart', async () => {
    const answers = async (port: number, status: number) =>
      eventually(
        async () => (await getFrom(node, `${port}/metrics`)).status === status,
        () => getFrom(node, `${port}/metrics`),
      );
    lab.configure({ bpfEnabled: false, prometheusMetricsEnabled: false });
    await answers(9091, 0);
    lab.configure({ bpfEnabled: false, prometheusMetricsPort: 9100 });
    await answers(9100, 200);
    await answers(9091, 0);
    lab.configure({ bpfEnabled: false });
    await answers(9091, 200);
  });
});

it('ports that somebody else has: status names them and the settings, the agent works, and takes them when they are free', async () => {
  await using lab = await Lab.create({ nodes: 1 });
  const node = lab.node(0);
  const squatters = await Promise.all([9099, 9091].map((port) => listen(node, port)));
  try {
    await node.startAgent();
    const { ready, services } = await node.status();
    expect({ ready, services }).toEqual({
      ready: true,
      services: {
        failures: [
          expect.stringMatching(/health server.*:9099: .*EADDRINUSE.*; set healthPort or healthHost$/),
          expect.stringMatching(
            /metrics server.*:9091: .*EADDRINUSE.*; set prometheusMetricsPort or prometheusMetricsHost$/,
          ),
        ],
      },
    });
    const { stdout } = await node.tortie('status');
    for (const failure of services.failures) expect(stdout).toContain(`service     ${failure}`);
    await node.addPod('pod');
  } finally {
    for (const squatter of squatters) squatter.kill();
  }
  await node.waitFor((status) => status.services.failures.length === 0);
  expect((await getFrom(node, '9091/metrics')).status).toBe(200);
  expect((await getFrom(node, '9099/readiness')).status).toBe(200);
});

/** The pod's IPv4 address, when its peer serves. */
async function peerOf(pod: LabPod): Promise<string> {
  await pod.peer();
  return pod.ipv4;
}

/** Another program on a port of the node. */
async function listen(node: LabNode, port: number): Promise<ChildProcess> {
  const program = `require('net').createServer().listen(${port}, () => console.log('ready'))`;
  const child = spawn('nsenter', [`--net=${node.netnsPath}`, join(distDir, 'bin/node'), '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => {
    child.stdout?.once('data', resolve);
  });
  return child;
}
