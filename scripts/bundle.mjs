// Bundles the agent with its command line, and the stand-alone CNI plugin, each into one file. The addon stays outside.
import { build } from 'esbuild';

const entries = { 'lib/tortie': 'felix-agent/main.ts', 'cni/tortie': 'cni-plugin/standalone.ts' };

for (const [out, entry] of Object.entries(entries)) {
  await build({
    entryPoints: { [out]: entry },
    outdir: 'dist',
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    target: 'node26',
    format: 'esm',
    external: ['*.node'],
    legalComments: 'none',
    sourcemap: false,
    // Bundled CommonJS dependencies still ask for `require`.
    banner: {
      js: "import { createRequire as __tortieRequire } from 'node:module'; const require = __tortieRequire(import.meta.url);",
    },
    logLevel: 'warning',
  });
}
