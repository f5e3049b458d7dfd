import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type Family, parseIp } from '#api/cidr.ts';
import type { AddressValue } from './classifier-maps.ts';
import { type AddressArithmetic, arithmetic, PrefixTree } from './prefix-tree.ts';

interface Net {
  readonly value: AddressValue;
  readonly prefix: number;
}

/** Counts the steps of all trees on it. */
function counting(of: AddressArithmetic): AddressArithmetic & { readonly steps: () => number } {
  let steps = 0;
  return {
    bits: of.bits,
    bitAt: (value, index) => (steps++, of.bitAt(value, index)),
    commonBits: (one, other) => (steps++, of.commonBits(one, other)),
    cut: (value, length) => (steps++, of.cut(value, length)),
    steps: () => steps,
  };
}

const textOf = ({ value, prefix }: Net) => `${value}/${prefix}`;
const net = (text: string): Net => {
  const [address = '', prefix] = text.split('/');
  return { value: parseIp(address).value, prefix: Number(prefix) };
};

describe.each<{ family: Family }>([{ family: 4 }, { family: 6 }])('IPv$family', ({ family }) => {
  const of = arithmetic[family];
  /** Dense, so that prefixes stand in each other: few values in the first, the middle and the last bits. */
  const nets = fc.tuple(fc.nat(3), fc.nat(3), fc.nat(3), fc.nat(of.bits)).map(([first, middle, last, prefix]): Net => {
    const bits = BigInt(of.bits);
    const whole = (BigInt(first) << (bits - 2n)) | (BigInt(middle) << (bits / 2n)) | BigInt(last);
    return { value: of.cut(family === 4 ? Number(whole) : whole, prefix), prefix };
  });
  const isIn = (inner: Net, outer: Net) =>
    outer.prefix < inner.prefix && of.cut(inner.value, outer.prefix) === outer.value;

  test('says what stands around a prefix and what in it, as a list that is searched says', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), nets), { maxLength: 60 }), nets, (changes, asked) => {
        const tree = new PrefixTree<Net>(of);
        const known = new Map<string, Net>();
        for (const [isThere, each] of changes) {
          if (isThere) {
            tree.set(each.value, each.prefix, each);
            known.set(textOf(each), each);
          } else {
            tree.delete(each.value, each.prefix);
            known.delete(textOf(each));
          }
          for (const about of [asked, each]) {
            const all = [...known.values()];
            const around = all.filter((outer) => isIn(about, outer)).sort((a, b) => b.prefix - a.prefix)[0];
            const inside = all.filter(
              (inner) => isIn(inner, about) && !all.some((between) => isIn(inner, between) && isIn(between, about)),
            );
            expect(tree.around(about.value, about.prefix)).toEqual(around);
            expect(tree.inside(about.value, about.prefix).map(textOf).sort()).toEqual(inside.map(textOf).sort());
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  test('has neighbours of any number at a cost that grows with the depth alone', () => {
    const counted = counting(of);
    const tree = new PrefixTree<number>(counted);
    const stepsFor = (first: number, count: number) => {
      const before = counted.steps();
      for (let index = first; index < first + count; index++) {
        const prefix = 24 + (index % 9);
        const value = family === 4 ? index * 256 : BigInt(index) << 104n;
        tree.around(value, prefix);
        tree.inside(value, prefix);
        tree.set(value, prefix, index);
      }
      return (counted.steps() - before) / count;
    };
    const few = stepsFor(0, 1000);
    stepsFor(1000, 20_000);
    const many = stepsFor(21_000, 1000);
    // Of 21,000 a binary tree asks some 5 bits more than of 1,000, each time in four walks.
    expect(many).toBeLessThan(few + 2 * 4 * 8);
  });

  test('gives forks back with what they were for', () => {
    const counted = counting(of);
    const tree = new PrefixTree<number>(counted);
    const prefix = of.bits;
    const values = Array.from({ length: 1000 }, (_, index) => (family === 4 ? index : BigInt(index)));
    const costOf = (value: AddressValue) => {
      const before = counted.steps();
      tree.around(value, prefix);
      return counted.steps() - before;
    };
    const empty = costOf(0);
    for (const value of values) tree.set(value, prefix, 1);
    expect(costOf(0)).toBeGreaterThan(empty);
    for (const value of values) tree.delete(value, prefix);
    expect(costOf(0)).toBe(empty);
  });
});

test.each<[string, string, number]>([
  ['10.0.0.0/8', '10.128.0.0/9', 8],
  ['10.0.0.0/32', '10.0.0.1/32', 31],
  ['255.255.255.255/32', '0.0.0.0/0', 0],
  ['fd00::/8', 'fd00::/8', 128],
  ['fd00::1/128', 'fd00::2/128', 126],
  ['fd00:0:0:1::/64', 'fd00:0:0:0::/64', 63],
  ['8000::/1', '::/0', 0],
])('%s and %s begin with %i equal bits', (one, other, bits) => {
  const of = arithmetic[one.includes(':') ? 6 : 4];
  expect(of.commonBits(net(one).value, net(other).value)).toBe(bits);
});
