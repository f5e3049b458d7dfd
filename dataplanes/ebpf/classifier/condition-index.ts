import { atOnce, each, type Pieces } from './pieces.ts';
import type { Condition } from './rule-conditions.ts';

/** Below so many conditions that may have changed it isn't worth while to keep the answers for a frequent trait. */
const FEW = 64;
/** A trait is frequent if so much of the weight of all conditions, one part of so many, has to be looked at because of it. */
const PART = 8;
/** Sets of frequent traits whose answers are kept. Each takes some 40 bytes a condition. */
const KEPT_BASES = 32;

/** The conditions' answers for a set of frequent traits, and whom another trait may change. */
interface Base {
  readonly key: string;
  /** By condition. */
  readonly answers: Uint8Array;
  /** By trait that isn't frequent: conditions whose answer may be another with it. Made when it is asked for a second time. */
  watched: Map<number, number[]> | undefined;
}

/** What conditions say of a signature. */
export interface Answers {
  /** Equal only for equal answers. */
  readonly key: string;
  /** Equal for signatures with the same frequent traits. */
  readonly base: string;
  /** By condition, for the frequent traits alone: 1 where it is met. */
  readonly answers: Uint8Array;
  /** The conditions that say something else of the whole signature; ascending. */
  readonly changed: readonly number[];
}

/**
 * Finds which of many conditions are met, at the cost of those that are few: a condition that isn't met is looked at only because of traits of one
 * clause that isn't, the rarest (`TCP and port 80`: because of port 80). Traits that concern very many all the same (`all pods, but not those of set
 * i`) are frequent: their answers are kept, by set of frequent traits, and others looked at as changes of that.
 */
export class ConditionIndex {
  readonly #conditions: readonly Condition<number>[];
  /** How many conditions name a trait. */
  readonly #naming = new Map<number, number>();
  #frequent: ReadonlySet<number> = NO_TRAITS;
  readonly #bases = new Map<string, Base>();
  #nothing: Base = { key: '', answers: new Uint8Array(), watched: undefined };
  /** How many conditions were looked at: what its time depends on. */
  looked = 0;

  private constructor(conditions: readonly Condition<number>[]) {
    this.#conditions = conditions;
  }

  /** `weights`: what it costs to tell another answer, by condition. */
  static *of(conditions: readonly Condition<number>[], weights: readonly number[]): Pieces<ConditionIndex> {
    const index = new ConditionIndex(conditions);
    yield* index.#build(weights);
    return index;
  }

  *#build(weights: readonly number[]): Pieces<void> {
    yield* each(this.#conditions, (condition) => {
      for (const trait of traitsOf(condition)) this.#naming.set(trait, (this.#naming.get(trait) ?? 0) + 1);
    });
    const base = this.#baseOf('', NO_TRAITS);
    this.#nothing = base;
    this.#bases.set('', base);
    yield;
    const watched = yield* this.#watch(base, NO_TRAITS);
    const weightOf = (indexes: Iterable<number>) => {
      let sum = 0;
      for (const index of indexes) sum += weights[index] ?? 0;
      return sum;
    };
    const most = Math.max(FEW, weightOf(this.#conditions.keys()) / PART);
    const frequent = new Set<number>();
    yield* each(watched, ([trait, indexes]) => {
      if (weightOf(indexes) > most) frequent.add(trait);
    });
    this.#frequent = frequent;
    base.watched = frequent.size === 0 ? watched : yield* this.#watch(base, NO_TRAITS);
  }

  /** All that the conditions name. */
  get traits(): Iterable<number> {
    return this.#naming.keys();
  }

  /** True if some condition names one of these. */
  namesAny(traits: readonly number[]): boolean {
    return traits.some((trait) => this.#naming.has(trait));
  }

  /** What they say of something with these traits. */
  answers(traits: ReadonlySet<number>): Answers {
    const { base, candidates } = this.#find(traits);
    const { answers } = base;
    const changed = new Set<number>();
    for (const index of candidates) {
      if (changed.has(index)) continue;
      this.looked++;
      if (matches(this.#conditions[index] ?? NOTHING, traits) !== (answers[index] === 1)) changed.add(index);
    }
    const sorted = [...changed].sort((one, next) => one - next);
    return { key: `${base.key}:${sorted.join(',')}`, base: base.key, answers, changed: sorted };
  }

  /** The answers for its frequent traits, and which conditions the others may change. */
  #find(traits: ReadonlySet<number>): { readonly base: Base; readonly candidates: Iterable<number> } {
    if (this.#frequent.size === 0) return { base: this.#nothing, candidates: this.#candidates(this.#nothing, traits) };
    const part = new Set([...traits].filter((trait) => this.#frequent.has(trait)).sort((one, next) => one - next));
    const key = [...part].join(',');
    const known = this.#bases.get(key);
    const base = known ?? this.#baseOf(key, part);
    this.#bases.delete(key);
    this.#bases.set(key, base);
    const [oldest] = this.#bases.keys();
    if (this.#bases.size > KEPT_BASES && oldest !== undefined) this.#bases.delete(oldest);
    // Who comes alone is asked of all: an index is worth while from the second on.
    if (known === undefined) return { base, candidates: part.size === traits.size ? NONE : answersOf(base) };
    base.watched ??= atOnce(this.#watch(base, part));
    return { base, candidates: this.#candidates(base, traits) };
  }

  *#candidates({ watched }: Base, traits: ReadonlySet<number>): Iterable<number> {
    for (const trait of traits) yield* watched?.get(trait) ?? NONE;
  }

  #baseOf(key: string, part: ReadonlySet<number>): Base {
    const answers = new Uint8Array(this.#conditions.length);
    for (const [index, condition] of this.#conditions.entries()) {
      this.looked++;
      if (matches(condition, part)) answers[index] = 1;
    }
    return { key, answers, watched: undefined };
  }

  /** Under each trait that isn't frequent the conditions that something with these frequent traits may meet, or not, because of it. */
  *#watch({ answers }: Base, part: ReadonlySet<number>): Pieces<Map<number, number[]>> {
    const watched = new Map<number, number[]>();
    const add = (trait: number, index: number): void => {
      const known = watched.get(trait);
      if (known === undefined) watched.set(trait, [index]);
      else known.push(index);
    };
    for (const [index, condition] of this.#conditions.entries()) {
      if (index % 64 === 0) yield;
      // What is met isn't any more with a trait that must not be; to have more of the others changes nothing.
      const traits = answers[index] === 1 ? condition.none : this.#rarestUnmet(condition, part);
      for (const [place, trait] of traits.entries()) {
        if (!this.#frequent.has(trait) && traits.indexOf(trait) === place) add(trait, index);
      }
    }
    return watched;
  }

  /** Traits of which one has to be there before the condition can be met; of several such lists the one that fewest conditions name. */
  #rarestUnmet({ all, any, none }: Condition<number>, part: ReadonlySet<number>): readonly number[] {
    // With more traits it never is.
    if (none.some((trait) => part.has(trait))) return NONE;
    let best: readonly number[] = NONE;
    let least = Infinity;
    const consider = (clause: readonly number[]): void => {
      let cost = 0;
      for (const trait of clause) if (!this.#frequent.has(trait)) cost += this.#naming.get(trait) ?? 0;
      if (cost < least) [best, least] = [clause, cost];
    };
    for (const trait of all) if (!part.has(trait)) consider([trait]);
    for (const clause of any) if (!clause.some((trait) => part.has(trait))) consider(clause);
    return best;
  }
}

const NO_TRAITS: ReadonlySet<number> = new Set();
const NONE: readonly number[] = [];
const NOTHING: Condition<number> = { all: [], any: [], none: [] };

const answersOf = ({ answers }: Base): Iterable<number> => answers.keys();

function traitsOf({ all, any, none }: Condition<number>): Set<number> {
  return new Set([...all, ...any.flat(), ...none]);
}

/** True if something with these traits meets the condition. */
export function matches({ all, any, none }: Condition<number>, traits: ReadonlySet<number>): boolean {
  return (
    all.every((trait) => traits.has(trait)) &&
    any.every((clause) => clause.some((trait) => traits.has(trait))) &&
    !none.some((trait) => traits.has(trait))
  );
}
