import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { uniqueName } from './netns.ts';

/** libuv's, unless somebody says otherwise. */
const workers = Number(process.env['UV_THREADPOOL_SIZE'] ?? 4);

/**
 * Keeps all workers of this process (libuv's pool) busy until it is disposed of, each with opening a pipe that nobody else has opened. What
 * waits for a worker, such as a grace period, a dump or a file, isn't begun meanwhile.
 */
export function makeWorkersBusy(): Disposable {
  const dir = mkdtempSync(join(tmpdir(), `${uniqueName()}-busy-`));
  const pipes = Array.from({ length: workers }, (_, index) => join(dir, String(index)));
  execFileSync('mkfifo', pipes);
  const opened = pipes.map((pipe) => open(pipe, 'r').then((file) => file.close()));
  return {
    [Symbol.dispose]: () => {
      // Who opens both ends waits for nobody, and ends the wait of the other.
      const ends = pipes.map((pipe) => openSync(pipe, constants.O_RDWR));
      void Promise.allSettled(opened).then(() => ends.forEach((end) => closeSync(end)));
      rmSync(dir, { recursive: true });
    },
  };
}
