import { rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { confFileName, confRecordName } from '../cni-conf/conflist.ts';
import { pluginRecordName } from './install.ts';
import { PlacedFiles } from './placed-files.ts';

/** Where else to look than the records say: they may be lost. */
export interface RuntimeDirs {
  readonly confDir: string | undefined;
  readonly binDir: string | undefined;
}

/**
 * Removes what was put into the runtime's directories: by the records, and under our own two names also without. The configuration first, so that
 * the runtime starts no pod by a plugin that isn't there. Returns what somebody has changed since: those files stay.
 */
export function removeFromRuntime(stateDir: string, { confDir, binDir }: RuntimeDirs): readonly string[] {
  const conf = new PlacedFiles(join(stateDir, confRecordName));
  const plugins = new PlacedFiles(join(stateDir, pluginRecordName));
  if (confDir !== undefined) rmSync(join(confDir, confFileName), { force: true });
  const left: string[] = [];
  for (const path of conf.paths()) {
    // Also one that somebody has edited: it names a plugin that goes now.
    rmSync(path, { force: true });
    conf.remove(path);
  }
  if (binDir !== undefined) rmSync(join(binDir, 'tortie'), { force: true });
  for (const path of plugins.paths()) {
    if (plugins.remove(path) !== 'foreign') continue;
    if (basename(path) === 'tortie') rmSync(path, { force: true });
    else left.push(path);
  }
  return left;
}
