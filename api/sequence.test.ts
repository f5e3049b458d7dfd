import { expect, test } from '@jest/globals';
import { initialSequence, nextSequence, parseJson, sameSequence, stringifyJson } from './sequence.ts';

const nanos = 1_763_700_000_123_456_789n;

test.each([
  ['{"a":1763700000123456789}', { a: nanos }],
  ['{"a":9007199254740991}', { a: 9007199254740991 }],
  ['{"a":9007199254740992}', { a: 9007199254740992n }],
  ['{"a":18446744073709551615}', { a: 18446744073709551615n }],
  ['{"a":-9007199254740993}', { a: -9007199254740993n }],
  [
    '{"a":0.5,"b":1e30,"c":[1,"1763700000123456789",null,true]}',
    { a: 0.5, b: 1e30, c: [1, '1763700000123456789', null, true] },
  ],
])('%s comes through JSON exactly', (text, value) => {
  expect(parseJson(text)).toEqual(value);
  expect(parseJson(stringifyJson(value))).toEqual(value);
});

test('bigints are written as numbers, also indented', () => {
  expect(stringifyJson({ a: nanos, b: [1n] })).toBe('{"a":1763700000123456789,"b":[1]}');
  expect(stringifyJson({ a: nanos }, 2)).toBe('{\n  "a": 1763700000123456789\n}');
});

test('our own sequence numbers are exact numbers for two hundred years', () => {
  expect(initialSequence(1_763_700_000_123.9)).toBe(1_763_700_000_123_000);
  expect(Number.isSafeInteger(initialSequence(Date.UTC(2255, 0)))).toBe(true);
});

test.each([
  [0, 1],
  [1_763_700_000_123_000, 1_763_700_000_123_001],
  [9007199254740991, 9007199254740992n],
  [nanos, nanos + 1n],
  [41n, 42],
])('after %p comes %p', (before, after) => {
  expect(nextSequence(before)).toBe(after);
});

test('a number and a bigint of the same value are the same sequence number', () => {
  expect(sameSequence(5, 5n)).toBe(true);
  expect(sameSequence(nanos, nanos + 1n)).toBe(false);
});
