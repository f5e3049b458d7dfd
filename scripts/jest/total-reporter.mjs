/** After Jest's own output, as the very last line: the sum over all suites, in the form that tools read. */
export default class TotalReporter {
  onRunComplete(_contexts, results) {
    // A suite that could not even be loaded has no failed test of its own: it counts as one.
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites;
    const skipped = results.numPendingTests + results.numTodoTests;
    process.on('exit', () => {
      process.stdout.write(`\n${results.numPassedTests} passed, ${failed} failed, ${skipped} skipped\n`);
    });
  }
}
