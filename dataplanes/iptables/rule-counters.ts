import type { Counter } from '../contract.ts';
import { tagIndex } from '../netfilter/rules.ts';
import type { SavedCounter } from '../netfilter/saved.ts';
import type { RuleId } from '../policy.ts';

interface CountedChain {
  /** By the index of the chain's rule. */
  readonly rules: readonly (RuleId | undefined)[];
  /** What was read of the chain last. */
  last: ReadonlyMap<RuleId, Counter>;
}

const NOTHING: Counter = { packets: 0, bytes: 0 };

/**
 * What the rules of policies have counted in one family, over all chains that carry them. The kernel counts from 0 again in a chain that
 * is written anew: what was read of it last is kept and added, so the sums never go down. What it has counted between the last
 * reading and the writing is lost: reading before every write would cost a process for each change of a rule.
 */
export class RuleCounters {
  readonly #chains = new Map<string, CountedChain>();
  /** Of chains as they were before they were written anew. */
  readonly #before = new Map<RuleId, Counter>();

  /** The chain is wanted with these rules; without any, it carries none. */
  setChain(table: string, chain: string, rules: readonly (RuleId | undefined)[]): void {
    const key = `${table} ${chain}`;
    const last = this.#chains.get(key)?.last ?? new Map();
    if (rules.some(Boolean) || last.size > 0) this.#chains.set(key, { rules, last });
    else this.#chains.delete(key);
  }

  /** The kernel's chain has been written anew, or removed: it has counted nothing. */
  rewritten(table: string, chain: string): void {
    const key = `${table} ${chain}`;
    const counted = this.#chains.get(key);
    if (counted === undefined) return;
    for (const [rule, counter] of counted.last) this.#before.set(rule, sum(this.#before.get(rule), counter));
    counted.last = new Map();
    if (!counted.rules.some(Boolean)) this.#chains.delete(key);
  }

  /** These rules exist no more. */
  forget(rules: readonly RuleId[]): void {
    for (const rule of rules) this.#before.delete(rule);
  }

  /** Takes over what was read; `isWanted` tells whether a tag is that of a chain as it is wanted now. */
  take(counters: Iterable<SavedCounter>, isWanted: (counter: SavedCounter) => boolean): void {
    const read = new Map<string, Map<RuleId, Counter>>();
    for (const counter of counters) {
      const key = `${counter.table} ${counter.chain}`;
      const rule = this.#chains.get(key)?.rules[tagIndex(counter.tag)];
      if (rule === undefined || !isWanted(counter)) continue;
      const chain = read.get(key) ?? new Map<RuleId, Counter>();
      read.set(key, chain.set(rule, sum(chain.get(rule), counter)));
    }
    for (const [key, last] of read) {
      const chain = this.#chains.get(key);
      if (chain === undefined) continue;
      // Somebody else may have flushed it, and we have put it right since.
      for (const [rule, counter] of chain.last)
        if ((last.get(rule) ?? NOTHING).packets < counter.packets)
          this.#before.set(rule, sum(this.#before.get(rule), counter));
      chain.last = last;
    }
  }

  /** Adds the sums to those of another family. */
  addTo(totals: Map<RuleId, Counter>): void {
    const wanted = new Set<RuleId>();
    for (const { rules, last } of this.#chains.values()) {
      for (const rule of rules) if (rule !== undefined) wanted.add(rule);
      for (const [rule, counter] of last) totals.set(rule, sum(totals.get(rule), counter));
    }
    for (const rule of wanted) totals.set(rule, sum(totals.get(rule), this.#before.get(rule) ?? NOTHING));
  }
}

const sum = (a: Counter | undefined, b: Counter): Counter =>
  a === undefined
    ? { packets: b.packets, bytes: b.bytes }
    : { packets: a.packets + b.packets, bytes: a.bytes + b.bytes };
