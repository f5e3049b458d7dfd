// Bundles the agent with its command line, the starter of these, and the stand-alone CNI plugin, each into one file. The addon stays outside.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Script } from 'node:vm';
import { build } from 'esbuild';

const common = {
  outdir: 'dist',
  bundle: true,
  platform: 'node',
  target: 'node26',
  external: ['*.node'],
  legalComments: 'none',
  sourcemap: false,
  logLevel: 'warning',
};

await build({
  ...common,
  entryPoints: { 'cni/tortie': 'cni-plugin/standalone.ts' },
  outExtension: { '.js': '.mjs' },
  format: 'esm',
  // Bundled CommonJS dependencies still ask for `require`.
  banner: {
    js: "import { createRequire as __tortieRequire } from 'node:module'; const require = __tortieRequire(import.meta.url);",
  },
});

await build({
  ...common,
  entryPoints: { 'lib/start': 'felix-agent/start.ts' },
  outExtension: { '.js': '.cjs' },
  format: 'cjs',
  define: { 'import.meta.dirname': '__dirname' },
});

// CommonJS, since `import` of a module of Node's reads each of its exports, and `http` has some that load another 700 kB of source.
// One function, so that V8 can have its code from a cache.
await build({
  ...common,
  entryPoints: { 'lib/tortie': 'felix-agent/main.ts' },
  format: 'cjs',
  define: { 'import.meta.url': '__tortieUrl' },
  banner: {
    js: '(function (module, require, __filename) {"use strict"; const __tortieUrl = require("node:url").pathToFileURL(__filename).href;',
  },
  footer: { js: '})' },
});

// The cache is of what loading the bundle compiles: run it, start nothing.
const file = 'dist/lib/tortie.js';
const source = readFileSync(file, 'utf8');
// eslint-disable-next-line no-control-regex
if (/[^\0-\x7f]/.test(source)) {
  throw new Error(
    `${file} has a letter outside of ASCII (in a pattern?): V8 would hold all of it in two bytes a character`,
  );
}
const script = new Script(source, { filename: file });
script.runInThisContext()({ exports: {} }, createRequire(import.meta.url), file);
const cachedData = script.createCachedData();
if (new Script(source, { filename: file, cachedData }).cachedDataRejected !== false) {
  throw new Error(`V8 refuses the code cache that it made of ${file}`);
}
writeFileSync('dist/lib/tortie.cache', cachedData);
