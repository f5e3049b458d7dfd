// @ts-check
// node_modules: whether it is what package-lock.json says, and `npm ci` when it is not.
import { spawn } from 'node:child_process';
import { existsSync, lchownSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { delimiter, dirname, join } from 'node:path';

/**
 * @typedef {{ version?: string, integrity?: string, optional?: boolean, devOptional?: boolean, os?: string | string[],
 *   cpu?: string | string[], libc?: string | string[] }} LockedPackage
 * @typedef {{ packages: Record<string, LockedPackage> }} Lock
 */

/**
 * npm writes `node_modules/.package-lock.json` as the last step of an install, after it has removed the old one, so that
 * this file says what is on disk even when an install was interrupted.
 * @param {Lock} lock package-lock.json
 * @param {Lock | undefined} onDisk node_modules/.package-lock.json, undefined if there is none
 * @param {{ os: string, cpu: string }} machine as Node names them
 * @returns {string | undefined} the first difference, undefined if there is none
 */
export function difference(lock, onDisk, machine) {
  if (onDisk === undefined) return 'nothing is installed yet';
  for (const [path, wanted] of Object.entries(lock.packages)) {
    if (path === '') continue;
    const have = onDisk.packages[path];
    if (have === undefined) {
      if (isNeeded(wanted, machine)) return `${path} is missing`;
    } else if (have.version !== wanted.version) {
      return `${path} is ${have.version}, not ${wanted.version} as locked`;
    } else if (have.integrity !== wanted.integrity) {
      return `${path} has other contents than package-lock.json says`;
    }
  }
  const extra = Object.keys(onDisk.packages).find((path) => lock.packages[path] === undefined);
  return extra === undefined ? undefined : `${extra} is not in package-lock.json`;
}

/**
 * Optional packages are those of other platforms, except the ones that name this platform.
 * @param {LockedPackage} entry
 * @param {{ os: string, cpu: string }} machine
 */
function isNeeded(entry, machine) {
  if (!entry.optional && !entry.devOptional) return true;
  if (entry.os === undefined || entry.cpu === undefined) return false;
  return (
    names(entry.os, machine.os) &&
    names(entry.cpu, machine.cpu) &&
    (entry.libc === undefined || names(entry.libc, 'glibc'))
  );
}

/**
 * @param {string | string[]} list
 * @param {string} value
 */
function names(list, value) {
  return Array.isArray(list) ? list.includes(value) : list === value;
}

/**
 * @param {string} root the project's folder
 * @param {{ os: string, cpu: string }} machine
 * @returns {string | undefined} why node_modules has to be installed anew; undefined if it is right
 */
export function modulesDifference(root, machine) {
  const lock = readLock(join(root, 'package-lock.json'));
  if (lock === undefined) throw new Error(`${join(root, 'package-lock.json')}: not there or not JSON`);
  const missing = difference(lock, readLock(join(root, 'node_modules/.package-lock.json')), machine);
  if (missing !== undefined) return missing;
  const runtime = `node_modules/node-linux-${machine.cpu}/bin/node`;
  return existsSync(join(root, runtime)) ? undefined : `${runtime} is missing`;
}

/**
 * Runs `npm ci`, with no install script of any package, and gives node_modules to the owner of the project's folder.
 * @param {string} root
 * @returns {Promise<void>}
 */
export async function installModules(root) {
  // devDependencies build and test, optionalDependencies hold the runtime: a NODE_ENV or an npmrc must not drop them.
  const args = [
    'ci',
    '--ignore-scripts',
    '--include=dev',
    '--include=optional',
    '--loglevel=error',
    '--no-audit',
    '--no-fund',
  ];
  const child = spawn('npm', args, {
    cwd: root,
    env: { ...process.env, ...ownCache(), PATH: pathWithout(join(root, 'node_modules')) },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const status = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (status !== 0) throw new Error(`npm ci failed with status ${status}; its own words are above.`);
  giveToOwner(root, join(root, 'node_modules'));
}

/**
 * `npm run` puts node_modules/.bin first on PATH, with the pinned runtime in it: not the Node that this npm is made for,
 * and about to be removed.
 * @param {string} folder
 */
function pathWithout(folder) {
  return (process.env['PATH'] ?? '')
    .split(delimiter)
    .filter((dir) => !dir.startsWith(folder))
    .join(delimiter);
}

/**
 * Under `sudo -E` HOME is another user's: root's files in that npm cache would break the user's npm. The npm that started
 * this script may just have made the folder, so its parent counts too.
 */
function ownCache() {
  const cache = process.env['npm_config_cache'] ?? join(homedir(), '.npm');
  const foreign = [cache, dirname(cache)].some(
    (path) => existsSync(path) && statSync(path).uid !== process.geteuid?.(),
  );
  return foreign ? { npm_config_cache: join(userInfo().homedir, '.npm') } : {};
}

/**
 * In a clone of another user, what root installs belongs to that user too, who may then update it without root.
 * @param {string} root
 * @param {string} folder
 */
function giveToOwner(root, folder) {
  const { uid, gid } = statSync(root);
  if (uid === process.geteuid?.()) return;
  const entries = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  for (const entry of ['.', ...entries]) lchownSync(join(folder, entry), uid, gid);
}

/**
 * @param {string} path
 * @returns {Lock | undefined}
 */
function readLock(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}
