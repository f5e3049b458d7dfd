import { checkTable } from './check-table.ts';
import { exitStatusOf } from './evaluate.ts';
import type { CheckResult } from './result.ts';

/** How a result is marked where it stands. */
const mark = ({ outcome, severity }: CheckResult): string => {
  if (outcome === 'yes') return 'ok';
  return outcome === 'unknown' ? 'unknown' : severity.toUpperCase();
};

const title = ({ id, subject }: CheckResult): string => (subject === '' ? id : `${id} (${subject})`);

/** One result that is not fine, in lines: what was found, what that disables, what to do. */
export function problemLines(result: CheckResult): readonly string[] {
  const { detail, disables, todo, outcome } = result;
  const [first = '', ...rest] = detail.split('\n');
  return [
    `${title(result)}: ${first}`,
    ...rest.map((line) => `  ${line.trim()}`),
    ...(outcome === 'no' ? [`  without it: ${disables}`, `  to do: ${todo}`] : []),
  ];
}

/** The results by group: what is fine in a line a check, everything else with what it disables and what to do. */
export function checkText(results: readonly CheckResult[]): string {
  const lines: string[] = [];
  for (const [group, ofGroup] of Map.groupBy(results, ({ id }) => checkTable[id].group)) {
    if (lines.length > 0) lines.push('');
    lines.push(group);
    for (const [id, ofCheck] of Map.groupBy(ofGroup, (result) => result.id)) {
      const fine = ofCheck.filter(({ outcome }) => outcome === 'yes');
      if (fine.length > 0) lines.push(`  ${'ok'.padEnd(9)}${id}: ${fineText(fine)}`);
      for (const result of ofCheck.filter(({ outcome }) => outcome !== 'yes')) {
        const [first = '', ...rest] = problemLines(result);
        lines.push(`  ${mark(result).padEnd(9)}${first}`, ...rest.map((line) => `  ${''.padEnd(9)}${line}`));
      }
    }
  }
  return [...lines, '', conclusion(results)].join('\n');
}

/** One by one where each was found otherwise, in a word where all are alike. */
function fineText(fine: readonly CheckResult[]): string {
  const [first] = fine;
  if (first !== undefined && fine.every(({ detail }) => detail === first.detail))
    return fine.length === 1 ? first.detail : `${first.detail} (${fine.length} tried)`;
  return fine.map(({ subject, detail }) => (subject === '' ? detail : `${subject}: ${detail}`)).join('; ');
}

function conclusion(results: readonly CheckResult[]): string {
  const count = (outcome: CheckResult['outcome'], severity?: CheckResult['severity']): number =>
    results.filter((result) => result.outcome === outcome && (severity ?? result.severity) === result.severity).length;
  const counts = `${count('no', 'blocks')} block, ${count('no', 'degrades')} degrade, ${count('no', 'note')} notes, ${count('unknown')} could not be told`;
  const verdict = {
    0: 'nothing keeps Tortie from this node',
    1: 'Tortie does not work on this node as it is',
    3: 'nothing is known to block, but not everything could be told',
  }[exitStatusOf(results)];
  return `${verdict}: ${counts}`;
}
