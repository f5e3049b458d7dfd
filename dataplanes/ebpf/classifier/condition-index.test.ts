import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { ConditionIndex, matches } from './condition-index.ts';
import { atOnce } from './pieces.ts';

const trait = fc.integer({ min: 1, max: 9 });
const someTraits = (maxLength: number) => fc.array(trait, { maxLength });
/** Trait 1 to 3 are in many. */
const shared = fc.subarray([1, 2, 3]);
const condition = fc.record({
  all: fc.tuple(shared, someTraits(2)).map((parts) => [...new Set(parts.flat())]),
  any: fc.array(someTraits(3), { maxLength: 2 }),
  none: fc.tuple(shared, someTraits(2)).map((parts) => [...new Set(parts.flat())]),
});

test('what an index says is what the conditions say, whoever asks and in which order', () => {
  fc.assert(
    fc.property(
      fc.array(condition, { minLength: 1, maxLength: 300 }),
      fc.array(fc.uniqueArray(fc.integer({ min: 1, max: 10 }), { maxLength: 8 }), { maxLength: 60 }),
      (conditions, signatures) => {
        const index = atOnce(
          ConditionIndex.of(
            conditions,
            conditions.map(() => 1),
          ),
        );
        const byKey = new Map<number | string, string>();
        for (const signature of signatures) {
          const traits = new Set(signature);
          const { answers, changed, key } = index.answers(traits);
          const said = conditions.map((_, each) => (answers[each] === 1) !== changed.includes(each));
          expect(said).toEqual(conditions.map((each) => matches(each, traits)));
          const text = JSON.stringify(said);
          expect(byKey.get(key) ?? text).toBe(text);
          byKey.set(key, text);
        }
      },
    ),
    { numRuns: 60 },
  );
});
