import { must } from '#test/lab/exec.ts';
import { median, quantile } from '../lib/report.ts';
import { longPolicy } from './cluster.ts';
import { Collected, type PartResult } from './results.ts';
import { inTurn, type Run } from './run.ts';
import { agentSides, enforcing, mustBeClosed, ptpSide, rulesInForce, type BenchPod, type Side } from './sides.ts';
import { repeat, serve, stream } from './traffic.ts';

/** Which node of a lab the server is on; the client is on the first. */
const cases = [
  { name: 'same node', node: 0 },
  { name: 'across nodes', node: 1 },
] as const;

const streamSeconds = 2;
const requests = { count: 50_000, seconds: 1 };
const rules = 10;

/** Throughput, its CPU, and requests on one connection, in one node and between two that a bridge joins. */
export async function tcpPart(run: Run): Promise<PartResult> {
  return run.within(async (stack) => {
    const { kinds, absent } = await enforcing();
    const agents = await agentSides(stack, kinds, { nodes: 2 });
    const ptp = await ptpSide(stack, { nodes: 2 });
    const ready: { readonly side: Side; readonly client: BenchPod; readonly servers: readonly BenchPod[] }[] = [];
    for (const side of [ptp, ...agents.sides]) {
      const client = await side.pod(0, 'client');
      const servers: BenchPod[] = [];
      for (const { node } of cases) servers.push(await side.pod(node, `server-${node}`, { bench: 'tcp' }));
      for (const { netnsPath } of servers) {
        stack.use(await serve(netnsPath, 'echo'));
        stack.use(await serve(netnsPath, 'sink'));
      }
      ready.push({ side, client, servers });
    }
    const mtus = await Promise.all(ready.map(({ client }) => mtuOf(client)));
    if (new Set(mtus).size > 1) throw new Error(`the pods' MTUs differ: ${mtus.join(', ')}`);
    for (const side of agents.sides) {
      const own = ready.find((each) => each.side === side);
      if (own === undefined) continue;
      side.lab.apply('policies', longPolicy('tcp', rules, own.client.ipv4));
      for (const { node } of cases) {
        const isInForce = await rulesInForce(side, { node, pod: `server-${node}`, count: rules });
        if (!isInForce) throw new Error(`${side.name}: the policy is not in force\n${side.lab.node(node).logTail()}`);
      }
      await mustBeClosed(side, own.servers);
    }
    const collected = new Collected();
    for (const round of run.turns('tcp')) {
      for (const [at, { name }] of cases.entries()) {
        for (const { side, client, servers } of inTurn(ready, round)) {
          const server = servers[at];
          if (server !== undefined)
            collected.add(round, { case: name, side: side.name }, await measure(client, server));
        }
      }
    }
    const to = (cell: { readonly case: string }) => ({ case: cell.case, side: ptp.name });
    const ratios = [
      { title: 'Gbit/s to ptp', figure: 'gbitPerS', to },
      { title: 'CPU to ptp', figure: 'cpuPerGbit', to },
      { title: 'RR p50 to ptp', figure: 'rrP50Us', to },
    ];
    return {
      name: 'tcp',
      title: 'One TCP stream; one byte each way on one connection (RR)',
      method: `One client, ${streamSeconds} s a stream and ${requests.seconds} s of requests a round; MTU ${mtus[0]}. The server has a policy of ${rules} rules, the last allows; ptp has none. Across nodes: plain routes over a bridge. CPU is what all CPUs of the machine worked until the sink had all.`,
      figures: [
        { key: 'gbitPerS', title: 'Gbit/s', digits: 1 },
        { key: 'cpuPerGbit', title: 'CPU s per Gbit', digits: 3 },
        { key: 'rrP50Us', title: 'RR p50 us', digits: 1 },
        { key: 'rrP99Us', title: 'RR p99 us', digits: 0 },
        { key: 'rrPerS', title: 'RR/s', digits: 0 },
      ],
      ratios: ratios.map(({ title }) => title),
      cells: collected.cells(ratios),
      absent: [...absent, ...agents.absent],
    };
  });
}

async function measure({ netnsPath }: BenchPod, { ipv4 }: BenchPod): Promise<Record<string, number>> {
  const streamed = await stream(netnsPath, ipv4, streamSeconds);
  const { us, perS } = await repeat(netnsPath, 'rr', ipv4, requests);
  return { ...streamed, rrP50Us: median(us), rrP99Us: quantile(us, 0.99), rrPerS: perS };
}

/** Segment sizes decide throughput: they must be the same for all. */
async function mtuOf({ netnsPath }: BenchPod): Promise<number> {
  const text = await must('nsenter', `--net=${netnsPath}`, 'ip', '-j', 'link', 'show', 'eth0');
  return (JSON.parse(text) as readonly { readonly mtu: number }[])[0]?.mtu ?? Number.NaN;
}
