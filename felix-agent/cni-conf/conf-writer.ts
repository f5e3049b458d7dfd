import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '#api/clock.ts';
import { PlacedFiles } from '../install/placed-files.ts';
import type { Log } from '../log.ts';
import { confFileName, confRecordName } from './conflist.ts';

/** How often the socket is asked before the first writing, and how often the file is looked at afterwards, in ms. */
const pauseMs = { untilWritten: 1_000, afterwards: 2_000 };

/** What a `CniConfWriter` works with. */
export interface CniConfParts {
  /** The runtime's directory. */
  readonly dir: string;
  readonly stateDir: string;
  readonly clock: Clock;
  readonly log: Log;
  /** What the file should be at present; undefined: nothing is written, and what is there stays. */
  readonly text: () => string | undefined;
  /** Undefined if the agent's CNI socket answers that pods can be wired; else why not. */
  readonly whyNot: () => Promise<string | undefined>;
}

/**
 * Keeps the network configuration in the runtime's directory, from which the runtime concludes that the node has a network. So it comes when a
 * first pod could really be wired, and stays when the agent stops: pods that are there go on. It is put back when it is deleted and written anew when its
 * content must be another; one that somebody else has made or changed is left alone, and said.
 */
export class CniConfWriter implements Disposable {
  readonly #parts: CniConfParts;
  readonly #files: PlacedFiles;
  readonly #path: string;
  #timer: Disposable | undefined;
  #isOpen = false;
  #isDisposed = false;
  #failure: string | undefined;
  #before: readonly string[] = [];

  constructor(parts: CniConfParts) {
    this.#parts = parts;
    this.#files = new PlacedFiles(join(parts.stateDir, confRecordName));
    this.#path = join(parts.dir, confFileName);
  }

  /** The agent is in sync: from now on the file is seen to. */
  start(): void {
    void this.#look();
  }

  /** Why the runtime may not use it. */
  get failures(): readonly string[] {
    const others = this.#before.map(
      (name) =>
        `${join(this.#parts.dir, name)} sorts before ${confFileName}: the runtime takes it. Remove or rename it`,
    );
    return [...(this.#failure === undefined ? [] : [this.#failure]), ...others];
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    this.#timer?.[Symbol.dispose]();
  }

  async #look(): Promise<void> {
    try {
      this.#say(this.#isOpen ? this.#write() : await this.#open());
      this.#before = readdirSync(this.#parts.dir).filter(isBefore).toSorted();
    } catch (error) {
      this.#say(error instanceof Error ? error.message : String(error));
    }
    if (this.#isDisposed) return;
    const pause = this.#isOpen ? pauseMs.afterwards : pauseMs.untilWritten;
    this.#timer = this.#parts.clock.after(pause, () => void this.#look());
  }

  async #open(): Promise<string | undefined> {
    const reason = await this.#parts.whyNot();
    if (reason !== undefined) return `${this.#path} is not written yet: ${reason}`;
    if (this.#isDisposed) return undefined;
    this.#isOpen = true;
    return this.#write();
  }

  #write(): string | undefined {
    const text = this.#parts.text();
    if (text === undefined) return undefined;
    const owner = this.#files.owner(this.#path);
    // Equal content without a record: the state dir is new, the file isn't.
    if (owner === 'foreign' && readFileSync(this.#path, 'utf8') !== text) {
      return `${this.#path} was changed by somebody else and is left as it is: remove it, and it is written anew`;
    }
    if (this.#files.place(this.#path, text, 0o644))
      this.#parts.log.info({ path: this.#path }, 'wrote the network configuration');
    return undefined;
  }

  #say(failure: string | undefined): void {
    if (failure !== undefined && failure !== this.#failure) this.#parts.log.warn(failure);
    this.#failure = failure;
  }
}

/** The files that runtimes read, in their order. */
function isBefore(name: string): boolean {
  return /\.(conf|conflist|json)$/.test(name) && name < confFileName;
}
