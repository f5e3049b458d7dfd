import type { Counter } from '../../contract.ts';
import type { RuleId, SetId } from '../../policy.ts';
import type { Claim } from './claim.ts';
import type { ClassifierMaps } from './classifier-maps.ts';
import { ClassifierFull } from './full-error.ts';
import { RangePool } from './range-pool.ts';
import { type Retirement, Shared } from './retirement.ts';
import type { RuleCounters } from './rule-counters.ts';
import type { UnitForm } from './unit-form.ts';
import type { Unit } from './units.ts';
import type { WriteQueue } from './write-queue.ts';

/** A unit's form whose rule words are stored. Records are its users; the words' counters live as long as it does. */
export interface CompiledUnit {
  readonly unit: Unit;
  readonly form: UnitForm;
  /** Index of the first word. */
  readonly firstRule: number;
  readonly users: Shared;
  /** The sets that its rules name. */
  readonly sets: ReadonlySet<SetId>;
  /** True if a record of it was ever made: lookups may have met its words. */
  isSeen: boolean;
}

/** What stands at an index of `tortie_rules`. */
export interface RuleAt {
  readonly unit: Unit;
  /** Its place among the unit's words. */
  readonly position: number;
  /** The rule; undefined for an end of the unit. */
  readonly rule: RuleId | undefined;
  /** The rule's id, or which end it is: `the end of tier default`. */
  readonly text: string;
}

/** Rule words: who has them, and what they have counted. */
export class CompiledUnits {
  readonly #maps: ClassifierMaps;
  readonly #queue: WriteQueue;
  readonly #retirement: Retirement;
  readonly #counters: RuleCounters;
  readonly #words: RangePool;
  /** Those whose words are written, by first word, in order. */
  readonly #written: CompiledUnit[] = [];

  constructor(maps: ClassifierMaps, queue: WriteQueue, retirement: Retirement, counters: RuleCounters) {
    this.#maps = maps;
    this.#queue = queue;
    this.#retirement = retirement;
    this.#counters = counters;
    this.#words = new RangePool(0, maps.sizes.tortie_rules.entries);
  }

  /** Stores a form's words, with one user. `onFree`: no lookup follows it any more. Throws `ClassifierFull`. */
  add(what: Pick<CompiledUnit, 'unit' | 'form' | 'sets'>, onFree: () => void): CompiledUnit {
    const { length } = what.form.words;
    const firstRule = this.#words.take(length);
    if (firstRule === undefined) throw new ClassifierFull('tortie_rules', this.#maps.sizes, length);
    const queued = this.#queue.push(
      { map: 'rules', index: firstRule, words: what.form.words },
      // Before that the counters are those of who had the words last.
      { onMade: () => this.#written.splice(this.#indexAfter(firstRule), 0, compiled) },
    );
    const users = new Shared(this.#retirement, () => {
      this.#queue.cancel(queued);
      const at = this.#written.indexOf(compiled);
      if (at >= 0) {
        this.#written.splice(at, 1);
        for (const { rule, hits } of this.#hitsOf(compiled)) this.#counters.keep(rule, hits);
      }
      this.#words.give(firstRule, length);
      onFree();
    });
    users.acquire();
    const compiled: CompiledUnit = { ...what, firstRule, users, isSeen: false };
    return compiled;
  }

  /** One user less; what no lookup can have met goes at once. */
  release(compiled: CompiledUnit): void {
    if (compiled.isSeen) compiled.users.release();
    else compiled.users.releaseUnseen();
  }

  /** A record is one user more. */
  use(compiled: CompiledUnit, claim: Claim): void {
    compiled.users.acquire();
    claim.took(() => compiled.users.undoAcquire());
  }

  /** What stands at this index of the rule words; undefined where nothing is that a lookup could meet. */
  at(word: number): RuleAt | undefined {
    const compiled = this.#written[this.#indexAfter(word) - 1];
    if (compiled === undefined) return undefined;
    const position = word - compiled.firstRule;
    const text = compiled.form.ruleIds[position];
    if (text === undefined) return undefined;
    const isRule = compiled.form.counted.has(position);
    return { unit: compiled.unit, position, rule: isRule ? text : undefined, text };
  }

  /** What rules have counted, over all units and over those that are no more. */
  counters(): Map<RuleId, Counter> {
    const sums = this.#counters.kept();
    for (const compiled of this.#written) {
      for (const { rule, hits } of this.#hitsOf(compiled)) {
        if (!this.#counters.isAnnounced(rule)) continue;
        const { packets, bytes } = sums.get(rule) ?? { packets: 0, bytes: 0 };
        sums.set(rule, { packets: packets + hits.packets, bytes: bytes + hits.bytes });
      }
    }
    return sums;
  }

  /** Whether so many words may have room once those are free that units have left, or that belong to units that nobody uses. */
  mayHaveRoom(length: number): boolean {
    const left = this.#written.filter(({ unit, form }) => unit.users === 0 || unit.published?.compiled.form !== form);
    return left.length > 0 && length <= left.reduce((sum, { form }) => sum + form.words.length, this.free);
  }

  get free(): number {
    return this.#words.free;
  }

  get used(): number {
    return this.#words.used;
  }

  *#hitsOf({ form, firstRule }: CompiledUnit): Iterable<{ readonly rule: RuleId; readonly hits: Counter }> {
    for (const position of form.counted) {
      const rule = form.ruleIds[position];
      if (rule !== undefined) yield { rule, hits: this.#maps.hits(firstRule + position) };
    }
  }

  /** Where in `#written` the first is that begins behind the word. */
  #indexAfter(word: number): number {
    let [low, high] = [0, this.#written.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#written[middle]?.firstRule ?? 0) <= word) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
