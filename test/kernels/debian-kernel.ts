import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './run.ts';

/** The release whose cloud kernel is wanted. */
export interface DebianKernel {
  /** Codename of the release. */
  readonly suite: string;
  /** The kernel's series, such as `6.1`. */
  readonly series: string;
}

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const META_PACKAGE = 'linux-image-cloud-amd64';
const MAX_AGE_MS = 14 * 24 * 3600 * 1000;

/**
 * Path of the kernel's package, a .deb file in `cache`: what is there is taken for two weeks, then the newest is fetched, and if that
 * fails the old one is taken after all. apt does it, with the machine's own way to its mirror but lists, state and sources of its own, so
 * any release's package can be had and the machine's apt isn't touched; apt checks the index's signature by Debian's keyring and the
 * package by the index.
 * @param say told what is being done
 * @throws Error with apt's words if there is no package at all
 */
export async function kernelPackage(
  wanted: DebianKernel,
  cache: string,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<string> {
  const folder = join(cache, wanted.suite);
  mkdirSync(folder, { recursive: true });
  const kept = debsIn(folder).at(-1);
  if (kept !== undefined && Date.now() - statSync(kept).mtimeMs < MAX_AGE_MS) return kept;
  try {
    say(`fetching the kernel of ${wanted.suite} by apt`);
    const fetched = await fetch(wanted, folder, signal);
    for (const old of debsIn(folder)) if (old !== fetched) rmSync(old);
    return fetched;
  } catch (error) {
    signal.throwIfAborted();
    if (kept === undefined) throw error;
    say(`${error instanceof Error ? error.message : String(error)}\n  so the one that is here is taken: ${kept}`);
    return kept;
  }
}

/** Oldest first. */
function debsIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.deb'))
    .map((name) => join(folder, name))
    .sort((a, b) => statSync(a).mtimeMs - statSync(b).mtimeMs);
}

async function fetch(wanted: DebianKernel, folder: string, signal: AbortSignal): Promise<string> {
  const work = mkdtempSync(join(folder, 'apt-'));
  try {
    for (const sub of ['lists/partial', 'cache/archives/partial', 'deb'])
      mkdirSync(join(work, sub), { recursive: true });
    const sources = join(work, 'debian.sources');
    writeFileSync(sources, sourcesOf(await mirror(signal), wanted.suite));
    const options = aptOptions(work, sources);
    await run('apt-get', [...options, '-q', 'update'], { signal });
    const shown = await run('apt-cache', [...options, 'show', '--no-all-versions', META_PACKAGE], { signal });
    const name = /^Depends:.*?\b(linux-image-[^\s,]+)/m.exec(shown)?.[1];
    if (name === undefined || !name.startsWith(`linux-image-${wanted.series}.`))
      throw new Error(`${META_PACKAGE} of ${wanted.suite} is not a ${wanted.series} kernel: ${name ?? shown}`);
    await run('apt-get', [...options, '-q', 'download', name], { signal, cwd: join(work, 'deb') });
    const deb = debsIn(join(work, 'deb'))[0];
    if (deb === undefined) throw new Error(`apt-get download ${name} left no package`);
    // apt gives it the mirror's time; ours says when it was fetched.
    utimesSync(deb, new Date(), new Date());
    const kept = join(folder, deb.slice(deb.lastIndexOf('/') + 1));
    renameSync(deb, kept);
    return kept;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The mirror that this machine gets Debian from; on a machine of another distribution, Debian's own. */
async function mirror(signal: AbortSignal): Promise<string> {
  const format = '$(COMPONENT) $(LABEL) $(REPO_URI)';
  const targets = await run('apt-get', ['indextargets', '--format', format], { signal });
  const main = targets.split('\n').find((line) => line.startsWith('main Debian '));
  return main?.slice('main Debian '.length) ?? 'http://deb.debian.org/debian/';
}

function sourcesOf(uri: string, suite: string): string {
  const fields = { Types: 'deb', URIs: uri, Suites: suite, Components: 'main', Architectures: 'amd64' };
  return Object.entries({ ...fields, Targets: 'Packages', 'Signed-By': KEYRING })
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('');
}

/** The machine's apt.conf stays in force (proxies, certificates); what it knows and has installed doesn't. */
function aptOptions(work: string, sources: string): string[] {
  const settings = {
    'Dir::State': work,
    'Dir::State::lists': join(work, 'lists'),
    'Dir::State::status': '/dev/null',
    'Dir::Cache': join(work, 'cache'),
    'Dir::Etc::sourcelist': sources,
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::Etc::preferences': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'APT::Architecture': 'amd64',
    // Else `update` succeeds with a warning when the mirror can't be reached.
    'APT::Update::Error-Mode': 'any',
    'Acquire::Languages': 'none',
    // The folder is ours alone: apt's own user may not enter it.
    'APT::Sandbox::User': 'root',
  };
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}
