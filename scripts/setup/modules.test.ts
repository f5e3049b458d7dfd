import { describe, expect, test } from '@jest/globals';
import { difference } from './modules.mjs';

const a = { version: '1.0.0', integrity: 'sha512-a' };
const runtime = (cpu: string) => ({ version: '26.0.0', integrity: `sha512-${cpu}`, optional: true, os: 'linux', cpu });
const lock = {
  packages: {
    '': { version: '0.1.0' },
    'node_modules/a': a,
    'node_modules/node-x64': runtime('x64'),
    'node_modules/node-arm64': runtime('arm64'),
    'node_modules/musl': { ...runtime('x64'), os: ['linux'], cpu: ['x64'], libc: ['musl'] },
    'node_modules/wasm-helper': { ...a, optional: true },
  },
};
const installed = { 'node_modules/a': a, 'node_modules/node-x64': runtime('x64') };
const x64 = { os: 'linux', cpu: 'x64' };

describe('node_modules is installed anew when', () => {
  test.each<[string, Parameters<typeof difference>[1], string]>([
    ['nothing is there', undefined, 'nothing is installed yet'],
    ['a package is missing', { packages: { 'node_modules/node-x64': runtime('x64') } }, 'node_modules/a is missing'],
    ['the runtime of this CPU is missing', { packages: { 'node_modules/a': a } }, 'node_modules/node-x64 is missing'],
    [
      'a version differs',
      { packages: { ...installed, 'node_modules/a': { ...a, version: '0.9.0' } } },
      'node_modules/a is 0.9.0, not 1.0.0 as locked',
    ],
    [
      'contents differ',
      { packages: { ...installed, 'node_modules/a': { ...a, integrity: 'sha512-b' } } },
      'node_modules/a has other contents than package-lock.json says',
    ],
    [
      'a package is too many',
      { packages: { ...installed, 'node_modules/b': a } },
      'node_modules/b is not in package-lock.json',
    ],
  ])('%s', (_title, onDisk, reason) => {
    expect(difference(lock, onDisk, x64)).toBe(reason);
  });
});

test('packages of other CPUs and C libraries are not missed', () => {
  expect(difference(lock, { packages: installed }, x64)).toBeUndefined();
  expect(difference(lock, { packages: installed }, { os: 'linux', cpu: 'arm64' })).toBe(
    'node_modules/node-arm64 is missing',
  );
});
