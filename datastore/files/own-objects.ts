import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  type BigIntStats,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate as yieldToOthers } from 'node:timers/promises';
import type { Clock } from '#api/clock.ts';
import { messageOf } from '#api/errors.ts';
import { objectText, parseAs, type KindMap, type KindName } from '#api/kinds.ts';
import { keyText, type ObjectKey } from '#api/meta.ts';
import type { DatastoreProblem } from '../datastore.ts';
import { DatastoreError } from '../errors.ts';
import { keyOf, type AnyObject } from '../stored-object.ts';
import type { FolderWatches } from './folder-watches.ts';
import { fileOf, isErrno, isRacy, signatureOf } from './layout.ts';

interface Entry {
  readonly key: ObjectKey;
  readonly object: AnyObject;
  readonly signature: string;
  /** The file may have changed under this signature. */
  readonly racy: boolean;
}

/** So many files are looked at in one go. */
const filesPerTurn = 100;

/**
 * The objects that we own, as their files say, with a cache that a look at each file's inode, size and time keeps true. The files are small,
 * and in the page cache since they were written or first read: they are read synchronously, which takes 20 us instead of the 300 us and five
 * threads' turns of asynchronous calls.
 */
export class OwnObjects {
  readonly #root: string;
  readonly #clock: Clock;
  readonly #entries = new Map<KindName, Map<string, Entry>>();
  readonly #problems = new Map<string, DatastoreProblem>();

  /** `root`: the folder `.tortie`. */
  constructor(root: string, clock: Clock) {
    this.#root = root;
    this.#clock = clock;
  }

  /** The object as it was last seen. */
  seen(kind: KindName, key: ObjectKey): AnyObject | undefined {
    const entries = this.#of(kind);
    return entries.size === 0 ? undefined : entries.get(fileOf(key))?.object; // Of most kinds there are none.
  }

  /** The object as its file says now; `unavailable` if the file can't be read or is broken, for then it must not be taken for missing. */
  read<K extends KindName>(kind: K, key: ObjectKey): KindMap[K] | undefined {
    const file = fileOf(key);
    try {
      const entry = this.#load(kind, file);
      if (entry === undefined) {
        lstatSync(this.#root); // Without our folder we know nothing.
      }
      return entry?.object as KindMap[K] | undefined;
    } catch (cause) {
      throw new DatastoreError(
        'unavailable',
        `get ${objectText(kind, key)} from ${this.#path(kind, file)}: ${messageOf(cause)}`,
        { cause },
      );
    }
  }

  /** Compares the kind's folder with what was seen; returns the keys of what changed. Throws, and changes nothing, if it can't be read. */
  async scan(kind: KindName, watches: FolderWatches): Promise<ObjectKey[]> {
    const files = this.#files(kind, watches);
    const changed: ObjectKey[] = [];
    let turn = 0;
    for (const file of new Set([...this.#of(kind).keys(), ...files])) {
      changed.push(...this.check(kind, file, true));
      turn = (turn + 1) % filesPerTurn;
      if (turn === 0) {
        await yieldToOthers();
      }
    }
    return changed;
  }

  /**
   * Compares one file with what was seen, and returns the key if it changed. `thorough`: a file that could have changed without looking changed
   * is read again. (Events do without: nearly all of them tell of our own writes, and the next scan is thorough.) Throws if our folder is gone.
   */
  check(kind: KindName, file: string, thorough: boolean): ObjectKey[] {
    if (!file.endsWith('.json')) {
      return [];
    }
    const path = this.#path(kind, file);
    const before = this.#of(kind).get(file);
    try {
      const stat = lstatSync(path, { bigint: true });
      if (before?.signature === signatureOf(stat) && !(thorough && before.racy)) {
        return [];
      }
      const entry = this.#load(kind, file);
      if (entry !== undefined) {
        this.#problems.delete(path);
        this.#of(kind).set(file, entry);
        return before?.object.metadata.resourceVersion === entry.object.metadata.resourceVersion ? [] : [entry.key];
      }
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) {
        const objects = before === undefined ? [] : [objectText(kind, before.key)];
        this.#problems.set(path, {
          source: path,
          objects,
          message: `${path} can't be used: ${messageOf(error)}; repair it or remove it`,
          effect: before === undefined ? 'ignored' : 'last-valid',
        });
        return [];
      }
    }
    lstatSync(this.#root); // Without our folder we know nothing: the disk may be away.
    this.#problems.delete(path);
    return this.#of(kind).delete(file) && before !== undefined ? [before.key] : [];
  }

  /** Takes note of what was just written to (undefined: removed from) the file of `key`. */
  wrote(kind: KindName, key: ObjectKey, object: AnyObject | undefined, stat: BigIntStats | undefined): void {
    if (object === undefined || stat === undefined) {
      this.#of(kind).delete(fileOf(key));
    } else {
      this.#of(kind).set(fileOf(key), this.#entry(key, object, stat));
    }
  }

  /** All that was last seen. */
  *all(): Generator<{ readonly kind: KindName; readonly key: ObjectKey; readonly object: AnyObject }> {
    for (const [kind, entries] of this.#entries) {
      for (const { key, object } of entries.values()) {
        yield { kind, key, object };
      }
    }
  }

  problems(): DatastoreProblem[] {
    return [...this.#problems.values()];
  }

  #files(kind: KindName, watches: FolderWatches): string[] {
    const folder = join(this.#root, kind);
    try {
      const stat = lstatSync(folder, { bigint: true });
      if (stat.isSymbolicLink()) {
        throw new Error(`${folder} is a symbolic link: links are not followed`);
      }
      watches.ensure(folder, stat);
      return readdirSync(folder);
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) {
        throw error;
      }
      watches.drop(folder);
      lstatSync(this.#root); // Without our folder we know nothing.
      return [];
    }
  }

  /** Reads a file; undefined if there is none. */
  #load(kind: KindName, file: string): Entry | undefined {
    let fd: number;
    try {
      fd = openSync(this.#path(kind, file), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) {
        return undefined;
      }
      throw error;
    }
    let text: string;
    let stat: BigIntStats;
    try {
      stat = fstatSync(fd, { bigint: true });
      text = readFileSync(fd, 'utf8');
    } finally {
      closeSync(fd);
    }
    const { object } = parseAs(kind, JSON.parse(text));
    const key = keyOf(kind, object);
    if (fileOf(key) !== file) {
      throw new Error(`it holds ${objectText(kind, key)}, whose file is ${fileOf(key)}`);
    }
    if (object.metadata.uid === undefined || object.metadata.resourceVersion === undefined) {
      throw new Error(`${kind} ${keyText(key)}: metadata.uid and metadata.resourceVersion must be there`);
    }
    return this.#entry(key, object, stat);
  }

  #entry(key: ObjectKey, object: AnyObject, stat: BigIntStats): Entry {
    return { key, object, signature: signatureOf(stat), racy: isRacy(stat, this.#clock.now()) };
  }

  #path(kind: KindName, file: string): string {
    return join(this.#root, kind, file);
  }

  #of(kind: KindName): Map<string, Entry> {
    let entries = this.#entries.get(kind);
    if (entries === undefined) {
      entries = new Map();
      this.#entries.set(kind, entries);
    }
    return entries;
  }
}
