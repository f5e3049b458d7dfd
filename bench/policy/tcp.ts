import { must } from '#test/lab/exec.ts';
import { median, quantile } from '../lib/report.ts';
import { longPolicy } from './cluster.ts';
import { Collected, type PartResult } from './results.ts';
import { inTurn, type Run } from './run.ts';
import { agentSides, enforcing, mustBeClosed, ptpSide, rulesInForce, type BenchPod, type Side } from './sides.ts';
import { serve, SliceClient, type SliceLength } from './traffic.ts';

/** Which node of a lab the server is on; the client is on the first. */
const cases = [
  { name: 'same node', node: 0 },
  { name: 'across nodes', node: 1 },
] as const;

/** What slows a virtual machine lasts some seconds: the sides take turns many times within that, and are compared with who was beside them. */
const slices = 8;
const lengths = {
  stream: { warmS: 0.05, seconds: 0.2 },
  requests: { warmS: 0.02, seconds: 0.15 },
  requestsOneCpu: { warmS: 0.02, seconds: 0.1 },
} as const satisfies Readonly<Record<string, SliceLength>>;
const rules = 10;

/** A side's client against its server of one case. */
interface Pair {
  readonly side: string;
  readonly client: SliceClient;
  /** What requests took in all slices so far, in microseconds. */
  readonly requestsUs: number[];
}

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
    const measured = cases.map(({ name }, at) => ({
      name,
      pairs: ready.flatMap(({ side, client, servers }): Pair[] => {
        const server = servers[at];
        if (server === undefined) return [];
        const slices = stack.use(new SliceClient(client.netnsPath, server.ipv4));
        return [{ side: side.name, client: slices, requestsUs: [] }];
      }),
    }));
    const collected = new Collected();
    for (const round of run.turns('tcp'))
      for (const { name, pairs } of measured) await measure(collected, round, name, pairs);
    for (const { name, pairs } of measured)
      for (const { side, requestsUs } of pairs)
        collected.add(0, { case: name, side }, { rrP99Us: quantile(requestsUs, 0.99) });
    const to = (cell: { readonly case: string }) => ({ case: cell.case, side: ptp.name });
    const ratios = [
      { title: 'Gbit/s to ptp', figure: 'gbitPerS', to },
      { title: 'CPU to ptp', figure: 'cpuPerGbit', to },
      { title: 'RR p50 to ptp', figure: 'rrP50Us', to },
      { title: 'RR one CPU to ptp', figure: 'rrOneCpuP50Us', to },
    ];
    return {
      name: 'tcp',
      title: 'One TCP stream; one byte each way on one connection (RR)',
      method: `One client; in a round each side has ${slices} slices of a stream (${lengths.stream.seconds} s), of requests (${lengths.requests.seconds} s) and of requests with client and server on one CPU (${lengths.requestsOneCpu.seconds} s), the sides in turn slice by slice, in changing order; each is a connection of its own whose beginning isn't counted. Ratios are of slices that follow each other, medians over all slices of all rounds; p99 is that of all requests. MTU ${mtus[0]}. The server has a policy of ${rules} rules, the last allows; ptp has none. Across nodes: plain routes over a bridge. CPU is what all CPUs of the machine worked during a round's streams. On two CPUs most of a request is one CPU waking the other; on one it is the path.`,
      figures: [
        { key: 'gbitPerS', title: 'Gbit/s', digits: 1 },
        { key: 'cpuPerGbit', title: 'CPU s per Gbit', digits: 3 },
        { key: 'rrP50Us', title: 'RR p50 us', digits: 1 },
        { key: 'rrP99Us', title: 'RR p99 us', digits: 0 },
        { key: 'rrPerS', title: 'RR/s', digits: 0 },
        { key: 'rrOneCpuP50Us', title: 'RR one CPU p50 us', digits: 1 },
      ],
      ratios: ratios.map(({ title }) => title),
      cells: collected.cells(ratios),
      absent: [...absent, ...agents.absent],
    };
  });
}

/** A round's slices of one case. What is compared is done by all sides one after the other. */
async function measure(collected: Collected, round: number, name: string, pairs: readonly Pair[]): Promise<void> {
  const streamed = new Map<string, { readonly gbit: number; readonly cpuS: number }>();
  const turns = Array.from({ length: slices }, (_, slice) => round * slices + slice);
  for (const turn of turns) {
    const order = orderOf(pairs, turn);
    for (const { side, client } of order) {
      const { seconds, gbit, cpuS } = await client.stream(lengths.stream);
      collected.add(turn, { case: name, side }, { gbitPerS: gbit / seconds });
      const sum = streamed.get(side) ?? { gbit: 0, cpuS: 0 };
      streamed.set(side, { gbit: sum.gbit + gbit, cpuS: sum.cpuS + cpuS });
    }
    for (const { side, client, requestsUs } of order) {
      const us = await client.requests('two CPUs', lengths.requests);
      const rrPerS = (us.length / us.reduce((sum, time) => sum + time, 0)) * 1e6;
      collected.add(turn, { case: name, side }, { rrP50Us: median(us), rrPerS });
      requestsUs.push(...us);
    }
    for (const { side, client } of order) {
      const us = await client.requests('one CPU', lengths.requestsOneCpu);
      collected.add(turn, { case: name, side }, { rrOneCpuP50Us: median(us) });
    }
  }
  // The kernel counts CPU in ticks: too coarse for one slice.
  for (const [side, { gbit, cpuS }] of streamed)
    collected.add(round * slices, { case: name, side }, { cpuPerGbit: cpuS / gbit });
}

/** In six turns three sides have every order once. */
function orderOf(pairs: readonly Pair[], turn: number): readonly Pair[] {
  const order = inTurn(pairs, turn);
  return turn % 2 === 0 ? order : order.toReversed();
}

/** Segment sizes decide throughput: they must be the same for all. */
async function mtuOf({ netnsPath }: BenchPod): Promise<number> {
  const text = await must('nsenter', `--net=${netnsPath}`, 'ip', '-j', 'link', 'show', 'eth0');
  return (JSON.parse(text) as readonly { readonly mtu: number }[])[0]?.mtu ?? Number.NaN;
}
