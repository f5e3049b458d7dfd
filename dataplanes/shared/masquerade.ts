import { familyOf } from '#api/cidr.ts';
import type { Clock } from '#api/clock.ts';
import type { CommandRunner } from '#native/command-runner.ts';
import type { Family } from '#native/types.ts';
import type { ApplyFailure } from '../contract.ts';
import type { Logger } from '../logger.ts';
import type { DataplaneConfig, HostInfo, IpText, PoolInfo } from '../messages.ts';
import { Ipsets, netMembers, setName, type SetKernel, temporaryName } from '../netfilter/ipsets.ts';
import { LeavingFamilies } from '../netfilter/leaving-families.ts';
import { removeLeftovers } from '../netfilter/leftovers.ts';
import { settingsOf } from '../netfilter/table-settings.ts';
import { Tables } from '../netfilter/tables.ts';
import type { VariantChoice } from '../netfilter/variant-choice.ts';
import { type Variant, Xtables } from '../netfilter/xtables.ts';

export interface MasqueradeDeps {
  readonly commands: CommandRunner;
  readonly sets: SetKernel;
  readonly variants: VariantChoice;
  readonly clock: Clock;
  readonly log: Logger;
  readonly hasIpv6: () => boolean;
}

/** The sets: pools whose traffic is masqueraded, all pools, all nodes' addresses. */
const MASQUERADED = 'masq-ipam-pools';
const ALL_POOLS = 'all-ipam-pools';
const ALL_HOSTS = 'all-hosts-net';
/** In this order, so that an exclusion is there before what it excludes from. */
const SET_IDS = [ALL_POOLS, ALL_HOSTS, MASQUERADED] as const;

/**
 * natOutgoing: what a pod of a masqueraded pool sends to an address in no pool leaves with the node's address. One rule per family in nat
 * `cali-nat-outgoing` and sets that say the rest, so that pools and nodes come and go without a process being forked.
 */
export class Masquerade implements Disposable {
  readonly #deps: MasqueradeDeps;
  readonly #onDue: () => void;
  readonly #pools = new Map<string, PoolInfo>();
  readonly #hosts = new Map<string, HostInfo>();
  readonly #ipsets: Ipsets;
  readonly #tables: Tables[] = [];
  /** What the kernel's sets were told, by set. */
  readonly #told = new Map<string, Set<string>>();
  #config: DataplaneConfig | undefined;
  #made: { readonly variant: Variant; readonly families: readonly Family[] } | undefined;
  #changed = false;
  readonly #leaving = new LeavingFamilies();
  #inSync = false;
  #cleanOthers = false;

  constructor(deps: MasqueradeDeps, onDue: () => void) {
    this.#deps = deps;
    this.#onDue = onDue;
    const names = ([4, 6] as const).flatMap((family) => SET_IDS.map((id) => setName(family, id)));
    const owned = new Set([...names, ...names.map(temporaryName)]);
    this.#ipsets = new Ipsets(deps.sets, (name) => owned.has(name), deps, onDue);
  }

  setConfig(config: DataplaneConfig): void {
    this.#config = config;
    this.#changed = true;
  }

  /** Announces, replaces or (undefined) removes a pool. */
  setPool(id: string, pool: PoolInfo | undefined): void {
    if (pool === undefined) this.#pools.delete(id);
    else this.#pools.set(id, pool);
    this.#changed = true;
  }

  /** Announces, replaces or (undefined) removes a node's addresses. */
  setHost(node: string, host: HostInfo | undefined): void {
    if (host === undefined) this.#hosts.delete(node);
    else this.#hosts.set(node, host);
    this.#changed = true;
  }

  /** All pools are known: the rule may go in, and what is too much may go. */
  allowRemoval(): void {
    this.#inSync = true;
    this.#changed = true;
    this.#ipsets.allowRemoval();
  }

  requestResync(): void {
    this.#ipsets.requestResync();
    for (const table of this.#tables) table.requestResync();
  }

  /** Sets, then the rule, then sets that nothing refers to. */
  async apply(): Promise<{ failed: ApplyFailure[]; repaired: string[] }> {
    if (this.#config === undefined) return { failed: [], repaired: [] };
    const failed: ApplyFailure[] = [];
    const repaired: string[] = [];
    try {
      if (this.#changed) await this.#prepare(this.#config);
    } catch (error) {
      this.#changed = true;
      return { failed: [{ object: 'natOutgoing', reason: (error as Error).message }], repaired };
    }
    const left = await this.#leaving.remove('nat rules of ours', async (family) => {
      await this.#removeRules(['nft', 'legacy'], [family]);
      for (const id of SET_IDS) this.#forgetSet(setName(family, id));
    });
    const read = await this.#ipsets.read();
    this.#ipsets.begin();
    const sets = await this.#ipsets.applyAdditions();
    for (const report of await Promise.all(this.#tables.map((tables) => tables.apply()))) {
      repaired.push(...report.repaired);
      failed.push(...report.failed.map(({ object, reason }) => ({ object, reason })));
    }
    const setFailures = [...read.failed, ...sets.failed];
    if (failed.length === 0) {
      setFailures.push(...(await this.#ipsets.applyDeletions()).failed);
      setFailures.push(...(await this.#ipsets.applyRemovals()).failed);
    } else this.#ipsets.requestResync(); // A rule is refused, too, when somebody has destroyed the set that it names.
    repaired.push(...read.repaired);
    failed.push(
      ...setFailures.map(({ set, member, reason }) => ({
        object: `ipset ${set}${member === undefined ? '' : ` member ${member}`}`,
        reason,
      })),
    );
    failed.push(...left);
    if (failed.length === 0 && this.#inSync && this.#cleanOthers) await this.#removeOtherVariant(failed);
    return { failed, repaired };
  }

  /** Removes rule, chains and sets. */
  async cleanup(): Promise<void> {
    this.#dropTables();
    this.#made = undefined;
    this.#changed = true;
    this.#told.clear();
    const families: Family[] = this.#deps.hasIpv6() ? [4, 6] : [4];
    await this.#removeRules(['nft', 'legacy'], families);
    await this.#ipsets.cleanup();
  }

  [Symbol.dispose](): void {
    this.#dropTables();
    this.#ipsets[Symbol.dispose]();
  }

  async #prepare(config: DataplaneConfig): Promise<void> {
    this.#changed = false; // What changes meanwhile is the next cycle's.
    const families: Family[] = config.ipv6Support && this.#deps.hasIpv6() ? [4, 6] : [4];
    const variant = await this.#deps.variants.choose(families, config.iptablesBackend);
    const before = this.#made;
    if (before?.variant !== variant || before.families.length !== families.length) {
      this.#dropTables();
      this.#cleanOthers = true;
      for (const family of families) {
        const tools = new Xtables(this.#deps.commands, variant, family);
        this.#tables.push(new Tables(tools, ['nat'], settingsOf(config), this.#deps, this.#onDue));
      }
    }
    this.#leaving.change(before?.families ?? [], families);
    this.#made = { variant, families };
    this.#ipsets.setRefreshInterval(config.ipsetsRefreshIntervalMs);
    for (const family of families) this.#tellSets(family, config);
    for (const tables of this.#tables) {
      tables.setSettings(settingsOf(config));
      const nat = tables.table('nat');
      nat.setChain('cali-nat-outgoing', natOutgoingRules(tables.family, config));
      nat.setChain('cali-POSTROUTING', ['-j cali-nat-outgoing']);
      nat.setHook('POSTROUTING', { first: ['-j cali-POSTROUTING'] });
      if (!this.#inSync) continue; // With half of the pools known, traffic between pools would be masqueraded.
      tables.allowRemoval();
      tables.setHooked(true);
    }
    if (config.natOutgoingExclusions === 'IPPoolsOnly')
      for (const family of families) this.#forgetSet(setName(family, ALL_HOSTS));
  }

  #tellSets(family: Family, config: DataplaneConfig): void {
    const pools = [...this.#pools.values()].filter(({ cidr }) => familyOf(cidr) === family);
    const hosts = [...this.#hosts.values()]
      .map((host) => (family === 4 ? host.ipv4 : host.ipv6))
      .filter((ip): ip is IpText => ip !== undefined);
    const wanted = {
      [ALL_POOLS]: pools.map(({ cidr }) => cidr),
      [ALL_HOSTS]: config.natOutgoingExclusions === 'IPPoolsAndHostIPs' ? hosts : undefined,
      [MASQUERADED]: pools.filter(({ masquerade }) => masquerade).map(({ cidr }) => cidr),
    };
    for (const id of SET_IDS) {
      const nets = wanted[id];
      if (nets === undefined) continue;
      const name = setName(family, id);
      const before = this.#told.get(name) ?? new Set();
      const now = new Set(nets.flatMap(netMembers));
      this.#ipsets.setSet({ name, type: 'hash:net', family, maxelem: config.maxIpsetSize });
      for (const member of now) this.#ipsets.addMember(name, member);
      for (const member of before) if (!now.has(member)) this.#ipsets.removeMember(name, member);
      this.#told.set(name, now);
    }
  }

  #forgetSet(name: string): void {
    this.#ipsets.removeSet(name);
    this.#told.delete(name);
  }

  async #removeOtherVariant(failed: ApplyFailure[]): Promise<void> {
    if (this.#made === undefined) return;
    const { variant, families } = this.#made;
    const other = variant === 'nft' ? 'legacy' : 'nft';
    try {
      if (this.#deps.variants.mayHoldOurs(other, families)) await this.#removeRules([other], families);
      this.#cleanOthers = false;
    } catch (error) {
      failed.push({ object: 'nat rules of ours in the unused variant of iptables', reason: (error as Error).message });
    }
  }

  async #removeRules(variants: readonly Variant[], families: readonly Family[]): Promise<void> {
    const lockTimeoutS = this.#config?.iptablesLockTimeoutS ?? 0;
    await removeLeftovers(this.#deps.commands, this.#deps.log, { variants, families, tables: ['nat'], lockTimeoutS });
  }

  #dropTables(): void {
    for (const table of this.#tables.splice(0)) table[Symbol.dispose]();
  }
}

/**
 * The rules of cali-nat-outgoing. A port range can only be said together with a protocol that has ports, so it takes one rule each for
 * TCP and UDP before the general one. Random ports: two flows of one moment must not be given the same.
 */
export function natOutgoingRules(family: Family, config: DataplaneConfig): readonly string[] {
  const hosts =
    config.natOutgoingExclusions === 'IPPoolsAndHostIPs'
      ? ` -m set ! --match-set ${setName(family, ALL_HOSTS)} dst`
      : '';
  const match = `-m set --match-set ${setName(family, MASQUERADED)} src -m set ! --match-set ${setName(family, ALL_POOLS)} dst${hosts}`;
  const address = config.natOutgoingAddress;
  const snat = address !== undefined && familyOf(address) === family ? address : undefined;
  const target = (ports: string): string => {
    if (snat === undefined) return `-j MASQUERADE${ports === '' ? '' : ` --to-ports ${ports}`} --random-fully`;
    const to = ports === '' ? snat : `${family === 6 ? `[${snat}]` : snat}:${ports}`;
    return `-j SNAT --to-source ${to} --random-fully`;
  };
  const range = config.natPortRange;
  const ranged =
    range === undefined
      ? []
      : ['tcp', 'udp'].map((protocol) => `-p ${protocol} ${match} ${target(`${range.min}-${range.max}`)}`);
  return [...ranged, `${match} ${target('')}`];
}
