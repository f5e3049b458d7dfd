import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from '#test/lab/exec.ts';
import type { Lab } from '#test/lab/lab.ts';
import { distDir } from '#test/lab/dist.ts';
import { timeJobs, type Job, type Timing } from '../lib/exec-timer.ts';

/** One of the plugins compared: how it is called, and what else than the called program works for it. */
export interface Side {
  readonly name: string;
  /** The call for the container of this number. */
  job(verb: 'ADD' | 'DEL', container: number): Job;
  /** CPU that resident helpers (the agent) have used so far, in ms. */
  helperCpuMs(): number;
}

const debianPlugins = '/usr/lib/cni';

/** Namespaces for containers, made before and removed after the measurement. */
export class Containers {
  readonly #lab: Lab;
  readonly #names = new Set<string>();

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  path(side: string, container: number): string {
    return `/run/netns/${this.#name(side, container)}`;
  }

  async create(side: string, container: number): Promise<void> {
    const name = this.#name(side, container);
    await must('ip', 'netns', 'add', name);
    this.#names.add(name);
  }

  async removeAll(): Promise<void> {
    for (const name of this.#names) await must('ip', 'netns', 'del', name);
    this.#names.clear();
  }

  #name(side: string, container: number): string {
    return `${this.#lab.prefix}-${side}${container}`;
  }
}

/** Tortie and ptp + host-local, both called in the lab's first node. */
export function sides(lab: Lab, containers: Containers): readonly [Side, Side] {
  const node = lab.node(0);
  const environment = (side: string, verb: string, container: number, pluginDir: string) => ({
    CNI_COMMAND: verb,
    CNI_CONTAINERID: `${side}${String(container).padStart(8, '0')}`,
    CNI_NETNS: containers.path(side, container),
    CNI_IFNAME: 'eth0',
    CNI_PATH: pluginDir,
    PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
  });
  const tortieConf = JSON.stringify({
    cniVersion: '1.0.0',
    name: 'bench',
    type: 'tortie',
    socket: join(node.runDir, 'cni.sock'),
    ipam: { type: 'calico-ipam' },
  });
  const ptpConf = JSON.stringify({
    cniVersion: '1.0.0',
    name: 'bench-ptp',
    type: 'ptp',
    ipam: {
      type: 'host-local',
      ranges: [[{ subnet: '10.66.0.0/16' }]],
      routes: [{ dst: '0.0.0.0/0' }],
      dataDir: join(lab.dir, 'host-local'),
    },
  });
  return [
    {
      name: 'tortie',
      job: (verb, container) => ({
        program: join(distDir, 'cni/tortie'),
        env: environment('t', verb, container, join(distDir, 'cni')),
        stdin: tortieConf,
      }),
      helperCpuMs: () => (node.agentPid === undefined ? 0 : cpuMs(node.agentPid)),
    },
    {
      name: 'ptp',
      job: (verb, container) => ({
        program: join(debianPlugins, 'ptp'),
        env: environment('p', verb, container, debianPlugins),
        stdin: ptpConf,
      }),
      helperCpuMs: () => 0,
    },
  ];
}

/** What a side's containers are called in `Containers`. */
export function shortName(side: Side): string {
  return side.name === 'tortie' ? 't' : 'p';
}

/** Times one batch of calls of one side, in the lab's first node. */
export function timeCalls(
  lab: Lab,
  side: Side,
  verb: 'ADD' | 'DEL',
  containers: readonly number[],
  concurrency: number,
): Promise<{ readonly timings: readonly Timing[]; readonly totalMs: number }> {
  const jobs = containers.map((container) => side.job(verb, container));
  return timeJobs(join(lab.dir, 'jobs'), lab.node(0).netns, jobs, concurrency);
}

/** User and system time of a process and the children that it waited for (proc(5), stat fields 14 to 17), in ms. */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return ticks * 10; // USER_HZ is 100 on every Linux that Tortie runs on.
}

/** Resident memory of a process, in MiB. */
export function residentMiB(pid: number): number {
  const pages = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]);
  return (pages * 4096) / 2 ** 20;
}
