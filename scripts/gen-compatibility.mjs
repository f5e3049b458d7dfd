// @ts-check
// Writes docs/compatibility.md from the tables in api/compatibility/; --check only says whether it is the current one.
// It imports TypeScript, so the pinned runtime must run it.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { compatibilityPage } from './compatibility.ts';

const path = fileURLToPath(new URL('../docs/compatibility.md', import.meta.url));
const page = compatibilityPage();

if (!process.argv.includes('--check')) {
  writeFileSync(path, page);
} else if (!existsSync(path) || readFileSync(path, 'utf8') !== page) {
  console.error('docs/compatibility.md is not what api/compatibility/ says. Run: make gen');
  process.exitCode = 1;
}
