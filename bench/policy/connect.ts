import type { Lab } from '#test/lab/lab.ts';
import { must } from '#test/lab/exec.ts';
import { eventually } from '#test/lab/agent-lab.ts';
import type { EndpointPolicyReport } from '#agent/explain/policy-report.ts';
import { askAgent } from '#agent/admin/client.ts';
import { buildConnectTimer, connectServer, timeConnects } from '../lib/connect-timer.ts';
import { median, quantile, type Table } from '../lib/report.ts';
import { bigSet, longPolicy } from './cluster.ts';

const port = 5000;

/** One thing that is compared: the policy objects, and how many rules must be in force. */
interface Case {
  readonly name: string;
  readonly objects: readonly object[];
  readonly rules: number;
}

/** Connect latency pod to pod on one node, the cases in turn, beside two namespaces that are joined by plain routes without any rule. */
export async function connects(
  lab: Lab,
  rounds: number,
  count: number,
): Promise<{ table: Table; data: Record<string, { p50Us: number; p99Us: number }> }> {
  await buildConnectTimer();
  const node = lab.node(0);
  const server = await node.addPod('bench-server', { labels: { bench: 'target' } });
  const client = await node.addPod('bench-client', {});
  await using plain = await plainPair(lab.prefix);
  using _server = await connectServer(server.netnsPath, port);
  using _plainServer = await connectServer(plain.serverPath, port);
  const cases: Case[] = [
    { name: 'tortie, no policy', objects: [], rules: 0 },
    ...[10, 1000, 5000].map((rules) => ({
      name: `tortie, ${rules} rules`,
      objects: longPolicy(rules, client.ipv4),
      rules,
    })),
    { name: 'tortie, 1 rule, set of 100,000', objects: bigSet(100_000, client.ipv4), rules: 1 },
  ];
  const times = new Map<string, number[]>();
  const record = (name: string, values: readonly number[]) => times.set(name, [...(times.get(name) ?? []), ...values]);
  for (let round = 0; round < rounds; round++) {
    for (const { name, objects, rules } of cases) {
      lab.apply('target', objects);
      await eventually(
        async () => (await rulesInForce(node.runDir)) === rules,
        () => `${name}: not in force\n${node.logTail()}`,
        60_000,
      );
      record('routes, no rules at all', await timeConnects(plain.clientPath, plain.address, port, count));
      record(name, await timeConnects(client.netnsPath, server.ipv4, port, count));
    }
  }
  lab.apply('target', []);
  const data = Object.fromEntries(
    [...times].map(([name, values]) => [name, { p50Us: median(values), p99Us: quantile(values, 0.99) }]),
  );
  const base = data['routes, no rules at all']?.p50Us ?? Number.NaN;
  const ten = data['tortie, 10 rules']?.p50Us ?? Number.NaN;
  const rows = Object.entries(data).map(([name, { p50Us, p99Us }]) => [
    name,
    p50Us.toFixed(1),
    p99Us.toFixed(0),
    (p50Us / base).toFixed(2),
    (p50Us / ten).toFixed(2),
  ]);
  return { table: [['connect', 'p50 us', 'p99 us', 'to plain', 'to 10 rules'], ...rows], data };
}

/** Rules of the server's tiers that the kernel has: the agent is in force when it has no failures and reports them all. */
async function rulesInForce(runDir: string): Promise<number> {
  const query = new URLSearchParams({ endpoint: 'default/bench-server' });
  const report = (await askAgent(runDir, `/policy?${query.toString()}`)) as EndpointPolicyReport;
  const rules = report.ingress.tiers.flatMap(({ policies }) => policies.flatMap((policy) => policy.rules));
  return rules.every(({ counter }) => counter !== null) ? rules.length : -1;
}

/** Client, router and server namespaces with plain routes between them. */
async function plainPair(
  prefix: string,
): Promise<AsyncDisposable & { clientPath: string; serverPath: string; address: string }> {
  const names = ['pc', 'pr', 'ps'].map((name) => `${prefix}-${name}`) as [string, string, string];
  const [client, router, server] = names;
  const remove = async () => {
    for (const name of names) await must('ip', 'netns', 'del', name);
  };
  for (const name of names) {
    await must('ip', 'netns', 'add', name);
    await must('ip', '-n', name, 'link', 'set', 'lo', 'up');
  }
  for (const [end, net] of [
    [client, 1],
    [server, 2],
  ] as const) {
    await must('ip', '-n', end, 'link', 'add', 'eth0', 'type', 'veth', 'peer', `v${net}`, 'netns', router);
    await must('ip', '-n', end, 'addr', 'add', `192.168.${net}.2/24`, 'dev', 'eth0');
    await must('ip', '-n', router, 'addr', 'add', `192.168.${net}.1/24`, 'dev', `v${net}`);
    await must('ip', '-n', end, 'link', 'set', 'eth0', 'up');
    await must('ip', '-n', router, 'link', 'set', `v${net}`, 'up');
    await must('ip', '-n', end, 'route', 'add', 'default', 'via', `192.168.${net}.1`);
  }
  await must('ip', 'netns', 'exec', router, 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
  const path = (name: string) => `/run/netns/${name}`;
  return { clientPath: path(client), serverPath: path(server), address: '192.168.2.2', [Symbol.asyncDispose]: remove };
}
