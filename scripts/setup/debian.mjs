// @ts-check
// Debian packages: asks dpkg what is there, apt for the rest and only then.
import { spawn, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';

const LISTS = '/var/lib/apt/lists';

/**
 * @param {readonly string[]} packages names; `a | b` where either will do
 * @returns {string[]} names of those that dpkg does not know as installed; of `a | b` the first, if it knows neither
 */
export function missingPackages(packages) {
  const wanted = packages.map((name) => name.split(' | '));
  const format = '${binary:Package} ${db:Status-Status}\n';
  // Exit status 1 only says that some are unknown; those that are known are printed all the same.
  const run = spawnSync('dpkg-query', ['-W', '-f', format, ...wanted.flat()], { encoding: 'utf8' });
  if (run.error) throw new Error(`dpkg-query: ${run.error.message}`);
  const installed = new Set(
    run.stdout
      .split('\n')
      .filter((line) => line.endsWith(' installed'))
      // With the architecture, `libmnl-dev:amd64`, where several can be installed side by side.
      .map((line) => line.replace(/[: ].*$/, '')),
  );
  return wanted.flatMap((either) => (either.some((name) => installed.has(name)) ? [] : either.slice(0, 1)));
}

/**
 * Installs packages. The lists of packages are fetched first when there are none, and once more when apt cannot find or
 * fetch something, since lists age: the mirror has newer versions then, and answers 404 for the old ones.
 * @param {readonly string[]} packages
 * @returns {Promise<void>}
 * @throws {Error} with apt's own words
 */
export async function installPackages(packages) {
  if (!hasLists()) await update();
  let outcome = await install(packages);
  if (outcome.status !== 0 && !hasJustUpdated) {
    console.log('  apt could not do it with the lists it has: fetching them anew');
    await update();
    outcome = await install(packages);
  }
  if (outcome.status !== 0) throw new Error(`apt-get install failed (status ${outcome.status}):\n${outcome.errors}`);
  const still = missingPackages(packages);
  if (still.length > 0) throw new Error(`apt-get reported success, but dpkg does not know: ${still.join(' ')}`);
}

let hasJustUpdated = false;

/** A source that cannot be reached is no reason to stop: the install that follows tells whether it was needed. */
async function update() {
  hasJustUpdated = true;
  console.log('  apt-get update');
  const { status, errors } = await apt(['update']);
  if (status !== 0) console.log(`  apt-get update: status ${status}\n${errors}`);
}

/** @param {readonly string[]} packages */
function install(packages) {
  return apt(['install', '-y', '--no-install-recommends', ...packages]);
}

function hasLists() {
  try {
    return readdirSync(LISTS).some((name) => /_Packages(\.\w+)?$/.test(name));
  } catch {
    return false;
  }
}

/**
 * @param {readonly string[]} args
 * @returns {Promise<{ status: number, errors: string }>} errors: apt's lines of errors and warnings
 */
function apt(args) {
  // Another apt may be at work (unattended upgrades): wait for its lock instead of failing.
  const child = spawn('apt-get', ['-q', '-o', 'DPkg::Lock::Timeout=300', '-o', 'APT::Color=0', ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  /** @type {string[]} */
  const errors = [];
  /** @param {string} line */
  const onLine = (line) => {
    if (/^(E|W|Err):?/.test(line)) errors.push(line);
    // Enough to see that it goes on: the big downloads, and each package that is ready.
    if (/^(Need to get |Get:.* MB\]|Setting up )/.test(line)) console.log(`    ${line}`);
  };
  readLines(child.stdout, onLine);
  readLines(child.stderr, onLine);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve({ status: status ?? 1, errors: errors.join('\n') }));
  });
}

/**
 * @param {import('node:stream').Readable} stream
 * @param {(line: string) => void} onLine
 */
function readLines(stream, onLine) {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (/** @type {string} */ chunk) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    lines.forEach(onLine);
  });
  stream.on('end', () => rest !== '' && onLine(rest));
}
