import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** How to start a long-running program. */
export interface DaemonOptions {
  /** Of its record and its log in the folder. */
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly env?: Readonly<Record<string, string>>;
  /**
   * It lives on when this process ends; otherwise the kernel ends it with this process, however that one dies.
   * That follows the program through `nsenter`, but not to processes it starts.
   */
  readonly outlives?: boolean;
}

/** A process as one can find it again: a pid alone may be another's by then. */
interface ProcessRecord {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks since the boot. */
  readonly startTime: string;
}

/**
 * A long-running program, recorded in a folder: whoever has the folder can stop it, also another process later. Its output goes to
 * NAME.log there, after what earlier ones of this name said.
 */
export class Daemon {
  readonly name: string;
  readonly #record: ProcessRecord;
  readonly #path: string;

  private constructor(dir: string, name: string, record: ProcessRecord) {
    this.name = name;
    this.#record = record;
    this.#path = recordPath(dir, name);
  }

  static start(dir: string, { name, command, env = {}, outlives = false }: DaemonOptions): Daemon {
    const [file, ...args]: readonly [string, ...string[]] = outlives
      ? command
      : ['setpriv', '--pdeathsig', 'KILL', ...command];
    const log = openSync(join(dir, `${name}.log`), 'a');
    const child = spawn(file, args, {
      detached: true,
      stdio: ['ignore', log, log],
      env: { ...process.env, ...env },
    });
    closeSync(log);
    // Said by `pid` being undefined, too.
    child.on('error', () => {});
    child.unref();
    if (child.pid === undefined) throw new Error(`${name}: ${file} can't be started: is it installed?`);
    const record = { pid: child.pid, startTime: startTimeOf(child.pid) ?? '' };
    mkdirSync(dirname(recordPath(dir, name)), { recursive: true });
    writeFileSync(recordPath(dir, name), JSON.stringify(record));
    return new Daemon(dir, name, record);
  }

  /** Every recorded one, dead ones too. */
  static in(dir: string): readonly Daemon[] {
    const records = join(dir, 'processes');
    if (!existsSync(records)) return [];
    return readdirSync(records).map(
      (name) => new Daemon(dir, name, JSON.parse(readFileSync(join(records, name), 'utf8')) as ProcessRecord),
    );
  }

  /** The recorded one of this name. */
  static find(dir: string, name: string): Daemon | undefined {
    return Daemon.in(dir).find((daemon) => daemon.name === name);
  }

  get pid(): number {
    return this.#record.pid;
  }

  isAlive(): boolean {
    return this.#record.startTime !== '' && startTimeOf(this.pid) === this.#record.startTime;
  }

  /** Sends the signal and waits for its end; after `patienceMs` it is killed. Nothing happens when it has ended before. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', patienceMs = 10_000): Promise<void> {
    this.#signal(signal);
    const deadline = Date.now() + patienceMs;
    while (this.isAlive()) {
      if (Date.now() > deadline) this.#signal('SIGKILL');
      await sleep(10);
    }
    rmSync(this.#path, { force: true });
  }

  #signal(signal: NodeJS.Signals): void {
    try {
      if (this.isAlive()) process.kill(this.pid, signal);
    } catch (error) {
      // It ended in between.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

function recordPath(dir: string, name: string): string {
  return join(dir, 'processes', name);
}

/** Undefined when there is no such process, or only its remains. */
function startTimeOf(pid: number): string | undefined {
  try {
    // The second field, in parentheses, may hold spaces; what follows it starts with the state.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
