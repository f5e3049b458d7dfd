// @ts-check
// Completes package-lock.json after `npm install`: npm leaves out packages of other platforms that a registry mirror does
// not hold, and `npm ci` then refuses the lockfile, on every platform. Here they get an entry without contents, from what
// their names say (`@oxlint/binding-linux-arm64-musl`). --check only says whether something is missing.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** @typedef {{ version?: string, dev?: boolean, optionalDependencies?: Record<string, string> }} Entry */

const PLATFORM =
  /(android|darwin|freebsd|linux|openharmony|win32)-(arm64|arm|x64|ia32|ppc64|riscv64|s390x|loong64)(?:-(gnu|musl))?/;

const path = fileURLToPath(new URL('../package-lock.json', import.meta.url));
const text = readFileSync(path, 'utf8');
/** @type {{ packages: Record<string, Entry> }} */
const lock = JSON.parse(text);

for (const [at, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    if (isLocked(at, name)) continue;
    const [, os, cpu, libc] = PLATFORM.exec(name) ?? [];
    if (os === undefined || cpu === undefined)
      throw new Error(`${name}, needed by ${at}: its name does not say its platform`);
    lock.packages[`node_modules/${name}`] = Object.assign(
      { version, cpu: [cpu] },
      entry.dev ? { dev: true } : {},
      libc === undefined ? {} : { libc: [libc === 'musl' ? 'musl' : 'glibc'] },
      { optional: true, os: [os] },
    );
  }
}
// npm's own order: by path, the root first.
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => a.localeCompare(b, 'en')));
const complete = `${JSON.stringify(lock, null, 2)}\n`;

if (!process.argv.includes('--check')) {
  writeFileSync(path, complete);
} else if (complete !== text) {
  console.error(
    'package-lock.json: packages of other platforms are missing, and npm ci would refuse it. Run: make gen',
  );
  process.exitCode = 1;
}

/**
 * @param {string} at the package that asks, as a path in the lockfile
 * @param {string} name
 */
function isLocked(at, name) {
  for (let folder = at; ; folder = folder.replace(/\/?node_modules\/(@[^/]+\/)?[^/]+$/, '')) {
    if (lock.packages[`${folder === '' ? '' : `${folder}/`}node_modules/${name}`] !== undefined) return true;
    if (folder === '') return false;
  }
}
