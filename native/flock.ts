import { closeSync, constants, openSync } from 'node:fs';
import { resolve } from 'node:path';
import { loadAddon } from './addon.ts';
import { Turns } from './turns.ts';

interface FlockAddon {
  flockTry(fd: number, path: string): boolean;
  flockWait(fd: number, path: string): Promise<void>;
}

/**
 * Exclusive locks between processes by flock(2): the kernel gives a lock back when its holder dies. Has the form of the datastore's
 * FileLock.
 *
 * Each acquisition opens the file anew, so locks exclude each other within a process, too. There they wait for one another in a queue per
 * path; only its head asks the kernel, first without waiting, then on a thread of its own, so that at most one thread per path waits.
 */
export class KernelFileLock {
  readonly #queues = new Map<string, { readonly turns: Turns; users: number }>();

  /**
   * Waits for the lock on the file, which is made (mode 600) if it is missing; its folder must exist (`ENOENT`). Disposing of the result
   * releases it; doing so twice is harmless. No time limit. File systems that can't lock say `ENOLCK` or `EOPNOTSUPP`.
   */
  async acquire(path: string): Promise<HeldLock> {
    const file = resolve(path);
    const queue = this.#queues.get(file) ?? { turns: new Turns(), users: 0 };
    this.#queues.set(file, queue);
    queue.users += 1;
    const held = Promise.withResolvers<HeldLock>();
    const leave = (): void => {
      queue.users -= 1;
      if (queue.users === 0) this.#queues.delete(file);
    };
    // The turn lasts until the lock is released; the caller has the lock long before.
    queue.turns
      .run(async () => {
        const fd = await lock(file);
        const released = Promise.withResolvers<void>();
        held.resolve(new HeldLock(fd, released.resolve));
        await released.promise;
      })
      .then(leave, (error: unknown) => {
        leave();
        held.reject(error);
      });
    return await held.promise;
  }
}

/** A lock that this process has. */
export class HeldLock implements Disposable {
  #fd: number | undefined;
  readonly #released: () => void;

  constructor(fd: number, released: () => void) {
    this.#fd = fd;
    this.#released = released;
  }

  /** The descriptor that holds it; throws when it is let go. */
  get fd(): number {
    if (this.#fd === undefined) throw new Error('the lock is let go');
    return this.#fd;
  }

  [Symbol.dispose](): void {
    if (this.#fd === undefined) return;
    closeSync(this.#fd);
    this.#fd = undefined;
    this.#released();
  }
}

/** The descriptor that holds the lock: closing it releases the lock. */
async function lock(file: string): Promise<number> {
  const addon = loadAddon<FlockAddon>();
  const fd = openSync(file, constants.O_RDWR | constants.O_CREAT, 0o600);
  try {
    if (!addon.flockTry(fd, file)) await addon.flockWait(fd, file);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
