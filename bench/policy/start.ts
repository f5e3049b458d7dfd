import { readFileSync, rmSync } from 'node:fs';
import { askAgent } from '#agent/admin/client.ts';
import { openNetlink } from '#native/netlink.ts';
import { must } from '#test/lab/exec.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import { localPods, manyPolicy, remotePod } from './cluster.ts';
import { Collected, type PartResult } from './results.ts';
import { inTurn, type Run } from './run.ts';
import { agentSides, enforcing } from './sides.ts';

const sizes = [1000, 10_000] as const;
const policies = 200;

/** What the agent finds of its own in the kernel. */
const findings = [
  { name: 'restart', forget: false },
  { name: 'first start', forget: true },
] as const;

/** Start of the agent until it is in sync, with that many pods on other nodes: with all of its own in the kernel, and with nothing. */
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
        for (const { name, forget } of findings) {
          for (const side of inTurn(agents.sides, round)) {
            const node = side.lab.node(0);
            await node.stopAgent();
            side.lab.apply('far-pods', pods);
            const before = await filtersOf(node);
            if (forget) await forgetKernel(node);
            const figures = await start(node);
            const kept = (await filtersOf(node)).filter((program) => before.includes(program)).length;
            collected.add(
              round,
              { case: `${size.toLocaleString('en')} remote pods, ${name}`, side: side.name },
              { ...figures, ...(before.length === 0 ? {} : { kept }) },
            );
          }
        }
      }
    }
    const to = (cell: { readonly case: string }) => ({ case: cell.case, side: 'iptables' });
    const ratios = [{ title: 'ready to iptables', figure: 'readyMs', to }];
    return {
      name: 'start',
      title: 'Start of the agent until it is in sync',
      method: `From the start of the process; ${localPods} pods here, ${policies} policies; datastore files. Restart: all is in the kernel from before. First start: nothing of it, but the pods are there. CPU is the agent's and its children's, until then. "Filters kept" are those on the pods' devices, of ${2 * localPods}, that are the same programs as before.`,
      figures: [
        { key: 'readyMs', title: 'ready ms', digits: 0 },
        { key: 'cpuMs', title: 'CPU ms', digits: 0 },
        { key: 'rssMib', title: 'RSS MiB', digits: 0 },
        { key: 'peakMib', title: 'peak MiB', digits: 0 },
        { key: 'kept', title: 'filters kept', digits: 0 },
      ],
      ratios: ratios.map(({ title }) => title),
      cells: collected.cells(ratios),
      absent: [...absent, ...agents.absent],
    };
  });
}

/** What the pods' devices have: device, direction, number of the program. */
async function filtersOf(node: LabNode): Promise<readonly string[]> {
  using host = openNetlink({ path: node.netnsPath });
  const found: string[] = [];
  for (const { index, alias } of await host.links()) {
    if (alias?.startsWith('tortie:') !== true) continue;
    for (const direction of ['ingress', 'egress'] as const)
      for (const { programId } of await host.filters(index, direction))
        found.push(`${index} ${direction} ${programId ?? 'none'}`);
  }
  return found;
}

/** Takes out of the kernel what a stopped agent has there, whichever dataplane it ran; pods and their routes stay. */
async function forgetKernel(node: LabNode): Promise<void> {
  const inNode = (script: string) => must('nsenter', `--net=${node.netnsPath}`, 'sh', '-ec', script);
  const empty = ['raw', 'mangle', 'nat', 'filter'].map((table) => `*${table}\\nCOMMIT\\n`).join('');
  for (const restore of ['iptables-restore', 'ip6tables-restore']) await inNode(`printf '${empty}' | ${restore}`);
  await inNode('ipset destroy');
  using host = openNetlink({ path: node.netnsPath });
  const links = await host.links();
  const results = await host.batch(links.map(({ index }) => ({ op: 'clsact.del', link: index })));
  for (const result of results) if (!result.ok && !['ENOENT', 'EINVAL'].includes(result.error.code)) throw result.error;
  rmSync(node.bpffs, { recursive: true, force: true });
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
