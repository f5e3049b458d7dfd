// @ts-check
// The Debian packages that Tortie needs, each with its reason: the only list. scripts/setup.mjs installs from it,
// docs/dependencies.md shows it (`make gen` writes it there, a test holds it). No dependency: Node 20 runs this as it is.

/**
 * @typedef {'start' | 'tests' | 'kernels'} Need `start`: building and the playground; additionally `tests`: for the tests and
 *   `make check`, `kernels`: for `make test-kernels`.
 * @typedef {{ name: string, ubuntu?: readonly string[], or?: string, need: Need, why: string }} Package
 *   `name` is the package in Debian 12 and 13; `ubuntu` says what Ubuntu 24.04 has instead; `or` names another package with the
 *   same programs that excludes this one: where it is installed, it stays.
 */

/** @type {readonly Package[]} */
export const PACKAGES = [
  { name: 'make', need: 'start', why: 'the build' },
  { name: 'gcc', need: 'start', why: 'compiles the CNI launcher' },
  { name: 'g++', need: 'start', why: 'compiles the addon' },
  { name: 'libc6-dev', need: 'start', why: 'headers of the C library, and its static half for the CNI launcher' },
  { name: 'libmnl-dev', need: 'start', why: 'netlink messages in the addon' },
  { name: 'libbpf-dev', need: 'start', why: 'loads BPF objects in the addon; the headers of the BPF programs' },
  { name: 'libelf-dev', need: 'start', why: 'libbpf reads objects with it' },
  { name: 'zlib1g-dev', need: 'start', why: 'libelf reads compressed sections with it' },
  { name: 'clang-19', need: 'start', why: 'compiles the BPF programs; the same version on every supported release' },
  { name: 'iptables', need: 'start', why: 'iptables-save and iptables-restore, which the iptables dataplane runs' },
  {
    name: 'nftables',
    need: 'start',
    why: 'removes the empty tables that the nft variant of iptables leaves and cannot remove',
  },
  {
    name: 'iproute2',
    need: 'start',
    why: 'ip, by which playground and tests make nodes and look at the result with other eyes than ours',
  },
  {
    name: 'bpftool',
    ubuntu: ['linux-tools-common', 'linux-tools-generic'],
    need: 'tests',
    why: 'types of the BPF programs for TypeScript (`make gen`, `make check`); the leftover check after the tests',
  },
  { name: 'ipset', need: 'tests', why: 'sets read back with other eyes than ours' },
  { name: 'conntrack', need: 'tests', why: 'connection tracking seen with other eyes than ours' },
  { name: 'procps', need: 'tests', why: 'sysctl, which sets what a test starts from' },
  { name: 'ethtool', need: 'tests', why: 'turns off what test devices do for checksums and segments' },
  { name: 'iputils-ping', need: 'tests', why: 'test traffic between pods' },
  {
    name: 'containernetworking-plugins',
    need: 'tests',
    why: 'delegated and chained CNI plugins; `ptp` and `host-local` for the benchmark',
  },
  {
    name: 'containerd',
    or: 'containerd.io',
    need: 'tests',
    why: 'the container runtime that drives the CNI executable in a test, and that of the test cluster; the tests start their own, with their own folders',
  },
  { name: 'runc', or: 'containerd.io', need: 'tests', why: 'what containerd starts containers with' },
  {
    name: 'buildah',
    need: 'tests',
    why: 'builds the image that the test cluster runs (`make image`), without a daemon',
  },
  {
    name: 'netavark',
    need: 'tests',
    why: "buildah of Debian 13 doesn't begin without it, though nothing of the image's build uses a network",
  },
  { name: 'debootstrap', need: 'tests', why: "makes that image's base without a registry" },
  { name: 'clang-format-19', need: 'tests', why: 'the format of C and C++ (`make check`)' },
  { name: 'qemu-system-x86', need: 'kernels', why: 'emulates the machines that other kernels are booted on' },
  {
    name: 'busybox-static',
    or: 'busybox',
    need: 'kernels',
    why: 'what these machines start with; packs their initramfs, and indexes the modules in it',
  },
  {
    name: 'debian-archive-keyring',
    need: 'kernels',
    why: 'apt checks by it where the kernels come from, on Ubuntu too',
  },
];

/**
 * @param {'debian' | 'ubuntu'} distribution
 * @param {readonly Need[]} needs what for; `start` is always among it
 * @returns {string[]} package names, in the table's order; `a | b` where either will do, the first by preference
 */
export function packagesFor(distribution, needs) {
  return PACKAGES.filter((p) => p.need === 'start' || needs.includes(p.need)).flatMap((p) =>
    distribution === 'ubuntu' && p.ubuntu ? p.ubuntu : [p.or ? `${p.name} | ${p.or}` : p.name],
  );
}

/** @type {Readonly<Record<Need, string>>} */
const NEEDS = { start: 'build, playground', tests: 'tests', kernels: '`make test-kernels`' };

/** @returns {string} the table of docs/dependencies.md, in Markdown */
export function packagesTable() {
  const rows = PACKAGES.map((p) => {
    const name = `\`${p.name}\`${p.ubuntu ? ` (Ubuntu: ${p.ubuntu.map((u) => `\`${u}\``).join(', ')})` : ''}`;
    const either = p.or ? `${name} or \`${p.or}\`` : name;
    return `| ${either} | ${NEEDS[p.need]} | ${p.why} |`;
  });
  return ['| package | for | why |', '|---|---|---|', ...rows].join('\n');
}
