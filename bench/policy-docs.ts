/**
 * `make bench-policy-docs`: writes the tables and plots of build/bench/policy.json into docs/performance.md and docs/performance/. With `--print` it only prints the tables.
 * A run on a machine that others used isn't published.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { markdownOf, withFigures } from './policy/markdown.ts';
import { plotOf } from './policy/plot.ts';
import type { PolicyResults } from './policy/results.ts';

const document = 'docs/performance.md';
const plots = 'docs/performance';

const results = JSON.parse(readFileSync('build/bench/policy.json', 'utf8')) as PolicyResults;
const figures = markdownOf(results, (part) => `performance/policy-${part}.svg`);
if (process.argv.includes('--print')) {
  console.log(figures);
} else if (results.quiet) {
  mkdirSync(plots, { recursive: true });
  for (const part of results.parts) writeFileSync(`${plots}/policy-${part.name}.svg`, plotOf(part));
  writeFileSync(document, withFigures(readFileSync(document, 'utf8'), figures));
} else {
  console.error('others used the machine during this run: not published (PRINT=yes shows the tables)');
  process.exitCode = 1;
}
