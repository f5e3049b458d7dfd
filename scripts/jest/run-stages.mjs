// @ts-check
// Runs Jest once for each stage, one after the other, and says the sum as the last line: the tests on a real Kubernetes want both
// processors for themselves. Arguments go to each run: what they select nothing of passes.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TOTAL_FILE, totalLine } from './total-reporter.mjs';

const STAGES = [
  ['--selectProjects', 'unit', 'kernel'],
  ['--selectProjects', 'cluster', '--runInBand'],
];
const JEST = [
  '--experimental-vm-modules',
  '--disable-warning=ExperimentalWarning',
  fileURLToPath(new URL('../../node_modules/jest/bin/jest.js', import.meta.url)),
  '--passWithNoTests',
];

const folder = mkdtempSync(join(tmpdir(), 'tt-stages-'));
const sum = { passed: 0, failed: 0, skipped: 0 };
try {
  for (const [index, stage] of STAGES.entries()) {
    const file = join(folder, String(index));
    // The selection last: it takes every word that follows it.
    const args = [...JEST, ...process.argv.slice(2), ...stage];
    const { status, signal } = spawnSync(process.execPath, args, {
      stdio: 'inherit',
      env: { ...process.env, [TOTAL_FILE]: file },
    });
    // Ctrl-C is meant for all of it.
    if (signal !== null) break;
    const total = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { passed: 0, failed: 0, skipped: 0 };
    // A run that failed without a failed test: its words are above.
    if (status !== 0 && total.failed === 0) total.failed = 1;
    for (const key of /** @type {const} */ (['passed', 'failed', 'skipped'])) sum[key] += total[key];
  }
} finally {
  rmSync(folder, { recursive: true });
}
console.log(totalLine(sum));
process.exitCode = sum.failed === 0 ? 0 : 1;
