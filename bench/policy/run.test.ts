import { expect, test } from '@jest/globals';
import { inTurn, Run } from './run.ts';

const parts = ['connect', 'tcp'];
const runWith = (env: Readonly<Record<string, string>>) => new Run(env, parts, () => {});

test('what is not asked for is not measured; what there is not is refused', async () => {
  await using some = runWith({ ONLY: 'tcp' });
  expect(parts.filter((part) => some.wants(part))).toEqual(['tcp']);
  await using all = runWith({});
  expect(parts.filter((part) => all.wants(part))).toEqual(parts);
  expect(() => runWith({ ONLY: 'tpc' })).toThrow('ONLY=tpc: there are connect, tcp');
  expect(() => runWith({ ROUNDS: 'many' })).toThrow('ROUNDS=many');
});

test.each([
  { MINUTES: '10', rounds: [0, 1, 2] },
  { MINUTES: '0.0000001', rounds: [0] },
])('no further round begins when the time is up: $MINUTES minutes', async ({ MINUTES, rounds }) => {
  await using run = runWith({ ROUNDS: '3', MINUTES });
  expect([...run.turns('tcp')]).toEqual(rounds);
});

test('everybody is first once', () => {
  expect([0, 1, 2, 3].map((round) => inTurn(['a', 'b', 'c'], round).join(''))).toEqual(['abc', 'bca', 'cab', 'abc']);
});

test('what a part has made is taken down, last first, when it fails', async () => {
  await using run = runWith({});
  const down: string[] = [];
  const part = run.within(async (stack) => {
    stack.defer(() => void down.push('lab'));
    stack.defer(() => void down.push('pod'));
    await Promise.reject(new Error('no pod'));
  });
  await expect(part).rejects.toThrow('no pod');
  expect(down).toEqual(['pod', 'lab']);
});

test('nothing more begins after a signal', async () => {
  await using run = runWith({});
  process.emit('SIGTERM', 'SIGTERM');
  expect(run.interrupted).toBe(true);
  expect(() => [...run.turns('tcp')]).toThrow('interrupted');
});
