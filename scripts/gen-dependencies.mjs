// @ts-check
// Writes the table of Debian packages into docs/dependencies.md; --check only says whether it is the current one.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { packagesTable } from './packages.mjs';

const path = fileURLToPath(new URL('../docs/dependencies.md', import.meta.url));
const text = readFileSync(path, 'utf8');
const parts = /^([^]*<!-- packages: begin -->\n)[^]*?(<!-- packages: end -->[^]*)$/.exec(text);
if (parts === null)
  throw new Error(`${path}: the marks <!-- packages: begin --> and <!-- packages: end --> are not there`);
const current = `${parts[1]}${packagesTable()}\n${parts[2]}`;

if (!process.argv.includes('--check')) {
  writeFileSync(path, current);
} else if (current !== text) {
  console.error('docs/dependencies.md: its table of packages is not that of scripts/packages.mjs. Run: make gen');
  process.exitCode = 1;
}
