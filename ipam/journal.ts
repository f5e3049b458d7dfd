import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';

/**
 * What this node decided before the datastore knows it. `give`: an address of the reserve (or one that was found in use) is this handle's.
 * `release`: the handle's address is to be freed. `intent`: the handle's count may be too high, because an assignment was begun. The
 * sequence number (as text; some exceed what JSON numbers hold) says which allocation is meant: a record that is replayed too late is void.
 */
export type JournalRecord =
  | {
      readonly type: 'give';
      readonly address: string;
      readonly sequence: string;
      readonly handle: string;
      readonly attributes: Readonly<Record<string, string>>;
    }
  | { readonly type: 'release'; readonly address: string; readonly sequence: string; readonly handle: string }
  | { readonly type: 'intent'; readonly handle: string };

/** Beyond this size the file is written anew with what still matters. */
const rewriteAtBytes = 1 << 20;

/**
 * An append-only file of decisions that the datastore has not got yet; what it has is forgotten, and with the last one the file is emptied.
 * There is no fsync: the page cache outlives a killed process, and a power failure ends the pods too, so that nothing in the file binds
 * any more (what it would have said is then found by sequence numbers not to fit, or by the live links being gone).
 */
export class Journal implements Disposable {
  readonly #path: string;
  readonly #pending = new Map<string, JournalRecord>();
  #fd: number;
  #size = 0;

  /** Opens or creates the file; `log` is told of lines that are no records. Throws the file system's error. */
  constructor(path: string, log: (level: 'error', message: string) => void) {
    this.#path = path;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const { records, strange } = readRecords(path);
    // Said now, because the file is written anew without them.
    if (strange.length > 0) log('error', strangeText(path, strange));
    this.#remember(records);
    this.#fd = this.#rewrite();
  }

  /** What is not forgotten yet, in the order of the last record for each address. */
  records(): readonly JournalRecord[] {
    return [...this.#pending.values()];
  }

  /** Adds records with one write: all or, when it throws the file system's error, none. Each replaces the one before for its address. */
  append(records: readonly JournalRecord[]): void {
    const data = Buffer.from(records.map(lineOf).join(''));
    if (this.#size + data.length > rewriteAtBytes) {
      const old = this.#fd;
      this.#fd = this.#rewrite();
      closeSync(old);
    }
    try {
      for (let written = 0; written < data.length;) {
        written += writeSync(this.#fd, data, written);
      }
    } catch (error) {
      ftruncateSync(this.#fd, this.#size); // A full disk: no half of a record may stay before the next.
      throw error;
    }
    this.#size += data.length;
    this.#remember(records);
  }

  /** The datastore has it. Only if it is still the newest for its address. */
  forget(record: JournalRecord): void {
    if (this.#pending.get(keyOf(record)) !== record) {
      return;
    }
    this.#pending.delete(keyOf(record));
    if (this.#pending.size === 0 && this.#size > 0) {
      ftruncateSync(this.#fd, 0);
      this.#size = 0;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  /** Newest last, whatever was said of the address before. */
  #remember(records: readonly JournalRecord[]): void {
    for (const record of records) {
      this.#pending.delete(keyOf(record));
      this.#pending.set(keyOf(record), record);
    }
  }

  /** A fresh file with what is pending in the old one's place; returns its descriptor. */
  #rewrite(): number {
    const temporary = `${this.#path}.new`;
    writeFileSync(temporary, this.records().map(lineOf).join(''), { mode: 0o600 });
    renameSync(temporary, this.#path);
    const fd = openSync(this.#path, 'a', 0o600);
    this.#size = fstatSync(fd).size;
    return fd;
  }
}

function keyOf(record: JournalRecord): string {
  return record.type === 'intent' ? `intent ${record.handle}` : record.address;
}

function lineOf(record: JournalRecord): string {
  return `${JSON.stringify(record)}\n`;
}

/** What a file holds. */
interface Contents {
  readonly records: readonly JournalRecord[];
  /** Whole lines that are no records: nothing that we do leaves them. */
  readonly strange: readonly string[];
}

/** Reads a file; the last line, if it has no end, may have been cut off by a crash before it was acted upon, and is passed over. */
function readRecords(path: string): Contents {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      return { records: [], strange: [] };
    }
    throw error;
  }
  const records: JournalRecord[] = [];
  const strange: string[] = [];
  const lines = text.split('\n');
  for (const [index, line] of lines.entries()) {
    const record = recordOf(line);
    if (record !== undefined) {
      records.push(record);
      continue;
    }
    // The last was cut off, or is (after a power failure) zeros: nobody was told of what it would have said.
    if (index < lines.length - 1) strange.push(line);
  }
  return { records, strange };
}

function recordOf(line: string): JournalRecord | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function strangeText(path: string, strange: readonly string[]): string {
  const [first = ''] = strange;
  const shown = JSON.stringify(first.length > 120 ? `${first.slice(0, 117)}...` : first);
  const lines = strange.length === 1 ? '1 line is no record' : `${strange.length} lines are no records`;
  return (
    `read the journal ${path}: ${lines} (the first: ${shown}); what stood there of addresses is lost, unless ` +
    "the datastore has it already: after a power failure the pods are gone too; else somebody has written to the file, or its disk is damaged: run 'tortie ipam check'"
  );
}

function isRecord(value: unknown): value is JournalRecord {
  if (typeof value !== 'object' || value === null) {
    return false;
  }
  const { type, handle, address, sequence, attributes } = value as Record<string, unknown>;
  if (typeof handle !== 'string') {
    return false;
  }
  const isOnAddress = typeof address === 'string' && typeof sequence === 'string';
  return (
    type === 'intent' ||
    (type === 'release' && isOnAddress) ||
    (type === 'give' && isOnAddress && typeof attributes === 'object' && attributes !== null)
  );
}
