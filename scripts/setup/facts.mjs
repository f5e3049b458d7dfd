// @ts-check
// What this machine is: read only, changes nothing. Every fact that cannot be read is undefined, never guessed.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { arch, platform, release } from 'node:os';
import { delimiter, join } from 'node:path';

/**
 * @typedef {object} Facts
 * @property {string} platform as Node names it
 * @property {string} cpu as Node names it: x64, arm64, ...
 * @property {number | undefined} uid effective user id
 * @property {bigint | undefined} capabilities effective set of this process, as in /proc/self/status
 * @property {string} kernel release, as `uname -r` prints it
 * @property {boolean} btf whether the kernel publishes its types
 * @property {Readonly<Record<string, string>>} os fields of /etc/os-release
 * @property {string} node version without the v
 * @property {string | undefined} npm version
 * @property {string | undefined} go version, as in `go1.26.8`
 * @property {boolean} apt whether apt-get and dpkg-query are there
 */

/** @returns {Facts} */
export function readFacts() {
  return {
    platform: platform(),
    cpu: arch(),
    uid: process.geteuid?.(),
    capabilities: effectiveCapabilities(),
    kernel: release(),
    btf: existsSync('/sys/kernel/btf/vmlinux'),
    os: parseOsRelease(readIfThere('/etc/os-release') ?? ''),
    node: process.versions.node,
    npm: npmVersion(),
    go: firstMatch(output('go', ['version']), /go version go(\S+)/),
    apt: onPath('apt-get') && onPath('dpkg-query'),
  };
}

/**
 * @param {string} text contents of an os-release file (shell assignments, os-release(5))
 * @returns {Record<string, string>}
 */
export function parseOsRelease(text) {
  /** @type {Record<string, string>} */
  const fields = {};
  for (const line of text.split('\n')) {
    const [, key, value] = /^([A-Z0-9_]+)=(.*)$/.exec(line.trim()) ?? [];
    if (key !== undefined && value !== undefined) fields[key] = value.replace(/^(["'])(.*)\1$/, '$2');
  }
  return fields;
}

/** npm says its version in the environment of the scripts that it runs; asking it costs half a second. */
function npmVersion() {
  return (
    firstMatch(process.env['npm_config_user_agent'], /(?:^| )npm\/(\S+)/) ??
    firstMatch(output('npm', ['--version']), /^(\d\S*)/)
  );
}

function effectiveCapabilities() {
  const hex = firstMatch(readIfThere('/proc/self/status'), /^CapEff:\s*([0-9a-f]+)$/m);
  return hex === undefined ? undefined : BigInt(`0x${hex}`);
}

/** @param {string} command */
function onPath(command) {
  return (process.env['PATH'] ?? '').split(delimiter).some((dir) => {
    try {
      accessSync(join(dir || '.', command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @returns {string | undefined} what it printed; undefined if it is not there or failed
 */
function output(command, args) {
  const run = spawnSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return run.status === 0 ? run.stdout.trim() : undefined;
}

/** @param {string} path */
function readIfThere(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/**
 * @param {string | undefined} text
 * @param {RegExp} pattern with one group
 */
function firstMatch(text, pattern) {
  return text === undefined ? undefined : pattern.exec(text)?.[1];
}
