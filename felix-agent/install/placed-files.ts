import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** A file of the node could not be written, read or removed; the message names it and has the system's words. */
export class PlaceError extends Error {
  override readonly name = 'PlaceError';
  /** The system's code (`EROFS`, `EACCES`...), or `bad-record`. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Whose a file is: nobody's, as we left it, or changed or made by somebody else. */
export type Owner = 'absent' | 'ours' | 'foreign';

/**
 * Files that we put into directories of the node that aren't ours (its CNI plugins, its CNI configuration). Which ones, and what was in
 * them, is kept in a record in the state dir: only a file that still is what we wrote is ever replaced or removed.
 *
 * A file comes by renaming, synced before: whoever opens it finds the old one or the new one, whole, also after a power failure; a program that
 * runs keeps what it runs. The record is written first, with both contents: whatever happens in between, the file is known as ours.
 */
export class PlacedFiles {
  readonly #record: string;

  /** `record`: the path of the record, which one process at a time uses. */
  constructor(record: string) {
    this.#record = record;
  }

  /** Every file that was placed and not removed since. Throws `PlaceError` for a record that can't be read. */
  paths(): readonly string[] {
    return [...this.#read().keys()];
  }

  /** A symbolic link is somebody else's, wherever it leads. */
  owner(path: string): Owner {
    const digest = digestOf(path);
    if (digest === undefined) return 'absent';
    return this.#read().get(path)?.includes(digest) === true ? 'ours' : 'foreign';
  }

  /** Makes the file what it should be, whosever it was before. False: it was that already. */
  place(path: string, content: Uint8Array | string, mode: number): boolean {
    const wanted = sha256(content);
    const present = digestOf(path);
    const isDone = present === wanted && (statSync(path).mode & 0o777) === mode;
    if (!isDone) {
      // After a failure it is the same again: the record must not grow with each try.
      this.#remember(path, [...new Set([...(this.#read().get(path) ?? []), wanted])]);
      writeWhole(path, content, mode);
    }
    this.#remember(path, [wanted]);
    return !isDone;
  }

  /** Removes the file if it still is ours, and forgets it in any case. Returns whose it was. */
  remove(path: string): Owner {
    const owner = this.owner(path);
    attempt(`remove ${path}`, () => {
      rmSync(temporaryName(path), { force: true });
      if (owner === 'ours') rmSync(path, { force: true });
    });
    const all = this.#read();
    all.delete(path);
    this.#write(all);
    return owner;
  }

  #remember(path: string, digests: readonly string[]): void {
    const all = this.#read();
    if (JSON.stringify(all.get(path)) === JSON.stringify(digests)) return;
    this.#write(all.set(path, digests));
  }

  #read(): Map<string, readonly string[]> {
    let text: string;
    try {
      text = readFileSync(this.#record, 'utf8');
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return new Map();
      throw failed(`read ${this.#record}`, error);
    }
    const entries = parseRecord(text);
    if (entries === undefined) {
      throw new PlaceError(
        'bad-record',
        `${this.#record} should say which files of the node are ours, but is damaged: remove it, and what it was about by hand`,
      );
    }
    return new Map(entries);
  }

  #write(all: ReadonlyMap<string, readonly string[]>): void {
    if (all.size === 0) {
      attempt(`remove ${this.#record}`, () => rmSync(this.#record, { force: true }));
      return;
    }
    attempt(`make ${dirname(this.#record)}`, () => mkdirSync(dirname(this.#record), { recursive: true, mode: 0o700 }));
    writeWhole(this.#record, `${JSON.stringify(Object.fromEntries(all))}\n`, 0o600);
  }
}

function parseRecord(text: string): [string, readonly string[]][] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const entries = Object.entries(value);
  const isEntry = ([path, digests]: [string, unknown]): boolean =>
    path.startsWith('/') && Array.isArray(digests) && digests.every((digest) => typeof digest === 'string');
  return entries.every(isEntry) ? (entries as [string, readonly string[]][]) : undefined;
}

function writeWhole(path: string, content: Uint8Array | string, mode: number): void {
  attempt(`write ${path}`, () => {
    const temporary = temporaryName(path);
    rmSync(temporary, { force: true }); // Of a run that was cut off: its mode would stay.
    writeFileSync(temporary, content, { mode, flush: true });
    chmodSync(temporary, mode); // Whatever the umask is.
    renameSync(temporary, path);
    const dir = openSync(dirname(path), 'r');
    try {
      fsyncSync(dir); // Else the new name may be lost with the power.
    } finally {
      closeSync(dir);
    }
  });
}

/** Runtimes read *.conf, *.conflist and *.json, and run what the configuration names: never this. */
function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.tortie-tmp`);
}

/** Undefined: there is nothing. A directory, a link or whatever else is no file of ours has a digest that no content has. */
function digestOf(path: string): string | undefined {
  try {
    return lstatSync(path).isFile() ? sha256(readFileSync(path)) : 'no plain file';
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw failed(`read ${path}`, error);
  }
}

function sha256(content: Uint8Array | string): string {
  return createHash('sha256').update(content).digest('hex');
}

function attempt(what: string, action: () => void): void {
  try {
    action();
  } catch (error) {
    throw failed(what, error);
  }
}

function failed(what: string, error: unknown): PlaceError {
  return new PlaceError(codeOf(error) ?? 'failed', `can't ${what}: ${(error as Error).message}`, { cause: error });
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}
