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

export type Repeated = 'connect' | 'crr';

/** How long a slice is. */
export interface SliceLength {
  /** At its beginning, not counted: slow start, cold caches. */
  readonly warmS: number;
  readonly seconds: number;
}

/** Of a slice of one stream. */
export interface StreamSlice {
  readonly seconds: number;
  /** That arrived. */
  readonly gbit: number;
  /** Seconds of CPU of the whole machine; the kernel counts them in ticks (10 ms). */
  readonly cpuS: number;
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

/** Where servers and clients are: a CPU each where there are two. Where the scheduler puts them is not what is compared. */
const serverCpu = Math.min(1, cpus().length - 1);
export const clientCpu = 0;

/** A server in a network namespace, until it is disposed of. */
export async function serve(netnsPath: string, kind: keyof typeof ports): Promise<Disposable> {
  const [file = '', ...args] = command(netnsPath, serverCpu, kind, String(ports[kind]));
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('error', reject);
    child.once('exit', (status) => reject(new Error(`traffic ${kind} ended with status ${status ?? 'none'}`)));
  });
  return { [Symbol.dispose]: () => void child.kill('SIGKILL') };
}

/** Again and again against an echo server, `count` times but no longer than `seconds`. `perS` counts what lies between, too. */
export async function repeat(
  netnsPath: string,
  kind: Repeated,
  address: string,
  { count, seconds }: { readonly count: number; readonly seconds: number },
): Promise<{ readonly us: readonly number[]; readonly perS: number }> {
  const args = [kind, address, String(ports.echo), String(count), String(seconds)];
  const [file = '', ...rest] = command(netnsPath, clientCpu, ...args);
  const [elapsedUs = Number.NaN, ...us] = (await must(file, ...rest)).trim().split('\n').map(Number);
  return { us, perS: (us.length / elapsedUs) * 1e6 };
}

/** Does one connect succeed within two seconds? */
export async function connects(netnsPath: string, address: string): Promise<boolean> {
  const [file = '', ...args] = command(netnsPath, clientCpu, 'connect', address, String(ports.echo), '1', '1');
  const { status, stderr } = await exec(file, args);
  if (status !== 0 && !/in progress|timed out|refused|prohibited/i.test(stderr)) throw new Error(stderr);
  return status === 0;
}

/** A client in a network namespace that stays and makes short slices of load against one address, so that several can be had in turn. */
export class SliceClient implements Disposable {
  readonly #process: LineProcess;

  /** An echo server and a sink must be at the address. */
  constructor(netnsPath: string, address: string) {
    const args = ['slices', address, String(ports.echo), String(ports.sink)];
    this.#process = new LineProcess(netnsPath, [programs.traffic.binary, ...args]);
  }

  /** As much as goes, to the sink. */
  async stream(length: SliceLength): Promise<StreamSlice> {
    const [elapsedUs = 0, bytes = 0, busyUs = 0] = await this.#slice('stream', clientCpu, length);
    return { seconds: elapsedUs / 1e6, gbit: (bytes * 8) / 1e9, cpuS: busyUs / 1e6 };
  }

  /** One byte each way, again and again on one connection: microseconds each, with nothing between. On one CPU client and server share the server's. */
  requests(on: 'one CPU' | 'two CPUs', length: SliceLength): Promise<readonly number[]> {
    return this.#slice('rr', on === 'one CPU' ? serverCpu : clientCpu, length);
  }

  [Symbol.dispose](): void {
    this.#process[Symbol.dispose]();
  }

  async #slice(kind: string, cpu: number, { warmS, seconds }: SliceLength): Promise<readonly number[]> {
    this.#process.write(`${kind} ${cpu} ${warmS} ${seconds}`);
    return (await this.#process.line()).split(' ').map(Number);
  }
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
  readonly #process: LineProcess;

  constructor(netnsPath: string) {
    // Where the server is, and not the agent: it comes first, and would take a fifth of its time.
    this.#process = new LineProcess(netnsPath, [...pinnedTo(serverCpu), programs.connectWatch.binary]);
  }

  /** Resolves when it tries in vain; `accepted` then resolves at the first success. Rejects when connects succeed already. */
  async watch(source: string, address: string): Promise<{ readonly accepted: Promise<Accepted> }> {
    this.#process.write(`${source} ${address} ${ports.echo}`);
    const first = await this.#process.line();
    if (first !== 'watching') throw new Error(`${source} > ${address} before the change: ${first}`);
    const accepted = this.#process.line().then((line) => {
      const [ns, gapNs] = line.split(' ').map(Number);
      if (ns === undefined || gapNs === undefined) throw new Error(`${source} > ${address} after the change: ${line}`);
      return { ns, gapNs };
    });
    // Whoever fails before it awaits this says why.
    accepted.catch(() => {});
    return { accepted };
  }

  [Symbol.dispose](): void {
    this.#process[Symbol.dispose]();
  }
}

/** A program in a network namespace that answers a line for a line until it is disposed of. */
class LineProcess implements Disposable {
  readonly #name: string;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;

  constructor(netnsPath: string, command: readonly string[]) {
    this.#name = command.join(' ');
    this.#child = spawn('nsenter', [`--net=${netnsPath}`, ...command], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface(this.#child.stdout)[Symbol.asyncIterator]();
  }

  write(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  /** The next one that it writes. Rejects when it has ended. */
  async line(): Promise<string> {
    const { value } = (await this.#lines.next()) as { readonly value: string | undefined };
    if (value === undefined) throw new Error(`${this.#name} has ended`);
    return value;
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}

function command(netnsPath: string, cpu: number, ...args: readonly string[]): readonly string[] {
  return ['nsenter', `--net=${netnsPath}`, ...pinnedTo(cpu), programs.traffic.binary, ...args];
}

/** What a command begins with that is to run on this CPU, where there are two. */
export function pinnedTo(cpu: number): readonly string[] {
  return cpus().length > 1 ? ['taskset', '-c', String(cpu)] : [];
}

function programOf(name: string): { readonly source: string; readonly binary: string } {
  const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
  return { source: path(`${name}.c`), binary: path(`../../build/bench/${name}`) };
}
