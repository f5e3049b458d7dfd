import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { difference, OwnTraits, type Signature, Signatures } from './signature.ts';

const listOf = ({ traits }: Signature) => [...traits];

describe('signatures', () => {
  test('of equal traits are one, by whatever steps they came', () => {
    const signatures = new Signatures();
    const { empty } = signatures;
    const one = signatures.with(signatures.with(empty, 3), 10);
    const other = signatures.without(signatures.with(signatures.with(signatures.with(empty, 10), 7), 3), 7);
    expect(one).toBe(other);
    expect(listOf(one)).toEqual([3, 10]);
    expect(
      signatures.changed(
        one,
        new Map([
          [3, false],
          [10, false],
        ]),
      ),
    ).toBe(empty);
  });

  test('are right however little is remembered, and no more is remembered than that', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.tuple(fc.nat(9), fc.boolean()), { maxLength: 5 }), { maxLength: 40 }),
        fc.integer({ min: 20, max: 60 }),
        (series, most) => {
          const signatures = new Signatures(most);
          const wanted = new Set<number>();
          let signature = signatures.empty;
          for (const changes of series) {
            for (const [trait, comes] of changes) {
              if (comes) wanted.add(trait);
              else wanted.delete(trait);
            }
            signature = signatures.changed(signature, new Map(changes));
            const sorted = [...wanted].sort((a, b) => a - b);
            expect(listOf(signature)).toEqual(sorted);
            expect(signature.key).toBe(sorted.join(','));
            expect(signatures.union(signature, signatures.with(signatures.empty, 100)).key).toBe(
              [...sorted, 100].join(','),
            );
            expect(signatures.remembered).toBeLessThanOrEqual(most);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test('a difference names what only one has', () => {
    const signatures = new Signatures();
    const of = (...traits: number[]) =>
      signatures.changed(signatures.empty, new Map(traits.map((trait) => [trait, true])));
    expect(difference(of(1, 2, 3), of(2, 4))).toEqual([1, 3, 4]);
    expect(difference(of(1), of(1))).toEqual([]);
  });
});

describe("something's own traits", () => {
  test('that change a hundred times before somebody asks are one step: what lies between is never made', () => {
    const signatures = new Signatures();
    const own = Array.from({ length: 50 }, () => new OwnTraits(signatures));
    for (let trait = 0; trait < 100; trait++) for (const each of own) each.add(trait);
    for (const each of own) expect(each.signature.traits.size).toBe(100);
    // The signature, and the step to it; in steps of one it would be some 5,000.
    expect(signatures.remembered).toBe(100 + 101);
  });

  test('that come and go before somebody asks cost nothing', () => {
    const signatures = new Signatures();
    const own = new OwnTraits(signatures);
    own.add(1);
    own.remove(1);
    own.remove(2);
    expect(own.signature).toBe(signatures.empty);
    expect(signatures.remembered).toBe(0);
  });

  test('are those of the last changes', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(5), fc.constantFrom('add', 'remove', 'ask'))), (acts) => {
        const own = new OwnTraits(new Signatures());
        const wanted = new Set<number>();
        for (const [trait, act] of acts) {
          if (act === 'add') {
            own.add(trait);
            wanted.add(trait);
          } else if (act === 'remove') {
            own.remove(trait);
            wanted.delete(trait);
          } else expect(listOf(own.signature)).toEqual([...wanted].sort((a, b) => a - b));
        }
        expect(listOf(own.signature)).toEqual([...wanted].sort((a, b) => a - b));
      }),
    );
  });
});
