/**
 * What `dist/bin/tortie` runs: loads the bundle (`tortie.js`) with V8's code cache of it (`tortie.cache`), both made by `scripts/bundle.mjs`, and
 * starts the program. A cache that is missing or isn't this V8's costs time, nothing else.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';
import type { main } from './main.ts';

/** The bundle's one expression: a function that runs it as a module of CommonJS. */
type Bundle = (module: { exports: unknown }, require: NodeJS.Require, __filename: string) => void;

function codeCache(): Buffer | undefined {
  try {
    return readFileSync(join(import.meta.dirname, 'tortie.cache'));
  } catch {
    return undefined;
  }
}

const file = join(import.meta.dirname, 'tortie.js');
const script = new Script(readFileSync(file, 'utf8'), { filename: file, cachedData: codeCache() });
const bundled: { exports: unknown } = { exports: {} };
(script.runInThisContext() as Bundle)(bundled, createRequire(file), file);
// Only now: given on the command line, it makes V8 refuse every code cache that was made without it, Node's own too.
setFlagsFromString('--no-opt');
void (bundled.exports as { readonly main: typeof main }).main();
