// @ts-check
// Whether this machine can run Tortie: facts in, every problem out at once, so that nobody mends them one by one.

/** @typedef {import('./facts.mjs').Facts} Facts */

/** Capabilities by bit number (include/uapi/linux/capability.h) that root lacks in a container without privileges. */
const CAPABILITIES = /** @type {const} */ ([
  ['CAP_NET_ADMIN', 12n],
  ['CAP_NET_RAW', 13n],
  ['CAP_SYS_ADMIN', 21n],
  ['CAP_PERFMON', 38n],
  ['CAP_BPF', 39n],
]);

/** The oldest release of each distribution, by VERSION_ID; older ones lack clang-19 or the kernel. */
const OLDEST = new Map([
  ['debian', 12],
  ['ubuntu', 24.04],
]);
/** Where `npm start` and `npm test` were seen to work, by ID and VERSION_ID. */
const PROVED = new Set(['debian 12', 'debian 13']);

/**
 * @param {Facts} facts
 * @param {boolean} forTests
 * @returns {string[]} what is missing, one sentence each; empty when the set-up can go on
 */
export function problemsOf(facts, forTests) {
  if (facts.platform !== 'linux') return [`Linux: this is ${facts.platform}. Use a Debian 12 or 13 virtual machine.`];
  /** @type {string[]} */
  const problems = [];
  problems.push(...userProblems(facts));
  if (!atLeast(facts.kernel, [6, 1])) problems.push(`a kernel 6.1 or newer: this one is ${facts.kernel}.`);
  if (!facts.btf) {
    problems.push(
      'kernel types (BTF): /sys/kernel/btf/vmlinux is not there. Use a kernel with CONFIG_DEBUG_INFO_BTF, or mount /sys.',
    );
  }
  if (facts.cpu !== 'x64' && facts.cpu !== 'arm64') problems.push(`an x64 or arm64 CPU: this one is ${facts.cpu}.`);
  if (!facts.apt)
    problems.push(`apt-get and dpkg-query: this is ${nameOf(facts)}; only Debian and Ubuntu are supported.`);
  else problems.push(...releaseProblems(facts));
  if (!atLeast(facts.node, [20])) problems.push(`Node 20 or newer: this one is ${facts.node}.`);
  if (facts.npm === undefined) problems.push('npm 9 or newer: there is no npm on PATH.');
  else if (!atLeast(facts.npm, [9]))
    problems.push(`npm 9 or newer (older ones leave root in a folder of another user): this one is ${facts.npm}.`);
  if (forTests) {
    if (facts.go === undefined) problems.push('Go 1.26 or newer, for the tests: there is no working `go` on PATH.');
    else if (!atLeast(facts.go, [1, 26])) problems.push(`Go 1.26 or newer, for the tests: this one is ${facts.go}.`);
  }
  return problems;
}

/**
 * @param {Facts} facts
 * @returns {string | undefined} a warning if nobody has run Tortie on this release
 */
export function unproved(facts) {
  const id = `${facts.os['ID']} ${facts.os['VERSION_ID']}`;
  if (PROVED.has(id) && facts.cpu === 'x64') return undefined;
  return `${nameOf(facts)} on ${facts.cpu} is expected to work, but nobody has proved it.`;
}

/** @param {Facts} facts */
export function nameOf(facts) {
  return facts.os['PRETTY_NAME'] ?? facts.os['ID'] ?? 'an unknown system';
}

/**
 * @param {Facts} facts
 * @returns {'debian' | 'ubuntu'} whose package names to use
 */
export function distributionOf(facts) {
  return idsOf(facts).includes('ubuntu') ? 'ubuntu' : 'debian';
}

/** @param {Facts} facts */
function userProblems(facts) {
  if (facts.uid !== 0)
    return [`root: this is user ${facts.uid}. Run the same command as root, for example in \`su -\`.`];
  const { capabilities } = facts;
  if (capabilities === undefined) return ['/proc: it is not mounted, so that capabilities cannot be read.'];
  const lacking = CAPABILITIES.filter(([, bit]) => (capabilities & (1n << bit)) === 0n).map(([name]) => name);
  return lacking.length === 0
    ? []
    : [
        `${lacking.join(', ')}: this root lacks ${lacking.length === 1 ? 'it' : 'them'}. In a container, start it with all privileges.`,
      ];
}

/** @param {Facts} facts */
function releaseProblems(facts) {
  const oldest = OLDEST.get(facts.os['ID'] ?? '');
  const version = facts.os['VERSION_ID'];
  if (oldest !== undefined) {
    // Debian testing and unstable have no VERSION_ID: newer than every release.
    return version === undefined || Number(version) >= oldest
      ? []
      : [`Debian 12 or Ubuntu 24.04, or newer: this is ${nameOf(facts)}.`];
  }
  return idsOf(facts).some((id) => OLDEST.has(id)) ? [] : [`Debian or Ubuntu: this is ${nameOf(facts)}.`];
}

/** @param {Facts} facts */
function idsOf(facts) {
  return [facts.os['ID'] ?? '', ...(facts.os['ID_LIKE'] ?? '').split(' ')];
}

/**
 * @param {string} version such as `6.18.44-fc` or `20.20.2`
 * @param {readonly number[]} wanted major, and minor if it matters
 */
function atLeast(version, wanted) {
  const parts = version.split(/[.-]/).map(Number);
  for (const [i, want] of wanted.entries()) {
    const have = parts[i] ?? 0;
    if (have !== want) return have > want;
  }
  return true;
}
