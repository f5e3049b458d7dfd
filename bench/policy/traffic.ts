import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { mkdirSync, renameSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { exec, must } from '#test/lab/exec.ts';

/** What the programs do stands at their heads. */
const programs = { traffic: programOf('traffic'), connectWatch: programOf('connect-watch') } as const;

/** The ports that servers use. */
export const ports = { echo: 80, sink: 5001 } as const;

export type Repeated = 'connect' | 'crr' | 'rr';

/** Of one stream. */
export interface StreamResult {
  readonly gbitPerS: number;
  /** Seconds of CPU of the whole machine for each gigabit that arrived. */
  readonly cpuPerGbit: number;
}

/** Compiles the programs. */
export async function buildTraffic(): Promise<void> {
  for (const { source, binary } of Object.values(programs)) {
    mkdirSync(dirname(binary), { recursive: true });
    const fresh = `${binary}.${process.pid}`;
    await must('gcc', '-std=gnu17', '-O2', '-Wall', '-Wextra', '-Werror', '-o', fresh, source);
    renameSync(fresh, binary);
  }
}

/** A server in a network namespace, on the second CPU, until it is disposed of. */
export async function serve(netnsPath: string, kind: keyof typeof ports): Promise<Disposable> {
  const [file = '', ...args] = command(netnsPath, 1, kind, String(ports[kind]));
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('error', reject);
    child.once('exit', (status) => reject(new Error(`traffic ${kind} ended with status ${status ?? 'none'}`)));
  });
  return { [Symbol.dispose]: () => void child.kill('SIGKILL') };
}

/** Again and again against an echo server, `count` times but no longer than `seconds`; from the first CPU. `perS` counts what lies between, too. */
export async function repeat(
  netnsPath: string,
  kind: Repeated,
  address: string,
  { count, seconds }: { readonly count: number; readonly seconds: number },
): Promise<{ readonly us: readonly number[]; readonly perS: number }> {
  const args = [kind, address, String(ports.echo), String(count), String(seconds)];
  const [file = '', ...rest] = command(netnsPath, 0, ...args);
  const [elapsedUs = Number.NaN, ...us] = (await must(file, ...rest)).trim().split('\n').map(Number);
  return { us, perS: (us.length / elapsedUs) * 1e6 };
}

/** Does one connect succeed within two seconds? */
export async function connects(netnsPath: string, address: string): Promise<boolean> {
  const [file = '', ...args] = command(netnsPath, 0, 'connect', address, String(ports.echo), '1', '1');
  const { status, stderr } = await exec(file, args);
  if (status !== 0 && !/in progress|timed out|refused|prohibited/i.test(stderr)) throw new Error(stderr);
  return status === 0;
}

/** As much as goes, to a sink. */
export async function stream(netnsPath: string, address: string, seconds: number): Promise<StreamResult> {
  const [file = '', ...args] = command(netnsPath, 0, 'stream', address, String(ports.sink), String(seconds));
  const [elapsedUs = 0, bytes = 0, busyUs = 0] = (await must(file, ...args)).trim().split(' ').map(Number);
  const gbit = (bytes * 8) / 1e9;
  return { gbitPerS: gbit / (elapsedUs / 1e6), cpuPerGbit: busyUs / 1e6 / gbit };
}

/** When the kernel began to let something through. */
export interface Accepted {
  /** The sending of the first SYN that was answered, by CLOCK_MONOTONIC (as `process.hrtime`). */
  readonly ns: number;
  /** Since the SYN before: how exact `ns` is. */
  readonly gapNs: number;
}

/** A process in a network namespace that tries connects while something is awaited, every 0.1 ms. */
export class ConnectWatch implements Disposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;

  constructor(netnsPath: string) {
    const args = [`--net=${netnsPath}`, programs.connectWatch.binary];
    this.#child = spawn('nsenter', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface(this.#child.stdout)[Symbol.asyncIterator]();
  }

  /** Resolves when it tries in vain; `accepted` then resolves at the first success. Rejects when connects succeed already. */
  async watch(source: string, address: string): Promise<{ readonly accepted: Promise<Accepted> }> {
    this.#child.stdin.write(`${source} ${address} ${ports.echo}\n`);
    const first = await this.#line();
    if (first !== 'watching') throw new Error(`${source} > ${address} before the change: ${first}`);
    const accepted = this.#line().then((line) => {
      const [ns, gapNs] = line.split(' ').map(Number);
      if (ns === undefined || gapNs === undefined) throw new Error(`${source} > ${address} after the change: ${line}`);
      return { ns, gapNs };
    });
    // Whoever fails before it awaits this says why.
    accepted.catch(() => {});
    return { accepted };
  }

  async #line(): Promise<string> {
    const { value } = (await this.#lines.next()) as { readonly value: string | undefined };
    return value ?? 'connect-watch has ended';
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}

/** Client and server have a CPU each where there are two: where the scheduler puts them is not what is compared. */
function command(netnsPath: string, cpu: number, ...args: readonly string[]): readonly string[] {
  const pinned = cpus().length > 1 ? ['taskset', '-c', String(cpu)] : [];
  return ['nsenter', `--net=${netnsPath}`, ...pinned, programs.traffic.binary, ...args];
}

function programOf(name: string): { readonly source: string; readonly binary: string } {
  const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
  return { source: path(`${name}.c`), binary: path(`../../build/bench/${name}`) };
}
