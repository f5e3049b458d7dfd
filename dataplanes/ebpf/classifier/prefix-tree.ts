import type { Family } from '#api/cidr.ts';
import type { AddressValue } from './classifier-maps.ts';

/** What a tree has to know of addresses of a family. */
export interface AddressArithmetic {
  readonly bits: number;
  /** The bit of this number, the first being 0: 0 or 1. */
  bitAt(value: AddressValue, index: number): 0 | 1;
  /** With how many equal bits two addresses begin. */
  commonBits(one: AddressValue, other: AddressValue): number;
  /** The address without the bits behind a prefix's length. */
  cut(value: AddressValue, length: number): AddressValue;
}

const ipv4: AddressArithmetic = {
  bits: 32,
  bitAt: (value, index) => ((Number(value) >>> (31 - index)) & 1) as 0 | 1,
  commonBits: (one, other) => Math.clz32(Number(one) ^ Number(other)),
  cut: (value, length) => (length === 0 ? 0 : (Number(value) & (0xffff_ffff << (32 - length))) >>> 0),
};

const ipv6: AddressArithmetic = {
  bits: 128,
  bitAt: (value, index) => Number((BigInt(value) >> BigInt(127 - index)) & 1n) as 0 | 1,
  commonBits: (one, other) => {
    const differing = BigInt(one) ^ BigInt(other);
    const upper = Number(differing >> 96n);
    if (upper !== 0) return Math.clz32(upper);
    for (let word = 1; word < 4; word++) {
      const part = Number((differing >> BigInt(96 - 32 * word)) & 0xffff_ffffn);
      if (part !== 0) return 32 * word + Math.clz32(part);
    }
    return 128;
  },
  cut: (value, length) => {
    const rest = BigInt(128 - length);
    return (BigInt(value) >> rest) << rest;
  },
};

/** Addresses of a family: numbers or BigInts (see `AddressValue`). */
export const arithmetic: Readonly<Record<Family, AddressArithmetic>> = { 4: ipv4, 6: ipv6 };

/** A prefix at which something is, or at which two branches part. */
interface Place<T> {
  readonly value: AddressValue;
  readonly prefix: number;
  content: T | undefined;
  /** By the first bit behind the prefix. */
  readonly branches: [Place<T> | undefined, Place<T> | undefined];
}

/** Prefixes of one family by what stands around what: a binary tree in which ways without a fork are one step (a Patricia tree). */
export class PrefixTree<T> {
  readonly #of: AddressArithmetic;
  readonly #root: Place<T> = { value: 0, prefix: 0, content: undefined, branches: [undefined, undefined] };

  constructor(of: AddressArithmetic) {
    this.#of = of;
  }

  /** What is at the longest shorter prefix around this one. */
  around(value: AddressValue, prefix: number): T | undefined {
    let found: T | undefined;
    for (const place of this.#way(value, prefix)) {
      if (place.prefix < prefix) found = place.content ?? found;
    }
    return found;
  }

  /** What is inside the prefix with nothing in between. */
  inside(value: AddressValue, prefix: number): T[] {
    const found: T[] = [];
    const way = this.#way(value, prefix);
    const last = way.at(-1);
    if (last === undefined) return found;
    const open: (Place<T> | undefined)[] =
      last.prefix === prefix ? [...last.branches] : [this.#inner(last, value, prefix)];
    while (open.length > 0) {
      const place = open.pop();
      if (place === undefined) continue;
      if (place.content === undefined) open.push(...place.branches);
      else found.push(place.content);
    }
    return found;
  }

  /** Puts something at a prefix at which nothing is. */
  set(value: AddressValue, prefix: number, content: T): void {
    const parent = this.#way(value, prefix).at(-1) ?? this.#root;
    if (parent.prefix === prefix) {
      parent.content = content;
      return;
    }
    const place: Place<T> = { value, prefix, content, branches: [undefined, undefined] };
    const side = this.#of.bitAt(value, parent.prefix);
    const before = parent.branches[side];
    if (before === undefined) parent.branches[side] = place;
    else if (this.#inner(parent, value, prefix) === before) {
      place.branches[this.#of.bitAt(before.value, prefix)] = before;
      parent.branches[side] = place;
    } else {
      const common = this.#of.commonBits(before.value, value);
      const fork: Place<T> = {
        value: this.#of.cut(value, common),
        prefix: common,
        content: undefined,
        branches: [undefined, undefined],
      };
      const own = this.#of.bitAt(value, common);
      fork.branches[own] = place;
      fork.branches[own === 0 ? 1 : 0] = before;
      parent.branches[side] = fork;
    }
  }

  /** Takes away what is at a prefix, and forks that are none any more. */
  delete(value: AddressValue, prefix: number): void {
    const way = this.#way(value, prefix);
    const last = way.at(-1);
    if (last?.prefix !== prefix) return;
    last.content = undefined;
    for (let index = way.length - 1; index > 0; index--) {
      const [place, parent] = [way[index], way[index - 1]];
      if (place === undefined || parent === undefined || place.content !== undefined) return;
      const [zero, one] = place.branches;
      if (zero !== undefined && one !== undefined) return;
      parent.branches[this.#of.bitAt(place.value, parent.prefix)] = zero ?? one;
    }
  }

  /** The places around a prefix and at it, from the root on. */
  #way(value: AddressValue, prefix: number): Place<T>[] {
    const way: Place<T>[] = [];
    let place: Place<T> | undefined = this.#root;
    while (place !== undefined && place.prefix <= prefix) {
      if (place.prefix > 0 && this.#of.commonBits(place.value, value) < place.prefix) break;
      way.push(place);
      if (place.prefix === prefix) break;
      place = place.branches[this.#of.bitAt(value, place.prefix)];
    }
    return way;
  }

  /** The branch of the last place around a prefix that lies inside the prefix. */
  #inner(last: Place<T>, value: AddressValue, prefix: number): Place<T> | undefined {
    const next = last.branches[this.#of.bitAt(value, last.prefix)];
    if (next === undefined || next.prefix <= prefix) return undefined;
    return this.#of.commonBits(next.value, value) >= prefix ? next : undefined;
  }
}
