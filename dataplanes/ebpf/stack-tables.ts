import type { Clock } from '#api/clock.ts';
import type { CommandRunner } from '#native/command-runner.ts';
import type { Family } from '#native/types.ts';
import type { ApplyFailure } from '../contract.ts';
import type { Logger } from '../logger.ts';
import type { CidrText, DataplaneConfig } from '../messages.ts';
import { removeLeftovers } from '../netfilter/leftovers.ts';
import { TORTIE_RULES } from '../netfilter/rules.ts';
import { madeByUs } from '../netfilter/table.ts';
import { settingsOf } from '../netfilter/table-settings.ts';
import { Tables } from '../netfilter/tables.ts';
import type { VariantChoice } from '../netfilter/variant-choice.ts';
import { type Variant, Xtables } from '../netfilter/xtables.ts';
import { type HostNeeds, STACK_TABLES, type StackTable, stackRules, UNTRACKED_TABLE } from './stack-rules.ts';

/** All in which there may be rules of ours. */
const ALL_TABLES = [...STACK_TABLES, UNTRACKED_TABLE] as const;

/** What the rules of netfilter are kept with. */
export interface StackTablesDeps {
  readonly commands: CommandRunner;
  readonly variants: VariantChoice;
  /** False when the kernel has no IPv6: its tables are then never touched. */
  readonly hasIpv6: () => boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Keeps `stackRules` in the kernel, in both families, and puts them right when others have changed them. */
export class StackTables implements Disposable {
  readonly #deps: StackTablesDeps;
  readonly #onDue: () => void;
  readonly #tables = new Map<Family, Tables>();
  #config: DataplaneConfig | undefined;
  #serviceRanges: readonly CidrText[] = [];
  #hosts: HostNeeds = { notLocal: false, untracked: false };
  /** The tables that are kept. */
  #names: readonly StackTable[] = STACK_TABLES;
  #variant: Variant | undefined;
  /** Whether packets come by our chains; undefined: as an earlier agent left it. */
  #isHooked: boolean | undefined;
  #hasChanged = false;
  /** The tables are as they should be, as far as anybody has told. */
  #isSettled = false;
  /** Rules of ours may stand in the variant or family that isn't used. */
  #othersMayBeLeft = true;

  /** `onDue` is called when a comparison is due. */
  constructor(deps: StackTablesDeps, onDue: () => void) {
    this.#deps = deps;
    this.#onDue = onDue;
  }

  setConfig(config: DataplaneConfig): void {
    this.#config = config;
    this.#hasChanged = true;
  }

  setServiceRanges(ranges: readonly CidrText[]): void {
    this.#serviceRanges = ranges;
    this.#hasChanged = true;
  }

  /** What host endpoints need from now on. */
  setHosts(hosts: HostNeeds): void {
    if (hosts.notLocal === this.#hosts.notLocal && hosts.untracked === this.#hosts.untracked) return;
    this.#hosts = hosts;
    this.#hasChanged = true;
  }

  requestResync(): void {
    this.#isSettled = false;
    for (const tables of this.#tables.values()) tables.requestResync();
  }

  /** Brings the rules into the kernel. Jumps to them stand there only after `hook`. */
  async apply(): Promise<{ failed: ApplyFailure[]; repaired: string[] }> {
    const failed: ApplyFailure[] = [];
    const repaired: string[] = [];
    const config = this.#config;
    if (config === undefined || (this.#isSettled && !this.#hasChanged)) return { failed, repaired };
    this.#isSettled = true; // What comes meanwhile is the next cycle's.
    try {
      if (this.#hasChanged) await this.#prepare(config);
    } catch (error) {
      this.#hasChanged = true;
      this.#isSettled = false;
      return { failed: [{ object: 'netfilter rules', reason: (error as Error).message }], repaired };
    }
    for (const report of await Promise.all([...this.#tables.values()].map((tables) => tables.apply()))) {
      failed.push(...report.failed.map(({ object, reason }) => ({ object, reason })));
      repaired.push(...report.repaired);
    }
    if (failed.length === 0 && this.#isHooked === true && this.#othersMayBeLeft)
      failed.push(...(await this.#removeOthers()));
    if (failed.length > 0) this.#isSettled = false;
    return { failed, repaired };
  }

  /** From now on packets come by the rules, or don't. Throws with the first table that fails. */
  async hook(isHooked: boolean): Promise<void> {
    this.#isHooked = isHooked;
    this.#isSettled = false;
    if (!isHooked && this.#tables.size === 0) return;
    for (const tables of this.#tables.values()) tables.setHooked(isHooked);
    const [first] = (await this.apply()).failed;
    if (first !== undefined)
      throw new Error(`${isHooked ? 'entering' : 'leaving'} the packets' path: ${first.object}: ${first.reason}`);
  }

  /** Removes everything of ours, whoever of us made it. */
  async cleanup(): Promise<void> {
    this.#drop();
    this.#variant = undefined;
    this.#isHooked = undefined;
    this.#hasChanged = true;
    this.#isSettled = false;
    await this.#remove(['nft', 'legacy'], this.#deps.hasIpv6() ? [4, 6] : [4]);
  }

  [Symbol.dispose](): void {
    this.#drop();
  }

  async #prepare(config: DataplaneConfig): Promise<void> {
    this.#hasChanged = false; // What changes meanwhile is the next cycle's.
    const families: readonly Family[] = config.ipv6Support && this.#deps.hasIpv6() ? [4, 6] : [4];
    const rules = new Map(
      families.map((family) => [family, stackRules(family, config, this.#serviceRanges, this.#hosts)]),
    );
    const variant = await this.#deps.variants.choose(families, config.iptablesBackend);
    if (variant !== this.#variant) {
      if (this.#variant !== undefined) this.#othersMayBeLeft = true;
      this.#drop();
    }
    if (this.#hosts.untracked !== this.#names.includes(UNTRACKED_TABLE)) {
      this.#names = this.#hosts.untracked ? ALL_TABLES : STACK_TABLES;
      // What nobody needs any more goes behind the next apply.
      if (!this.#hosts.untracked) this.#othersMayBeLeft = true;
      this.#drop();
    }
    this.#variant = variant;
    for (const [family, tables] of this.#tables) {
      if (rules.has(family)) continue;
      tables[Symbol.dispose]();
      this.#tables.delete(family);
      this.#othersMayBeLeft = true;
    }
    for (const [family, wanted] of rules) {
      const tables = this.#tables.get(family) ?? this.#make(variant, family, config);
      tables.setSettings(settingsOf(config));
      for (const name of this.#names) {
        const table = tables.table(name);
        const { chains, hooks } = wanted[name];
        for (const chain of [...table.chainNames]) {
          if (!chains.has(chain) && chain !== madeByUs(TORTIE_RULES)) table.removeChain(chain);
        }
        for (const [chain, texts] of chains) table.setChain(chain, texts);
        for (const [chain, hook] of hooks) table.setHook(chain, hook);
      }
    }
  }

  #make(variant: Variant, family: Family, config: DataplaneConfig): Tables {
    const tools = new Xtables(this.#deps.commands, variant, family, TORTIE_RULES);
    const tables = new Tables(tools, this.#names, settingsOf(config), this.#deps, () => {
      this.#isSettled = false;
      this.#onDue();
    });
    tables.allowRemoval(); // The rules are known as a whole.
    if (this.#isHooked !== undefined) tables.setHooked(this.#isHooked);
    this.#tables.set(family, tables);
    return tables;
  }

  async #removeOthers(): Promise<ApplyFailure[]> {
    const other = this.#variant === 'nft' ? 'legacy' : 'nft';
    try {
      const families: readonly Family[] = this.#deps.hasIpv6() ? [4, 6] : [4];
      await this.#remove([other], families);
      // Of host endpoints that are gone.
      if (this.#variant !== undefined && !this.#names.includes(UNTRACKED_TABLE))
        await this.#remove([this.#variant], families, [UNTRACKED_TABLE]);
      if (this.#deps.hasIpv6() && !this.#tables.has(6) && this.#variant !== undefined)
        await this.#remove([this.#variant], [6]);
      this.#othersMayBeLeft = false;
      return [];
    } catch (error) {
      return [{ object: `rules of ours in iptables-${other}`, reason: (error as Error).message }];
    }
  }

  async #remove(
    variants: readonly Variant[],
    families: readonly Family[],
    tables: readonly StackTable[] = ALL_TABLES,
  ): Promise<void> {
    const { commands, log } = this.#deps;
    const lockTimeoutS = this.#config?.iptablesLockTimeoutS ?? 0;
    await removeLeftovers(commands, log, {
      variants,
      families,
      tables,
      lockTimeoutS,
      owner: TORTIE_RULES,
    });
  }

  #drop(): void {
    for (const tables of this.#tables.values()) tables[Symbol.dispose]();
    this.#tables.clear();
  }
}
