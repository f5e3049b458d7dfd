import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/**
 * Runs a command to its end.
 * @returns what it printed
 * @throws Error with its last words if its status isn't 0; the signal's reason if that ended it
 */
export async function run(
  file: string,
  args: readonly string[],
  { signal, cwd }: { readonly signal: AbortSignal; readonly cwd?: string },
): Promise<string> {
  signal.throwIfAborted();
  const child = spawn(file, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C' },
    ...(cwd === undefined ? {} : { cwd }),
  });
  const kill = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', kill);
  try {
    const [[status], stdout, stderr] = await Promise.all([
      once(child, 'close') as Promise<[number | null]>,
      text(child.stdout),
      text(child.stderr),
    ]);
    signal.throwIfAborted();
    if (status !== 0)
      throw new Error(
        `${file}: status ${status}: ${(stderr.trim() || stdout.trim()).split('\n').slice(-5).join('\n')}`,
      );
    return stdout;
  } finally {
    signal.removeEventListener('abort', kill);
  }
}
