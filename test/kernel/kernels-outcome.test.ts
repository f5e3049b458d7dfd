import { describe, expect, test } from '@jest/globals';
import { packageFolders } from '#test/kernels/node-packages.ts';
import { type Ending, marks, outcomeOf, sumOf } from '#test/kernels/outcome.ts';

const up = `${marks.up}6.1.0-50-cloud-amd64`;
const ended = (status: number) => `${marks.ended}${status}`;

describe("a kernel's outcome", () => {
  test.each<[string, string[], Ending, { passed: number; failed: number; skipped: number; problem?: RegExp }]>([
    ['all passed', [up, '5 passed, 0 failed, 1 skipped', ended(0)], 'itself', { passed: 5, failed: 0, skipped: 1 }],
    ['some failed', [up, '5 passed, 2 failed, 0 skipped', ended(1)], 'itself', { passed: 5, failed: 2, skipped: 0 }],
    ['it never came up', ['nothing'], 'boot-limit', { passed: 0, failed: 1, skipped: 0, problem: /not up in time/ }],
    ['it hung', [up], 'run-limit', { passed: 0, failed: 1, skipped: 0, problem: /not done in time/ }],
    ['it panicked', [up], 'itself', { passed: 0, failed: 1, skipped: 0, problem: /its console says why/ }],
    [
      'it hung after the total',
      [up, '5 passed, 0 failed, 0 skipped', ended(0)],
      'run-limit',
      { passed: 5, failed: 1, skipped: 0, problem: /not done in time/ },
    ],
    [
      'another kernel ran',
      [`${marks.up}6.12.1`, '5 passed, 0 failed, 0 skipped', ended(0)],
      'itself',
      { passed: 5, failed: 1, skipped: 0, problem: /6\.12\.1 ran, not 6\.1\./ },
    ],
    [
      'the tests failed without a failed test',
      [up, '5 passed, 0 failed, 0 skipped', ended(1)],
      'itself',
      { passed: 5, failed: 1, skipped: 0, problem: /although none failed/ },
    ],
    ['no total', [up, ended(134)], 'itself', { passed: 0, failed: 1, skipped: 0, problem: /status 134 and without/ }],
    [
      'nothing but skipped tests',
      [up, '0 passed, 0 failed, 9 skipped', ended(0)],
      'itself',
      { passed: 0, failed: 1, skipped: 9, problem: /no test ran/ },
    ],
  ])('%s', (_title, lines, ending, { problem, ...total }) => {
    const outcome = outcomeOf(lines, ending, '6.1.');
    expect(outcome).toMatchObject(total);
    if (problem === undefined) expect(outcome).not.toHaveProperty('problem');
    else expect(outcome.problem).toMatch(problem);
  });

  test('kernels add up', () => {
    const [one, two] = [
      { passed: 1, failed: 2, skipped: 3 },
      { passed: 10, failed: 20, skipped: 30, problem: 'x' },
    ];
    expect(sumOf([one, two])).toEqual({ passed: 11, failed: 22, skipped: 33 });
  });
});

describe('the folders of a package and of what it needs', () => {
  const lock = {
    packages: {
      '': { dependencies: { a: '1' } },
      'node_modules/a': { dependencies: { b: '1', c: '1' }, peerDependencies: { 'not-installed': '1' } },
      'node_modules/a/node_modules/b': { dependencies: { c: '1', d: '1' } },
      'node_modules/b': {},
      'node_modules/c': { optionalDependencies: { a: '1' } },
      'node_modules/@e/d': {},
      'node_modules/d': { dependencies: { '@e/d': '1' } },
      'node_modules/unused': {},
    },
  };

  test('are found as Node finds them: innermost first, in a circle once', () => {
    expect(packageFolders(lock, ['a'])).toEqual([
      'node_modules/@e/d',
      'node_modules/a',
      'node_modules/a/node_modules/b',
      'node_modules/c',
      'node_modules/d',
    ]);
  });

  test('a name that the lock does not have is refused', () => {
    expect(() => packageFolders(lock, ['x'])).toThrow(/has no x/);
  });
});
