import type { Clock } from '#api/clock.ts';
import { Turns } from '#native/turns.ts';
import type { Family } from '#native/types.ts';
import type { Logger } from '../logger.ts';
import { parseCounters, type SavedCounter } from './saved.ts';
import type { TableSettings } from './table-settings.ts';
import { Table, type TablePlan } from './table.ts';
import { type Xtables, XtablesError } from './xtables.ts';

/** Tries of one cycle before the failure is reported (it stays dirty). Others that write at the same moment cost a try each. */
const TRIES = 5;
/** Wait before the second try; doubles. */
const FIRST_RETRY_MS = 5;
/** Chains that one cycle leaves out at most: when everything is refused it isn't the policies. */
const MOST_HELD = 20;
/** setTimeout's limit; beyond it (no refresh interval, doubled for weeks) checking has ended. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** A table, or one chain of it, that could not be made what it should be. */
export interface TableFailure {
  /** For reports: `table raw (iptables-nft)`. */
  readonly object: string;
  readonly table: string;
  /** The chain that the tool refused; the rest of the table was written without it. Absent: nothing of the table was. */
  readonly chain?: string;
  readonly reason: string;
}

/** What a cycle did. */
export interface TablesReport {
  readonly failed: readonly TableFailure[];
  /** What others had changed, in words. */
  readonly repaired: readonly string[];
  /** Chains that were written anew or removed, by table: their counters begin at 0. */
  readonly rewritten: readonly { readonly table: string; readonly chain: string }[];
}

interface Refusal {
  readonly table: Table;
  readonly plan: TablePlan;
  readonly reason: string;
}

interface TablesDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** May the chain be left out, closed, when the tool refuses its rules? What hooks jump to may not: it holds everybody's packets. */
  readonly mayHold?: (chain: string) => boolean;
}

/**
 * The driver of our part of some tables of one family: reads them in one `iptables-save`, and writes what differs in one
 * `iptables-restore --noflush` a table, which takes effect as a whole.
 *
 * The kernel is read before the first write, after each write in doubling intervals (others that restore a table which they read
 * earlier undo what came between), each refresh interval and when asked to. In between nothing is forked. A first read that finds
 * everything as it should be writes nothing: a restart is not seen by the packets.
 *
 * When the tool names the chain whose rules it refuses, that one is left out until it changes or the kernel is read again: one policy's trouble isn't everybody's.
 */
export class Tables implements Disposable {
  readonly #tools: Xtables;
  readonly #deps: TablesDeps;
  readonly #onDue: () => void;
  readonly #tables: ReadonlyMap<string, Table>;
  readonly #turns = new Turns();
  /** What is left out until the next reading, by table and chain. */
  readonly #held = new Map<string, TableFailure>();
  #settings: TableSettings;
  #mustRead = true;
  #timer: Disposable | undefined;
  #checkDelayMs = 0;

  /** `onDue` is called when a comparison is due: the driver should apply soon. */
  constructor(tools: Xtables, names: readonly string[], settings: TableSettings, deps: TablesDeps, onDue: () => void) {
    this.#tools = tools;
    this.#settings = settings;
    this.#deps = deps;
    this.#onDue = onDue;
    this.#tables = new Map(
      names.map((name) => [
        name,
        new Table(name, {
          insertMode: settings.insertMode,
          marksMade: tools.variant === 'nft',
          owner: tools.owner,
        }),
      ]),
    );
  }

  get family(): Family {
    return this.#tools.family;
  }

  get all(): Iterable<Table> {
    return this.#tables.values();
  }

  /** One of the tables that it was made for. */
  table(name: string): Table {
    const table = this.#tables.get(name);
    if (table === undefined) throw new TypeError(`table ${name} is none of ${[...this.#tables.keys()].join()}`);
    return table;
  }

  /** New intervals count from now. */
  setSettings(settings: TableSettings): void {
    const before = this.#settings;
    this.#settings = settings;
    for (const table of this.all) table.setInsertMode(settings.insertMode);
    const intervals =
      settings.refreshIntervalMs !== before.refreshIntervalMs || settings.postWriteCheckMs !== before.postWriteCheckMs;
    if (intervals && !this.#mustRead) this.#scheduleCheck(true);
  }

  setHooked(hooked: boolean): void {
    for (const table of this.all) table.setHooked(hooked);
  }

  allowRemoval(): void {
    for (const table of this.all) table.allowRemoval();
  }

  /** The next `apply` reads the kernel. */
  requestResync(): void {
    this.#mustRead = true;
  }

  /**
   * Makes the kernel's tables what they should be. What fails is reported, with the tool's own words, and tried again by the next call.
   * What is set while the tools run is the next call's; a call while another one runs waits for it: a dataplane is activated while the
   * driver's cycles go on.
   */
  apply(): Promise<TablesReport> {
    return this.#turns.run(() => this.#cycle());
  }

  /** The counters of our rules; waits for a cycle under way. Forks one process. */
  counters(): Promise<Iterable<SavedCounter>> {
    return this.#turns.run(async () => parseCounters(await this.#tools.saveWithCounters(), this.#tools.owner));
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
  }

  async #cycle(): Promise<TablesReport> {
    const repaired: string[] = [];
    const rewritten: { table: string; chain: string }[] = [];
    const suspects = new Set<string>();
    let failed: readonly TableFailure[] = [];
    if (this.#mustRead) for (const table of this.all) table.releaseHeld();
    for (let tries = 1, newlyHeld = 0; ; tries += 1) {
      const read = this.#mustRead;
      failed = read ? await this.#read(repaired) : [];
      if (failed.length === 0) {
        const { wrote, refused } = await this.#writeAll(rewritten);
        if (wrote || (read && refused.length === 0)) this.#scheduleCheck(wrote);
        if (refused.length === 0) break;
        this.#mustRead = true;
        failed = refused.map(({ table, reason }) => ({ object: this.#object(table.name), table: table.name, reason }));
        // Leaving a chain out is progress: the other tries are for what remains.
        const more = this.#holdSuspects(refused, suspects);
        if (more > 0) tries = 0;
        newlyHeld += more;
      }
      if (tries === TRIES || newlyHeld > MOST_HELD) break;
      if (tries > 0) await this.#deps.clock.sleep(FIRST_RETRY_MS * 2 ** (tries - 1));
    }
    for (const [key, { table, chain }] of this.#held)
      if (!this.table(table).isHeld(chain ?? '')) this.#held.delete(key);
    return { failed: [...this.#held.values(), ...failed], repaired, rewritten };
  }

  /** One restore a table that has something to write, side by side. */
  async #writeAll(
    rewritten: { table: string; chain: string }[],
  ): Promise<{ wrote: boolean; refused: readonly Refusal[] }> {
    const refused: Refusal[] = [];
    let wrote = false;
    await Promise.all(
      [...this.all].map(async (table) => {
        const plan = table.plan();
        if (plan === undefined) return;
        const reason = await this.#write(table, plan);
        if (reason !== undefined) {
          refused.push({ table, plan, reason });
          return;
        }
        wrote = true;
        for (const chain of [...plan.written.keys(), ...plan.removed]) rewritten.push({ table: table.name, chain });
      }),
    );
    return { wrote, refused };
  }

  /** Leaves out chains that the tool has pointed to twice: the first time it may have been something passing. How many. */
  #holdSuspects(refused: readonly Refusal[], suspects: Set<string>): number {
    let count = 0;
    for (const { table, plan, reason } of refused) {
      const line = Number(/\bline:? (\d+)/.exec(reason)?.[1]);
      const chain = /^-A (\S+) /.exec(plan.input.split('\n')[line - 1] ?? '')?.[1];
      if (chain === undefined || this.#deps.mayHold?.(chain) !== true) continue;
      const key = `${table.name} ${chain}`;
      if (suspects.has(key) && table.hold(chain)) {
        this.#held.set(key, { object: this.#object(table.name), table: table.name, chain, reason });
        count += 1;
      }
      suspects.add(key);
    }
    return count;
  }

  /** Reads all tables; answers the failure of each if that failed. */
  async #read(repaired: string[]): Promise<TableFailure[]> {
    this.#mustRead = false; // A request that comes meanwhile is the next cycle's.
    try {
      const saved = await this.#tools.save();
      for (const table of this.all) {
        const found = saved.get(table.name);
        if (found?.isUnreadable === true)
          throw new XtablesError(
            'XTABLES_FAILED',
            `table ${table.name} holds rules that iptables can't show; nft list ruleset shows them, and whose they are`,
          );
        repaired.push(...table.adopt(found).map((words) => `${this.#object(table.name)}: ${words}`));
      }
      return [];
    } catch (error) {
      this.#mustRead = true;
      const reason = (error as Error).message;
      return [...this.all].map(({ name }) => ({ object: this.#object(name), table: name, reason }));
    }
  }

  /** Undefined, or the tool's words. */
  async #write(table: Table, plan: TablePlan): Promise<string | undefined> {
    try {
      await this.#tools.restore(plan.input, this.#settings.lockTimeoutS);
    } catch (error) {
      return (error as Error).message;
    }
    table.done(plan);
    this.#deps.log.debug('wrote iptables rules', {
      object: this.#object(table.name),
      chains: plan.written.size,
      removed: plan.removed.length,
    });
    return undefined;
  }

  #object(table: string): string {
    return `table ${table} (${this.#tools.name})`;
  }

  #scheduleCheck(wrote: boolean): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    const { postWriteCheckMs, refreshIntervalMs } = this.#settings;
    const limit = refreshIntervalMs > 0 ? refreshIntervalMs : Number.POSITIVE_INFINITY;
    const next =
      wrote && postWriteCheckMs > 0 ? postWriteCheckMs : this.#checkDelayMs > 0 ? this.#checkDelayMs * 2 : limit;
    this.#checkDelayMs = Math.min(next, limit);
    if (!Number.isFinite(this.#checkDelayMs) || this.#checkDelayMs > LONGEST_TIMER_MS) return;
    this.#timer = this.#deps.clock.after(this.#checkDelayMs, () => {
      this.requestResync();
      this.#onDue();
    });
  }
}
