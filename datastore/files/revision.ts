import { closeSync, constants, fdatasync, openSync, readFileSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { isErrno } from './layout.ts';

const width = 16;

/**
 * The counter of resourceVersions; only for who holds the lock. It is one number of fixed width, overwritten in place: a kill can't tear so
 * short a write, and a lost machine leaves the old or the new sector. It need not be flushed on each write, because objects carry the numbers
 * they were given: after a crash of the machine the highest of them raises it again. Only a deletion, which takes its number along, flushes.
 */
export class RevisionCounter {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** The last number given out; 0 if there is none, or none that can be read. */
  read(): number {
    try {
      const text = readFileSync(this.#path, {
        encoding: 'latin1',
        flag: constants.O_RDONLY | constants.O_NOFOLLOW,
      }).trim();
      return /^\d+$/.test(text) ? Number(text) : 0;
    } catch (error) {
      if (isErrno(error, 'ENOENT')) {
        return 0;
      }
      throw error;
    }
  }

  /** Stores the number; `durable` returns only when it is on the disk. */
  async write(revision: number, durable: boolean): Promise<void> {
    const fd = openSync(this.#path, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    try {
      writeSync(fd, `${String(revision).padStart(width, '0')}\n`, 0, 'latin1');
      if (durable) {
        await promisify(fdatasync)(fd);
      }
    } finally {
      closeSync(fd);
    }
  }
}
