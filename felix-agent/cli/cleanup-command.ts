import { parseAlias } from '#cni/names.ts';
import { KernelFileLock } from '#native/flock.ts';
import type { Link } from '#native/types.ts';
import { removeDevices } from '../remove-devices.ts';
import { askAgent, isAgentAbsent } from '../admin/client.ts';
import { cleanupParts } from '../container.ts';
import { parseCommandLine, readCniDirs, readNodeSettings } from '../config/bootstrap.ts';
import { resolveAgentConfig } from '../config/agent-config.ts';
import { removeEndpointStatusFiles } from '../endpoints/endpoint-status-files.ts';
import { removeFromRuntime } from '../install/remove.ts';
import { createLog } from '../log.ts';
import { lockNode } from '../node-lock.ts';
import { removeOwnDirectories } from '../own-directories.ts';
import type { Command } from './command.ts';

export const cleanupCommand: Command = {
  name: 'cleanup',
  usage: 'cleanup [--force]',
  summary: 'removes every trace of Tortie from this node; --force also cuts off pods that are still wired',
  async run(args, env, output) {
    const { flags } = parseCommandLine(args, { force: { type: 'boolean' } });
    const settings = readNodeSettings(flags, env);
    if (process.getuid?.() !== 0) throw new Error('must run as root: it removes routes, rules and BPF objects');
    await refuseWhileAgentRuns(settings.runDir);
    const log = createLog(settings.nodeName);
    using _lock = await lockNode(settings, new KernelFileLock(), log); // No agent may start meanwhile.
    await using parts = cleanupParts(settings, log);
    const devices = (await parts.host.links()).filter(isOurs);
    if (devices.length > 0 && flags['force'] !== true) {
      output.err(`tortie cleanup: pods are still wired: ${devices.map(({ name }) => name).join(', ')}`);
      output.err('Delete them first, or cut them off with --force. Nothing was changed.');
      return 1;
    }
    for (const path of removeFromRuntime(settings.stateDir, readCniDirs(flags, env))) {
      output.err(`tortie cleanup: ${path} was put there by Tortie and changed by somebody since: it stays`);
    }
    await removeDevices(parts.host, devices);
    const { dataplane } = resolveAgentConfig({}, undefined, undefined);
    for (const programmer of parts.programmers) {
      programmer.onUpdate({ type: 'configUpdate', config: dataplane });
      await programmer.cleanup();
    }
    removeEndpointStatusFiles(settings.stateDir);
    removeOwnDirectories(settings);
    output.out(`node ${settings.nodeName}: nothing of Tortie is left`);
    return 0;
  },
};

async function refuseWhileAgentRuns(runDir: string): Promise<void> {
  try {
    await askAgent(runDir, '/status');
  } catch (error) {
    if (isAgentAbsent(error)) return;
    throw error;
  }
  throw new Error(`the agent at ${runDir} is running and would put everything back: stop it first`);
}

function isOurs({ alias }: Link): boolean {
  return parseAlias(alias) !== undefined;
}
