/** Whole Jest runs with our set-up, tear-down and reporter, on small suites: what a run that leaves something behind looks like. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { expect, test } from '@jest/globals';

/** Runs one test file; its text may use `left`, a prefix for what the test may leave in the temporary folder. */
function run(source: string, env: Readonly<Record<string, string>> = {}) {
  const top = mkdtempSync(join(tmpdir(), 'attic-'));
  try {
    const config = {
      globalSetup: resolve('scripts/jest/global-setup.mjs'),
      globalTeardown: resolve('scripts/jest/global-teardown.mjs'),
      reporters: ['default', resolve('scripts/jest/total-reporter.mjs')],
      testMatch: ['**/small.test.mjs'],
    };
    writeFileSync(join(top, 'jest.config.json'), JSON.stringify(config));
    writeFileSync(
      join(top, 'small.test.mjs'),
      `import { spawn } from 'node:child_process'; import { mkdirSync, writeFileSync } from 'node:fs';
       import { tmpdir } from 'node:os'; const left = tmpdir() + '/tt' + process.pid + '-left';\n${source}`,
    );
    const args = [
      '--experimental-vm-modules',
      '--disable-warning=ExperimentalWarning',
      resolve('node_modules/jest/bin/jest.js'),
    ];
    const child = spawnSync(process.execPath, args, {
      cwd: top,
      encoding: 'utf8',
      env: { ...process.env, TORTIE_LEFTOVERS_MS: '2000', ...env },
    });
    return { status: child.status, stderr: child.stderr, last: child.stdout.trimEnd().split('\n').at(-1) };
  } finally {
    rmSync(top, { recursive: true });
  }
}

test('tests that leave nothing pass; skipped ones are counted', () => {
  expect(run(`test('a', () => {}); test.skip('b', () => {});`)).toMatchObject({
    status: 0,
    last: '1 passed, 0 failed, 1 skipped',
  });
});

test('a suite that cannot be loaded is a failure', () => {
  expect(run(`import './nowhere.mjs';`)).toMatchObject({ status: 1, last: '0 passed, 1 failed, 0 skipped' });
});

test('what is left behind fails the run by name, though every test passed', () => {
  const outcome = run(
    `test('a', () => { mkdirSync(left); spawn('sleep', ['60'], { detached: true, stdio: 'ignore' }).unref(); });`,
  );
  try {
    expect(outcome).toMatchObject({ status: 1, last: '1 passed, 1 failed, 0 skipped' });
    expect(outcome.stderr).toMatch(
      /the tests left behind:\n {2}process \d+ \(sleep 60\)\n {2}folder \S+\/tt\d+-left\n/,
    );
  } finally {
    const pid = /process (\d+) \(sleep 60\)/.exec(outcome.stderr)?.[1];
    if (pid !== undefined) process.kill(Number(pid), 'SIGKILL');
    for (const name of readdirSync(tmpdir()))
      if (/^tt\d+-left$/.test(name)) rmSync(join(tmpdir(), name), { recursive: true });
  }
});

test('what could be looked at before the tests, and can not any more, fails the run', () => {
  const bin = mkdtempSync(join(tmpdir(), 'attic-'));
  try {
    const tool = join(bin, 'ip');
    writeFileSync(tool, '#!/bin/sh\necho "[]"\n', { mode: 0o755 });
    const source = `test('a', () => writeFileSync('${tool}', '#!/bin/sh\\necho no memory >&2; exit 3\\n'));`;
    const outcome = run(source, { PATH: `${bin}:${process.env['PATH']}` });
    expect(outcome).toMatchObject({ status: 1, last: '1 passed, 1 failed, 0 skipped' });
    expect(outcome.stderr).toContain('could not look: ip: no memory');
  } finally {
    rmSync(bin, { recursive: true });
  }
});

test('a run that is one of several writes its total to a file instead of saying it', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'attic-')), 'total');
  try {
    const { status, last } = run(`test('a', () => {}); test('b', () => { throw new Error(); });`, {
      TORTIE_TEST_TOTAL: file,
    });
    expect({ status, total: JSON.parse(readFileSync(file, 'utf8')) }).toEqual({
      status: 1,
      total: { passed: 1, failed: 1, skipped: 0 },
    });
    expect(last).not.toContain('passed');
  } finally {
    rmSync(dirname(file), { recursive: true });
  }
});
