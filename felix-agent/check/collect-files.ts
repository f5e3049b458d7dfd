import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { dirname, join } from 'node:path';
import type { ConfFile, FileFacts } from './facts.ts';
import type { HostView } from './host-view.ts';
import { known, notKnown, type Known } from './result.ts';

/** The runtime's directories, where they are known. */
export interface CniDirs {
  readonly confDir: string | undefined;
  readonly binDir: string | undefined;
}

/** As systemd and NetworkManager look for their files: the first directory has the last word on a name. */
const CONFIG_ROOTS = ['/etc', '/run', '/usr/local/lib', '/usr/lib'];

/** Configurations of other programs, and directories that the runtime reads, as the host has them. */
export function collectFiles(view: HostView, { confDir, binDir }: CniDirs): FileFacts {
  const directories = [binDir, confDir].filter((dir) => dir !== undefined);
  return {
    cniConfs: confDir === undefined ? known([]) : readable(() => cniConfNames(view, confDir)),
    cniDirectories: directories.map((path) => ({ path, refused: readable(() => whyNotWritable(located(view, path))) })),
    networkManager: readable(() => ({
      files: [...readFiles(view, ['/etc/NetworkManager/NetworkManager.conf']), ...networkManagerDropIns(view)],
      udevRules: dirFiles(
        view,
        CONFIG_ROOTS.map((root) => `${root}/udev/rules.d`),
        '.rules',
      ).filter(({ text }) => text.includes('NM_UNMANAGED')),
    })),
    networkd: readable(() => ({
      networks: dirFiles(
        view,
        CONFIG_ROOTS.map((root) => `${root}/systemd/network`),
        '.network',
      ),
      main: readFiles(
        view,
        CONFIG_ROOTS.map((root) => `${root}/systemd/networkd.conf`),
      ),
      dropIns: dirFiles(
        view,
        CONFIG_ROOTS.map((root) => `${root}/systemd/networkd.conf.d`),
        '.conf',
      ),
    })),
    missingModules: readable(() => {
      const path = `/lib/modules/${release()}`;
      return existsSync(located(view, path)) ? undefined : path;
    }),
    foreignLock: view.isShared('/run/xtables.lock')
      ? undefined
      : "this container has a /run/xtables.lock of its own: the host's programs don't see it",
  };
}

/** Of equal names the one in /etc counts; then all, sorted by name, the last one having the last word. */
function networkManagerDropIns(view: HostView): readonly ConfFile[] {
  const byName = new Map<string, ConfFile>();
  for (const file of dirFiles(
    view,
    CONFIG_ROOTS.map((root) => `${root}/NetworkManager/conf.d`),
    '.conf',
  )) {
    const name = file.path.slice(file.path.lastIndexOf('/') + 1);
    if (!byName.has(name)) byName.set(name, file);
  }
  return [...byName].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, file]) => file);
}

/** As the runtimes' library sorts and takes them. */
function cniConfNames(view: HostView, dir: string): readonly string[] {
  return listed(located(view, dir))
    .filter((name) => /\.(conf|conflist|json)$/.test(name))
    .sort();
}

/** Why nothing can be written there, or could be once the directory is made; undefined: it can. */
function whyNotWritable(path: string): string | undefined {
  if (!existsSync(path) && path !== '/') return whyNotWritable(dirname(path));
  try {
    accessSync(path, constants.W_OK);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Where a file of the host is; throws the view's own reason when it can't be seen. */
function located(view: HostView, path: string): string {
  const place = view.locate(path);
  if (place.known) return place.value;
  throw new Error(place.reason);
}

function readable<Value>(read: () => Value): Known<Value> {
  try {
    return known(read());
  } catch (error) {
    return notKnown((error as Error).message);
  }
}

/** Those of the files that there are. */
function readFiles(view: HostView, paths: readonly string[]): readonly ConfFile[] {
  return paths.flatMap((path) => {
    const place = located(view, path);
    return existsSync(place) ? [{ path, text: readFileSync(place, 'utf8') }] : [];
  });
}

/** All files of this ending in the directories, in the order of these. */
function dirFiles(view: HostView, dirs: readonly string[], ending: string): readonly ConfFile[] {
  return dirs.flatMap((dir) =>
    readFiles(
      view,
      listed(located(view, dir))
        .filter((name) => name.endsWith(ending))
        .map((name) => join(dir, name)),
    ),
  );
}

/** Empty for a directory that isn't there. */
function listed(dir: string): readonly string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
