import { expect, test } from '@jest/globals';
import { backend } from './twin-for-tests.ts';
import { usableBackends } from './usable-backends.ts';

const here = { nodeName: 'here' };
const there = { nodeName: 'there' };
const ending = { ready: false, terminating: true };
const starting = { ready: false, serving: false };
const all = [
  backend('1.ready', 80, there),
  backend('2.ready', 80, here),
  backend('3.ending', 80, { ...ending, ...here }),
  backend('4.ended', 80, { ...ending, ...here, serving: false }),
  backend('5.starting', 80, { ...starting, ...here }),
  backend('6.ending', 80, { ...ending, ...there }),
  backend('7.nowhere', 80),
];
const without = (...numbers: number[]) => all.filter(({ address }) => !numbers.includes(Number(address[0])));

test.each([
  ['those that are ready, on any node', all, 'cluster', [1, 2, 7]],
  ['without a ready one, those that terminate and still serve', without(1, 2, 7), 'cluster', [3, 6]],
  ['nobody who neither is ready nor serves', [all[3], all[4]], 'cluster', []],
  ['nobody of none', [], 'cluster', []],
  ['local: ready ones of this node', all, 'local', [2]],
  ['local: terminating ones of this node, although others are ready elsewhere', without(2), 'local', [3]],
  ['local: nobody where all are elsewhere or nobody knows where', without(2, 3, 4, 5), 'local', []],
  [
    'what is ready although it terminates (publishNotReadyAddresses)',
    [backend('8', 80, { terminating: true }), all[2]],
    'cluster',
    [8],
  ],
] as const)('takes %s', (_, backends, policy, numbers) => {
  const given = backends.flatMap((one) => one ?? []);
  expect(usableBackends(given, policy, 'here').map(({ address }) => Number(address[0]))).toEqual(numbers);
});
