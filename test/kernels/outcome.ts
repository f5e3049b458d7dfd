/** What a kernel's run came to, from what its machine said. Pure. */

/** Tests by how they ended. */
export interface Total {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** A kernel's total; `problem` says, in one sentence, what failed besides tests. */
export interface Outcome extends Total {
  readonly problem?: string;
}

/** How a machine came to its end; the tests' own words are in its lines. */
export type Ending = 'itself' | 'boot-limit' | 'run-limit';

/** Lines by which guest/init says where it is. */
export const marks = { up: 'tortie: up: kernel ', ended: 'tortie: tests ended: status ' } as const;

const totalForm = /^(\d+) passed, (\d+) failed, (\d+) skipped$/;
const endings: Readonly<Record<Ending, string>> = {
  itself: 'the machine ended before its tests did: its console says why',
  'boot-limit': 'the machine was not up in time',
  'run-limit': 'the tests were not done in time',
};

/**
 * @param lines what the machine's tests printed
 * @param release the beginning of the kernel's release that must have run, such as `6.1.`
 * @returns the total that the tests named; anything that leaves it in doubt counts as one more failure
 */
export function outcomeOf(lines: readonly string[], ending: Ending, release: string): Outcome {
  const numbers = lines.map((line) => totalForm.exec(line)).findLast((match) => match !== null);
  const [passed, failed, skipped] = (numbers ?? []).slice(1).map(Number);
  const total = { passed: passed ?? 0, failed: failed ?? 0, skipped: skipped ?? 0 };
  const problem = problemOf(lines, ending, release, numbers === undefined ? undefined : total);
  return problem === undefined ? total : { ...total, failed: total.failed + 1, problem };
}

function problemOf(lines: readonly string[], ending: Ending, release: string, total?: Total): string | undefined {
  const after = (mark: string): string | undefined => lines.find((line) => line.startsWith(mark))?.slice(mark.length);
  const up = after(marks.up);
  const status = after(marks.ended);
  if (ending !== 'itself') return endings[ending];
  if (up === undefined || status === undefined) return endings.itself;
  if (!up.startsWith(release)) return `kernel ${up} ran, not ${release}`;
  if (total === undefined) return `the tests ended with status ${status} and without a total`;
  if (status !== '0' && total.failed === 0) return `the tests ended with status ${status} although none failed`;
  // A selection that names no test, and tests that all skip themselves, prove nothing.
  if (total.passed + total.failed === 0) return 'no test ran';
  return undefined;
}

/** The sum over kernels. */
export function sumOf(totals: readonly Total[]): Total {
  const sum = (key: keyof Total) => totals.reduce((before, total) => before + total[key], 0);
  return { passed: sum('passed'), failed: sum('failed'), skipped: sum('skipped') };
}
