import { describe, expect, it } from '@jest/globals';
import { shrink } from './shrink.ts';

const unlimited = { budgetMs: 60_000 };

describe('shrinking', () => {
  it('leaves what the failure needs, and nothing else', async () => {
    const value = { list: [1, 2, { a: 'x', b: ['y', 'z'] }, 4, 5], other: { deep: [1, 2, 3] } };
    const hasZ = (candidate: unknown) => JSON.stringify(candidate).includes('"z"');
    expect(await shrink<unknown>(value, hasZ, unlimited)).toEqual({ list: [{ b: ['z'] }] });
  });

  it('keeps parts that only fail together', async () => {
    const numbers = Array.from({ length: 100 }, (_, index) => index);
    const fails = (list: readonly number[]) => list.includes(3) && list.includes(97);
    expect(await shrink(numbers, fails, unlimited)).toEqual([3, 97]);
  });

  it('gives back the value when nothing smaller fails, and when there is no time', async () => {
    expect(await shrink({ a: 1 }, () => false, unlimited)).toEqual({ a: 1 });
    expect(await shrink([1, 2], () => true, { budgetMs: -1 })).toEqual([1, 2]);
  });
});
