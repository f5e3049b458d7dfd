// @ts-check
/** Says what was skipped, a line for each reason that a title gives: what this kernel lacks is named, and counted. */
export default class SkippedReporter {
  /**
   * @param {unknown} _contexts
   * @param {{ testResults: { testFilePath: string, testResults: { ancestorTitles: string[], title: string, status: string }[] }[] }} results
   */
  onRunComplete(_contexts, { testResults }) {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const { testFilePath, testResults: tests } of testResults) {
      for (const { ancestorTitles, title, status } of tests) {
        if (status !== 'pending') continue;
        const what = `${testFilePath.slice(testFilePath.lastIndexOf('/') + 1)}: ${ancestorTitles[0] ?? title}`;
        counts.set(what, (counts.get(what) ?? 0) + 1);
      }
    }
    for (const [what, count] of counts) console.log(`skipped ${count}: ${what}`);
  }
}
