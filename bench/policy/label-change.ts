import { fileURLToPath } from 'node:url';
import { must } from '#test/lab/exec.ts';
import type { Table } from '../lib/report.ts';
import type { LabelChangeData } from './label-change-process.ts';

const program = fileURLToPath(new URL('label-change-process.ts', import.meta.url));

/** V8 as the running agent has it (`felix-agent/tortie.sh`, `start.ts`, the agent's command). */
const agentFlags = ['--max-semi-space-size=1', '--optimize-for-size', '--no-opt'];

/** Measures in a process of its own, with the agent's flags, in a network namespace that goes with it. */
export async function labelChanges(count: number): Promise<{ table: Table; data: LabelChangeData }> {
  const flags = [...agentFlags, '--disable-warning=ExperimentalWarning'];
  const output = await must('unshare', '--net', process.execPath, ...flags, program, String(count));
  const data = JSON.parse(output.trim().split('\n').at(-1) ?? '') as LabelChangeData;
  const rows = Object.entries(data).map(([name, { p50Ms, p99Ms, processes }]) => [
    name,
    p50Ms.toFixed(2),
    p99Ms.toFixed(2),
    String(processes),
  ]);
  return { table: [['', 'p50 ms', 'p99 ms', 'processes started'], ...rows], data };
}
