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
    },
  ): Promise<CommandResult>;
}
export const CommandRunner = Symbol.for('CommandRunner');

/** The real one: no shell; the environment is replaced when one is given; a timeout kills. */
export const systemCommandRunner: CommandRunner = {
  run: (file, args, options = {}) =>
    new Promise((resolve, reject) => {
      const child = spawn(file, args, {
        stdio: ['pipe', 'pipe', 'pipe'],
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
