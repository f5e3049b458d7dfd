// @ts-check
// Writes docs/check.md from the table of checks; --check only says whether it is the current one.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { checkTable } from '../felix-agent/check/check-table.ts';

const path = fileURLToPath(new URL('../docs/check.md', import.meta.url));

/** @typedef {import('../felix-agent/check/check-table.ts').CheckInfo} CheckInfo */

/** @type {Record<CheckInfo['group'], string>} */
const titles = {
  kernel: 'Kernel',
  iptables: 'iptables',
  eBPF: 'eBPF',
  sysctls: 'Sysctls',
  node: 'Other programs, directories, devices',
};

/** @type {(info: CheckInfo) => string} */
const severityText = ({ severity, dataplane }) =>
  dataplane === undefined || severity === 'note'
    ? severity
    : `${severity} (where ${dataplane === 'ebpf' ? 'eBPF' : dataplane} is not wanted: note)`;

/** @type {(text: string) => string} */
const cell = (text) => text.replaceAll('|', '\\|');

const sections = Object.entries(titles).map(([group, title]) => {
  const rows = Object.entries(checkTable)
    .filter(([, info]) => info.group === group)
    .map(
      ([id, info]) =>
        `| \`${id}\` | ${cell(info.asks)} | ${severityText(info)} | ${cell(info.disables)} | ${cell(info.todo)} |`,
    );
  return `## ${title}\n\n| check | is this so? | if not | what then doesn't work | what to do |\n|---|---|---|---|---|\n${rows.join('\n')}\n`;
});

const text = `# What \`tortie check\` looks at

Generated from \`felix-agent/check/check-table.ts\` by \`make gen\`. How to read what it says: [troubleshoot](troubleshoot.md#what-tortie-check-says).

\`blocks\`: pods get no network or no policy on this node. \`degrades\`: a part of Tortie doesn't work, or not always. \`note\`: worth knowing. A case
may be less than its check's severity, and may call for something more exact than this table: what is printed counts.

${sections.join('\n')}`;

if (!process.argv.includes('--check')) {
  writeFileSync(path, text);
} else if (readFileSync(path, { encoding: 'utf8' }) !== text) {
  console.error('docs/check.md is not what felix-agent/check/check-table.ts says. Run: make gen');
  process.exitCode = 1;
}
