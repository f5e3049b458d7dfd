/** `.ci/run` itself, with npm and make replaced: whatever fails, its last line counts it and its status says so. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

const TOTAL = 'echo; echo 5 passed, 0 failed, 1 skipped';

test.each([
  { title: 'all is well', last: '5 passed, 0 failed, 1 skipped', status: 0, says: '' },
  {
    title: 'the set-up fails',
    setup: 'exit 1',
    last: '0 passed, 1 failed, 0 skipped',
    status: 1,
    says: 'FAILED: npm run setup',
  },
  {
    title: 'the checks fail',
    make: 'exit 2',
    last: '5 passed, 1 failed, 1 skipped',
    status: 1,
    says: 'FAILED: make check',
  },
  {
    title: 'tests fail',
    tests: 'echo 4 passed, 2 failed, 0 skipped; exit 1',
    last: '4 passed, 2 failed, 0 skipped',
    status: 1,
    says: '',
  },
  {
    title: 'tests and checks fail',
    tests: 'echo 4 passed, 2 failed, 0 skipped; exit 1',
    make: 'exit 2',
    last: '4 passed, 3 failed, 0 skipped',
    status: 1,
    says: 'FAILED: make check',
  },
  {
    title: 'the build fails before any test',
    tests: 'exit 2',
    last: '0 passed, 1 failed, 0 skipped',
    status: 1,
    says: 'FAILED: npm test: status 2',
  },
  { title: 'no total is printed', tests: 'exit 0', last: '0 passed, 1 failed, 0 skipped', status: 1, says: 'no total' },
  {
    title: 'no test ran',
    tests: 'echo 0 passed, 0 failed, 3 skipped',
    last: '0 passed, 1 failed, 3 skipped',
    status: 1,
    says: 'FAILED: npm test: no test ran',
  },
  {
    title: 'a failure is in the status only',
    tests: `${TOTAL}; exit 1`,
    last: '5 passed, 1 failed, 1 skipped',
    status: 1,
    says: 'FAILED: npm test: status 1',
  },
  {
    title: 'the tests hang',
    tests: 'exec sleep 60',
    limit: '0.2s',
    last: '0 passed, 1 failed, 0 skipped',
    status: 1,
    says: 'FAILED: npm test: not done after 0.2s',
  },
])('$title', ({ setup = 'true', tests = TOTAL, make = 'true', limit = '60s', last, status, says }) => {
  const top = mkdtempSync(join(tmpdir(), `tt${process.pid}-ci-`));
  try {
    mkdirSync(join(top, '.ci'));
    cpSync('.ci/run', join(top, '.ci/run'));
    mkdirSync(join(top, 'bin'));
    const npm = `case "$1" in run) ${setup} ;; test) ${tests} ;; esac`;
    writeFileSync(join(top, 'bin/npm'), `#!/bin/sh\n${npm}\n`, { mode: 0o755 });
    writeFileSync(join(top, 'bin/make'), `#!/bin/sh\n${make}\n`, { mode: 0o755 });
    const env = { PATH: `${join(top, 'bin')}:${process.env['PATH']}`, TORTIE_CI_LIMIT: limit };
    const run = spawnSync(join(top, '.ci/run'), { env, encoding: 'utf8' });
    expect([run.stdout.split('\n').at(-2), run.status]).toEqual([last, status]);
    expect(run.stdout).toContain(says);
  } finally {
    rmSync(top, { recursive: true });
  }
});
