import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import { readFileSync } from 'node:fs';
import { askAgent } from '#agent/admin/client.ts';
import { median, type Table } from '../lib/report.ts';
import { manyPolicy, remotePod } from './cluster.ts';

/** What one start cost. */
interface Start {
  readonly readyMs: number;
  readonly cpuMs: number;
  readonly rssMib: number;
  readonly peakMib: number;
}

/** Agent start to "in sync" (status says ready) with that many pods on other nodes, ten here and 200 policies. Medians of `rounds`. */
export async function starts(
  lab: Lab,
  sizes: readonly number[],
  rounds: number,
): Promise<{ table: Table; data: Record<string, Start> }> {
  const node = lab.node(0);
  const data: Record<string, Start> = {};
  lab.apply(
    'many-policies',
    Array.from({ length: 200 }, (_, index) => manyPolicy(index)),
  );
  for (const size of sizes) {
    lab.apply(
      'far-pods',
      Array.from({ length: size }, (_, index) => remotePod(index)),
    );
    const runs: Start[] = [];
    for (let round = 0; round < rounds; round++) runs.push(await start(node));
    const of = (key: keyof Start) => median(runs.map((run) => run[key]));
    data[size] = { readyMs: of('readyMs'), cpuMs: of('cpuMs'), rssMib: of('rssMib'), peakMib: of('peakMib') };
  }
  lab.apply('far-pods', []);
  lab.apply('many-policies', []);
  const rows = Object.entries(data).map(([size, { readyMs, cpuMs, rssMib, peakMib }]) => [
    `${size} remote pods, 200 policies`,
    readyMs.toFixed(0),
    cpuMs.toFixed(0),
    rssMib.toFixed(0),
    peakMib.toFixed(0),
  ]);
  return { table: [['', 'start to ready ms', 'CPU ms', 'RSS MiB', 'peak MiB'], ...rows], data };
}

async function start(node: LabNode): Promise<Start> {
  await node.stopAgent();
  const began = performance.now();
  await node.startAgent({ wait: false });
  for (;;) {
    const status = (await askAgent(node.runDir, '/status').catch(() => undefined)) as { ready: boolean } | undefined;
    if (status?.ready === true) break;
    if (performance.now() - began > 60_000) throw new Error(`not ready after 60 s\n${node.logTail()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const readyMs = performance.now() - began;
  const stat = readFileSync(`/proc/${node.agentPid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  const status = readFileSync(`/proc/${node.agentPid}/status`, 'utf8');
  const mib = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1]) / 1024;
  // utime and stime, of the process and of its children, in ticks of 10 ms.
  const cpuMs = [11, 12, 13, 14].reduce((sum, index) => sum + Number(stat[index]), 0) * 10;
  return { readyMs, cpuMs, rssMib: mib('VmRSS'), peakMib: mib('VmHWM') };
}
