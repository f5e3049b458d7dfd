import {
  builtInTiers,
  comparePolicies,
  compareTiers,
  convertTier,
  missingTier,
  type CalcTier,
} from '../convert/convert.ts';
import type { TierSource } from '../convert/tiers.ts';
import type { CalcPolicy } from '../model.ts';

/** A policy with its place among all that are in use. */
export interface Ranked {
  readonly policy: CalcPolicy;
  /** Smaller ones are evaluated earlier. Valid after `rank`. */
  rank: number;
}

/** The tiers, and the order of evaluation over all of them. */
export class PolicyOrder {
  readonly #tiers = new Map<string, CalcTier>(builtInTiers.map((tier) => [tier.name, tier]));
  readonly #members = new Set<Ranked>();
  #sorted: Ranked[] = [];
  #isSorted = true;

  /** How many tiers there are, with the built-in ones. */
  get tierCount(): number {
    return this.#tiers.size;
  }

  setTier(name: string, tier: TierSource | undefined): void {
    const builtIn = builtInTiers.find((candidate) => candidate.name === name);
    const next = tier === undefined ? builtIn : convertTier(tier);
    if (next === undefined) this.#tiers.delete(name);
    else this.#tiers.set(name, next);
    this.#isSorted = false;
  }

  /** The tier of that name, or what stands for one that does not exist. */
  tier(name: string): CalcTier {
    return this.#tiers.get(name) ?? missingTier(name);
  }

  add(member: Ranked): void {
    if (this.#members.has(member)) return;
    this.#members.add(member);
    this.#sorted.push(member);
    this.#isSorted = false;
  }

  delete(member: Ranked): void {
    if (this.#members.delete(member)) this.#isSorted = false;
  }

  /** Something that decides a member's place has changed. */
  touch(): void {
    this.#isSorted = false;
  }

  /** Brings every member's rank up to date. The list is nearly in order each time, which the sort turns into one pass. */
  rank(): void {
    if (this.#isSorted) return;
    this.#isSorted = true;
    // A member that went and came back stands in the list twice.
    this.#sorted = [...new Set(this.#sorted)]
      .filter((member) => this.#members.has(member))
      .sort(
        (a, b) =>
          (a.policy.tier === b.policy.tier ? 0 : compareTiers(this.tier(a.policy.tier), this.tier(b.policy.tier))) ||
          comparePolicies(a.policy, b.policy),
      );
    for (const [index, member] of this.#sorted.entries()) member.rank = index;
  }
}
