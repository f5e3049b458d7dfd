// @ts-check
import { writeFileSync, writeSync } from 'node:fs';
import { state } from './run-state.mjs';

/** The environment variable that names a file to write the total to, as JSON, instead of saying it: this run is one of several. */
export const TOTAL_FILE = 'TORTIE_TEST_TOTAL';

/**
 * @param {{ passed: number, failed: number, skipped: number }} total
 * @returns {string} in the form that tools read
 */
export function totalLine({ passed, failed, skipped }) {
  return `\n${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/** After Jest's own output, as the very last line: the sum over all suites. */
export default class TotalReporter {
  #file = process.env[TOTAL_FILE];

  constructor() {
    // Not for the runs that tests make.
    delete process.env[TOTAL_FILE];
  }

  /**
   * @param {unknown} _contexts
   * @param {Record<'numPassedTests' | 'numFailedTests' | 'numRuntimeErrorTestSuites' | 'numPendingTests' | 'numTodoTests', number>} results
   */
  onRunComplete(_contexts, results) {
    const skipped = results.numPendingTests + results.numTodoTests;
    process.on('exit', () => {
      // A suite that could not even be loaded has no failed test of its own: it counts as one. So do leftovers, which
      // are known only after this method has run.
      const failed = results.numFailedTests + results.numRuntimeErrorTestSuites + (state.leftovers > 0 ? 1 : 0);
      const total = { passed: results.numPassedTests, failed, skipped };
      if (this.#file !== undefined) writeFileSync(this.#file, JSON.stringify(total));
      // Not process.stdout: when Jest exits by an error, it has taken that stream's write away by now.
      else writeSync(1, `${totalLine(total)}\n`);
    });
  }
}
