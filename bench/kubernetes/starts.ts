import { setTimeout as sleep } from 'node:timers/promises';
import { median, type Table } from '../lib/report.ts';
import { MeasuredAgent } from './agent.ts';
import type { BenchCluster } from './cluster.ts';

/** What one start cost. */
interface Start {
  readonly readyMs: number;
  /** Until it was ready. */
  readonly cpuMs: number;
  /** Of the API server and etcd, until then. */
  readonly serverCpuMs: number;
  readonly readyRssMib: number;
  readonly peakMib: number;
  /** Three seconds later. */
  readonly restCpuMs: number;
  readonly restRssMib: number;
}

/** By side: medians, and each start's time. */
export type StartData = Readonly<Record<string, Start & { readonly allReadyMs: readonly number[] }>>;

const restMs = 3000;

/** Agent start to in sync, on both datastores in turn, with the cluster as large as it is. Medians of `rounds`. */
export async function starts(cluster: BenchCluster, rounds: number): Promise<StartData> {
  const sides = [cluster.kubernetes, cluster.files];
  const runs = new Map<string, Start[]>(sides.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const side of sides) {
      const before = cluster.server();
      await using agent = await MeasuredAgent.start(side);
      const after = cluster.server();
      const cpuMs = agent.cpuMs();
      const { rssMib, peakMib } = agent.memory();
      await sleep(restMs);
      runs.get(side.name)?.push({
        readyMs: agent.readyMs,
        cpuMs,
        serverCpuMs: after.apiCpuMs - before.apiCpuMs + after.etcdCpuMs - before.etcdCpuMs,
        readyRssMib: rssMib,
        peakMib,
        restCpuMs: agent.cpuMs(),
        restRssMib: agent.memory().rssMib,
      });
    }
  }
  return Object.fromEntries(
    [...runs].map(([name, all]) => {
      const of = (key: keyof Start) => median(all.map((run) => run[key]));
      const medians: Start = {
        readyMs: of('readyMs'),
        cpuMs: of('cpuMs'),
        serverCpuMs: of('serverCpuMs'),
        readyRssMib: of('readyRssMib'),
        peakMib: of('peakMib'),
        restCpuMs: of('restCpuMs'),
        restRssMib: of('restRssMib'),
      };
      return [name, { ...medians, allReadyMs: all.map(({ readyMs }) => readyMs) }];
    }),
  );
}

export function startTable(data: StartData): Table {
  const header = ['datastore', 'ready ms', 'CPU ms', '3 s later', 'API+etcd CPU', 'RSS MiB', '3 s later', 'peak'];
  const rows = Object.entries(data).map(([name, start]) => [
    name,
    start.readyMs.toFixed(0),
    start.cpuMs.toFixed(0),
    start.restCpuMs.toFixed(0),
    name === 'files' ? '-' : start.serverCpuMs.toFixed(0),
    start.readyRssMib.toFixed(0),
    start.restRssMib.toFixed(0),
    start.peakMib.toFixed(0),
  ]);
  return [header, ...rows];
}
