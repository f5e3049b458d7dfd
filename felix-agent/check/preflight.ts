import type { Clock } from '#api/clock.ts';
import type { Log } from '../log.ts';
import { problemsOf } from './evaluate.ts';
import type { CheckResult } from './result.ts';

/** When the agent looks at its node, in ms. */
const looks = {
  /** After the kernel is in sync: runtime and kubelet have a hundred things to do then, and these come first. */
  afterInSyncMs: 3_000,
  /** After the start, for an agent that doesn't get in sync: perhaps the reason is found here. */
  afterStartMs: 30_000,
  everyMs: 3_600_000,
} as const;

/**
 * The agent's own pre-flight: after its start, every hour, and when somebody asks. What comes and goes is logged once. It decides nothing: a node with
 * problems runs on, and its status names them.
 */
export class Preflight implements AsyncDisposable {
  readonly #check: () => Promise<readonly CheckResult[]>;
  readonly #clock: Clock;
  readonly #log: Log;
  #results: readonly CheckResult[] | undefined;
  #logged = new Map<string, string>();
  #looking: Promise<readonly CheckResult[]> | undefined;
  #next: Disposable | undefined;
  #isDone = false;

  constructor(check: () => Promise<readonly CheckResult[]>, clock: Clock, log: Log) {
    this.#check = check;
    this.#clock = clock;
    this.#log = log;
  }

  /** All results of the last look; undefined before the first. */
  get results(): readonly CheckResult[] | undefined {
    return this.#results;
  }

  /** Of the last look, what is not fine; undefined before the first. */
  get problems(): readonly CheckResult[] | undefined {
    return this.#results && problemsOf(this.#results);
  }

  start(): void {
    this.#lookIn(looks.afterStartMs);
  }

  /** The agent is in sync. */
  inSync(): void {
    if (this.#results === undefined) this.#lookIn(looks.afterInSyncMs);
  }

  /** Looks now; who asks while it looks gets the same answer. */
  look(): Promise<readonly CheckResult[]> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #look(): Promise<readonly CheckResult[]> {
    this.#lookIn(looks.everyMs);
    const results = await this.#check();
    this.#results = results;
    this.#logNews(problemsOf(results));
    return results;
  }

  #lookIn(ms: number): void {
    this.#next?.[Symbol.dispose]();
    if (this.#isDone) return;
    this.#next = this.#clock.after(ms, () => {
      this.look().catch((error: unknown) =>
        this.#log.warn({ err: error }, 'pre-flight: the node could not be looked at'),
      );
    });
  }

  #logNews(problems: readonly CheckResult[]): void {
    const now = new Map<string, CheckResult>(problems.map((problem) => [`${problem.id} ${problem.subject}`, problem]));
    for (const [key, { id, subject, detail, disables, todo }] of now) {
      if (this.#logged.get(key) !== detail)
        this.#log.warn({ check: id, subject, detail, disables, todo }, 'pre-flight: this node is not as it should be');
    }
    for (const key of this.#logged.keys()) {
      if (!now.has(key)) this.#log.info({ check: key.trim() }, 'pre-flight: this is in order now');
    }
    this.#logged = new Map([...now].map(([key, { detail }]) => [key, detail]));
  }

  /** No look is begun any more; one under way is waited for. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDone = true;
    this.#next?.[Symbol.dispose]();
    await this.#looking?.catch(() => {}); // Whoever asked has been told.
  }
}
