// @ts-check
// Writes manifests/*.yaml from scripts/manifests/ and the definitions of scripts/crds/; --check only says whether they are current.
// It imports TypeScript, so the pinned runtime must run it.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { manifestFiles } from './manifests/files.ts';

const dir = fileURLToPath(new URL('../manifests/', import.meta.url));
const stale = [...manifestFiles()].filter(
  ([name, text]) => !existsSync(dir + name) || readFileSync(dir + name, 'utf8') !== text,
);

if (!process.argv.includes('--check')) {
  for (const [name, text] of stale) writeFileSync(dir + name, text);
} else if (stale.length > 0) {
  console.error(
    `manifests/: not what scripts/manifests/ says: ${stale.map(([name]) => name).join(', ')}. Run: make gen`,
  );
  process.exitCode = 1;
}
