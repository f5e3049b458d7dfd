import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** Where the addon is, seen from the source tree (native/), from dist/lib/tortie.js and from dist/cni/tortie.mjs. */
const places = ['./tortie_native.node', '../lib/tortie_native.node', '../dist/lib/tortie_native.node'];

let loaded: unknown;

/**
 * The C++ addon. Each file of this folder types the part of it that it uses: `loadAddon<{ netnsInode(...): number }>()`; nobody outside
 * calls it. Throws `ERR_ADDON_MISSING` when it wasn't built, `ERR_ADDON_UNUSABLE` (with the loader's words) when it can't be loaded.
 */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller says which part of the addon it knows
export function loadAddon<Part extends object>(): Part {
  loaded ??= load();
  return loaded as Part;
}

function load(): unknown {
  const candidates = places.map((place) => fileURLToPath(new URL(place, import.meta.url)));
  const file = candidates.find((candidate) => existsSync(candidate));
  if (file === undefined) {
    throw addonError(
      'ERR_ADDON_MISSING',
      `the native addon is missing (looked for ${candidates.join(', ')}): run \`npm run setup\`, then \`make native\``,
    );
  }
  try {
    return createRequire(import.meta.url)(file) as unknown;
  } catch (error) {
    throw addonError(
      'ERR_ADDON_UNUSABLE',
      `can't load the native addon ${file}: ${String(error)}: run \`npm run setup\`, then \`make native\``,
      error,
    );
  }
}

function addonError(code: string, message: string, cause?: unknown): Error {
  return Object.assign(new Error(message, { cause }), { code });
}
