import { closeSync, fdatasync, fstatSync, fsync, mkdirSync, openSync, writeFileSync, type BigIntStats } from 'node:fs';
import { readdir, rename, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { messageOf } from '#api/errors.ts';
import { objectText, type KindName } from '#api/kinds.ts';
import type { ObjectKey } from '#api/meta.ts';
import { DatastoreError } from '../errors.ts';
import type { FileLock } from '../lock.ts';
import { type AnyObject } from '../stored-object.ts';
import { fileOf, forEachLimited, isErrno, lockFile, revisionFile, temporaryFolder, type Serial } from './layout.ts';
import type { OwnObjects } from './own-objects.ts';
import { RevisionCounter } from './revision.ts';

/** One write: what is to become of an object, decided when its stored state is known and nobody else can write. */
export interface OwnWrite {
  /** For messages. */
  readonly verb: 'create' | 'update' | 'delete';
  readonly kind: KindName;
  readonly key: ObjectKey;
  /** Returns what is to be stored (`stored` itself: nothing is written), or undefined to delete it; or throws, which refuses the write. */
  decide(stored: AnyObject | undefined, nextRevision: () => string): AnyObject | undefined;
}

interface Pending extends PromiseWithResolvers<AnyObject | undefined> {
  readonly write: OwnWrite;
}

/** A write that has been decided on. `temporary` holds the new content, flushed. */
interface Staged {
  readonly pending: Pending;
  readonly object: AnyObject | undefined;
  readonly temporary?: { readonly path: string; readonly stat: BigIntStats };
}

/** So many writes share one turn of the lock and one flush of the folders. */
const largestBatch = 64;

/**
 * Writes our objects: under the lock between processes; new content into a file of its own, flushed, then renamed over the old one, then the
 * folder flushed. So a reader sees the old or the new object whole, whoever is killed when, and what was acknowledged is on the disk.
 * Writes that wait for the lock together are carried out together (one flush of the folder for all of them). What waits for the disk, flushes
 * and renames, is asynchronous; the rest only touches the page cache, and isn't.
 */
export class OwnWriter {
  readonly #root: string;
  readonly #lock: FileLock;
  readonly #objects: OwnObjects;
  readonly #serial: Serial;
  readonly #wrote: (kind: KindName, key: ObjectKey) => void;
  readonly #revision: RevisionCounter;
  #queue: Pending[] = [];
  #running: Promise<void> | undefined;

  /** `root`: the folder `.tortie`. `wrote` is called inside `serial`, when a write has become visible. */
  constructor(
    root: string,
    lock: FileLock,
    objects: OwnObjects,
    serial: Serial,
    wrote: (kind: KindName, key: ObjectKey) => void,
  ) {
    this.#root = root;
    this.#lock = lock;
    this.#objects = objects;
    this.#serial = serial;
    this.#wrote = wrote;
    this.#revision = new RevisionCounter(join(root, revisionFile));
  }

  /** Carries out a write; resolves with what is stored then. */
  write(write: OwnWrite): Promise<AnyObject | undefined> {
    const pending = { ...Promise.withResolvers<AnyObject | undefined>(), write };
    this.#queue.push(pending);
    this.#running ??= this.#run();
    return pending.promise;
  }

  /** Removes what killed writers have left, and raises the counter to `highest` (a lost machine may have set it back). */
  async recover(highest: number): Promise<void> {
    using _ = await this.#lock.acquire(join(this.#root, lockFile));
    await this.#sweep();
    if (this.#revision.read() < highest) {
      await this.#revision.write(highest, true);
    }
  }

  /** Removes what killed writers have left, if there is anything. */
  async sweep(): Promise<void> {
    if ((await readdir(join(this.#root, temporaryFolder))).length > 0) {
      using _ = await this.#lock.acquire(join(this.#root, lockFile));
      await this.#sweep();
    }
  }

  /** Resolves when nothing is being written. */
  async idle(): Promise<void> {
    await this.#running;
  }

  /** Whoever holds the lock has no unfinished file yet, and nobody else can have one. */
  async #sweep(): Promise<void> {
    const folder = join(this.#root, temporaryFolder);
    await forEachLimited(await readdir(folder), (file) => rm(join(folder, file), { force: true }));
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      // Two writes of one object go into two batches: the second must see what the first has stored.
      const batch = new Map<string, Pending>();
      const later: Pending[] = [];
      for (const pending of this.#queue) {
        const id = objectText(pending.write.kind, pending.write.key);
        if (batch.has(id) || batch.size >= largestBatch) {
          later.push(pending);
        } else {
          batch.set(id, pending);
        }
      }
      this.#queue = later;
      try {
        await this.#writeBatch([...batch.values()]);
      } catch (error) {
        for (const pending of batch.values()) {
          fail(pending, error);
        }
      }
    }
    this.#running = undefined;
  }

  async #writeBatch(batch: readonly Pending[]): Promise<void> {
    using _ = await this.#lock.acquire(join(this.#root, lockFile));
    const before = this.#revision.read();
    let revision = before;
    const staged: Staged[] = [];
    await forEachLimited(batch, async (pending) => {
      try {
        const { write } = pending;
        const stored = this.#objects.read(write.kind, write.key);
        const object = write.decide(stored, () => String(++revision));
        if (object === stored) {
          pending.resolve(object);
        } else {
          staged.push(
            object === undefined
              ? { pending, object }
              : { pending, object, temporary: await this.#stage(write.kind, object) },
          );
        }
      } catch (error) {
        fail(pending, error);
      }
    });
    if (staged.length === 0) {
      return;
    }
    // The counter before the objects: no number is ever given out twice. A deleted object can't tell its number any more: flush it.
    const deletes = staged.some(({ object }) => object === undefined);
    if (deletes || revision !== before) {
      await this.#revision.write(revision, deletes);
    }
    await this.#serial.run(() => forEachLimited(staged, (one) => this.#publish(one)));
    const kinds = new Set(staged.map(({ pending }) => pending.write.kind));
    await forEachLimited(kinds, (kind) => flushFolder(join(this.#root, kind)));
    for (const { pending, object } of staged) {
      pending.resolve(object);
    }
  }

  async #stage(kind: KindName, object: AnyObject): Promise<{ path: string; stat: BigIntStats }> {
    if (makeFolder(join(this.#root, kind))) {
      await flushFolder(this.#root);
    }
    // Only the lock's holder has files here, and a resourceVersion is given out once.
    const path = join(this.#root, temporaryFolder, `${process.pid}-${object.metadata.resourceVersion}`);
    try {
      const fd = openSync(path, 'wx', 0o600);
      try {
        writeFileSync(fd, `${JSON.stringify(object)}\n`);
        await promisify(fdatasync)(fd);
        return { path, stat: fstatSync(fd, { bigint: true }) };
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
  }

  async #publish({ pending, object, temporary }: Staged): Promise<void> {
    const { kind, key } = pending.write;
    const path = join(this.#root, kind, fileOf(key));
    try {
      await (temporary === undefined ? unlink(path) : rename(temporary.path, path));
    } catch (error) {
      if (temporary !== undefined) {
        await rm(temporary.path, { force: true });
      }
      fail(pending, error);
      return;
    }
    this.#objects.wrote(kind, key, object, temporary?.stat);
    this.#wrote(kind, key);
  }
}

/** Makes a folder that only we may enter; false if it is there already. */
export function makeFolder(path: string): boolean {
  try {
    mkdirSync(path, { mode: 0o700 });
    return true;
  } catch (error) {
    if (isErrno(error, 'EEXIST')) {
      return false;
    }
    throw error;
  }
}

/** Puts a folder's entries on the disk: a rename is safe only then. */
async function flushFolder(path: string): Promise<void> {
  const fd = openSync(path, 'r');
  try {
    await promisify(fsync)(fd);
  } finally {
    closeSync(fd);
  }
}

function fail({ write, reject }: Pending, cause: unknown): void {
  const ours = cause instanceof Error && cause.name === 'DatastoreError';
  const message = `${write.verb} ${objectText(write.kind, write.key)}: ${messageOf(cause)}`;
  reject(ours ? cause : new DatastoreError('unavailable', message, { cause }));
}
