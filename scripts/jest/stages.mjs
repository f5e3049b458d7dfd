// @ts-check
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TOTAL_FILE } from './total-reporter.mjs';

/** @typedef {{ passed: number, failed: number, skipped: number }} Total */

/**
 * Runs one Node process for each stage, one after the other, each with the variable that names a file for its total.
 * @param {readonly (readonly string[])[]} stages arguments of each
 * @returns {Total} the sum; a stage that failed without a failed test, or was killed, counts as one
 */
export function runStages(stages) {
  const folder = mkdtempSync(join(tmpdir(), 'tt-stages-'));
  const sum = { passed: 0, failed: 0, skipped: 0 };
  try {
    for (const [index, args] of stages.entries()) {
      const file = join(folder, String(index));
      const env = { ...process.env, [TOTAL_FILE]: file };
      const { status, signal } = spawnSync(process.execPath, args, { stdio: 'inherit', env });
      /** @type {Total} */
      const total = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { passed: 0, failed: 0, skipped: 0 };
      // A run that failed without a failed test: its words are above.
      if (status !== 0 && total.failed === 0) total.failed = 1;
      for (const key of /** @type {const} */ (['passed', 'failed', 'skipped'])) sum[key] += total[key];
      if (signal === null) continue;
      // Ctrl-C is meant for all of it; whoever else has killed this one (out of memory) may mean the next.
      console.log(`\nthe test run was ended by ${signal}: counted as failed, nothing runs behind it`);
      break;
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return sum;
}
