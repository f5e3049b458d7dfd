import { readFileSync } from 'node:fs';
import { cpus, loadavg, totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { exec } from '#test/lab/exec.ts';
import { machine } from '../lib/report.ts';

/** What a figure depends on besides the program. */
export interface Conditions {
  readonly machine: string;
  readonly cpus: number;
  readonly memoryGib: number;
  readonly date: string;
  readonly iptables: string;
  /** One minute's load, before and after. */
  readonly load: readonly number[];
  /** Part of all CPUs that others used for two seconds, before and after. */
  readonly busy: readonly number[];
  /** Part of the time that the hypervisor gave to others, over the whole run. */
  readonly stolen: number;
}

/** Above this part of the CPUs, used by others, figures are no good for publishing. */
export const quietBelow = 0.05;
const lookMs = 2000;
/** The kernel takes namespaces down after they are gone. */
const goneMs = 3000;

/** Looks at the machine before and after a run. */
export class ConditionsWatch {
  readonly #before: { readonly load: number; readonly busy: number; readonly times: CpuTimes };

  private constructor(before: { readonly load: number; readonly busy: number; readonly times: CpuTimes }) {
    this.#before = before;
  }

  static async start(): Promise<ConditionsWatch> {
    return new ConditionsWatch({ load: load1(), busy: await busyNow(), times: cpuTimes() });
  }

  /** Nobody else used the machine before the run. */
  get isQuiet(): boolean {
    return isQuiet({ busy: [this.#before.busy] });
  }

  /** When nothing of the run is left. */
  async end(): Promise<Conditions> {
    const times = cpuTimes();
    const before = this.#before;
    await sleep(goneMs);
    const after = { load: load1(), busy: await busyNow() };
    const round = (value: number) => Math.round(value * 1000) / 1000;
    return {
      machine: machine(),
      cpus: cpus().length,
      memoryGib: Math.round(totalmem() / 2 ** 30),
      date: new Date().toISOString().slice(0, 10),
      iptables: (await exec('iptables', ['--version'])).stdout.trim(),
      load: [before.load, after.load].map(round),
      busy: [before.busy, after.busy].map(round),
      stolen: round((times.stolen - before.times.stolen) / (times.all - before.times.all)),
    };
  }
}

export function isQuiet({ busy }: Pick<Conditions, 'busy'>): boolean {
  return busy.every((part) => part < quietBelow);
}

/** In one line. */
export function describe(conditions: Conditions): string {
  const { date, memoryGib, iptables, load, busy, stolen } = conditions;
  const percent = (part: number) => `${(part * 100).toFixed(0)} %`;
  const others = `others used ${busy.map(percent).join(' and ')} of the CPUs before and after`;
  return `${conditions.machine}, ${memoryGib} GiB, ${iptables}, ${date}; load ${load.join(' and ')}, ${others}, ${percent(stolen)} stolen`;
}

interface CpuTimes {
  readonly all: number;
  readonly idle: number;
  readonly stolen: number;
}

/** Of all CPUs together, in ticks (proc(5)). */
function cpuTimes(): CpuTimes {
  const fields = readFileSync('/proc/stat', 'utf8').split('\n')[0]?.split(/\s+/).slice(1, 9).map(Number) ?? [];
  const [, , , idle = 0, waiting = 0, , , stolen = 0] = fields;
  return { all: fields.reduce((sum, field) => sum + field, 0), idle: idle + waiting, stolen };
}

async function busyNow(): Promise<number> {
  const before = cpuTimes();
  await sleep(lookMs);
  const after = cpuTimes();
  return 1 - (after.idle - before.idle) / (after.all - before.all);
}

function load1(): number {
  return loadavg()[0] ?? Number.NaN;
}
