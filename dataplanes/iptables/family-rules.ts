import type { CidrText, DataplaneConfig } from '../messages.ts';
import type { Tables } from '../netfilter/tables.ts';
import type { PolicyState, RuleChanges } from './policy-state.ts';
import { hostChains, hostNeeds } from './render/host-chains.ts';
import { parseMarks } from './render/marks.ts';
import { policyChainName, profileChainName, unitChainName } from './render/names.ts';
import { policyChain, profileChain } from './render/policy-chains.ts';
import { staticRules } from './render/static-chains.ts';
import type { Chain, Direction, RenderContext, TableName } from './render/types.ts';
import { dispatchChains, unitChains } from './render/unit-chains.ts';
import type { RuleCounters } from './rule-counters.ts';

/** The tables in which policy is judged. */
export const TABLE_NAMES: readonly TableName[] = ['raw', 'mangle', 'filter'];

const DIRECTIONS: readonly Direction[] = ['ingress', 'egress'];

/**
 * Brings what the state says into one family's tables: only chains of what has changed are made again, and only chains that somebody jumps
 * to exist. Writes nothing by itself; all changes of one call belong to one transaction a table.
 */
export class FamilyRules {
  readonly #tables: Tables;
  readonly #counters: RuleCounters;
  #ctx: RenderContext | undefined;
  #serviceRanges: readonly CidrText[] = [];
  /** Chains of hosts and statics that were made last, by table. */
  readonly #whole: Record<TableName, Record<'hosts' | 'statics', ReadonlySet<string>>> = {
    raw: { hosts: new Set(), statics: new Set() },
    mangle: { hosts: new Set(), statics: new Set() },
    filter: { hosts: new Set(), statics: new Set() },
  };

  constructor(tables: Tables, counters: RuleCounters) {
    this.#tables = tables;
    this.#counters = counters;
  }

  /** Throws a `RenderError` when the configuration can't be said in rules. The chains are made by the next `render` with everything. */
  setContext(config: DataplaneConfig, serviceRanges: readonly CidrText[]): void {
    this.#ctx = { family: this.#tables.family, config, marks: parseMarks(config.markMask) };
    this.#serviceRanges = serviceRanges;
  }

  render(state: PolicyState, changes: RuleChanges): void {
    const ctx = this.#ctx;
    if (ctx === undefined) throw new TypeError('rules are made before there is a configuration');
    for (const id of changes.policies) {
      const policy = state.policies.get(id);
      this.#renderUses(
        (direction) => policyChainName(direction, id),
        (table, direction) =>
          policy !== undefined && state.isUsed(table, direction, 'policy', id)
            ? policyChain(id, policy, direction, table, ctx)
            : undefined,
      );
    }
    for (const id of changes.profiles) {
      const profile = state.profiles.get(id);
      this.#renderUses(
        (direction) => profileChainName(direction, id),
        (table, direction) =>
          profile !== undefined && state.isUsed(table, direction, 'profile', id)
            ? profileChain(id, profile, direction, table, ctx)
            : undefined,
      );
    }
    for (const id of changes.units) {
      const unit = state.unit(id);
      if (unit === undefined) for (const direction of DIRECTIONS) this.#remove('filter', unitChainName(direction, id));
      else for (const chain of unitChains(unit, state, ctx)) this.#set('filter', chain);
    }
    if (changes.units.size > 0 || changes.statics)
      for (const chain of dispatchChains(state.units, ctx)) this.#set('filter', chain);
    if (changes.hosts || changes.statics) this.#renderHosts(state, ctx);
    this.#counters.forget(changes.goneRules);
  }

  /** `chainOf` answers undefined where nobody jumps to it. */
  #renderUses(
    nameOf: (direction: Direction) => string,
    chainOf: (table: TableName, direction: Direction) => Chain | undefined,
  ): void {
    for (const table of TABLE_NAMES) {
      for (const direction of DIRECTIONS) {
        const chain = chainOf(table, direction);
        if (chain === undefined) this.#remove(table, nameOf(direction));
        else this.#set(table, chain);
      }
    }
  }

  #renderHosts(state: PolicyState, ctx: RenderContext): void {
    const hosts = hostChains(state.hosts, state, ctx);
    const statics = staticRules(hostNeeds(state.hosts), this.#serviceRanges, ctx);
    for (const name of TABLE_NAMES) {
      const { chains, hooks } = statics[name];
      this.#replaceWhole(name, 'hosts', hosts[name]);
      this.#replaceWhole(name, 'statics', chains);
      const table = this.#tables.table(name);
      for (const kernelChain of [...table.hookNames])
        if (!hooks.has(kernelChain)) table.setHook(kernelChain, undefined);
      for (const [kernelChain, hook] of hooks) table.setHook(kernelChain, hook);
    }
  }

  #replaceWhole(table: TableName, group: 'hosts' | 'statics', chains: readonly Chain[]): void {
    const names = new Set(chains.map(({ name }) => name));
    for (const name of this.#whole[table][group]) if (!names.has(name)) this.#remove(table, name);
    this.#whole[table][group] = names;
    for (const chain of chains) this.#set(table, chain);
  }

  #set(table: TableName, { name, rules }: Chain): void {
    const texts = rules.map(({ text }) => text);
    if (!this.#tables.table(table).setChain(name, texts)) return;
    this.#counters.setChain(
      table,
      name,
      rules.map(({ rule }) => rule),
    );
  }

  #remove(table: TableName, name: string): void {
    this.#tables.table(table).removeChain(name);
    this.#counters.setChain(table, name, []);
  }
}
