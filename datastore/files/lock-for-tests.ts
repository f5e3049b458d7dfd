import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import type { FileLock } from '../lock.ts';

/** A lock between users in one process. */
export class ProcessLocalLock implements FileLock {
  readonly #held = new Map<string, Promise<void>>();

  async acquire(path: string): Promise<Disposable> {
    const before = this.#held.get(path);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#held.set(path, promise);
    await before;
    return { [Symbol.dispose]: resolve };
  }
}

/** flock(2) between processes, taken by flock(1) for our open file: slow, but the kernel's own, released when the process dies. */
export const flockCommand: FileLock = {
  async acquire(path) {
    const handle = await open(path, 'a', 0o600);
    const child = spawn('flock', ['--exclusive', '3'], { stdio: ['ignore', 'ignore', 'inherit', handle.fd] });
    const [status] = (await once(child, 'exit')) as [number | null];
    if (status !== 0) {
      throw new Error(`flock ${path}: exit status ${status}`);
    }
    return { [Symbol.dispose]: () => void handle.close() };
  },
};
