/** A lock between processes, as a seam: the kernel gives it back when its holder dies. */
export interface FileLock {
  /** Waits for the exclusive lock on the file (made if missing); disposing of the result releases it. */
  acquire(path: string): Promise<Disposable>;
}
export const FileLock = Symbol.for('FileLock');
