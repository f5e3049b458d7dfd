import type { Lab } from '#test/lab/lab.ts';
import { median, type Table } from '../lib/report.ts';
import { Containers, residentMiB, sides, timeCalls } from './side.ts';

/** ADD and DEL of the same ten containers again and again, beside others that stay: rate, and the agent's memory over time. */
export async function churn(
  lab: Lab,
  options: { readonly seconds: number; readonly standing: number },
): Promise<{ table: Table; data: Record<string, unknown> }> {
  const containers = new Containers(lab);
  const [tortie] = sides(lab, containers);
  const standing = Array.from({ length: options.standing }, (_, index) => 20_000 + index);
  const moving = Array.from({ length: 10 }, (_, index) => 30_000 + index);
  const pid = lab.node(0).agentPid;
  if (pid === undefined) throw new Error('the agent is not running');
  const memoryMiB: number[] = [];
  let cycles = 0;
  try {
    for (const number of [...standing, ...moving]) await containers.create('t', number);
    await timeCalls(lab, tortie, 'ADD', standing, 5);
    const standingMiB = residentMiB(pid);
    const started = performance.now();
    while (performance.now() - started < options.seconds * 1000) {
      await timeCalls(lab, tortie, 'ADD', moving, 5);
      await timeCalls(lab, tortie, 'DEL', moving, 5);
      cycles += moving.length;
      memoryMiB.push(residentMiB(pid));
    }
    const seconds = (performance.now() - started) / 1000;
    await timeCalls(lab, tortie, 'DEL', standing, 5);
    const tenth = Math.max(1, Math.floor(memoryMiB.length / 10));
    const data = {
      seconds,
      cyclesPerSecond: cycles / seconds,
      [`memoryWith${options.standing}PodsMiB`]: standingMiB,
      memoryFirstTenthMiB: median(memoryMiB.slice(0, tenth)),
      memoryLastTenthMiB: median(memoryMiB.slice(-tenth)),
      memoryPeakMiB: Math.max(...memoryMiB),
    };
    return { table: Object.entries(data).map(([key, value]) => [key, value.toFixed(1)]), data };
  } finally {
    await containers.removeAll();
  }
}
