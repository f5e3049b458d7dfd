import { randomUUID } from 'node:crypto';
import { lstat, realpath, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { Clock } from '#api/clock.ts';
import { messageOf } from '#api/errors.ts';
import { isKindName, kinds, objectText, type KindMap, type KindName } from '#api/kinds.ts';
import { keyText, type ObjectKey } from '#api/meta.ts';
import type { Datastore, DatastoreProblem, Listing, WatchEvent } from '../datastore.ts';
import { DatastoreError } from '../errors.ts';
import { History } from '../history.ts';
import type { FileLock } from '../lock.ts';
import {
  checkCreate,
  checkDelete,
  checkKey,
  checkUpdate,
  keyOf,
  replacement,
  validated,
  withMetadata,
  type AnyObject,
} from '../stored-object.ts';
import { FolderWatches, inotifyFolder, type WatchFolder } from './folder-watches.ts';
import { ownFolder, Serial, temporaryFolder } from './layout.ts';
import { OwnObjects } from './own-objects.ts';
import { makeFolder, OwnWriter } from './own-writer.ts';
import { ProblemLog } from '../problem-log.ts';
import { UserFolder } from './user-folder.ts';
import { UserObjects } from './user-objects.ts';

export interface FilesDatastoreOptions {
  /** The users' folder; it must exist. */
  readonly dir: string;
  readonly lock: FileLock;
  readonly clock: Clock;
  readonly log: (level: 'info' | 'warn', message: string) => void;
  /** How often everything is compared, in case an event was lost. Milliseconds; default 5 s. */
  readonly rescanMs?: number;
  /** How long a user's file must be unchanged before it is read. Milliseconds; default 50. */
  readonly settleMs?: number;
  /** How long a user's file must be unchanged before what is missing from it counts as removed. Milliseconds; default 500. */
  readonly removalMs?: number;
  readonly watchFolder?: WatchFolder;
  /** So many events of each kind are kept for watches to resume; default 64: a block has some 20 kB, and who is slower than that lists again. */
  readonly historyLimit?: number;
}

const kindNames = Object.keys(kinds) as KindName[];

/** Opens the datastore and reads everything in it. Rejects with `unavailable`, naming the folder, if it can't be used. */
export async function openFilesDatastore(options: FilesDatastoreOptions): Promise<FilesDatastore> {
  try {
    const dir = await realpath(options.dir);
    if (!(await stat(dir)).isDirectory()) {
      throw new Error('it is no folder');
    }
    const own = join(dir, ownFolder);
    makeFolder(own);
    if (!(await lstat(own)).isDirectory()) {
      throw new Error(`${own} must be a folder`);
    }
    makeFolder(join(own, temporaryFolder));
    const store = new FilesDatastore({ ...options, dir });
    try {
      await store.start();
    } catch (error) {
      await store[Symbol.asyncDispose]();
      throw error;
    }
    return store;
  } catch (cause) {
    const message = `open the files datastore ${options.dir}: ${messageOf(cause)}; make the folder, and let it be readable and writable`;
    throw new DatastoreError('unavailable', message, { cause });
  }
}

/**
 * Objects in a folder: users' files, which are only read, and our objects under `.tortie`, one file each. What is in force is our object, else
 * the one that users' files give. An object that stands in two places keeps the state that it had before there were two; a policy that can't be
 * used and has no earlier state is handed out as a replacement that denies.
 */
export class FilesDatastore implements Datastore {
  readonly location: string;
  readonly derived: ReadonlySet<KindName> = new Set();
  readonly #options: FilesDatastoreOptions;
  readonly #root: string;
  readonly #history: History;
  /** Around everything that changes what is seen, so that scans, events and writes can't overtake each other. */
  readonly #serial = new Serial();
  readonly #own: OwnObjects;
  readonly #writer: OwnWriter;
  readonly #users: UserFolder;
  readonly #watches: FolderWatches;
  readonly #userObjects = new UserObjects();
  readonly #inForce = new Map<KindName, Map<string, AnyObject>>();
  readonly #dirty = { users: false, kinds: new Set<KindName>(), files: new Map<string, readonly [KindName, string]>() };
  /** Why something can't be read at present: users' files, or a kind of ours. */
  readonly #unavailable = new Map<'users' | KindName, string>();
  readonly #log: ProblemLog;
  #pass: Promise<void> | undefined;
  #nextLook: Disposable | undefined;
  #rescan: Disposable | undefined;
  #closed = false;

  /** Use `openFilesDatastore`. */
  constructor(options: FilesDatastoreOptions) {
    const { dir, clock, lock, settleMs = 50, removalMs = 500 } = options;
    this.location = `files:${dir}`;
    this.#options = options;
    this.#root = join(dir, ownFolder);
    this.#log = new ProblemLog(options.log);
    this.#history = new History(options.historyLimit);
    this.#own = new OwnObjects(this.#root, clock);
    this.#writer = new OwnWriter(this.#root, lock, this.#own, this.#serial, (kind, key) => this.#settle(kind, key));
    this.#users = new UserFolder(dir, clock, { settleMs, removalMs });
    this.#watches = new FolderWatches(
      options.watchFolder ?? inotifyFolder,
      (folder, entry) => this.#changed(folder, entry),
      (folder, error) =>
        options.log('warn', `${folder} can't be watched (${messageOf(error)}): changes are seen only at each rescan`),
    );
  }

  /** Reads everything. */
  async start(): Promise<void> {
    await this.#serial.run(() => this.#look(true));
    for (const why of this.#unavailable.values()) {
      throw new Error(why);
    }
    const revisions = [...this.#own.all()].map(({ object }) => Number(object.metadata.resourceVersion));
    await this.#writer.recover(Math.max(0, ...revisions.filter(Number.isSafeInteger)));
    this.#armRescan();
  }

  async get<K extends KindName>(kind: K, key: ObjectKey): Promise<KindMap[K] | undefined> {
    checkKey('get', kind, key);
    const own = this.#own.read(kind, key);
    return own ?? (this.#userObjects.object(kind, key) as KindMap[K] | undefined);
  }

  /** Our objects as they are now and users' as last seen; while the folder is unavailable (a problem says so), all as last seen. */
  list<K extends KindName>(kind: K, options: { readonly namespace?: string } = {}): Promise<Listing<K>> {
    return this.#serial.run(async () => {
      await this.#lookAtKind(kind);
      this.#report();
      const items = [...this.#of(kind).values()].filter(
        (object) => options.namespace === undefined || keyOf(kind, object).namespace === options.namespace,
      );
      return { items, resourceVersion: this.#history.position };
    });
  }

  watch<K extends KindName>(
    kind: K,
    options: { readonly resourceVersion: string; readonly signal?: AbortSignal },
  ): AsyncIterable<WatchEvent<K>> {
    return this.#history.watch(kind, options);
  }

  async create<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]> {
    const valid = validated('create', kind, object);
    const key = keyOf(kind, valid);
    return (await this.#write('create', kind, key, (stored, nextRevision) => {
      checkCreate(kind, stored, valid);
      const places = this.#userObjects.placesText(kind, key);
      if (places !== undefined) {
        throw new DatastoreError('already-exists', `create ${objectText(kind, key)}: it stands in ${places}`);
      }
      return withMetadata<AnyObject>(valid, {
        uid: randomUUID(),
        resourceVersion: nextRevision(),
        creationTimestamp: new Date(this.#options.clock.now()).toISOString(),
      });
    })) as KindMap[K];
  }

  async update<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]> {
    const valid = validated('update', kind, object);
    const key = keyOf(kind, valid);
    return (await this.#write('update', kind, key, (stored, nextRevision) => {
      this.#refuseUsers('update', kind, key, stored);
      checkUpdate<AnyObject>(kind, stored, valid);
      return replacement<AnyObject>(stored, valid, nextRevision);
    })) as KindMap[K];
  }

  async delete(
    kind: KindName,
    key: ObjectKey,
    only: { readonly resourceVersion?: string | undefined; readonly uid?: string | undefined } = {},
  ): Promise<void> {
    checkKey('delete', kind, key);
    await this.#write('delete', kind, key, (stored) => {
      this.#refuseUsers('delete', kind, key, stored);
      checkDelete(kind, key, stored, only);
      return undefined;
    });
  }

  absent(): readonly KindName[] {
    return [];
  }

  problems(): readonly DatastoreProblem[] {
    return this.#log.problems;
  }

  /** What stands in users' files and is passed over: kinds that we don't read, fields that we don't know. */
  ignored(): readonly string[] {
    return this.#log.remarks;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#history.close();
    this.#watches[Symbol.dispose]();
    this.#rescan?.[Symbol.dispose]();
    this.#nextLook?.[Symbol.dispose]();
    await this.#writer.idle();
    await this.#pass;
  }

  async #write(
    verb: 'create' | 'update' | 'delete',
    kind: KindName,
    key: ObjectKey,
    decide: (stored: AnyObject | undefined, nextRevision: () => string) => AnyObject | undefined,
  ): Promise<AnyObject | undefined> {
    if (this.#closed) {
      throw new DatastoreError('unavailable', `${verb} ${objectText(kind, key)}: the datastore is closed`);
    }
    return this.#writer.write({ verb, kind, key, decide });
  }

  #refuseUsers(verb: string, kind: KindName, key: ObjectKey, stored: AnyObject | undefined): void {
    const places = this.#userObjects.placesText(kind, key);
    if (stored === undefined && places !== undefined) {
      const message = `${verb} ${objectText(kind, key)}: it stands in ${places}, and users' files are not written; change it there`;
      throw new DatastoreError('read-only', message);
    }
  }

  /** An event: notes what to look at, and sees to it that somebody looks. */
  #changed(folder: string, entry: string | undefined): void {
    const inside = relative(this.#root, folder);
    if (inside.startsWith('..')) {
      this.#dirty.users ||= entry === undefined || entry === ownFolder || !entry.startsWith('.');
    } else if (inside === '') {
      // A kind's folder came or went. (The lock and the counter change with every write and tell nothing.)
      if (isKindName(entry)) {
        this.#dirty.kinds.add(entry);
      }
    } else if (isKindName(inside)) {
      if (entry === undefined || entry === inside) {
        this.#dirty.kinds.add(inside);
      } else {
        this.#dirty.files.set(join(folder, entry), [inside, entry]);
      }
    }
    this.#lookSoon();
  }

  #lookSoon(): void {
    const { users, kinds, files } = this.#dirty;
    if (this.#closed || !(users || kinds.size > 0 || files.size > 0)) {
      return;
    }
    this.#pass ??= this.#serial
      .run(() => this.#look(false))
      .finally(() => {
        this.#pass = undefined;
        this.#lookSoon();
      });
  }

  #armRescan(): void {
    this.#rescan = this.#options.clock.after(this.#options.rescanMs ?? 5000, () => {
      this.#dirty.users = true;
      for (const kind of kindNames) {
        this.#dirty.kinds.add(kind);
      }
      this.#lookSoon();
      this.#writer
        .sweep()
        .catch((error: unknown) => {
          if (this.#unavailable.size === 0) {
            this.#options.log('warn', `${this.#root}: removing unfinished files: ${messageOf(error)}`);
          }
        })
        .finally(() => this.#closed || this.#armRescan());
    });
  }

  /** Looks at what is dirty (`all`: at everything) and takes it over; runs inside `#serial`. */
  async #look(all: boolean): Promise<void> {
    const { users } = this.#dirty;
    const dirtyKinds = all ? kindNames : [...this.#dirty.kinds];
    const dirtyFiles = [...this.#dirty.files.values()];
    this.#dirty.users = false;
    this.#dirty.kinds.clear();
    this.#dirty.files.clear();
    if (all || users) {
      await this.#attempt('users', async () => {
        // First, since a folder without ours is another one: the disk may be away, which removes nothing.
        this.#watches.ensure(this.#root, await lstat(this.#root, { bigint: true }));
        this.#lookAgain(await this.#users.scan(this.#watches, all));
        for (const { kind, key } of this.#userObjects.weigh(this.#users.claims())) {
          this.#settle(kind, key);
        }
      });
    }
    for (const [kind, file] of dirtyFiles) {
      await this.#attempt(kind, () => this.#settleAll(kind, this.#own.check(kind, file, false)));
    }
    for (const kind of dirtyKinds) {
      await this.#lookAtKind(kind);
    }
    this.#report();
  }

  async #lookAtKind(kind: KindName): Promise<void> {
    await this.#attempt(kind, async () => this.#settleAll(kind, await this.#own.scan(kind, this.#watches)));
  }

  /** What can't be read leaves everything as it was. */
  async #attempt(what: 'users' | KindName, look: () => Promise<void> | void): Promise<void> {
    try {
      await look();
      this.#unavailable.delete(what);
    } catch (error) {
      this.#unavailable.set(what, messageOf(error));
    }
  }

  #lookAgain(inMs: number | undefined): void {
    this.#nextLook?.[Symbol.dispose]();
    this.#nextLook = undefined;
    if (inMs !== undefined && !this.#closed) {
      this.#nextLook = this.#options.clock.after(inMs, () => {
        this.#dirty.users = true;
        this.#lookSoon();
      });
    }
  }

  #settleAll(kind: KindName, keys: readonly ObjectKey[]): void {
    for (const key of keys) {
      this.#settle(kind, key);
    }
  }

  /** Brings one object in force up to date, and tells the watchers what that changed. */
  #settle(kind: KindName, key: ObjectKey): void {
    const objects = this.#of(kind);
    const name = keyText(key);
    const before = objects.get(name);
    const after = this.#own.seen(kind, key) ?? this.#userObjects.object(kind, key);
    if (
      before?.metadata.uid === after?.metadata.uid &&
      before?.metadata.resourceVersion === after?.metadata.resourceVersion
    ) {
      return;
    }
    if (after === undefined) {
      objects.delete(name);
    } else {
      objects.set(name, after);
    }
    const replaced = before !== undefined && after !== undefined && before.metadata.uid === after.metadata.uid;
    if (before !== undefined && !replaced) {
      this.#history.record(kind, 'deleted', before);
    }
    if (after !== undefined) {
      this.#history.record(kind, replaced ? 'modified' : 'added', after);
    }
  }

  #report(): void {
    const unavailable = [...new Set(this.#unavailable.values())].map((why) => ({
      source: this.#options.dir,
      objects: [],
      message: `${this.#options.dir} is unavailable: ${why}; what was read before stays in force`,
      effect: 'last-valid' as const,
    }));
    const owned = (kind: KindName, key: ObjectKey): boolean => this.#own.seen(kind, key) !== undefined;
    const ofObjects = [...this.#userObjects.problems(owned), ...this.#userObjects.disputes(this.#own.all())];
    this.#log.update(
      [...unavailable, ...this.#users.problems(), ...this.#own.problems(), ...ofObjects],
      this.#users.remarks(),
    );
  }

  #of<K extends KindName>(kind: K): Map<string, KindMap[K]> {
    let objects = this.#inForce.get(kind);
    if (objects === undefined) {
      objects = new Map();
      this.#inForce.set(kind, objects);
    }
    return objects as Map<string, KindMap[K]>;
  }
}
