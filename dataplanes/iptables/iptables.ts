import type { Clock } from '#api/clock.ts';
import type { CommandRunner } from '#native/command-runner.ts';
import type { Family, NetlinkOp } from '#native/types.ts';
import type { ApplyFailure, ApplyReport, Counter, Dataplane, DeviceCounters } from '../contract.ts';
import type { Logger } from '../logger.ts';
import type { DataplaneConfig, DataplaneUpdate, EndpointId } from '../messages.ts';
import type { RuleId } from '../policy.ts';
import { Ipsets, type SetKernel, temporaryName } from '../netfilter/ipsets.ts';
import { removeLeftovers } from '../netfilter/leftovers.ts';
import { settingsOf } from '../netfilter/table-settings.ts';
import { Table } from '../netfilter/table.ts';
import type { VariantChoice } from '../netfilter/variant-choice.ts';
import { type Variant, Xtables } from '../netfilter/xtables.ts';
import { setFilterChains, setRawChains } from './chains.ts';
import { probeIptables, probeSet } from './probe.ts';
import { type SourceMember, WorkloadSources, wlSourceSet } from './wl-source.ts';

/** What the dataplane works with. */
export interface IptablesDeps {
  readonly commands: CommandRunner;
  readonly sets: SetKernel;
  readonly variants: VariantChoice;
  readonly clock: Clock;
  readonly log: Logger;
  /** False when the kernel has no IPv6: its tables and sets are then never touched. */
  readonly hasIpv6: () => boolean;
}

const TABLES = ['raw', 'filter'] as const;

/**
 * The iptables dataplane. What a pod costs is one member (its address and device) in an ipset, written by netlink: the rules don't
 * depend on pods, and no process is forked for one.
 *
 * Order of a cycle: sets and members, then tables, then sets that nothing refers to any more. A failure leaves its object dirty and
 * doesn't stop the others. The tools run at the start (which variant, what is there), when rules change (settings), for the
 * comparisons that `Table` describes, and on activate, release and cleanup.
 */
export class IptablesDataplane implements Dataplane {
  readonly kind = 'iptables';
  readonly capabilities = { countsDropsPerDevice: false, enforcesPolicy: true };
  readonly #deps: IptablesDeps;
  readonly #sources = new WorkloadSources();
  readonly #ipsets: Ipsets;
  readonly #tables: Table[] = [];
  readonly #dirtyEndpoints = new Set<EndpointId>();
  readonly #removedEndpoints = new Set<EndpointId>();
  #config: DataplaneConfig | undefined;
  #configChanged = false;
  /** What the tables were made for; another variant or set of families makes new ones. */
  #made: { readonly variant: Variant; readonly families: readonly Family[] } | undefined;
  #inSync = false;
  #hooked: boolean | undefined;
  #cleanOthers = false;
  #listener: () => void = () => {};

  constructor(deps: IptablesDeps) {
    this.#deps = deps;
    const owned = new Set(
      ([4, 6] as const).flatMap((family) => [
        wlSourceSet(family),
        temporaryName(wlSourceSet(family)),
        probeSet(family),
      ]),
    );
    this.#ipsets = new Ipsets(
      deps.sets,
      (name) => owned.has(name),
      deps,
      () => this.#listener(),
    );
  }

  onUpdate(update: DataplaneUpdate): void {
    switch (update.type) {
      case 'configUpdate':
        this.#config = update.config;
        this.#configChanged = true;
        this.#changeMembers(this.#sources.setSpoofing(update.config.workloadSourceSpoofing));
        break;
      case 'workloadEndpointUpdate':
        this.#changeMembers(this.#sources.set(update.id, update.endpoint));
        this.#dirtyEndpoints.add(update.id);
        this.#removedEndpoints.delete(update.id);
        break;
      case 'workloadEndpointRemove':
        this.#changeMembers(this.#sources.set(update.id, undefined));
        this.#dirtyEndpoints.delete(update.id);
        this.#removedEndpoints.add(update.id);
        break;
      case 'inSync':
        this.#inSync = true;
        this.#ipsets.allowRemoval();
        for (const table of this.#tables) table.allowRemoval();
        break;
      default: // Routes, pools and hosts are the host network's.
    }
  }

  async apply(): Promise<ApplyReport> {
    const failed: ApplyFailure[] = [];
    const repaired: string[] = [];
    if (this.#config === undefined) return { programmed: [], removed: [], failed, repaired };
    // Endpoints that change while this runs are the next cycle's.
    const endpoints = takeAll(this.#dirtyEndpoints);
    const removed = takeAll(this.#removedEndpoints);
    try {
      await this.#prepare(this.#config);
    } catch (error) {
      failed.push({ object: 'dataplane iptables', reason: (error as Error).message });
      this.#takeBack(endpoints, removed);
      return { programmed: [], removed: [], failed, repaired };
    }
    const sets = await this.#ipsets.applyAdditions();
    const tables = await this.#applyTables();
    // A rule is refused, too, when somebody has destroyed the set that it names.
    if (tables.failed.length > 0) this.#ipsets.requestResync();
    const removals = await this.#ipsets.applyRemovals();
    repaired.push(...sets.repaired, ...tables.repaired);
    const setFailures = [...sets.failed, ...removals.failed];
    failed.push(
      ...setFailures
        .filter(({ member }) => member === undefined)
        .map(({ set, reason }) => ({ object: `ipset ${set}`, reason })),
    );
    failed.push(...tables.failed);
    const refused = new Map(
      setFailures.flatMap(({ set, member, reason }): [string, string][] =>
        member === undefined ? [] : [[`${set} ${member}`, reason]],
      ),
    );
    const programmed: EndpointId[] = [];
    const wholeFailed = failed.length > 0;
    for (const id of endpoints) {
      if (this.#dirtyEndpoints.has(id) || this.#removedEndpoints.has(id)) continue;
      const reason = this.#sources
        .of(id)
        .map(({ family, member }) => refused.get(`${wlSourceSet(family)} ${member}`))
        .find(Boolean);
      if (reason !== undefined) failed.push({ object: `endpoint ${id}`, endpoint: id, reason });
      else if (!wholeFailed) programmed.push(id);
    }
    const done = new Set(programmed);
    this.#takeBack(
      endpoints.filter((id) => !done.has(id)),
      sets.failed.length > 0 ? removed.splice(0) : [],
    );
    if (failed.length === 0 && this.#cleanOthers && this.#hooked === true)
      failed.push(...(await this.#removeOtherVariant()));
    return { programmed, removed, failed, repaired };
  }

  requestResync(): void {
    this.#ipsets.requestResync();
    for (const table of this.#tables) table.requestResync();
  }

  onDisturbed(listener: () => void): void {
    this.#listener = listener;
  }

  async probe(): Promise<readonly string[]> {
    return probeIptables(this.#deps, this.#families(this.#config), this.#config?.iptablesBackend ?? 'auto');
  }

  podDeviceOps(): readonly NetlinkOp[] {
    return [];
  }

  async activate(): Promise<void> {
    await this.#setHooked(true);
  }

  async release(): Promise<void> {
    await this.#setHooked(false);
  }

  deviceCounters(): Promise<readonly DeviceCounters[]> {
    return Promise.resolve([]);
  }

  ruleCounters(): Promise<ReadonlyMap<RuleId, Counter>> {
    return Promise.resolve(new Map());
  }

  async cleanup(): Promise<void> {
    this.#dropTables();
    this.#made = undefined;
    this.#hooked = undefined;
    const { commands, log } = this.#deps;
    const lockTimeoutS = this.#config?.iptablesLockTimeoutS ?? 0;
    const families = this.#deps.hasIpv6() ? ([4, 6] as const) : ([4] as const);
    await removeLeftovers(commands, log, { variants: ['nft', 'legacy'], families, tables: TABLES, lockTimeoutS });
    await this.#ipsets.cleanup();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#dropTables();
    this.#ipsets[Symbol.dispose]();
    return Promise.resolve();
  }

  /** These are still to be done, unless somebody said something else of them meanwhile. */
  #takeBack(endpoints: readonly EndpointId[], removed: readonly EndpointId[]): void {
    for (const id of endpoints) if (!this.#removedEndpoints.has(id)) this.#dirtyEndpoints.add(id);
    for (const id of removed) if (!this.#dirtyEndpoints.has(id)) this.#removedEndpoints.add(id);
  }

  #families(config: DataplaneConfig | undefined): readonly Family[] {
    return config?.ipv6Support !== false && this.#deps.hasIpv6() ? [4, 6] : [4];
  }

  #changeMembers({ add, remove }: { add: readonly SourceMember[]; remove: readonly SourceMember[] }): void {
    const on = (source: SourceMember): boolean => this.#made?.families.includes(source.family) === true;
    for (const { family, member } of add.filter(on)) this.#ipsets.addMember(wlSourceSet(family), member);
    for (const { family, member } of remove.filter(on)) this.#ipsets.removeMember(wlSourceSet(family), member);
  }

  /** Makes tables and sets what the configuration says; nothing to do while it stays the same. */
  async #prepare(config: DataplaneConfig): Promise<void> {
    if (this.#made !== undefined && !this.#configChanged) return;
    this.#configChanged = false;
    try {
      await this.#follow(config);
    } catch (error) {
      this.#configChanged = true;
      throw error;
    }
  }

  async #follow(config: DataplaneConfig): Promise<void> {
    const families = this.#families(config);
    const variant = await this.#deps.variants.choose(families, config.iptablesBackend);
    const before = this.#made;
    if (before?.variant !== variant || before.families.length !== families.length) {
      this.#dropTables();
      this.#cleanOthers = true;
      for (const family of families) {
        const tools = new Xtables(this.#deps.commands, variant, family);
        for (const name of TABLES) this.#tables.push(this.#makeTable(name, tools, config));
      }
    }
    this.#ipsets.setRefreshInterval(config.ipsetsRefreshIntervalMs);
    for (const family of families) {
      const name = wlSourceSet(family);
      this.#ipsets.setSet({ name, type: 'hash:net,iface', family, maxelem: config.maxIpsetSize });
      if (before?.families.includes(family) !== true) {
        for (const { member } of this.#sources.all(family)) this.#ipsets.addMember(name, member);
      }
    }
    for (const table of this.#tables) {
      table.setSettings(settingsOf(config));
      if (table.name === 'raw') setRawChains(table, config.interfacePrefixes);
      else setFilterChains(table, config.interfacePrefixes);
    }
    this.#made = { variant, families };
    for (const family of (before?.families ?? []).filter((family) => !families.includes(family)))
      await this.#leave(family);
  }

  #makeTable(name: string, tools: Xtables, config: DataplaneConfig): Table {
    const table = new Table(name, tools, settingsOf(config), this.#deps, () => this.#listener());
    if (this.#inSync) table.allowRemoval();
    if (this.#hooked !== undefined) table.setHooked(this.#hooked);
    return table;
  }

  /** A family that was switched off: its rules go now, its sets at the end of the cycle. */
  async #leave(family: Family): Promise<void> {
    const { commands, log } = this.#deps;
    const lockTimeoutS = this.#config?.iptablesLockTimeoutS ?? 0;
    await removeLeftovers(commands, log, {
      variants: ['nft', 'legacy'],
      families: [family],
      tables: TABLES,
      lockTimeoutS,
    });
    this.#ipsets.removeSet(wlSourceSet(family));
  }

  async #applyTables(): Promise<{ failed: ApplyFailure[]; repaired: string[] }> {
    const failed: ApplyFailure[] = [];
    const repaired: string[] = [];
    await Promise.all(
      this.#tables.map(async (table) => {
        try {
          repaired.push(...(await table.apply()));
        } catch (error) {
          failed.push({ object: table.object, reason: (error as Error).message });
        }
      }),
    );
    return { failed, repaired };
  }

  async #setHooked(hooked: boolean): Promise<void> {
    this.#hooked = hooked;
    for (const table of this.#tables) table.setHooked(hooked);
    const { failed } = await this.#applyTables();
    const [first] = failed;
    if (first !== undefined) {
      throw new Error(`${hooked ? 'entering' : 'leaving'} the packets' path: ${first.object}: ${first.reason}`);
    }
    if (hooked && this.#cleanOthers) await this.#removeOtherVariant();
  }

  /** Rules of ours in the variant that isn't used would judge packets by an old state. */
  async #removeOtherVariant(): Promise<ApplyFailure[]> {
    const made = this.#made;
    if (made === undefined) return [];
    const { commands, log } = this.#deps;
    const other = made.variant === 'nft' ? 'legacy' : 'nft';
    const lockTimeoutS = this.#config?.iptablesLockTimeoutS ?? 0;
    try {
      await removeLeftovers(commands, log, {
        variants: [other],
        families: made.families,
        tables: TABLES,
        lockTimeoutS,
      });
      this.#cleanOthers = false;
      return [];
    } catch (error) {
      return [{ object: `rules of ours in iptables-${other}`, reason: (error as Error).message }];
    }
  }

  #dropTables(): void {
    for (const table of this.#tables.splice(0)) table[Symbol.dispose]();
  }
}

/** Empties the set and returns what was in it. */
function takeAll<T>(set: Set<T>): T[] {
  const all = [...set];
  set.clear();
  return all;
}
