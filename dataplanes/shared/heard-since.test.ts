import { expect, test } from '@jest/globals';
import { HeardSince } from './heard-since.ts';

test('what is told while nobody waits for an answer is not kept', () => {
  const heard = new HeardSince();
  heard.hear('before');
  expect(heard.has('before')).toBe(false);
  heard.begin();
  heard.hear('meanwhile');
  expect(['before', 'meanwhile', 'never'].map((place) => heard.has(place))).toEqual([false, true, false]);
  heard.end();
  heard.hear('after');
  expect(['meanwhile', 'after'].map((place) => heard.has(place))).toEqual([false, false]);
  heard.begin();
  expect(['meanwhile', 'after'].map((place) => heard.has(place))).toEqual([false, false]);
});
