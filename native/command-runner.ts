import { spawn } from 'node:child_process';

/** What a finished command left. */
export interface CommandResult {
  /** Exit status; null when a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs other programs, as a seam. A program that can't be started rejects with the system's error (`code: 'ENOENT'`). */
export interface CommandRunner {
  run(
    file: string,
    args: readonly string[],
    options?: {
      readonly input?: string | undefined;
      readonly env?: Readonly<Record<string, string>> | undefined;
      readonly timeoutMs?: number | undefined;
      /** It changes what only one process at a time may change: it holds this process' lock (`sharedWithChanges`) until it ends. */
      readonly changes?: boolean | undefined;
    },
  ): Promise<CommandResult>;
}
export const CommandRunner = Symbol.for('CommandRunner');

/** Of locks that programs hold as well which this process has set going. */
const shared = new Set<number>();

/**
 * Lets programs that run with `changes` hold the lock on this open file, too (flock(2) locks an open file, which children can have a descriptor of).
 * So when this process is killed, whoever waits for the lock comes after the last change that it has begun: a restore that waits for the
 * lock of the tables would otherwise write old rules over its successor's.
 */
export function sharedWithChanges(fd: number): Disposable {
  shared.add(fd);
  return { [Symbol.dispose]: () => void shared.delete(fd) };
}

/** The real one: no shell; the environment is replaced when one is given; a timeout kills. */
export const systemCommandRunner: CommandRunner = {
  run: (file, args, options = {}) =>
    new Promise((resolve, reject) => {
      const stdio = ['pipe', 'pipe', 'pipe', ...(options.changes === true ? shared : [])];
      const child = spawn(file, args, {
        stdio: stdio as ['pipe', 'pipe', 'pipe'],
        env: options.env ?? process.env,
        ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs, killSignal: 'SIGKILL' as const }),
      });
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
      child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
      child.stdin.on('error', () => {}); // The command may end without reading: its status tells.
      child.on('error', reject);
      child.on('close', (status, signal) =>
        resolve({ status, signal, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }),
      );
      child.stdin.end(options.input ?? '');
    }),
};
