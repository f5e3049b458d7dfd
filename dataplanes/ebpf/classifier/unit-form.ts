import type { Family } from '#api/cidr.ts';
import { Dimension, dimensionCount } from '../bpf-types.gen.ts';
import type { RuleId } from '../../policy.ts';
import { CHUNK_RULES, CHUNK_WORDS } from './classifier-maps.ts';
import { type Answers, ConditionIndex } from './condition-index.ts';
import type { FlatRules } from './flat-rules.ts';
import type { Pieces } from './pieces.ts';
import { type Condition, conditionsOf, traitKey, type TraitName } from './rule-conditions.ts';
import { difference, type Signature } from './signature.ts';

/** Gives traits their numbers. */
export type TraitNumber = (name: TraitName) => Pieces<number>;

/** Rules that ask the same in a dimension. */
interface Group {
  readonly condition: Condition<number>;
  readonly positions: number[];
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
    if (this.#base?.answers !== answers) {
      const bits = new Uint32Array(this.#words);
      for (const [index, { positions }] of this.#groups.entries()) if (answers[index] === 1) flip(bits, positions);
      this.#base = { answers, bits };
    }
    into.set(this.#base.bits);
    for (const index of changed) flip(into, this.#groups[index]?.positions ?? []);
    return into;
  }

  /** As `bits`, until the next call. */
  bitsForNow(answers: Answers): Uint32Array {
    this.#scratch ??= new Uint32Array(this.#words);
    return this.bits(answers, this.#scratch);
  }

  /** True if some rule says of one what it doesn't say of the other; `apart`: the traits that only one of them has. */
  tellsApart(one: Signature, other: Signature, apart: readonly number[]): boolean {
    if (!this.#index.namesAny(apart)) return false;
    const [first, second] = [this.answers(one), this.answers(other)];
    if (first.base === second.base) return first.key !== second.key;
    const bits = this.bits(first);
    return this.bits(second).some((word, index) => word !== bits[index]);
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
  /** True if the dimension is asked of named ports first. */
  isNamed(dimension: number): boolean;
  /** In how many of the dimensions some rule says of one what it doesn't say of the other. */
  tellsApart(dimensions: readonly number[], one: Signature, other: Signature): number;
}

/** Compiles rules. `number` is called once for each trait that is named. */
export function* unitForm({ rules, chunks }: FlatRules, family: Family, number: TraitNumber): Pieces<UnitForm> {
  const last = rules.at(-1)?.position ?? 0;
  const words = new Uint32Array(last + 1);
  const ruleIds: (RuleId | undefined)[] = [];
  const counted = new Set<number>();
  const groups = Array.from({ length: dimensionCount }, () => new Map<string, Group>());
  const numbers = new Map<string, number>();
  function* numbersOf(names: readonly TraitName[]): Pieces<number[]> {
    const all: number[] = [];
    for (const name of names) {
      const key = traitKey(name);
      const known = numbers.get(key) ?? (yield* number(name));
      numbers.set(key, known);
      all.push(known);
    }
    return all;
  }
  let named = 0;
  let done = 0;
  for (const { position, word, id, rule } of rules) {
    if (++done % 16 === 0) yield;
    words[position] = word;
    ruleIds[position] = id;
    if (rule !== undefined) counted.add(position);
    const conditions = rule === undefined ? undefined : conditionsOf(rule, family);
    for (let dimension = 0; dimension < dimensionCount; dimension++) {
      const asked = conditions?.[dimension] ?? NOTHING;
      const any: number[][] = [];
      for (const clause of asked.any) any.push(yield* numbersOf(clause));
      const condition = { all: yield* numbersOf(asked.all), any, none: yield* numbersOf(asked.none) };
      if (asksNamed(asked)) named |= 1 << (8 + dimension);
      const key = keyOf(condition);
      const group = groups[dimension]?.get(key);
      if (group !== undefined) group.positions.push(position);
      else groups[dimension]?.set(key, { condition, positions: [position] });
    }
  }
  const dimensions: (DimensionForm | undefined)[] = [];
  for (const ofDimension of groups) {
    yield;
    const all = [...ofDimension.values()];
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
    traits: [...numbers.values()],
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

const NOTHING: Condition = { all: [], any: [], none: [] };
const isNothing = ({ all, any, none }: Condition<number>): boolean => all.length + any.length + none.length === 0;
const isNamedSet = ({ kind }: TraitName): boolean => kind === 'ipPort';
const asksNamed = ({ all, any, none }: Condition): boolean =>
  all.some(isNamedSet) || any.some((clause) => clause.some(isNamedSet)) || none.some(isNamedSet);

/** Equal for conditions that are written the same. */
function keyOf({ all, any, none }: Condition<number>): string {
  return `${all.join(',')};${any.length};${any.map((clause) => clause.join(',')).join('/')};${none.join(',')}`;
}

function flip(bits: Uint32Array, positions: readonly number[]): void {
  for (const position of positions) {
    const word = Math.floor(position / CHUNK_RULES) * CHUNK_WORDS + ((position % CHUNK_RULES) >> 5);
    bits[word] = ((bits[word] ?? 0) ^ (1 << (position & 31))) >>> 0;
  }
}
