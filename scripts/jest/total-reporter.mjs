// @ts-check
import { writeSync } from 'node:fs';
import { state } from './run-state.mjs';

/** After Jest's own output, as the very last line: the sum over all suites, in the form that tools read. */
export default class TotalReporter {
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
      // Not process.stdout: when Jest exits by an error, it has taken that stream's write away by now.
      writeSync(1, `\n${results.numPassedTests} passed, ${failed} failed, ${skipped} skipped\n`);
    });
  }
}
