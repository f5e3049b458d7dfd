import { expect, test } from '@jest/globals';
import { HeardSince } from './heard-since.ts';

test('what is told while nobody waits for an answer is not kept', async () => {
  const heard = new HeardSince();
  heard.hear('before');
  expect(heard.has('before')).toBe(false);
  await heard.during(async () => {
    heard.hear('meanwhile');
    expect(['before', 'meanwhile', 'never'].map((place) => heard.has(place))).toEqual([false, true, false]);
  });
  heard.hear('after');
  expect(['meanwhile', 'after'].map((place) => heard.has(place))).toEqual([false, false]);
  const failing = heard.during(async () => {
    expect(['meanwhile', 'after'].map((place) => heard.has(place))).toEqual([false, false]);
    heard.hear('meanwhile');
    throw new Error('no answer');
  });
  await expect(failing).rejects.toThrow('no answer');
  expect(heard.has('meanwhile')).toBe(false);
});
