import { expect, test } from '@jest/globals';
import { sameData } from './same-data.ts';

test.each([
  [1, 1, true],
  ['a', 'b', false],
  [Infinity, Infinity, true],
  [null, {}, false],
  [[1, [2]], [1, [2]], true],
  [[1, 2], [1], false],
  [[], {}, false],
  [{ a: 1, b: { c: [1] } }, { b: { c: [1] }, a: 1 }, true],
  [{ a: 1 }, { a: 1, b: 2 }, false],
  [{ a: 1, b: 2 }, { a: 1 }, false],
  [{ a: 1, b: undefined }, { a: 1 }, true],
  [{ a: 1 }, { a: 1, b: undefined }, true],
  [undefined, undefined, true],
  [undefined, {}, false],
])('%j and %j: %s', (a, b, expected) => {
  expect(sameData(a, b)).toBe(expected);
});
