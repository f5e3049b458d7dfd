import { cpSync, existsSync, globSync, mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Lock, packageFolders } from './node-packages.ts';
import { run } from './run.ts';

/** Of the project, what the tests on the kernel need; the rest comes from package.json's dependencies. */
const PARTS = ['api', 'native', 'datastore', 'ipam', 'cni-plugin', 'dataplanes', 'felix-agent', 'scripts', 'test'];
const BUILT = [
  'dist/bin/node',
  'dist/lib',
  'dist/bpf',
  'build/bpf',
  'bpf/instructions.json',
  'package.json',
  'jest.config.mjs',
];
const TEST_PACKAGES = ['jest', '@jest/globals', 'fast-check'];
/** Programs that tests call; what is wanted besides is taken where this machine has it, and tests without it say that they are skipped. */
const PROGRAMS = ['ip', 'tc', 'bash', 'iptables', 'ip6tables'];
const WANTED = ['ethtool'];
/** Of the kernel's modules: the network, and what it is made of. The rest is for disks, cards and file systems. */
const MODULES = ['kernel/net', 'kernel/lib', 'kernel/crypto', 'kernel/drivers/net/*.ko*', 'kernel/drivers/net/vxlan'];

/**
 * Lays out what the machines have in common, as their root file system: busybox, the pinned Node, this checkout as it is (with what
 * was built) under /tortie, ip, tc, iptables and ethtool, and the libraries of all of these from this machine.
 * @param tree an empty folder
 * @param args what Jest gets, one word each, without line ends
 */
export async function layOutTree(
  project: string,
  tree: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  for (const folder of ['bin', 'sbin', 'proc', 'sys', 'dev', 'tmp', 'run', 'root', 'etc'])
    mkdirSync(join(tree, folder), { recursive: true });
  const lock = JSON.parse(readFileSync(join(project, 'package-lock.json'), 'utf8')) as Lock;
  const { dependencies } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  // Packages of other platforms are in the lock, but not installed.
  const packages = packageFolders(lock, [...Object.keys(dependencies), ...TEST_PACKAGES]).filter((path) =>
    existsSync(join(project, path)),
  );
  for (const path of [...PARTS, ...BUILT, ...packages]) copy(join(project, path), join(tree, 'tortie', path));
  copy(await programPath('busybox', signal), join(tree, 'bin/busybox'));
  for (const program of PROGRAMS) copy(await programPath(program, signal), join(tree, 'usr/sbin', program));
  for (const program of WANTED) {
    const path = ['/usr/sbin', '/sbin', '/usr/bin'].map((folder) => join(folder, program)).find(existsSync);
    if (path !== undefined) copy(path, join(tree, 'usr/sbin', program));
  }
  copy(join(project, 'test/kernels/guest/init'), join(tree, 'init'));
  writeFileSync(join(tree, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  writeFileSync(join(tree, 'etc/jest-arguments'), args.map((arg) => `${arg}\n`).join(''));
  const linked = ['bin/busybox', 'usr/sbin/*', 'tortie/dist/bin/node', 'tortie/**/*.node', 'tortie/dist/lib/*.so.*'];
  for (const file of globSync(linked, { cwd: tree }))
    for (const library of await librariesOf(join(tree, file), signal)) copy(library, join(tree, library));
  // What iptables opens at run time: a library for each match and target, beside the one that opens them.
  const xtables = only(globSync('{usr/,}{lib,lib64}/**/libxtables.so.*', { cwd: tree }), "iptables' libraries");
  const extensions = join(dirname(realpathSync(join('/', xtables))), 'xtables');
  copy(extensions, join(tree, extensions));
}

/**
 * Packs an initramfs: the tree with the modules of one kernel, in place of those of the kernel before.
 * @param deb the kernel's package
 * @param work an empty folder
 * @returns paths in `work`
 */
export async function packMachine(
  tree: string,
  deb: string,
  work: string,
  signal: AbortSignal,
): Promise<{ readonly kernel: string; readonly initrd: string }> {
  await run('dpkg-deb', ['-x', deb, work], { signal });
  const kernel = only(globSync('boot/vmlinuz-*', { cwd: work }), `${deb}: kernels`);
  const modules = only(globSync('{usr/,}lib/modules/*', { cwd: work }), `${deb}: folders of modules`);
  const release = modules.slice(modules.lastIndexOf('/') + 1);
  const target = join(tree, 'lib/modules', release);
  rmSync(dirname(target), { recursive: true, force: true });
  for (const path of globSync([...MODULES, 'modules.{order,builtin,builtin.modinfo}'], { cwd: join(work, modules) }))
    copy(join(work, modules, path), join(target, path));
  const packed = globSync('**/*.ko.xz', { cwd: target }).map((path) => join(target, path));
  if (packed.length > 0) await run('busybox', ['unxz', ...packed], { signal });
  await run('busybox', ['depmod', '-b', tree, release], { signal });
  const initrd = join(work, 'initrd');
  const pack = 'cd "$1" && busybox find . | busybox cpio -o -H newc -R 0:0 >"$2"';
  await run('sh', ['-c', pack, 'sh', tree, initrd], { signal });
  return { kernel: join(work, kernel), initrd };
}

/** Follows the link that `from` may be, and keeps those within it. */
function copy(from: string, to: string): void {
  cpSync(realpathSync(from), to, { recursive: true, verbatimSymlinks: true });
}

async function programPath(name: string, signal: AbortSignal): Promise<string> {
  // /usr/sbin isn't on everybody's PATH.
  const find = 'PATH=$PATH:/usr/sbin:/sbin command -v "$1" || { echo "there is no $1 on PATH" >&2; exit 1; }';
  return (await run('sh', ['-c', find, 'sh', name], { signal })).trim();
}

/** Absolute paths of what the loader would load with it on this machine; none for a static program. */
async function librariesOf(file: string, signal: AbortSignal): Promise<string[]> {
  const listed = await run('sh', ['-c', 'ldd "$1" 2>&1 || true', 'sh', file], { signal });
  if (listed.includes('not a dynamic executable') || listed.includes('statically linked')) return [];
  const missing = /^\s*(\S+) => not found/m.exec(listed)?.[1];
  if (missing !== undefined) throw new Error(`${file} needs ${missing}, which this machine lacks`);
  return [...listed.matchAll(/^\s*(?:\S+ => )?(\/\S+) \(0x/gm)]
    .map((match) => match[1] ?? '')
    .filter((path) => !path.startsWith(dirname(file)));
}

function only(paths: readonly string[], what: string): string {
  const [first, ...others] = paths;
  if (first === undefined || others.length > 0) throw new Error(`${what}: ${paths.length}, not one`);
  return first;
}
