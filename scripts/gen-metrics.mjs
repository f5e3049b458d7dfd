// @ts-check
// Writes docs/metrics.md from the agent's table of metrics; --check only says whether it is the current one.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { metricTable } from '../felix-agent/metrics/metric-table.ts';

const path = fileURLToPath(new URL('../docs/metrics.md', import.meta.url));

/** @type {(info: { type: string, help: string, labels?: readonly string[] }) => string} */
const labelsText = ({ labels = [] }) => labels.map((label) => `\`${label}\``).join(', ');
const rows = Object.entries(metricTable).map(
  ([name, info]) => `| \`${name}\` | ${info.type} | ${labelsText(info)} | ${info.help} |`,
);
const text = `# Metrics

Generated from \`felix-agent/metrics/metric-table.ts\` by \`make gen\`.

The agent serves \`http://NODE:9091/metrics\` (FelixConfiguration \`prometheusMetricsEnabled\`, \`prometheusMetricsHost\`, \`prometheusMetricsPort\`; on by
default, which differs from Calico). Names are Felix's where the meaning is the same, and begin with \`tortie_\` otherwise.

| metric | type | labels | meaning |
|---|---|---|---|
${rows.join('\n')}
`;

if (!process.argv.includes('--check')) {
  writeFileSync(path, text);
} else if (readFileSync(path, { encoding: 'utf8' }) !== text) {
  console.error('docs/metrics.md is not what felix-agent/metrics/metric-table.ts says. Run: make gen');
  process.exitCode = 1;
}
