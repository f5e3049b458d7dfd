import { median, quantile } from '../lib/report.ts';
import { bigSet, longPolicy } from './cluster.ts';
import { Collected, type PartResult } from './results.ts';
import { inTurn, type Run } from './run.ts';
import {
  agentSides,
  enforcing,
  mustBeClosed,
  ptpSide,
  rulesInForce,
  type Absent,
  type BenchPod,
  type Side,
} from './sides.ts';
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
    const plain: Pair = {
      side: ptp.name,
      client: await ptp.pod(0, 'client'),
      servers: new Map([[none, await ptp.pod(0, 'server')]]),
    };
    const prepared: Prepared[] = [];
    for (const side of agents.sides) {
      run.say(`connect: ${side.name}: pods and policies`);
      prepared.push(await prepare(side));
    }
    const pairs = [plain, ...prepared.map(({ pair }) => pair)];
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
    for (const { pair, inForceMs } of prepared) {
      for (const [{ name }, ms] of inForceMs) collected.add(0, { case: name, side: pair.side }, { inForceMs: ms });
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
        'One client, one connection at a time; each ends with a reset. Every rule has another /32 and port, and the last one allows; policies of all cases are in force at once, each for a server of its own. ptp has no policy. "In force" is from the writing of the policy to the agent having it in the kernel, once.',
      figures: [
        { key: 'p50Us', title: 'p50 us', digits: 1 },
        { key: 'p99Us', title: 'p99 us', digits: 0 },
        { key: 'crrPerS', title: 'CRR/s', digits: 0 },
        { key: 'crrP50Us', title: 'CRR p50 us', digits: 1 },
        { key: 'inForceMs', title: 'in force ms', digits: 0 },
      ],
      ratios: ratios.map(({ title }) => title),
      cells: collected.cells(ratios),
      absent: [...absent, ...agents.absent, ...prepared.flatMap((each) => each.absent)],
    };
  });
}

/** What a side can do of the cases, and how long each took to be in force. */
interface Prepared {
  readonly pair: Pair;
  readonly inForceMs: ReadonlyMap<Case, number>;
  readonly absent: readonly Absent[];
}

/** One case after the other; what doesn't come into force in time is taken away again. */
async function prepare(side: Side): Promise<Prepared> {
  const client = await side.pod(0, 'client');
  const servers = new Map<Case, BenchPod>();
  const inForceMs = new Map<Case, number>();
  const absent: Absent[] = [];
  for (const each of cases) {
    const { name, target, rules, objects } = each;
    const server = await side.pod(0, target, { bench: target });
    const began = performance.now();
    side.lab.apply(target, objects(client.ipv4));
    if (await rulesInForce(side, { node: 0, pod: target, count: rules })) {
      servers.set(each, server);
      if (rules > 0) inForceMs.set(each, performance.now() - began);
      continue;
    }
    absent.push({ side: side.name, reason: `${name}: not in force after a minute` });
    // An agent that is busy with it may be so for long.
    side.lab.apply(target, []);
    await side.lab.node(0).killAgent();
    await side.lab.node(0).startAgent();
    if (!(await rulesInForce(side, { node: 0, pod: target, count: 0 }))) {
      throw new Error(`${side.name}: doesn't get rid of ${name}\n${side.lab.node(0).logTail()}`);
    }
  }
  return { pair: { side: side.name, client, servers }, inForceMs, absent };
}

async function measure({ netnsPath }: BenchPod, { ipv4 }: BenchPod): Promise<Record<string, number>> {
  await repeat(netnsPath, 'connect', ipv4, { count: 100, seconds: 1 });
  const { us } = await repeat(netnsPath, 'connect', ipv4, amount);
  const crr = await repeat(netnsPath, 'crr', ipv4, amount);
  return { p50Us: median(us), p99Us: quantile(us, 0.99), crrPerS: crr.perS, crrP50Us: median(crr.us) };
}
