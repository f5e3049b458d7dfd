import type { Family } from '#api/cidr.ts';
import { Dimension, dimensionCount } from '../bpf-types.gen.ts';
import type { RuleId } from '../../policy.ts';
import { CHUNK_RULES, CHUNK_WORDS } from './classifier-maps.ts';
import type { FlatRules } from './flat-rules.ts';
import { type Condition, conditionsOf, traitKey, type TraitName } from './rule-conditions.ts';
import { difference, type Signature } from './signature.ts';

/** Gives traits their numbers. */
export type TraitNumber = (name: TraitName) => number;

/** Rules that ask the same in a dimension. */
interface Group {
  readonly condition: Condition<number>;
  readonly positions: number[];
  /** What it says of a class without traits. */
  readonly matchesNothing: boolean;
}

/** A unit's rules in one dimension. */
export class DimensionForm {
  readonly #groups: readonly Group[];
  readonly #byTrait = new Map<number, number[]>();
  /** The bits of a class without traits. */
  readonly defaultBits: Uint32Array;

  constructor(groups: readonly Group[], chunks: number) {
    this.#groups = groups;
    this.defaultBits = new Uint32Array(chunks * CHUNK_WORDS);
    for (const [index, { condition, positions, matchesNothing }] of groups.entries()) {
      if (matchesNothing) flip(this.defaultBits, positions);
      for (const trait of new Set([...condition.all, ...condition.any.flat(), ...condition.none])) {
        const known = this.#byTrait.get(trait);
        if (known === undefined) this.#byTrait.set(trait, [index]);
        else known.push(index);
      }
    }
  }

  get traits(): Iterable<number> {
    return this.#byTrait.keys();
  }

  /** The groups that say something else of the class than of one without traits; empty: its row is the default one. */
  otherGroups(signature: Signature): readonly number[] {
    const other: number[] = [];
    for (const index of this.#concerned(signature.traits)) {
      const group = this.#groups[index];
      if (group !== undefined && matches(group.condition, signature) !== group.matchesNothing) other.push(index);
    }
    return other.sort((one, next) => one - next);
  }

  /** The bits of classes of which these groups say something else. */
  bits(otherGroups: readonly number[]): Uint32Array {
    const bits = this.defaultBits.slice();
    for (const index of otherGroups) flip(bits, this.#groups[index]?.positions ?? []);
    return bits;
  }

  /** True if some rule says of one what it doesn't say of the other. */
  tellsApart(one: Signature, other: Signature, apart: readonly number[]): boolean {
    for (const index of this.#concerned(apart)) {
      const condition = this.#groups[index]?.condition ?? NO_TRAITS;
      if (matches(condition, one) !== matches(condition, other)) return true;
    }
    return false;
  }

  /** The groups that name one of the traits, each once. */
  #concerned(traits: Iterable<number>): Set<number> {
    const found = new Set<number>();
    for (const trait of traits) for (const index of this.#byTrait.get(trait) ?? []) found.add(index);
    return found;
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
export function unitForm({ rules, chunks }: FlatRules, family: Family, number: TraitNumber): UnitForm {
  const last = rules.at(-1)?.position ?? 0;
  const words = new Uint32Array(last + 1);
  const ruleIds: (RuleId | undefined)[] = [];
  const counted = new Set<number>();
  const groups = Array.from({ length: dimensionCount }, () => new Map<string, Group>());
  const numbers = new Map<string, number>();
  const numberOf = (name: TraitName): number => {
    const key = traitKey(name);
    const known = numbers.get(key) ?? number(name);
    numbers.set(key, known);
    return known;
  };
  let named = 0;
  for (const { position, word, id, rule } of rules) {
    words[position] = word;
    ruleIds[position] = id;
    if (rule !== undefined) counted.add(position);
    const conditions = rule === undefined ? undefined : conditionsOf(rule, family);
    for (let dimension = 0; dimension < dimensionCount; dimension++) {
      const asked = conditions?.[dimension] ?? NOTHING;
      const condition = {
        all: asked.all.map(numberOf),
        any: asked.any.map((names) => names.map(numberOf)),
        none: asked.none.map(numberOf),
      };
      if ([...asked.all, ...asked.any.flat(), ...asked.none].some(({ kind }) => kind === 'ipPort'))
        named |= 1 << (8 + dimension);
      const key = JSON.stringify([condition.all, condition.any, condition.none]);
      const group = groups[dimension]?.get(key);
      if (group !== undefined) group.positions.push(position);
      else groups[dimension]?.set(key, { condition, positions: [position], matchesNothing: onNothing(condition) });
    }
  }
  const dimensions = groups.map((ofDimension) => {
    const all = [...ofDimension.values()];
    return all.every(({ condition }) => isNothing(condition)) ? undefined : new DimensionForm(all, chunks);
  });
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
const NO_TRAITS: Condition<number> = { all: [], any: [], none: [] };
const isNothing = ({ all, any, none }: Condition<number>): boolean => all.length + any.length + none.length === 0;
const onNothing = ({ all, any }: Condition<number>): boolean => all.length + any.length === 0;

function matches({ all, any, none }: Condition<number>, { traits }: Signature): boolean {
  return (
    all.every((trait) => traits.has(trait)) &&
    any.every((group) => group.some((trait) => traits.has(trait))) &&
    !none.some((trait) => traits.has(trait))
  );
}

function flip(bits: Uint32Array, positions: readonly number[]): void {
  for (const position of positions) {
    const word = Math.floor(position / CHUNK_RULES) * CHUNK_WORDS + ((position % CHUNK_RULES) >> 5);
    bits[word] = ((bits[word] ?? 0) ^ (1 << (position & 31))) >>> 0;
  }
}
