import type { Family } from '#api/cidr.ts';
import { Dimension, dimensionCount } from '../bpf-types.gen.ts';
import type { RuleId, RuleInfo } from '../../policy.ts';
import { CHUNK_RULES, CHUNK_WORDS } from './classifier-maps.ts';
import { type Answers, ConditionIndex } from './condition-index.ts';
import type { FlatRules } from './flat-rules.ts';
import type { Pieces } from './pieces.ts';
import { type Condition, conditionsOf, NOTHING, type TraitName } from './rule-conditions.ts';
import { type Window, wordsIn } from './row-store.ts';
import { difference, type Signature } from './signature.ts';
import type { TraitClaim } from './trait-claim.ts';

/** Rules that ask the same in a dimension. */
interface Group {
  readonly condition: Condition<number>;
  /** Equal for conditions that are written the same. */
  readonly key: string;
  readonly isNamed: boolean;
  readonly positions: number[];
  /** The group of the same condition in the form that was made of this one last, and whose that is. */
  copy: Group | undefined;
  copyOf: object | undefined;
}

/** A unit's rules in one dimension. */
export class DimensionForm {
  readonly #groups: readonly Group[];
  readonly #index: ConditionIndex;
  readonly #words: number;
  /** The bits of frequent traits that were asked for last. */
  #base: { readonly answers: Uint8Array; readonly bits: Uint32Array } | undefined;

  #scratch: Uint32Array | undefined;

  private constructor(groups: readonly Group[], index: ConditionIndex, chunks: number) {
    this.#groups = groups;
    this.#index = index;
    this.#words = chunks * CHUNK_WORDS;
  }

  static *of(groups: readonly Group[], chunks: number): Pieces<DimensionForm> {
    const index = yield* ConditionIndex.of(
      groups.map(({ condition }) => condition),
      groups.map(({ positions }) => positions.length),
    );
    return new DimensionForm(groups, index, chunks);
  }

  get traits(): Iterable<number> {
    return this.#index.traits;
  }

  /** What the groups say of a class. */
  answers({ traits }: Signature): Answers {
    return this.#index.answers(traits);
  }

  /** The bits of a class of which the groups say this. */
  bits(
    { answers, changed }: Pick<Answers, 'answers' | 'changed'>,
    into: Uint32Array = new Uint32Array(this.#words),
  ): Uint32Array {
    into.set(this.#baseOf(answers));
    for (const index of changed) flip(into, this.#groups[index]?.positions ?? []);
    return into;
  }

  /** As `bits`, until the next call. */
  bitsForNow(answers: Answers): Uint32Array {
    this.#scratch ??= new Uint32Array(this.#words);
    return this.bits(answers, this.#scratch);
  }

  /** The chunks from the first to the last in which they say something else than their frequent traits alone do; undefined: in none. */
  windowOf({ changed }: Answers): Window | undefined {
    let [first, last] = [Infinity, -1];
    for (const index of changed) {
      // Positions ascend, and each is of one group.
      const positions = this.#groups[index]?.positions ?? [];
      first = Math.min(first, positions[0] ?? Infinity);
      last = Math.max(last, positions.at(-1) ?? -1);
    }
    if (last < 0) return undefined;
    const chunk = Math.floor(first / CHUNK_RULES);
    return { first: chunk, length: Math.floor(last / CHUNK_RULES) - chunk + 1 };
  }

  /** The bits of these chunks alone, where outside of them nothing is changed (`windowOf`); until the next call. */
  wordsForNow({ answers, changed }: Answers, { first, length }: Window): Uint32Array {
    this.#scratch ??= new Uint32Array(this.#words);
    const words = this.#scratch.subarray(0, length * CHUNK_WORDS);
    words.set(wordsIn(this.#baseOf(answers), { first, length }));
    for (const index of changed) flip(words, this.#groups[index]?.positions ?? [], first * CHUNK_RULES);
    return words;
  }

  /** True if some rule names one of its traits. */
  names({ traits }: Signature): boolean {
    for (const trait of traits) if (this.#index.namesAny([trait])) return true;
    return false;
  }

  /** True if some rule says of one what it doesn't say of the other; `apart`: the traits that only one of them has. */
  tellsApart(one: Signature, other: Signature, apart: readonly number[]): boolean {
    if (!this.#index.namesAny(apart)) return false;
    const [first, second] = [this.answers(one), this.answers(other)];
    if (first.base === second.base) return first.key !== second.key;
    const bits = this.bits(first);
    return this.bits(second).some((word, index) => word !== bits[index]);
  }

  #baseOf(answers: Uint8Array): Uint32Array {
    if (this.#base?.answers !== answers) {
      const bits = new Uint32Array(this.#words);
      for (const [index, { positions }] of this.#groups.entries()) if (answers[index] === 1) flip(bits, positions);
      this.#base = { answers, bits };
    }
    return this.#base.bits;
  }

  /** How many answers were worked out so far: what its time depends on. */
  get looked(): number {
    return this.#index.looked;
  }
}

/** A unit's rules as they are looked up. */
export interface UnitForm {
  readonly chunks: number;
  readonly words: Uint32Array;
  /** By position; holes where no rule is. */
  readonly ruleIds: readonly (RuleId | undefined)[];
  /** The places of rules; the others with an id are ends. */
  readonly counted: ReadonlySet<number>;
  readonly mask: number;
  /** By dimension; undefined where no rule asks anything. */
  readonly dimensions: readonly (DimensionForm | undefined)[];
  /** All that its conditions name, each once. */
  readonly traits: readonly number[];
  /** What its rules ask, by dimension. */
  readonly asked: ReadonlyMap<RuleInfo, readonly Group[]>;
  /** True if the dimension is asked of named ports first. */
  isNamed(dimension: number): boolean;
  /** In how many of the dimensions some rule says of one what it doesn't say of the other. */
  tellsApart(dimensions: readonly number[], one: Signature, other: Signature): number;
}

/** Compiles rules. `before`: the unit's form so far; rules that are in it, too, ask what they asked. */
export function* unitForm(
  { rules, chunks }: FlatRules,
  family: Family,
  claim: TraitClaim,
  before: UnitForm | undefined,
): Pieces<UnitForm> {
  const last = rules.at(-1)?.position ?? 0;
  const words = new Uint32Array(last + 1);
  const ruleIds: (RuleId | undefined)[] = [];
  const counted = new Set<number>();
  const asked = new Map<RuleInfo, readonly Group[]>();
  const groups = new Groups(family, claim);
  let done = 0;
  for (const { position, word, id, rule } of rules) {
    if (++done % 16 === 0) yield;
    words[position] = word;
    ruleIds[position] = id;
    let own: readonly Group[];
    if (rule === undefined) own = groups.ofNothing();
    else {
      counted.add(position);
      const known = before?.asked.get(rule);
      own = (known === undefined ? undefined : groups.copies(known)) ?? (yield* groups.of(rule));
      asked.set(rule, own);
    }
    for (const { positions } of own) positions.push(position);
  }
  const named = groups.named << 8;
  const dimensions: (DimensionForm | undefined)[] = [];
  for (const all of groups.byDimension()) {
    yield;
    const isAsked = all.some(({ condition }) => !isNothing(condition));
    dimensions.push(isAsked ? yield* DimensionForm.of(all, chunks) : undefined);
  }
  const used = dimensions.reduce((mask, form, dimension) => (form === undefined ? mask : mask | (1 << dimension)), 0);
  return {
    chunks,
    words,
    ruleIds,
    counted,
    mask: used | named,
    dimensions,
    traits: claim.traits,
    asked,
    isNamed: (dimension) => (named & (1 << (8 + dimension))) !== 0,
    tellsApart: (asked, one, other) => {
      const apart = difference(one, other);
      return asked.filter((dimension) => dimensions[dimension]?.tellsApart(one, other, apart) === true).length;
    },
  };
}

/** The dimensions that ask for classes of addresses, and of services. */
export const ADDRESS_DIMENSIONS: readonly number[] = [Dimension.source, Dimension.destination];
export const SERVICE_DIMENSIONS: readonly number[] = [Dimension.service, Dimension.sourcePort];

const isNothing = ({ all, any, none }: Condition<number>): boolean => all.length + any.length + none.length === 0;
const isNamedSet = ({ kind }: TraitName): boolean => kind === 'ipPort';
const asksNamed = ({ all, any, none }: Condition): boolean =>
  all.some(isNamedSet) || any.some((clause) => clause.some(isNamedSet)) || none.some(isNamedSet);

function keyOf({ all, any, none }: Condition<number>): string {
  if (any.length === 0) return none.length === 0 ? all.join(',') : `${all.join(',')};;${none.join(',')}`;
  return `${all.join(',')};${any.length};${any.map((clause) => clause.join(',')).join('/')};${none.join(',')}`;
}

/** The groups of a form that is being made. */
class Groups {
  readonly #family: Family;
  readonly #claim: TraitClaim;
  /** By dimension, by what they ask. */
  readonly #groups = Array.from({ length: dimensionCount }, () => new Map<string, Group>());
  #nothing: readonly Group[] | undefined;
  /** The dimensions in which sets of named ports are asked for, a bit each. */
  named = 0;

  constructor(family: Family, claim: TraitClaim) {
    this.#family = family;
    this.#claim = claim;
  }

  /** Of what every packet meets. */
  ofNothing(): readonly Group[] {
    this.#nothing ??= this.#groups.map((_, dimension) => this.#group(dimension, NOTHING, '', false));
    return this.#nothing;
  }

  /** Of the rule, by dimension. */
  *of(rule: RuleInfo): Pieces<readonly Group[]> {
    const own: Group[] = [];
    for (const [dimension, asked] of conditionsOf(rule, this.#family).entries()) {
      if (asked === NOTHING) {
        own.push(this.#group(dimension, NOTHING, '', false));
        continue;
      }
      const all = yield* this.#numbers(asked.all);
      const any: (readonly number[])[] = [];
      for (const clause of asked.any) any.push(yield* this.#numbers(clause));
      const condition = { all, any, none: yield* this.#numbers(asked.none) };
      own.push(this.#group(dimension, condition, keyOf(condition), asksNamed(asked)));
    }
    return own;
  }

  /** Those that ask the same as these of an earlier form; undefined: what they name may mean something else now. */
  copies(before: readonly Group[]): readonly Group[] | undefined {
    const own: Group[] = [];
    for (const [dimension, group] of before.entries()) {
      if (group.copyOf !== this) {
        const { condition, key, isNamed } = group;
        if (!this.#namesAgain(condition)) return undefined;
        group.copy = this.#group(dimension, condition, key, isNamed);
        group.copyOf = this;
      }
      if (group.copy !== undefined) own.push(group.copy);
    }
    return own;
  }

  byDimension(): readonly (readonly Group[])[] {
    return this.#groups.map((ofDimension) => [...ofDimension.values()]);
  }

  #group(dimension: number, condition: Condition<number>, key: string, isNamed: boolean): Group {
    if (isNamed) this.named |= 1 << dimension;
    const ofDimension = this.#groups[dimension];
    let group = ofDimension?.get(key);
    if (group === undefined) {
      group = { condition, key, isNamed, positions: [], copy: undefined, copyOf: undefined };
      ofDimension?.set(key, group);
    }
    return group;
  }

  #namesAgain({ all, any, none }: Condition<number>): boolean {
    const claim = this.#claim;
    for (const trait of all) if (!claim.again(trait)) return false;
    for (const clause of any) for (const trait of clause) if (!claim.again(trait)) return false;
    for (const trait of none) if (!claim.again(trait)) return false;
    return true;
  }

  *#numbers(names: readonly TraitName[]): Pieces<readonly number[]> {
    if (names.length === 0) return NO_NUMBERS;
    const numbers: number[] = [];
    for (const name of names) numbers.push(yield* this.#claim.number(name));
    return numbers;
  }
}

const NO_NUMBERS: readonly number[] = [];

/** `from`: the position of the first bit. */
function flip(bits: Uint32Array, positions: readonly number[], from = 0): void {
  for (const position of positions) {
    const word = (position - from) >> 5;
    bits[word] = ((bits[word] ?? 0) ^ (1 << (position & 31))) >>> 0;
  }
}
