import { spawnSync } from 'node:child_process';
import { expect, test } from '@jest/globals';

test.each([
  [
    'the table of packages in docs/dependencies.md is the list that the set-up installs from',
    'scripts/gen-dependencies.mjs',
  ],
  ['package-lock.json has every optional package of every platform, as npm ci wants it', 'scripts/complete-lock.mjs'],
])('%s', (_title, script) => {
  const run = spawnSync(process.execPath, [script, '--check'], { encoding: 'utf8' });
  expect([run.status, run.stderr]).toEqual([0, '']);
});
