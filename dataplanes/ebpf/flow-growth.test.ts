import { expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import type { Logger } from '../logger.ts';
import { FlowGrowth } from './flow-growth.ts';

const hour = 3_600_000;
const deleted = { tcp: 0, udp: 0, icmp: 0, other: 0, pointer: 0 };

function make() {
  const clock = new FakeClock();
  const said: string[] = [];
  const say = (message: string): void => void said.push(message);
  const log: Logger = { debug: say, info: say, warn: say, error: say };
  const state = { isWhole: true };
  const growth = new FlowGrowth({ clock, log, isWhole: () => state.isWhole });
  return { clock, said, state, growth };
}

test('what was noticed is taken once, and said when it begins', () => {
  const { said, growth } = make();
  expect(growth.take()).toBeUndefined();
  growth.notice(6, { elements: 9, maxElements: 10, pointers: 0, deleted });
  const words = growth.take();
  expect([growth.take(), growth.mayBegin(), said]).toEqual([undefined, true, []]);
  growth.begin(words ?? '');
  expect(said).toEqual(['IPv6 flows take 9 of 10 places: their maps get twice the size (bpfMapSizeConntrackScaling)']);
});

test('what could not be had is tried again after an hour', () => {
  const { clock, said, growth } = make();
  growth.fail('no memory');
  expect(said).toEqual([expect.stringMatching(/can't get twice the size: no memory\..*again in an hour/)]);
  clock.advance(hour - 1);
  expect(growth.mayBegin()).toBe(false);
  clock.advance(1);
  expect(growth.mayBegin()).toBe(true);
});

test('what could not be had is tried again at once where other settings ask for it', () => {
  const { growth } = make();
  growth.fail('no memory');
  growth.beginAnew();
  expect(growth.mayBegin()).toBe(true);
});

test('that flows have no room in the size that is configured is said once for each size they need, and anew with other settings', () => {
  const { said, growth } = make();
  const needed = (doublings: number): string[] => {
    said.length = 0;
    growth.need(doublings);
    return [...said];
  };
  const words = (times: number) => [
    expect.stringContaining(`have no room in the size that is configured: their maps get ${times} times that`),
  ];
  expect(needed(2)).toEqual(words(4));
  expect(needed(2)).toEqual([]);
  expect(needed(3)).toEqual(words(8));
  growth.beginAnew();
  expect(needed(3)).toEqual(words(8));
});

test('while maps are not filled it waits, and says so once each time', () => {
  const { said, state, growth } = make();
  state.isWhole = false;
  expect([growth.mayBegin(), growth.mayBegin(), said.length]).toEqual([false, false, 1]);
  state.isWhole = true;
  expect([growth.mayBegin(), said.length]).toEqual([true, 1]);
  state.isWhole = false;
  expect([growth.mayBegin(), said.length]).toEqual([false, 2]);
});
