import type { Clock } from '#api/clock.ts';
import type { CommandRunner } from '#native/command-runner.ts';
import type { Family } from '#native/types.ts';
import type { Counter } from '../contract.ts';
import type { Logger } from '../logger.ts';
import type { CidrText, DataplaneConfig } from '../messages.ts';
import { Ipsets, type SetFailure, type SetKernel } from '../netfilter/ipsets.ts';
import { removeLeftovers } from '../netfilter/leftovers.ts';
import { settingsOf } from '../netfilter/table-settings.ts';
import { type TableFailure, Tables, type TablesReport } from '../netfilter/tables.ts';
import { type Variant, Xtables } from '../netfilter/xtables.ts';
import type { RuleId } from '../policy.ts';
import { FamilyRules, TABLE_NAMES } from './family-rules.ts';
import type { PolicyState, RuleChanges } from './policy-state.ts';
import { RuleCounters } from './rule-counters.ts';

export interface FamilyDeps {
  readonly commands: CommandRunner;
  readonly sets: SetKernel;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What one cycle did in one family. */
export interface FamilyReport {
  readonly family: Family;
  readonly setFailures: readonly SetFailure[];
  readonly tableFailures: readonly TableFailure[];
  readonly repaired: readonly string[];
}

/** Chains of policies and profiles: a refused one is left out; what hooks lead to is not, since it holds everybody's packets. */
const isPolicyChain = (chain: string): boolean => /^cali-pr?[io]-/.test(chain);
const isUnitSet = (name: string): boolean => /^cali[46]0u-/.test(name);

/** Sets of ours by name, temporary ones too; natOutgoing's are its own. */
const ownSets = (family: Family): RegExp => new RegExp(`^cali${family}(?:0|t-)(?:[su]-|wl-src$|probe$)`);

/** The sets and tables of one family: collects what is wanted of its sets always, and has tables while the family is on. */
export class FamilyDataplane implements Disposable {
  readonly family: Family;
  readonly ipsets: Ipsets;
  readonly #deps: FamilyDeps;
  readonly #onDue: () => void;
  #on: { readonly variant: Variant; readonly tables: Tables; readonly rules: FamilyRules } | undefined;
  #counters = new RuleCounters();
  #inSync = false;
  #hooked: boolean | undefined;

  constructor(family: Family, deps: FamilyDeps, onDue: () => void) {
    this.family = family;
    this.#deps = deps;
    this.#onDue = onDue;
    const owned = ownSets(family);
    this.ipsets = new Ipsets(deps.sets, (name) => owned.test(name), deps, onDue);
  }

  get isOn(): boolean {
    return this.#on !== undefined;
  }

  /** Turns it on, makes it anew for another variant, or follows the configuration. Its rules have to be made from everything after it. */
  turnOn(variant: Variant, config: DataplaneConfig, serviceRanges: readonly CidrText[]): void {
    if (this.#on?.variant !== variant) {
      this.#dropTables();
      const tools = new Xtables(this.#deps.commands, variant, this.family);
      const deps = { ...this.#deps, mayHold: isPolicyChain };
      const tables = new Tables(tools, TABLE_NAMES, settingsOf(config), deps, this.#onDue);
      if (this.#inSync) tables.allowRemoval();
      if (this.#hooked !== undefined) tables.setHooked(this.#hooked);
      this.#counters = new RuleCounters();
      this.#on = { variant, tables, rules: new FamilyRules(tables, this.#counters) };
    }
    this.#on?.tables.setSettings(settingsOf(config));
    this.#on?.rules.setContext(config, serviceRanges);
    this.ipsets.setRefreshInterval(config.ipsetsRefreshIntervalMs);
  }

  /** Nothing is made of it any more; `remove` takes away what there is. */
  turnOff(): void {
    this.#dropTables();
  }

  /** Rules and sets go. */
  async remove(lockTimeoutS: number): Promise<void> {
    this.turnOff();
    const { commands, log } = this.#deps;
    await removeLeftovers(commands, log, {
      variants: ['nft', 'legacy'],
      families: [this.family],
      tables: TABLE_NAMES,
      lockTimeoutS,
    });
    await this.ipsets.cleanup();
  }

  allowRemoval(): void {
    this.#inSync = true;
    this.ipsets.allowRemoval();
    this.#on?.tables.allowRemoval();
  }

  requestResync(): void {
    this.ipsets.requestResync();
    this.#on?.tables.requestResync();
  }

  render(state: PolicyState, changes: RuleChanges): void {
    this.#on?.rules.render(state, changes);
  }

  /**
   * Sets and members, then tables, then what nothing refers to any more. While a table fails, members stay in the sets of units that
   * they have left: the rules of the unit that they go to may not be there.
   */
  async apply(): Promise<FamilyReport> {
    const tables = this.#on?.tables;
    if (tables === undefined) return { family: this.family, setFailures: [], tableFailures: [], repaired: [] };
    const additions = await this.ipsets.applyAdditions();
    const report = await tables.apply();
    this.#note(report);
    const hold = report.failed.length > 0 ? isUnitSet : undefined;
    const deletions = await this.ipsets.applyDeletions(hold);
    const removals = report.failed.length > 0 ? [] : (await this.ipsets.applyRemovals()).failed;
    // A rule is refused, too, when somebody has destroyed the set that it names.
    if (report.failed.length > 0) this.ipsets.requestResync();
    return {
      family: this.family,
      setFailures: [...additions.failed, ...deletions.failed, ...removals],
      tableFailures: report.failed,
      repaired: report.repaired,
    };
  }

  /** Enters or leaves the packets' path. */
  async setHooked(hooked: boolean): Promise<readonly TableFailure[]> {
    this.#hooked = hooked;
    const tables = this.#on?.tables;
    if (tables === undefined) return [];
    tables.setHooked(hooked);
    const report = await tables.apply();
    this.#note(report);
    return report.failed;
  }

  /** Reads the counters and adds them to the totals. */
  async addCounters(totals: Map<RuleId, Counter>): Promise<void> {
    const tables = this.#on?.tables;
    if (tables === undefined) return;
    const counters = await tables.counters();
    const hashes = new Map<string, string | undefined>();
    this.#counters.take(counters, ({ table, chain, tag }) => {
      const key = `${table} ${chain}`;
      if (!hashes.has(key)) hashes.set(key, tables.table(table).chainHash(chain));
      return tag.startsWith(hashes.get(key) ?? '-');
    });
    this.#counters.addTo(totals);
  }

  [Symbol.dispose](): void {
    this.#dropTables();
    this.ipsets[Symbol.dispose]();
  }

  #note({ rewritten }: TablesReport): void {
    for (const { table, chain } of rewritten) this.#counters.rewritten(table, chain);
  }

  #dropTables(): void {
    this.#on?.tables[Symbol.dispose]();
    this.#on = undefined;
  }
}
