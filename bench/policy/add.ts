import { Containers, shortName, sides as cniSides, timeCalls, type Side as CniSide } from '../cni/side.ts';
import { median, quantile } from '../lib/report.ts';
import { Lab } from '#test/lab/lab.ts';
import { Collected, type PartResult } from './results.ts';
import { inTurn, type Run } from './run.ts';
import { agentSides, allKinds } from './sides.ts';

/** ADDs of each side in a round. */
const adds = 20;

/** ADD in both modes beside ptp, one call at a time. */
export async function addPart(run: Run): Promise<PartResult> {
  return run.within(async (stack) => {
    const options = { nodes: 1, ipv6: false };
    const agents = await agentSides(stack, allKinds, options);
    const plain = stack.use(await Lab.create(options));
    const callers = [...agents.sides.map(({ name, lab }) => caller(name, lab, 'tortie')), caller('ptp', plain, 'ptp')];
    for (const { containers } of callers) stack.defer(() => containers.removeAll());
    const collected = new Collected();
    for (const round of run.turns('add')) {
      const times = new Map(callers.map(({ name }) => [name, { wall: [] as number[], cpu: 0 }]));
      const numbers = Array.from({ length: adds }, (_, index) => round * adds + index);
      for (const number of numbers) {
        for (const { name, lab, side, containers } of inTurn(callers, number)) {
          await containers.create(shortName(side), number);
          const before = side.helperCpuMs();
          const { timings } = await timeCalls(lab, side, 'ADD', [number], 1);
          const entry = times.get(name);
          entry?.wall.push(...timings.map(({ wallMs }) => wallMs));
          if (entry !== undefined) entry.cpu += side.helperCpuMs() - before + (timings[0]?.cpuMs ?? 0);
        }
      }
      for (const [side, { wall, cpu }] of times) {
        const figures = { p50Ms: median(wall), p95Ms: quantile(wall, 0.95), cpuMs: cpu / adds };
        collected.add(round, { case: 'ADD', side }, figures);
      }
      for (const { lab, side, containers } of callers) {
        await timeCalls(lab, side, 'DEL', numbers, 10);
        await containers.removeAll();
      }
    }
    const ratios = ['ptp', 'iptables'].map((side) => ({
      title: `p50 to ${side}`,
      figure: 'p50Ms',
      to: (cell: { readonly case: string }) => ({ case: cell.case, side }),
    }));
    return {
      name: 'add',
      title: 'CNI ADD, one at a time',
      method: `${adds} calls of each side a round, in turn, from spawn to exit; IPv4; no policies. CPU is the called program's and the agent's.`,
      figures: [
        { key: 'p50Ms', title: 'p50 ms', digits: 2 },
        { key: 'p95Ms', title: 'p95 ms', digits: 2 },
        { key: 'cpuMs', title: 'CPU ms', digits: 1 },
      ],
      ratios: ratios.map(({ title }) => title),
      cells: collected.cells(ratios),
      absent: agents.absent,
    };
  });
}

/** A plugin in the first node of a lab. */
function caller(
  name: string,
  lab: Lab,
  plugin: string,
): { readonly name: string; readonly lab: Lab; readonly side: CniSide; readonly containers: Containers } {
  const containers = new Containers(lab);
  const side = cniSides(lab, containers).find((each) => each.name === plugin);
  if (side === undefined) throw new Error(`no plugin ${plugin}`);
  return { name, lab, side, containers };
}
