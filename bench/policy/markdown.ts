import { describe } from './conditions.ts';
import { absentOf, tableOf, type PolicyResults } from './results.ts';

const begin = '<!-- made by bench/policy-docs.ts: begin -->';
const end = '<!-- made by bench/policy-docs.ts: end -->';

/** The figures as Markdown: conditions, and for each part its method, plot and table. `plotPath` says where a part's plot is. */
export function markdownOf(results: PolicyResults, plotPath: (part: string) => string): string {
  const parts = results.parts.flatMap((part) => {
    const [head = [], ...rows] = tableOf(part);
    const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
    return [
      `### ${part.title}`,
      part.method,
      '',
      `![${part.title}](${plotPath(part.name)})`,
      '',
      line(head),
      `|${head.map((_, column) => (column < 2 ? '-' : '-:')).join('|')}|`,
      ...rows.map(line),
      '',
      ...absentOf(part).flatMap((words) => [`Not measured: ${words}.`, '']),
    ];
  });
  return [`${describe(results.conditions)}. Medians of ${results.rounds} rounds.`, '', ...parts].join('\n').trimEnd();
}

/** The document with these figures in the place of what stood between the two marks. Throws if it hasn't both. */
export function withFigures(document: string, figures: string): string {
  const [from, to] = [document.indexOf(begin), document.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the document has no place for the figures: ${begin} ... ${end}`);
  return `${document.slice(0, from + begin.length)}\n${figures}\n${document.slice(to)}`;
}
