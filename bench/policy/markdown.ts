import { describe } from './conditions.ts';
import type { Table } from '../lib/report.ts';
import { absentOf, tableOf, type PolicyResults } from './results.ts';
import { targetTable } from './targets.ts';

const begin = '<!-- made by bench/policy-docs.ts: begin -->';
const end = '<!-- made by bench/policy-docs.ts: end -->';

/** The figures as Markdown: conditions, and for each part its method, plot and table. `plotPath` says where a part's plot is. */
export function markdownOf(results: PolicyResults, plotPath: (part: string) => string): string {
  const parts = results.parts.flatMap((part) => {
    return [
      `### ${part.title}`,
      part.method,
      '',
      `![${part.title}](${plotPath(part.name)})`,
      '',
      ...rowsOf(tableOf(part)),
      '',
      ...absentOf(part).flatMap((words) => [`Not measured: ${words}.`, '']),
    ];
  });
  return [
    `${describe(results.conditions)}. Medians of ${results.rounds} rounds.`,
    '',
    '### Targets',
    ...rowsOf(targetTable(results)),
    '',
    ...parts,
  ]
    .join('\n')
    .trimEnd();
}

/** A table; from the third column on there are figures. */
function rowsOf([head = [], ...rows]: Table): readonly string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), `|${head.map((_, column) => (column < 2 ? '-' : '-:')).join('|')}|`, ...rows.map(line)];
}

/** The document with these figures in the place of what stood between the two marks. Throws if it hasn't both. */
export function withFigures(document: string, figures: string): string {
  const [from, to] = [document.indexOf(begin), document.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the document has no place for the figures: ${begin} ... ${end}`);
  return `${document.slice(0, from + begin.length)}\n${figures}\n${document.slice(to)}`;
}
