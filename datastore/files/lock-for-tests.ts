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
