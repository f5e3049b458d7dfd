import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import { HeapGrowth } from './heap-growth.ts';

function start() {
  const clock = new FakeClock();
  const flags: string[] = [];
  let collect = (): void => undefined;
  let observed = 0;
  const growth = new HeapGrowth(
    clock,
    (onCollection) => {
      collect = onCollection;
      observed += 1;
      return { [Symbol.dispose]: () => (observed -= 1) };
    },
    (flag) => flags.push(flag),
  );
  return { clock, flags, growth, collect: () => collect(), observed: () => observed };
}

const [small, large] = ['--optimize-for-size', '--no-optimize-for-size'];

test('collections now and then leave the steps small', () => {
  const { clock, flags, collect } = start();
  for (let count = 0; count < 20; count++) {
    collect();
    clock.advance(400);
  }
  expect(flags).toEqual([small]);
});

test('while they follow each other closely the steps are large, and small again some seconds after the last such', () => {
  const { clock, flags, collect } = start();
  for (let count = 0; count < 4; count++) collect();
  expect(flags).toEqual([small, large]);
  clock.advance(4_000);
  for (let count = 0; count < 4; count++) collect();
  clock.advance(4_000);
  expect(flags).toEqual([small, large]);
  clock.advance(1_000);
  expect(flags).toEqual([small, large, small]);
  for (let count = 0; count < 4; count++) collect();
  expect(flags).toEqual([small, large, small, large]);
});

test('nothing is changed any more once it is over', () => {
  const { clock, flags, collect, growth, observed } = start();
  for (let count = 0; count < 4; count++) collect();
  growth[Symbol.dispose]();
  clock.advance(10_000);
  expect(flags).toEqual([small, large]);
  expect(observed()).toBe(0);
});

test('V8’s own collections are noticed', async () => {
  const flags: string[] = [];
  const clock = new FakeClock();
  using _growth = new HeapGrowth(clock, undefined, (flag) => flags.push(flag));
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let count = 0; count < 4; count++) collect();
  // They are told in a turn of their own.
  for (let turn = 0; flags.length < 2 && turn < 2_000; turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(flags).toEqual([small, large]);
});
