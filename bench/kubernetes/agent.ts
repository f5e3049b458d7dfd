import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { askAgent } from '#agent/admin/client.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import { distDir } from '#test/lab/dist.ts';

/** Which datastore, as command line. */
export interface AgentSide {
  readonly name: string;
  readonly node: LabNode;
  readonly settings: readonly string[];
}

/** Of a process; MiB. */
export interface Memory {
  readonly rssMib: number;
  readonly peakMib: number;
}

const patienceMs = 60_000;

/** An agent that is measured: `dist/bin/tortie agent` in a lab node's namespace. */
export class MeasuredAgent implements AsyncDisposable {
  readonly pid: number;
  /** From the start of the process until its status says that it is ready. */
  readonly readyMs: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, pid: number, readyMs: number) {
    this.#child = child;
    this.pid = pid;
    this.readyMs = readyMs;
  }

  /** Resolves when it is in sync. */
  static async start({ node, settings, name }: AgentSide): Promise<MeasuredAgent> {
    const log = openSync(node.logPath, 'a');
    const env = { ...process.env, FELIX_ENDPOINTSTATUSPATHPREFIX: join(node.stateDir, '..', 'calico') };
    const began = performance.now();
    const tortie = ['nsenter', `--net=${node.netnsPath}`, join(distDir, 'bin/tortie'), 'agent', ...settings];
    // However the benchmark ends, its agents end with it.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...tortie], { stdio: ['ignore', log, log], env });
    closeSync(log);
    const { pid } = child;
    if (pid === undefined) throw new Error("the agent can't be started: is dist/ built?");
    try {
      for (;;) {
        const answer = await askAgent(node.runDir, '/status').catch((error: unknown) => ({ error }));
        if ((answer as { ready?: boolean }).ready === true) break;
        if (child.exitCode !== null || performance.now() - began > patienceMs) {
          throw new Error(`${name}: not in sync: ${JSON.stringify(answer)}\n${node.logTail()}`);
        }
        await sleep(5);
      }
      return new MeasuredAgent(child, pid, performance.now() - began);
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
  }

  /** CPU that it and the programs it ran have used, in ms. */
  cpuMs(): number {
    return cpuMs(this.pid);
  }

  memory(): Memory {
    return memoryOf(this.pid);
  }

  /** SIGTERM, and its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => {
      this.#child.once('exit', resolve);
    });
    this.#child.kill('SIGTERM');
    await ended;
  }
}

/** CPU that a process and its ended children have used, in ms; the kernel counts in steps of 10. */
export function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0) * 10;
}

export function memoryOf(pid: number): Memory {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const mib = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1]) / 1024;
  return { rssMib: mib('VmRSS'), peakMib: mib('VmHWM') };
}
