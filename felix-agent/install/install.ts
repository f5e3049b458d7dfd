import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { PlaceError, PlacedFiles, type Owner } from './placed-files.ts';

/** In the state dir: which of the node's CNI plugins are ours. */
export const pluginRecordName = 'installed-plugins.json';

/** Where the plugins come from and go to. */
export interface InstallPlan {
  /** `dist/`, or what it became in the image: `cni/tortie`, and below `plugins/` those that a node may lack. */
  readonly distDir: string;
  /** Where the runtime looks for plugins. */
  readonly binDir: string;
  readonly stateDir: string;
}

/** What was done with one plugin. `kept`: the node has one of its own. */
export interface Installed {
  readonly path: string;
  readonly did: 'installed' | 'replaced' | 'unchanged' | 'kept';
}

/**
 * Puts the CNI executable into the node's plugin directory, and the plugins that are chained with it where the node has none. Running it again
 * changes nothing; a newer version replaces what an older one put there, and nothing else. Throws `PlaceError`.
 */
export function installPlugins({ distDir, binDir, stateDir }: InstallPlan): readonly Installed[] {
  if (!statSync(binDir, { throwIfNoEntry: false })?.isDirectory()) {
    throw new PlaceError('ENOENT', `${binDir} is no directory: give the runtime's plugin directory (--cni-bin-dir)`);
  }
  const files = new PlacedFiles(join(stateDir, pluginRecordName));
  const chained = join(distDir, 'plugins');
  const names = existsSync(chained) ? readdirSync(chained).toSorted() : [];
  return [
    installOne(files, join(distDir, 'cni/tortie'), join(binDir, 'tortie'), true),
    ...names.map((name) => installOne(files, join(chained, name), join(binDir, name), false)),
  ];
}

function installOne(files: PlacedFiles, source: string, path: string, isOurName: boolean): Installed {
  const owner: Owner = files.owner(path);
  if (owner === 'foreign' && !isOurName) return { path, did: 'kept' };
  const isNew = files.place(path, readSource(source), 0o755);
  return { path, did: !isNew ? 'unchanged' : owner === 'absent' ? 'installed' : 'replaced' };
}

function readSource(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new PlaceError(code ?? 'failed', `can't read ${path}, which is to be installed: ${message}`, {
      cause: error,
    });
  }
}
