import { atOnce, type Pieces } from './pieces.ts';
import type { Condition } from './rule-conditions.ts';

/** Below so many conditions that may have changed it isn't worth while to keep the answers for a frequent trait. */
const FEW = 64;
/** A trait is frequent if so much of the weight of all conditions, one part of so many, has to be looked at because of it. */
const PART = 8;
/** Sets of frequent traits whose answers are kept. Each takes some 10 bytes a condition. */
const KEPT_BASES = 32;
/** Conditions between two yields. */
const PIECE = 64;

/** The conditions' answers for a set of frequent traits, and whom another trait may change. */
interface Base {
  readonly key: string;
  /** By condition. */
  readonly answers: Uint8Array;
  /** Conditions whose answer may be another with a trait that isn't frequent. Made when it is asked for a second time. */
  watched: Watched | undefined;
}

/** Conditions by trait (its place among those that conditions name): those of trait `i` are `items` from `starts[i]` to `starts[i + 1]`. */
interface Watched {
  readonly starts: Uint32Array;
  readonly items: Uint32Array;
}

/** What conditions say of a signature. */
export interface Answers {
  /** Equal only for equal answers: a number where a single one says something else than of nothing, or none (-1). */
  readonly key: number | string;
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
  /** The places of traits that conditions name. */
  readonly #places = new Map<number, number>();
  /** How many conditions name a trait, by place. */
  readonly #naming: number[] = [];
  /** By place; empty: none is. */
  #frequent: Uint8Array = NO_PLACES;
  readonly #bases = new Map<string, Base>();
  #nothing: Base = { key: '', answers: new Uint8Array(), watched: undefined };
  /** The one that was asked for last. */
  #last: Base | undefined;
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
    let total = 0;
    for (const [index, condition] of this.#conditions.entries()) {
      if (index % PIECE === 0) yield;
      total += weights[index] ?? 0;
      this.#name(condition);
    }
    const base = this.#baseOf('', NO_TRAITS);
    this.#nothing = base;
    this.#bases.set('', base);
    yield;
    const watched = yield* this.#watch(base, NO_TRAITS);
    const most = Math.max(FEW, total / PART);
    const frequent = new Uint8Array(this.#naming.length);
    for (let place = 0; place < frequent.length; place++) {
      if (place % PIECE === 0) yield;
      let weight = 0;
      const end = watched.starts[place + 1] ?? 0;
      for (let at = watched.starts[place] ?? 0; at < end; at++) weight += weights[watched.items[at] ?? 0] ?? 0;
      if (weight > most) frequent[place] = 1;
    }
    if (frequent.includes(1)) {
      this.#frequent = frequent;
      base.watched = yield* this.#watch(base, NO_TRAITS);
    } else base.watched = watched;
  }

  /** Each trait counts once for a condition, however often that names it. */
  #name(condition: Condition<number>): void {
    for (const trait of distinct(traitsOf(condition))) {
      const place = this.#places.get(trait);
      if (place === undefined) {
        this.#places.set(trait, this.#naming.length);
        this.#naming.push(1);
      } else this.#naming[place] = (this.#naming[place] ?? 0) + 1;
    }
  }

  /** All that the conditions name. */
  get traits(): Iterable<number> {
    return this.#places.keys();
  }

  /** True if some condition names one of these. */
  namesAny(traits: readonly number[]): boolean {
    return traits.some((trait) => this.#places.has(trait));
  }

  /** What they say of something with these traits. */
  answers(traits: ReadonlySet<number>): Answers {
    const { base, isFirst } = this.#baseFor(traits);
    const { answers, watched } = base;
    // Mostly there is one, or none.
    let only = -1;
    let several: number[] | undefined;
    const ask = (index: number): void => {
      this.looked++;
      if (matches(this.#conditions[index] ?? NOTHING, traits) === (answers[index] === 1)) return;
      if (several !== undefined) several.push(index);
      else if (only < 0) only = index;
      else if (only !== index) several = [only, index];
    };
    // Who comes alone is asked of all: an index is worth while from the second on.
    if (isFirst) for (let index = 0; index < answers.length; index++) ask(index);
    else if (watched !== undefined) {
      for (const trait of traits) {
        const place = this.#places.get(trait);
        if (place === undefined) continue;
        const end = watched.starts[place + 1] ?? 0;
        for (let at = watched.starts[place] ?? 0; at < end; at++) ask(watched.items[at] ?? 0);
      }
    }
    if (several !== undefined) return answersOf(base, ascending(several));
    if (only < 0) return answersOf(base, NONE);
    return answersOf(base, [only]);
  }

  /** The answers for its frequent traits. `isFirst`: nobody has asked for them before, and they have no index yet. */
  #baseFor(traits: ReadonlySet<number>): { readonly base: Base; readonly isFirst: boolean } {
    if (this.#frequent.length === 0) return { base: this.#nothing, isFirst: false };
    const part: number[] = [];
    for (const trait of traits) if (this.#isFrequent(trait)) part.push(trait);
    if (part.length > 1) part.sort((one, next) => one - next);
    const key = part.join(',');
    if (this.#last?.key === key && this.#last.watched !== undefined) return { base: this.#last, isFirst: false };
    const known = this.#bases.get(key);
    const base = known ?? this.#baseOf(key, new Set(part));
    this.#bases.delete(key);
    this.#bases.set(key, base);
    this.#last = base;
    const [oldest] = this.#bases.keys();
    if (this.#bases.size > KEPT_BASES && oldest !== undefined) this.#bases.delete(oldest);
    if (known === undefined) return { base, isFirst: part.length < traits.size };
    base.watched ??= atOnce(this.#watch(base, new Set(part)));
    return { base, isFirst: false };
  }

  #isFrequent(trait: number): boolean {
    const place = this.#places.get(trait);
    return place !== undefined && this.#frequent[place] === 1;
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
  *#watch({ answers }: Base, part: ReadonlySet<number>): Pieces<Watched> {
    const places: number[] = [];
    const indexes: number[] = [];
    const starts = new Uint32Array(this.#naming.length + 1);
    for (const [index, condition] of this.#conditions.entries()) {
      if (index % PIECE === 0) yield;
      // What is met isn't any more with a trait that must not be; to have more of the others changes nothing.
      const traits = answers[index] === 1 ? condition.none : this.#rarestUnmet(condition, part);
      for (const trait of distinct(traits)) {
        const place = this.#places.get(trait);
        if (place === undefined || this.#frequent[place] === 1) continue;
        places.push(place);
        indexes.push(index);
        starts[place + 1] = (starts[place + 1] ?? 0) + 1;
      }
    }
    yield;
    for (let place = 1; place < starts.length; place++) starts[place] = (starts[place] ?? 0) + (starts[place - 1] ?? 0);
    const items = new Uint32Array(indexes.length);
    const next = starts.slice();
    for (const [at, place] of places.entries()) {
      const free = next[place] ?? 0;
      items[free] = indexes[at] ?? 0;
      next[place] = free + 1;
    }
    return { starts, items };
  }

  /** Traits of which one has to be there before the condition can be met; of several such lists the one that fewest conditions name. */
  #rarestUnmet({ all, any, none }: Condition<number>, part: ReadonlySet<number>): readonly number[] {
    // With more traits it never is.
    for (const trait of none) if (part.has(trait)) return NONE;
    let best: readonly number[] = NONE;
    let least = Infinity;
    let rarest: number | undefined;
    for (const trait of all) {
      const cost = part.has(trait) ? Infinity : this.#costOf(trait);
      if (cost < least) [rarest, least] = [trait, cost];
    }
    for (const clause of any) {
      if (clause.some((trait) => part.has(trait))) continue;
      let cost = 0;
      for (const trait of clause) cost += this.#costOf(trait);
      if (cost < least) [best, least, rarest] = [clause, cost, undefined];
    }
    return rarest === undefined ? best : all.length === 1 ? all : [rarest];
  }

  #costOf(trait: number): number {
    const place = this.#places.get(trait);
    return place === undefined || this.#frequent[place] === 1 ? 0 : (this.#naming[place] ?? 0);
  }
}

const NO_PLACES = new Uint8Array();
const NO_TRAITS: ReadonlySet<number> = new Set();
const NONE: readonly number[] = [];
const NOTHING: Condition<number> = { all: [], any: [], none: [] };

function traitsOf({ all, any, none }: Condition<number>): readonly number[] {
  if (any.length + none.length === 0) return all;
  return [...all, ...any.flat(), ...none];
}

function answersOf({ key, answers }: Base, changed: readonly number[]): Answers {
  const isBrief = key === '' && changed.length < 2;
  return { key: isBrief ? (changed[0] ?? -1) : `${key}:${changed.join(',')}`, base: key, answers, changed };
}

const distinct = (traits: readonly number[]): Iterable<number> => (traits.length > 1 ? new Set(traits) : traits);

/** Each once. */
function ascending(indexes: number[]): number[] {
  indexes.sort((one, next) => one - next);
  return indexes.filter((index, at) => index !== indexes[at - 1]);
}

/** True if something with these traits meets the condition. */
export function matches({ all, any, none }: Condition<number>, traits: ReadonlySet<number>): boolean {
  for (const trait of all) if (!traits.has(trait)) return false;
  for (const clause of any) if (!clause.some((trait) => traits.has(trait))) return false;
  for (const trait of none) if (traits.has(trait)) return false;
  return true;
}
