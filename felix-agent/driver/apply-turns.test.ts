import { beforeEach, describe, expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import { ApplyTurns } from './apply-turns.ts';

const failures = (...objects: string[]) => objects.map((object) => ({ object, reason: 'no' }));
const news = { retry: false };
const retry = { retry: true };

let clock: FakeClock;
let turns: ApplyTurns;
let due: number;

beforeEach(() => {
  clock = new FakeClock();
  due = 0;
  turns = new ApplyTurns(clock, () => due++);
});

/** After how many ms what failed is due. */
function pause(): number {
  const before = due;
  for (let waited = 1; waited <= 60_000; waited++) {
    clock.advance(1);
    if (due > before) return waited;
  }
  return Infinity;
}

describe('turns of a programmer', () => {
  test.each([
    ['nothing', [], undefined],
    ['news', [news], news],
    ['news twice', [news, news], news],
    ['news and a retry', [news, retry], retry],
    ['a retry and news', [retry, news], retry],
  ])('%s, once', (_, wants, taken) => {
    for (const want of wants) turns.want(want);
    expect(turns.take()).toEqual(taken);
    expect(turns.take()).toBeUndefined();
  });

  test('pauses grow up to ten seconds, and what is over then is a retry', () => {
    const pauses = Array.from({ length: 9 }, () => {
      turns.done(retry, failures('a'));
      const waited = pause();
      expect(turns.take()).toEqual(retry);
      return waited;
    });
    expect(pauses).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
  });

  test('what failed and fails no more has no pause, and the next one begins short', () => {
    turns.done(retry, failures('a'));
    pause();
    turns.done(turns.take() ?? news, failures('a'));
    turns.done(news, []);
    expect(clock.pending).toBe(0);
    turns.done(news, failures('a'));
    expect(pause()).toBe(100);
  });

  test('news leaves the pause alone', () => {
    turns.done(retry, failures('a', 'b'));
    pause();
    turns.done(turns.take() ?? news, failures('a', 'b'));
    clock.advance(150);
    turns.want(news);
    turns.done(turns.take() ?? retry, failures('b'));
    expect(pause()).toBe(50);
    turns.done(turns.take() ?? news, failures('b'));
    expect(pause()).toBe(400);
  });

  test.each([
    ['by news', news],
    ['at a retry', retry],
  ])('something new that fails %s is tried again soon', (_, request) => {
    for (let count = 0; count < 4; count++) {
      turns.done(retry, failures('a'));
      pause();
      turns.take();
    }
    turns.done(request, failures('a', 'new'));
    expect(pause()).toBe(100);
  });

  test('a pause that ends while an apply is under way is the next turn', () => {
    turns.done(retry, failures('a'));
    turns.want(news);
    const request = turns.take() ?? retry;
    clock.advance(100);
    turns.done(request, failures('a'));
    expect(turns.take()).toEqual(retry);
    expect(clock.pending).toBe(0);
  });

  test('whoever is let go is not called any more', () => {
    turns.done(retry, failures('a'));
    turns[Symbol.dispose]();
    expect(clock.pending).toBe(0);
  });
});
