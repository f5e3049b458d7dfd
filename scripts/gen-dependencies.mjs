// @ts-check
// Writes the table of Debian packages into docs/dependencies.md; --check only says whether it is the current one. Either way every npm package needs its
// reason there, which nobody can generate.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { packagesTable } from './packages.mjs';

const path = fileURLToPath(new URL('../docs/dependencies.md', import.meta.url));
const text = readFileSync(path, 'utf8');
const parts = /^([^]*<!-- packages: begin -->\n)[^]*?(<!-- packages: end -->[^]*)$/.exec(text);
if (parts === null)
  throw new Error(`${path}: the marks <!-- packages: begin --> and <!-- packages: end --> are not there`);
const current = `${parts[1]}${packagesTable()}\n${parts[2]}`;

const { dependencies, devDependencies, optionalDependencies } = JSON.parse(
  readFileSync(fileURLToPath(new URL('../package.json', import.meta.url)), 'utf8'),
);
const unexplained = Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies }).filter(
  (name) => !text.includes(`\`${name}\``),
);
if (unexplained.length > 0) {
  console.error(
    `docs/dependencies.md has no row for ${unexplained.join(', ')} of package.json: say there what for and why`,
  );
  process.exitCode = 1;
}

if (!process.argv.includes('--check')) {
  writeFileSync(path, current);
} else if (current !== text) {
  console.error('docs/dependencies.md: its table of packages is not that of scripts/packages.mjs. Run: make gen');
  process.exitCode = 1;
}
