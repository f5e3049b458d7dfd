/** Jest runs what one of its projects selects: a test file in none of them would never run, and nobody would see that. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { expect, test } from '@jest/globals';

const notOurs = /^(node_modules|dist|build|\.git)(\/|$)/;

test('every test file belongs to a project', () => {
  const there = readdirSync('.', { recursive: true, encoding: 'utf8' }).filter(
    (path) => path.endsWith('.test.ts') && !notOurs.test(path),
  );
  const jest = resolve('node_modules/jest/bin/jest.js');
  const listed = spawnSync(process.execPath, ['--experimental-vm-modules', jest, '--listTests'], { encoding: 'utf8' });
  const run = listed.stdout.split('\n').flatMap((path) => (path === '' ? [] : [relative('.', path)]));
  expect({ status: listed.status, run: run.toSorted() }).toEqual({ status: 0, run: there.toSorted() });
});
