import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseCommandLine, readCniDirs, readNodeSettings } from '../config/bootstrap.ts';
import { installPlugins } from '../install/install.ts';
import type { Command } from './command.ts';

export const installCommand: Command = {
  name: 'install',
  usage: 'install --cni-bin-dir=DIR',
  summary:
    "puts the CNI executable into the runtime's plugin directory, and portmap, bandwidth and loopback where it has none",
  run(args, env, output) {
    const { flags } = parseCommandLine(args);
    const { stateDir } = readNodeSettings(flags, env);
    const { binDir } = readCniDirs(flags, env);
    if (binDir === undefined) {
      throw new Error(
        "--cni-bin-dir (TORTIE_CNI_BIN_DIR) is missing: give the runtime's plugin directory, such as /opt/cni/bin",
      );
    }
    for (const { path, did } of installPlugins({ distDir: distDir(), binDir, stateDir })) {
      output.out(did === 'kept' ? `${path}: kept, it is the node's own` : `${path}: ${did}`);
    }
    return Promise.resolve(0);
  },
};

/** Seen from dist/lib/tortie.js, or from the source tree. */
function distDir(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const candidates = [join(here, '..'), join(here, '../../dist')];
  return candidates.find((dir) => existsSync(join(dir, 'cni/tortie'))) ?? join(here, '..');
}
