import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { RangePool } from './range-pool.ts';

test('runs never overlap, and what is given back is one run again', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 9 }), fc.nat()), { maxLength: 200 }),
      (steps) => {
        const pool = new RangePool(5, 105);
        const taken: { start: number; length: number }[] = [];
        for (const [takes, length, which] of steps) {
          if (takes || taken.length === 0) {
            const start = pool.take(length);
            if (start === undefined) continue;
            expect(start >= 5 && start + length <= 105).toBe(true);
            expect(taken.some((other) => start < other.start + other.length && other.start < start + length)).toBe(
              false,
            );
            taken.push({ start, length });
          } else {
            const [run] = taken.splice(which % taken.length, 1);
            if (run !== undefined) pool.give(run.start, run.length);
          }
          expect(pool.used).toBe(taken.reduce((sum, run) => sum + run.length, 0));
        }
        for (const { start, length } of taken) pool.give(start, length);
        expect(pool.take(100)).toBe(5);
      },
    ),
    { numRuns: 200 },
  );
});
