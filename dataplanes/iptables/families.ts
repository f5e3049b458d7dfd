import type { Family } from '#native/types.ts';
import type { ApplyFailure } from '../contract.ts';
import type { CidrText, DataplaneConfig } from '../messages.ts';
import type { Ipsets } from '../netfilter/ipsets.ts';
import { LeavingFamilies } from '../netfilter/leaving-families.ts';
import { removeLeftovers } from '../netfilter/leftovers.ts';
import type { VariantChoice } from '../netfilter/variant-choice.ts';
import type { Variant } from '../netfilter/xtables.ts';
import { FamilyDataplane, type FamilyDeps } from './family.ts';
import { TABLE_NAMES } from './family-rules.ts';

export interface FamiliesDeps extends FamilyDeps {
  readonly variants: VariantChoice;
  /** False when the kernel has no IPv6: its tables and sets are then never touched. */
  readonly hasIpv6: () => boolean;
}

const ALL: readonly Family[] = [4, 6];

/** Both families' sets and tables: which are on, in which variant of iptables, and whether packets come by them. */
export class Families implements Disposable {
  readonly #deps: FamiliesDeps;
  readonly #families: ReadonlyMap<Family, FamilyDataplane>;
  #made: { readonly variant: Variant; readonly families: readonly Family[] } | undefined;
  readonly #leaving = new LeavingFamilies();
  #lockTimeoutS = 0;
  #hooked: boolean | undefined;
  /** The other variant may hold rules of an earlier agent, or of ours from before a setting changed. */
  #othersMayBeLeft = false;

  constructor(deps: FamiliesDeps, onDue: () => void) {
    this.#deps = deps;
    this.#families = new Map(ALL.map((family) => [family, new FamilyDataplane(family, deps, onDue)]));
  }

  /** Of both families, on or not: what is wanted of them is collected always. */
  get ipsets(): ReadonlyMap<Family, Ipsets> {
    return new Map([...this.#families].map(([family, { ipsets }]) => [family, ipsets]));
  }

  get on(): readonly FamilyDataplane[] {
    return [...this.#families.values()].filter(({ isOn }) => isOn);
  }

  get hooked(): boolean | undefined {
    return this.#hooked;
  }

  wanted(config: DataplaneConfig | undefined): readonly Family[] {
    return config?.ipv6Support !== false && this.#deps.hasIpv6() ? ALL : [4];
  }

  /** Turns families on and off as the configuration says. All rules have to be made anew after it. */
  async follow(config: DataplaneConfig, serviceRanges: readonly CidrText[]): Promise<void> {
    const families = this.wanted(config);
    const variant = await this.#deps.variants.choose(families, config.iptablesBackend);
    const before = this.#made;
    this.#lockTimeoutS = config.iptablesLockTimeoutS;
    if (before?.variant !== variant || before.families.length !== families.length) this.#othersMayBeLeft = true;
    for (const family of families) this.#families.get(family)?.turnOn(variant, config, serviceRanges);
    this.#made = { variant, families };
    this.#leaving.change(before?.families ?? [], families);
    for (const family of this.#leaving.all) this.#families.get(family)?.turnOff();
  }

  /** Removes what is ours of families that were switched off; what can't be removed is tried again by the next call. */
  leave(): Promise<readonly ApplyFailure[]> {
    return this.#leaving.remove('rules of ours', async (family) => {
      await this.#families.get(family)?.remove(this.#lockTimeoutS);
    });
  }

  allowRemoval(): void {
    for (const family of this.#families.values()) family.allowRemoval();
  }

  /** Enters or leaves the packets' path; throws with the first table that failed. */
  async setHooked(hooked: boolean): Promise<void> {
    this.#hooked = hooked;
    const failures = await Promise.all([...this.#families.values()].map((family) => family.setHooked(hooked)));
    const first = failures.flat().find(({ chain }) => chain === undefined);
    if (first !== undefined)
      throw new Error(`${hooked ? 'entering' : 'leaving'} the packets' path: ${first.object}: ${first.reason}`);
    if (hooked) await this.removeOtherVariant();
  }

  /** Rules of ours in the variant that isn't used would judge packets by an old state: once ours stand in the used one, they go. */
  async removeOtherVariant(): Promise<readonly ApplyFailure[]> {
    const made = this.#made;
    if (!this.#othersMayBeLeft || this.#hooked !== true || made === undefined) return [];
    const { commands, log, variants } = this.#deps;
    const other = made.variant === 'nft' ? 'legacy' : 'nft';
    if (!variants.mayHoldOurs(other, made.families)) {
      this.#othersMayBeLeft = false;
      return [];
    }
    try {
      const places = { families: made.families, tables: TABLE_NAMES, lockTimeoutS: this.#lockTimeoutS };
      await removeLeftovers(commands, log, { ...places, variants: [other] });
      this.#othersMayBeLeft = false;
      return [];
    } catch (error) {
      return [{ object: `rules of ours in iptables-${other}`, reason: (error as Error).message }];
    }
  }

  /** Everything of ours goes, whoever of us made it. */
  async cleanup(): Promise<void> {
    this.#made = undefined;
    this.#hooked = undefined;
    for (const family of this.#families.values())
      if (family.family === 4 || this.#deps.hasIpv6()) await family.remove(this.#lockTimeoutS);
  }

  [Symbol.dispose](): void {
    for (const family of this.#families.values()) family[Symbol.dispose]();
  }
}
