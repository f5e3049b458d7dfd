// @ts-check
// Writes manifests/crds/, one CustomResourceDefinition a file, from the schemas in api/; --check only says whether they are current.
// It imports TypeScript, so the pinned runtime must run it.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { definitionFiles } from './crds/files.ts';

const dir = fileURLToPath(new URL('../manifests/crds/', import.meta.url));
const files = definitionFiles();
mkdirSync(dir, { recursive: true });
const present = new Map(readdirSync(dir).map((name) => [name, readFileSync(`${dir}${name}`, 'utf8')]));
const stale = [
  ...[...files].filter(([name, text]) => present.get(name) !== text).map(([name]) => name),
  ...[...present.keys()].filter((name) => !files.has(name)),
];

if (!process.argv.includes('--check')) {
  for (const name of present.keys()) if (!files.has(name)) rmSync(`${dir}${name}`);
  for (const [name, text] of files) writeFileSync(`${dir}${name}`, text);
} else if (stale.length > 0) {
  console.error(`manifests/crds/: not what api/ says: ${stale.join(', ')}. Run: make gen`);
  process.exitCode = 1;
}
