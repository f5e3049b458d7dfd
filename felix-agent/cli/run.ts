import { bootstrapSettings } from '../config/bootstrap.ts';
import { version } from '../version.ts';
import { agentCommand } from './agent-command.ts';
import { checkCommand } from './check-command.ts';
import { cleanupCommand } from './cleanup-command.ts';
import { conntrackCommand } from './conntrack-command.ts';
import { diagsCommand } from './diags-command.ts';
import { explainCommand } from './explain-command.ts';
import { policyCommand } from './policy-command.ts';
import { table, type Command, type Output } from './command.ts';
import { endpointsCommand } from './endpoints-command.ts';
import { flowsCommand } from './flows-command.ts';
import { installCommand } from './install-command.ts';
import { ipamCommand } from './ipam-command.ts';
import { servicesCommand } from './services-command.ts';
import { statusCommand } from './status-command.ts';

const commands: readonly Command[] = [
  agentCommand,
  statusCommand,
  checkCommand,
  endpointsCommand,
  policyCommand,
  explainCommand,
  flowsCommand,
  conntrackCommand,
  servicesCommand,
  ipamCommand,
  diagsCommand(),
  installCommand,
  cleanupCommand,
];

/** Runs one command line (without the program's name) and returns its exit status. */
export async function runCommandLine(args: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    output.out(help());
    return name === undefined ? 2 : 0;
  }
  if (name === 'version' || name === '--version') {
    output.out(version);
    return 0;
  }
  const command = commands.find((candidate) => candidate.name === name);
  if (command === undefined) {
    output.err(`tortie: no command ${name}; there are ${commands.map((known) => known.name).join(', ')} (tortie help)`);
    return 2;
  }
  try {
    return await command.run(rest, env, output);
  } catch (error) {
    output.err(`tortie ${name}: ${error instanceof Error ? error.message : String(error)}`);
    return 1;
  }
}

function help(): string {
  const rows = commands.map(({ usage, summary }) => [`  tortie ${usage}`, summary]);
  const settings = Object.values(bootstrapSettings).map(({ flag, env, help: text }) => [`  --${flag}`, env, text]);
  return [
    table(['Commands', ''], rows),
    '',
    'Settings, as a flag or in the environment:',
    table(['  FLAG', 'VARIABLE', ''], settings),
  ].join('\n');
}
