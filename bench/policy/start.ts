import { readFileSync } from 'node:fs';
import { askAgent } from '#agent/admin/client.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import { localPods, manyPolicy, remotePod } from './cluster.ts';
import { Collected, type PartResult } from './results.ts';
import { inTurn, type Run } from './run.ts';
import { agentSides, enforcing } from './sides.ts';

const sizes = [1000, 10_000] as const;
const policies = 200;

/** Restart of the agent until it is in sync, with that many pods on other nodes. */
export async function startPart(run: Run): Promise<PartResult> {
  return run.within(async (stack) => {
    const { kinds, absent } = await enforcing();
    const agents = await agentSides(stack, kinds, { nodes: 1 });
    for (const side of agents.sides) {
      for (let index = 0; index < localPods; index++) {
        await side.pod(0, `near-${index}`, { app: `app-${index}`, role: `role-${index}` });
      }
      side.lab.apply(
        'many-policies',
        Array.from({ length: policies }, (_, index) => manyPolicy(index)),
      );
    }
    const collected = new Collected();
    for (const round of run.turns('start')) {
      for (const size of sizes) {
        const pods = Array.from({ length: size }, (_, index) => remotePod(index));
        for (const { name, lab } of inTurn(agents.sides, round)) {
          await lab.node(0).stopAgent();
          lab.apply('far-pods', pods);
          collected.add(
            round,
            { case: `${size.toLocaleString('en')} remote pods`, side: name },
            await start(lab.node(0)),
          );
        }
      }
    }
    const to = (cell: { readonly case: string }) => ({ case: cell.case, side: 'iptables' });
    const ratios = [{ title: 'ready to iptables', figure: 'readyMs', to }];
    return {
      name: 'start',
      title: 'Restart of the agent until it is in sync',
      method: `From the start of the process; ${localPods} pods here, ${policies} policies, all in the kernel from before; datastore files. CPU is the agent's and its children's, until then.`,
      figures: [
        { key: 'readyMs', title: 'ready ms', digits: 0 },
        { key: 'cpuMs', title: 'CPU ms', digits: 0 },
        { key: 'rssMib', title: 'RSS MiB', digits: 0 },
        { key: 'peakMib', title: 'peak MiB', digits: 0 },
      ],
      ratios: ratios.map(({ title }) => title),
      cells: collected.cells(ratios),
      absent: [...absent, ...agents.absent],
    };
  });
}

async function start(node: LabNode): Promise<Record<string, number>> {
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
