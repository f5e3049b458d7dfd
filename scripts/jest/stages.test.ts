/** The sum over several runs: whatever ends one of them, it can't be taken for one that passed. */
import { expect, test } from '@jest/globals';
import { runStages } from './stages.mjs';

/** A stage that writes this total, then does that. */
function stage(total: readonly [passed: number, failed: number, skipped: number] | undefined, end = ''): string[] {
  const [passed, failed, skipped] = total ?? [];
  const text = JSON.stringify({ passed, failed, skipped });
  const write = total === undefined ? '' : `require('fs').writeFileSync(process.env.TORTIE_TEST_TOTAL, '${text}');`;
  return ['-e', `${write}${end}`];
}

test.each([
  { title: 'all pass', stages: [stage([5, 0, 1]), stage([2, 0, 3])], sum: [7, 0, 4] },
  { title: 'tests fail', stages: [stage([5, 2, 0], 'process.exit(1)'), stage([1, 0, 0])], sum: [6, 2, 0] },
  { title: 'a failure is in the status only', stages: [stage([5, 0, 0], 'process.exit(1)')], sum: [5, 1, 0] },
  {
    title: 'one ends before any test',
    stages: [stage(undefined, 'process.exit(2)'), stage([1, 0, 0])],
    sum: [1, 1, 0],
  },
  {
    title: 'one is killed: nothing runs behind it',
    stages: [stage(undefined, `process.kill(process.pid, 'SIGKILL')`), stage([1, 0, 0])],
    sum: [0, 1, 0],
  },
  {
    title: 'one is killed when its total is written',
    stages: [stage([4, 1, 0], `process.kill(process.pid, 'SIGKILL')`)],
    sum: [4, 1, 0],
  },
])('$title', ({ stages, sum: [passed, failed, skipped] }) => {
  expect(runStages(stages)).toEqual({ passed, failed, skipped });
});
