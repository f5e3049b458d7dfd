import { systemCommandRunner } from '#native/command-runner.ts';
import { askAgent, isAgentAbsent } from '../admin/client.ts';
import { checkSettings } from '../check/check-settings.ts';
import { checkText } from '../check/check-text.ts';
import { exitStatusOf } from '../check/evaluate.ts';
import { findHostView } from '../check/host-view.ts';
import { checkNode } from '../check/node-check.ts';
import type { CheckResult } from '../check/result.ts';
import { resolveAgentConfig } from '../config/agent-config.ts';
import { parseCommandLine, readCniDirs, readFelixEnv, readNodeSettings } from '../config/bootstrap.ts';
import { outputFlag, wantsJson, type Command } from './command.ts';

/** The runtimes' own defaults: where an agent that isn't there yet will have its files. */
const usualDirs = { confDir: '/etc/cni/net.d', binDir: '/opt/cni/bin' };

export const checkCommand: Command = {
  name: 'check',
  usage: 'check [--host-root DIR] [-o json]',
  summary:
    'can this node run Tortie: kernel, sysctls, other programs (exit status 0: nothing blocks, 1: something does, 3: could not be told)',
  async run(args, env, output) {
    const { flags } = parseCommandLine(args, { ...outputFlag, 'host-root': { type: 'string' } });
    const isJson = wantsJson(flags);
    const results = await lookAgain(flags, env);
    output.out(isJson ? JSON.stringify(results, null, 2) : checkText(results));
    return exitStatusOf(results);
  },
};

/** An agent that runs knows its settings: it looks again, and its status says what came of it. Without one we look ourselves. */
async function lookAgain(
  flags: Readonly<Record<string, unknown>>,
  env: NodeJS.ProcessEnv,
): Promise<readonly CheckResult[]> {
  const { runDir, bpffs } = readNodeSettings(flags, env);
  const root = flags['host-root'];
  if (typeof root !== 'string') {
    try {
      return (await askAgent(runDir, '/check')) as readonly CheckResult[];
    } catch (error) {
      if (!isAgentAbsent(error)) throw error;
    }
  }
  const given = readCniDirs(flags, env);
  return await checkNode(
    {
      commands: systemCommandRunner,
      view: findHostView(env, typeof root === 'string' ? root : undefined),
      cniDirs: { confDir: given.confDir ?? usualDirs.confDir, binDir: given.binDir ?? usualDirs.binDir },
    },
    checkSettings(resolveAgentConfig(readFelixEnv(env), undefined, undefined), bpffs),
  );
}
