import type { Clock } from '#api/clock.ts';
import type { Family } from '#native/types.ts';
import type { Logger } from '../logger.ts';
import { CHAIN_PREFIX, type HashedRules, hashRules, renderRules, type SavedChain, type SavedTable } from './rules.ts';
import type { TableSettings } from './table-settings.ts';
import type { Xtables } from './xtables.ts';

/** Our rules in one of the kernel's chains. */
export interface Hook {
  /** Before (or, by `insertMode`, after) everybody else's rules. */
  readonly first?: readonly string[];
  /** After everybody else's rules, whatever the mode. */
  readonly last?: readonly string[];
}

/** Tries of one cycle before the failure is reported (it stays dirty). Others that write at the same moment cost a try each. */
const TRIES = 5;
/** Wait before the second try; doubles. */
const FIRST_RETRY_MS = 5;

/** In a table of nft's that wasn't there before us: an empty chain that says so, for cleanup, also after a crash. */
const TABLE_IS_OURS = `${CHAIN_PREFIX}table-is-ours`;

/**
 * The driver of one table of one family: it holds what the table should have of ours, knows what it has, and writes the difference in
 * one `iptables-restore --noflush`, which takes effect as a whole.
 *
 * Ours are the chains named `cali-...` and, in other chains, the rules with a comment `cali:HASH`; nothing else is looked at or written.
 * A rule's hash covers its chain's name and all rules before it, so only hashes are compared, never rules as the tool prints them.
 * A chain that differs is written anew as a whole (one transaction; no packet sees half of it). Rules in the kernel's chains are removed by
 * their text, not by number: between reading and writing others may have inserted theirs.
 *
 * The kernel is read before the first write, after each write in doubling intervals (others that restore a table which they read
 * earlier undo what came between), each refresh interval and when asked to. In between nothing is forked. A first read that finds
 * everything as it should be writes nothing: a restart is not seen by the packets.
 */
export class Table implements Disposable {
  readonly name: string;
  readonly #tools: Xtables;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #onDue: () => void;
  #settings: TableSettings;
  readonly #chains = new Map<string, HashedRules>();
  readonly #hooks = new Map<string, { first: HashedRules; last: HashedRules }>();
  /** `keep`: what hooks the kernel has stays, nothing is known yet. */
  #hooked: 'keep' | 'yes' | 'no' = 'keep';
  #mayRemove = false;
  /** What the kernel has, as far as known. */
  #actual: SavedTable = new Map();
  /** What it had when last read or written, to tell others' changes from ours. */
  #expected: SavedTable | undefined;
  #dirty = true;
  #mustRead = true;
  #running: Promise<unknown> = Promise.resolve();
  #timer: Disposable | undefined;
  #checkDelayMs = 0;

  /** `onDue` is called when a comparison is due: the driver should apply soon. */
  constructor(
    name: string,
    tools: Xtables,
    settings: TableSettings,
    deps: { clock: Clock; log: Logger },
    onDue: () => void,
  ) {
    this.name = name;
    this.#tools = tools;
    this.#settings = settings;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#onDue = onDue;
  }

  /** For reports: `table raw (iptables-nft)`. */
  get object(): string {
    return `table ${this.name} (${this.#tools.name})`;
  }

  get family(): Family {
    return this.#tools.family;
  }

  /** New intervals count from now. */
  setSettings(settings: TableSettings): void {
    const before = this.#settings;
    this.#settings = settings;
    if (settings.insertMode !== before.insertMode) this.#dirty = true;
    const intervals =
      settings.refreshIntervalMs !== before.refreshIntervalMs || settings.postWriteCheckMs !== before.postWriteCheckMs;
    if (intervals && this.#expected !== undefined) this.#scheduleCheck(true);
  }

  /** The chain and all its rules, in order. */
  setChain(name: string, rules: readonly string[]): void {
    if (!name.startsWith(CHAIN_PREFIX))
      throw new TypeError(`chain ${name} is not one of ours: its name must begin with ${CHAIN_PREFIX}`);
    this.#chains.set(name, hashRules(name, rules));
    this.#dirty = true;
  }

  /** Our rules in one of the kernel's chains; they go in when `setHooked(true)` was called. */
  setHook(kernelChain: string, { first = [], last = [] }: Hook): void {
    this.#hooks.set(kernelChain, {
      first: hashRules(`${kernelChain} first`, first),
      last: hashRules(`${kernelChain} last`, last),
    });
    this.#dirty = true;
  }

  /** Whether packets come by our chains. Before the first call the hooks stay as they are found. */
  setHooked(hooked: boolean): void {
    this.#hooked = hooked ? 'yes' : 'no';
    this.#dirty = true;
  }

  /** From now on chains of ours that nobody set may go, once it is said (`setHooked`) what jumps to them. */
  allowRemoval(): void {
    if (!this.#mayRemove) this.#dirty = true;
    this.#mayRemove = true;
  }

  /** The next `apply` reads the kernel. */
  requestResync(): void {
    this.#mustRead = true;
  }

  /**
   * Makes the kernel's table what it should be. Returns what others had changed since the last time, in words. Throws when the tools
   * keep failing, with the tool's own words; the next call tries again. What is set while the tools run is the next call's;
   * a call while another one runs waits for it: a dataplane is activated while the driver's cycles go on.
   */
  async apply(): Promise<string[]> {
    const cycle = this.#running.then(() => this.#cycle());
    this.#running = cycle.catch(() => {}); // Its caller has it.
    return cycle;
  }

  async #cycle(): Promise<string[]> {
    if (!this.#mustRead && !this.#dirty) return [];
    const repaired: string[] = [];
    for (let attempt = 1; ; attempt += 1) {
      try {
        const read = this.#mustRead;
        this.#mustRead = false;
        const actual = read ? await this.#read(repaired) : this.#actual;
        this.#dirty = false;
        const plan = this.#plan(actual);
        if (plan !== undefined) {
          await this.#tools.restore(plan.input, this.#settings.lockTimeoutS);
          this.#log.debug('wrote iptables rules', { object: this.object, lines: plan.input.split('\n').length });
        }
        this.#actual = this.#expected = plan?.after ?? actual;
        if (plan !== undefined || read) this.#scheduleCheck(plan !== undefined);
        return repaired;
      } catch (error) {
        this.#mustRead = true;
        if (attempt === TRIES) throw error;
        await this.#clock.sleep(FIRST_RETRY_MS * 2 ** (attempt - 1));
      }
    }
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
  }

  async #read(repaired: string[]): Promise<SavedTable> {
    const table = (await this.#tools.save(this.name)).get(this.name) ?? new Map();
    if (this.#tools.variant === 'nft' && !this.#chains.has(TABLE_IS_OURS)) {
      const isNew = !hasOurs(table) && !(await this.#tools.save()).has(this.name);
      if (isNew || table.has(TABLE_IS_OURS)) this.#chains.set(TABLE_IS_OURS, hashRules(TABLE_IS_OURS, []));
    }
    if (this.#expected !== undefined) repaired.push(...this.#differences(this.#expected, table));
    return table;
  }

  /** What others did to our part, in words. */
  #differences(expected: SavedTable, actual: SavedTable): string[] {
    const words: string[] = [];
    for (const name of new Set([...expected.keys(), ...actual.keys()])) {
      if (name.startsWith(CHAIN_PREFIX)) {
        if (!actual.has(name)) words.push(`${this.object}: chain ${name} was missing`);
        else if (expected.has(name) && !sameRules(expected.get(name), actual.get(name))) {
          words.push(`${this.object}: rules of chain ${name} had been changed`);
        }
      } else if (
        ourHashes(expected.get(name)).join() !== ourHashes(actual.get(name)).join() ||
        this.#isMisplaced(name, actual)
      ) {
        words.push(`${this.object}: our rules in chain ${name} had been changed`);
      }
    }
    return words;
  }

  #isMisplaced(kernelChain: string, actual: SavedTable): boolean {
    return (
      this.#hooked === 'yes' && this.#hooks.has(kernelChain) && !this.#hookIsRight(kernelChain, actual.get(kernelChain))
    );
  }

  /** The restore input for the difference and the table after it, or undefined when there is none. */
  #plan(actual: SavedTable): { input: string; after: SavedTable } | undefined {
    const declare: string[] = [];
    const unhook: string[] = [];
    const add: string[] = [];
    const remove: string[] = [];
    const after = new Map(actual);

    for (const [name, wanted] of this.#chains) {
      const present = actual.get(name);
      if (present !== undefined && sameHashes(present, wanted)) continue;
      declare.push(`:${name} - [0:0]`);
      add.push(...renderRules(`-A ${name}`, wanted));
      after.set(name, { policy: '-', rules: asSaved(wanted) });
    }
    if (this.#mayRemove && this.#hooked !== 'keep') {
      for (const name of actual.keys()) {
        if (!name.startsWith(CHAIN_PREFIX) || this.#chains.has(name)) continue;
        declare.push(`:${name} - [0:0]`);
        remove.push(`-X ${name}`);
        after.delete(name);
      }
    }
    if (this.#hooked !== 'keep') {
      for (const name of new Set([...actual.keys(), ...this.#hooks.keys()])) {
        if (name.startsWith(CHAIN_PREFIX)) continue;
        const chain = actual.get(name) ?? { policy: 'ACCEPT', rules: [] };
        const hook = this.#hooked === 'yes' ? this.#hooks.get(name) : undefined;
        if (this.#hookIsRight(name, chain)) continue;
        unhook.push(...chain.rules.filter(isOurs).map((rule) => `-D ${name} ${rule.text}`));
        const others = chain.rules.filter((rule) => !isOurs(rule));
        if (hook === undefined) {
          after.set(name, { ...chain, rules: others });
          continue;
        }
        const insert = this.#settings.insertMode === 'insert';
        const first = insert
          ? renderRules(`-I ${name}`, hook.first).toReversed()
          : renderRules(`-A ${name}`, hook.first);
        add.push(...first, ...renderRules(`-A ${name}`, hook.last));
        const [firstSaved, lastSaved] = [asSaved(hook.first), asSaved(hook.last)];
        after.set(name, {
          ...chain,
          rules: insert ? [...firstSaved, ...others, ...lastSaved] : [...others, ...firstSaved, ...lastSaved],
        });
      }
    }
    const lines = [...declare, ...unhook, ...add, ...remove];
    return lines.length === 0 ? undefined : { input: [`*${this.name}`, ...lines, 'COMMIT', ''].join('\n'), after };
  }

  /** True if exactly our rules are in the kernel's chain, in their places. */
  #hookIsRight(name: string, chain: SavedChain | undefined): boolean {
    const rules = chain?.rules ?? [];
    const hook = this.#hooked === 'yes' ? this.#hooks.get(name) : undefined;
    if (hook === undefined) return !rules.some(isOurs);
    const { first, last } = hook;
    const wanted = [...first.hashes, ...last.hashes];
    if (ourHashes(chain).join() !== wanted.join()) return false;
    const atTop = this.#settings.insertMode === 'insert' ? first.hashes.length : 0;
    const atEnd = wanted.length - atTop;
    return rules.slice(0, atTop).every(isOurs) && rules.slice(rules.length - atEnd).every(isOurs);
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
    this.#timer = this.#clock.after(this.#checkDelayMs, () => {
      this.requestResync();
      this.#onDue();
    });
  }
}

/** setTimeout's limit; beyond it (no refresh interval, doubled for weeks) checking has ended. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Removes everything of ours from one table, whoever of us put it there; `actual` is what it holds. Answers `tableIsEmpty` for a table
 * of nft's that we had made and that holds no chain any more: nothing needs it.
 */
export async function removeOurs(
  tools: Xtables,
  table: string,
  actual: SavedTable,
  lockTimeoutS: number,
): Promise<'nothing' | 'removed' | 'tableIsEmpty'> {
  if (!hasOurs(actual)) return 'nothing';
  const ours = [...actual.keys()].filter((name) => name.startsWith(CHAIN_PREFIX));
  const unhook = [...actual].flatMap(([name, chain]) =>
    name.startsWith(CHAIN_PREFIX) ? [] : chain.rules.filter(isOurs).map((rule) => `-D ${name} ${rule.text}`),
  );
  const lines = [...ours.map((name) => `:${name} - [0:0]`), ...unhook, ...ours.map((name) => `-X ${name}`)];
  await tools.restore([`*${table}`, ...lines, 'COMMIT', ''].join('\n'), lockTimeoutS);
  const othersUseIt = [...actual].some(
    ([name, chain]) =>
      !name.startsWith(CHAIN_PREFIX) && (chain.policy !== 'ACCEPT' || chain.rules.some((rule) => !isOurs(rule))),
  );
  if (!actual.has(TABLE_IS_OURS) || othersUseIt) return 'removed';
  await tools.deleteEmptyChains(table);
  return 'tableIsEmpty';
}

/** True if the table holds a chain or a rule of ours. */
function hasOurs(table: SavedTable): boolean {
  return [...table].some(([name, chain]) => name.startsWith(CHAIN_PREFIX) || chain.rules.some(isOurs));
}

const isOurs = (rule: { readonly hash?: string }): boolean => rule.hash !== undefined;

/** Rules as a save would show them: `#expected` and `-D` need them before the kernel is read again. */
function asSaved({ rules, hashes }: HashedRules): SavedChain['rules'] {
  return rules.map((rule, index) => {
    const hash = hashes[index] ?? '';
    return { text: `-m comment --comment "cali:${hash}" ${rule}`, hash };
  });
}

const ourHashes = (chain: SavedChain | undefined): string[] => (chain?.rules ?? []).flatMap((rule) => rule.hash ?? []);

const sameHashes = (present: SavedChain, wanted: HashedRules): boolean =>
  present.rules.length === wanted.hashes.length &&
  present.rules.every((rule, index) => rule.hash === wanted.hashes[index]);

const sameRules = (a: SavedChain | undefined, b: SavedChain | undefined): boolean =>
  (a?.rules ?? []).map((rule) => rule.hash ?? '').join() === (b?.rules ?? []).map((rule) => rule.hash ?? '').join();
