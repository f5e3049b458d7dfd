import { median, quantile } from '../lib/report.ts';
import { bigSet, longPolicy } from './cluster.ts';
import { Collected, type PartResult } from './results.ts';
import { inTurn, type Run } from './run.ts';
import { agentSides, enforcing, mustBeClosed, ptpSide, rulesInForce, type BenchPod, type Side } from './sides.ts';
import { repeat, serve } from './traffic.ts';

/** What the server's policy is like. */
interface Case {
  readonly name: string;
  /** Of the server pod; also the value of its label. */
  readonly target: string;
  readonly rules: number;
  readonly objects: (from: string) => readonly object[];
}

const long = (rules: number): Case => ({
  name: `${rules.toLocaleString('en')} rules`,
  target: `rules-${rules}`,
  rules,
  objects: (from) => longPolicy(`rules-${rules}`, rules, from),
});

const none = { name: 'no policy', target: 'open', rules: 0, objects: () => [] };
const few = long(10);
const cases: readonly Case[] = [
  none,
  few,
  long(1000),
  long(10_000),
  { name: 'set of 100,000', target: 'big-set', rules: 1, objects: (from) => bigSet('big-set', 100_000, from) },
];

/** In one round, of each kind. */
const amount = { count: 3000, seconds: 0.6 };

/** Who is asked by whom. */
interface Pair {
  readonly side: string;
  readonly client: BenchPod;
  readonly servers: ReadonlyMap<Case, BenchPod>;
}

/** Connects and short connections, pod to pod on one node. */
export async function connectPart(run: Run): Promise<PartResult> {
  return run.within(async (stack) => {
    const { kinds, absent } = await enforcing();
    const agents = await agentSides(stack, kinds, { nodes: 1 });
    const ptp = await ptpSide(stack, { nodes: 1 });
    const plain = {
      side: ptp.name,
      client: await ptp.pod(0, 'client'),
      servers: new Map([[none, await ptp.pod(0, 'server')]]),
    };
    const pairs: Pair[] = [plain];
    for (const side of agents.sides) {
      run.say(`connect: ${side.name}: pods and policies`);
      pairs.push(await prepare(side));
    }
    for (const { servers } of pairs) {
      for (const server of servers.values()) stack.use(await serve(server.netnsPath, 'echo'));
    }
    for (const side of agents.sides) {
      const servers = pairs.find((pair) => pair.side === side.name)?.servers ?? [];
      await mustBeClosed(
        side,
        [...servers].flatMap(([{ rules }, server]) => (rules === 0 ? [] : [server])),
      );
    }
    const collected = new Collected();
    for (const round of run.turns('connect')) {
      for (const each of cases) {
        for (const { side, client, servers } of inTurn(pairs, round)) {
          const server = servers.get(each);
          if (server !== undefined) collected.add(round, { case: each.name, side }, await measure(client, server));
        }
      }
    }
    const toPtp = () => ({ case: none.name, side: ptp.name });
    const ratios = [
      { title: 'p50 to ptp', figure: 'p50Us', to: toPtp },
      { title: 'p50 to 10 rules', figure: 'p50Us', to: ({ side }: { side: string }) => ({ case: few.name, side }) },
      { title: 'CRR to ptp', figure: 'crrPerS', to: toPtp },
    ];
    return {
      name: 'connect',
      title: 'Connect, and connect + one byte each way (CRR), pod to pod on one node',
      method:
        'One client, one connection at a time; each ends with a reset. Every rule has another /32 and port, and the last one allows; policies of all cases are in force at once, each for a server of its own. ptp has no policy.',
      figures: [
        { key: 'p50Us', title: 'p50 us', digits: 1 },
        { key: 'p99Us', title: 'p99 us', digits: 0 },
        { key: 'crrPerS', title: 'CRR/s', digits: 0 },
        { key: 'crrP50Us', title: 'CRR p50 us', digits: 1 },
      ],
      ratios: ratios.map(({ title }) => title),
      cells: collected.cells(ratios),
      absent: [...absent, ...agents.absent],
    };
  });
}

async function prepare(side: Side): Promise<Pair> {
  const client = await side.pod(0, 'client');
  const servers = new Map<Case, BenchPod>();
  for (const each of cases) servers.set(each, await side.pod(0, each.target, { bench: each.target }));
  side.lab.apply(
    'policies',
    cases.flatMap(({ objects }) => objects(client.ipv4)),
  );
  for (const { target, rules } of cases) await rulesInForce(side, { node: 0, pod: target, count: rules });
  return { side: side.name, client, servers };
}

async function measure({ netnsPath }: BenchPod, { ipv4 }: BenchPod): Promise<Record<string, number>> {
  await repeat(netnsPath, 'connect', ipv4, { count: 100, seconds: 1 });
  const { us } = await repeat(netnsPath, 'connect', ipv4, amount);
  const crr = await repeat(netnsPath, 'crr', ipv4, amount);
  return { p50Us: median(us), p99Us: quantile(us, 0.99), crrPerS: crr.perS, crrP50Us: median(crr.us) };
}
