import type { BigIntStats } from 'node:fs';
import { constants, lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '#api/clock.ts';
import { messageOf } from '#api/errors.ts';
import { objectText } from '#api/kinds.ts';
import type { DatastoreProblem } from '../datastore.ts';
import type { FolderWatches } from './folder-watches.ts';
import { forEachLimited, isErrno, isRacy, isUserFile, signatureOf } from './layout.ts';
import { parseUserFile, type Claim, type UserFile } from './user-file.ts';

/** A larger file is no configuration. */
const largestFile = 16 * 1024 * 1024;

/** What is known of one file. */
interface FileState {
  /** How it looked when it was last looked at; undefined when it is gone. */
  signature: string | undefined;
  /** When it was last seen to change, in the clock's milliseconds. */
  changedAt: number;
  /** Since when `signature`, or one before it, waits to be read and taken over, in the clock's milliseconds; undefined: it doesn't. */
  unreadSince: number | undefined;
  /** It was read without a broken document at least once. */
  wasWhole: boolean;
  /** Its last good state. */
  claims: readonly Claim[];
  /** Of these, what no longer stands in it, but is kept until it is certain that nobody is still writing. */
  leaving: ReadonlySet<Claim>;
  problems: readonly DatastoreProblem[];
  remarks: readonly string[];
}

/** What a walk through the folder finds. */
interface Walk {
  readonly watches: FolderWatches;
  readonly folders: Set<string>;
  readonly files: Map<string, BigIntStats>;
  /** Folders of which nothing is known this time. */
  readonly unreadable: string[];
  readonly problems: DatastoreProblem[];
}

/** How long a file must be unchanged, in milliseconds: before it is read at all, and before something is believed to have been removed from it. */
export interface SettleTimes {
  readonly settleMs: number;
  readonly removalMs: number;
}

/**
 * The users' files. An editor truncates and writes, or moves the old file away and the new one in; a script writes line by line. So a file is
 * read when it has been quiet for a moment, one that can't be read keeps its last good state, and what is missing (an object or the whole
 * file) counts as removed only after a longer moment. All changes are found by comparing the whole folder with what is known: an event only says when.
 */
export class UserFolder {
  readonly #root: string;
  readonly #clock: Clock;
  readonly #times: SettleTimes;
  readonly #files = new Map<string, FileState>();
  #folders: ReadonlySet<string> = new Set();
  #walkProblems: readonly DatastoreProblem[] = [];

  constructor(root: string, clock: Clock, times: SettleTimes) {
    this.#root = root;
    this.#clock = clock;
    this.#times = times;
  }

  /**
   * Looks at everything. Returns in how many milliseconds to look again (undefined: when something changes). `first`: reads each file as it
   * stands. Throws, and changes nothing, if the folder itself can't be read.
   */
  async scan(watches: FolderWatches, first = false): Promise<number | undefined> {
    const walk: Walk = { watches, folders: new Set(), files: new Map(), unreadable: [], problems: [] };
    await this.#walk(this.#root, walk);
    for (const folder of this.#folders) {
      if (!walk.folders.has(folder)) {
        watches.drop(folder);
      }
    }
    this.#folders = walk.folders;
    this.#walkProblems = walk.problems;
    const now = this.#clock.now();
    const paths = new Set([...this.#files.keys(), ...walk.files.keys()]);
    const readable = [...paths].filter((path) => !walk.unreadable.some((folder) => path.startsWith(`${folder}/`)));
    const waits: (number | undefined)[] = [];
    await forEachLimited(readable, async (path) => {
      waits.push(await this.#look(path, walk.files.get(path), now, first));
    });
    const isReading = this.#isReading(now);
    waits.push(...readable.map((path) => this.#letGo(path, now, isReading)));
    let next: number | undefined;
    for (const wait of waits) next = wait === undefined ? next : Math.min(next ?? wait, wait);
    return next;
  }

  /** All places that give objects, in the order of their files. `leaving`: it is about to go, and counts only if no other place gives the object. */
  *claims(): Generator<{ readonly claim: Claim; readonly leaving: boolean }> {
    for (const [, { claims, leaving }] of [...this.#files].sort(([a], [b]) => (a < b ? -1 : 1))) {
      for (const claim of claims) {
        yield { claim, leaving: leaving.has(claim) };
      }
    }
  }

  problems(): DatastoreProblem[] {
    return [...this.#walkProblems, ...[...this.#files.values()].flatMap(({ problems }) => problems)];
  }

  remarks(): string[] {
    return [...this.#files.values()].flatMap(({ remarks }) => remarks);
  }

  async #walk(folder: string, walk: Walk): Promise<void> {
    try {
      walk.watches.ensure(folder, await lstat(folder, { bigint: true }));
      walk.folders.add(folder);
      const entries = await readdir(folder, { withFileTypes: true });
      await forEachLimited(entries, async (entry) => {
        const path = join(folder, entry.name);
        if (entry.name.startsWith('.')) {
          return;
        }
        if (entry.isSymbolicLink()) {
          // It could lead out of the folder, and what it leads to (a key, a password file) into error messages.
          const message = `${path} is a symbolic link: links are not followed; put the file itself here`;
          walk.problems.push({ source: path, objects: [], message, effect: 'ignored' });
        } else if (entry.isDirectory()) {
          await this.#walk(path, walk);
        } else if (entry.isFile() && isUserFile(entry.name)) {
          const stat = await statOf(path);
          if (stat !== undefined) {
            walk.files.set(path, stat);
          }
        }
      });
    } catch (error) {
      if (folder === this.#root) {
        throw error;
      }
      if (!isErrno(error, 'ENOENT')) {
        walk.unreadable.push(folder);
        walk.problems.push({
          source: folder,
          objects: [],
          message: `${folder} can't be read (${messageOf(error)}); what its files gave stays`,
          effect: 'last-valid',
        });
      }
    }
  }

  /** Takes over what a file says, if the time has come. Returns in how many milliseconds to look again. */
  async #look(path: string, stat: BigIntStats | undefined, now: number, first: boolean): Promise<number | undefined> {
    const signature = stat === undefined ? undefined : signatureOf(stat);
    let state = this.#files.get(path);
    if (state === undefined) {
      state = {
        signature,
        changedAt: now,
        unreadSince: now,
        wasWhole: false,
        claims: [],
        leaving: new Set(),
        problems: [],
        remarks: [],
      };
      this.#files.set(path, state);
    } else if (state.signature !== signature || now < state.changedAt) {
      Object.assign(state, { signature, changedAt: now, unreadSince: Math.min(state.unreadSince ?? now, now) });
    }
    const quietMs = first ? Infinity : now - state.changedAt;
    if (state.unreadSince !== undefined && quietMs >= this.#times.settleMs) {
      const outcome = signature === undefined ? gone : await read(path, signature);
      if (outcome === 'changing') {
        return this.#times.settleMs;
      }
      if (outcome.unfinished && quietMs < this.#times.removalMs) {
        return this.#times.removalMs - quietMs;
      }
      takeOver(path, state, outcome);
      // Read at once at the start, it may change once more without looking changed.
      if (!(first && stat !== undefined && isRacy(stat, now))) state.unreadSince = undefined;
    }
    return state.unreadSince === undefined ? undefined : Math.max(this.#times.settleMs - quietMs, 1);
  }

  /**
   * What no longer stands in a file goes, if the time has come; not while another is still to be read, where it may have moved to (`isReading`). Returns in
   * how many milliseconds to look again.
   */
  #letGo(path: string, now: number, isReading: boolean): number | undefined {
    const state = this.#files.get(path);
    if (state === undefined) return undefined;
    if (state.leaving.size > 0) {
      const waitMs = this.#times.removalMs - (now - state.changedAt);
      if (isReading) return Math.max(waitMs, this.#times.settleMs);
      if (waitMs > 0) return waitMs;
      state.claims = state.claims.filter((claim) => !state.leaving.has(claim));
      state.leaving = new Set();
    }
    if (state.signature === undefined && state.claims.length === 0 && state.unreadSince === undefined)
      this.#files.delete(path);
    return undefined;
  }

  /** True while a file that is there has not been read; one that changes for ever counts only for as long as a removal waits. */
  #isReading(now: number): boolean {
    const { removalMs } = this.#times;
    return [...this.#files.values()].some(
      ({ signature, unreadSince }) =>
        signature !== undefined && unreadSince !== undefined && now - unreadSince < removalMs,
    );
  }
}

/** A file as it was read: what it says, or why it says nothing. `unfinished`: it ends in the middle of a line. */
type Outcome = UserFile & { readonly unfinished?: true };

const gone: Outcome = { claims: [], problems: [], remarks: [], complete: true, broken: undefined };

/** Nothing of it can be used. */
function unusable(why: string): Outcome {
  return { ...gone, complete: false, broken: why };
}

/** How a file looks; undefined if it has just gone. */
async function statOf(path: string): Promise<BigIntStats | undefined> {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if (isErrno(error, 'ENOENT')) {
      return undefined;
    }
    throw error;
  }
}

/** Reads a file, without following a link that has taken its place and without waiting for one that never ends. */
async function read(path: string, signature: string): Promise<Outcome | 'changing'> {
  try {
    await using handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = await handle.stat({ bigint: true });
    if (signatureOf(stat) !== signature) {
      return 'changing';
    }
    if (stat.size > largestFile) {
      return unusable(`${stat.size} bytes are too many: at most ${largestFile}`);
    }
    const bytes = await handle.readFile();
    if (signatureOf(await handle.stat({ bigint: true })) !== signature) {
      return 'changing';
    }
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    const unfinished = text === '' || text.endsWith('\n') ? {} : ({ unfinished: true } as const);
    try {
      return { ...parseUserFile(path, text), ...unfinished };
    } catch (error) {
      return { ...unusable(messageOf(error)), ...unfinished };
    }
  } catch (error) {
    return isErrno(error, 'ENOENT') ? 'changing' : unusable(messageOf(error));
  }
}

function takeOver(path: string, state: FileState, outcome: Outcome): void {
  if (outcome.broken !== undefined) {
    // What was never read whole has no good state to keep: its good documents are better than nothing, since they may be policies that deny.
    if (!state.wasWhole && outcome.claims.length > 0) {
      // What an earlier reading gave and is not there now may be what is broken now.
      state.claims = [...outcome.claims, ...missingFrom(outcome.claims, state.claims)];
      state.remarks = outcome.remarks;
      state.leaving = new Set();
      const message = `${path} can't be used whole: ${outcome.broken}; what its other documents say is in force until it is mended`;
      state.problems = [...outcome.problems, { source: path, objects: [], message, effect: 'ignored' }];
      return;
    }
    const objects = state.claims.map(({ kind, key }) => objectText(kind, key));
    const kept = objects.length > 0 ? `; the last good state of what it gave stays` : '';
    const message = `${path} can't be used: ${outcome.broken}${kept}`;
    state.problems = [{ source: path, objects, message, effect: objects.length > 0 ? 'last-valid' : 'ignored' }];
    state.leaving = new Set();
    return;
  }
  state.wasWhole = true;
  const missing = missingFrom(outcome.claims, state.claims);
  // Where something can't even be told by name, it may be any of those that are missing: they all stay.
  state.leaving = new Set(outcome.complete ? missing : []);
  state.claims = [...outcome.claims, ...missing];
  state.problems = outcome.problems;
  state.remarks = outcome.remarks;
}

/** Of the claims that there were, those of objects that are no longer among them. */
function missingFrom(claims: readonly Claim[], before: readonly Claim[]): readonly Claim[] {
  if (before.length === 0) return before;
  const given = new Set(claims.map(({ kind, key }) => objectText(kind, key)));
  return before.filter(({ kind, key }) => !given.has(objectText(kind, key)));
}
