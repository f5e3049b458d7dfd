import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { systemCommandRunner, type CommandRunner } from '#native/command-runner.ts';
import { askAgent } from '../admin/client.ts';
import { parseCommandLine, readRunDir } from '../config/bootstrap.ts';
import { outputFlag, table, wantsJson, type Command } from './command.ts';

/** What the agent is asked. */
const questions = ['/status', '/endpoints', '/state', '/metrics'] as const;

/** What is asked of the node. None changes anything; one that is missing or fails is recorded as such. */
const commands: readonly (readonly [file: string, ...args: string[]])[] = [
  ['uname', '-a'],
  ['ip', '-d', 'link'],
  ['ip', 'address'],
  ['ip', 'rule'],
  ['ip', '-4', 'route', 'show', 'table', 'all'],
  ['ip', '-6', 'route', 'show', 'table', 'all'],
  ['ip', 'neighbour'],
  ['iptables-legacy-save', '-c'],
  ['iptables-nft-save', '-c'],
  ['ip6tables-legacy-save', '-c'],
  ['ip6tables-nft-save', '-c'],
  ['ipset', 'list'],
  ['bpftool', 'net'],
];

/** Settings of the node's network, below /proc/sys; read here, since the image has no sysctl(8). */
const sysctls = [
  'net/ipv4/ip_forward',
  'net/ipv4/conf/*/{forwarding,rp_filter,proxy_arp}',
  'net/ipv6/conf/*/{disable_ipv6,forwarding,proxy_ndp,accept_ra}',
] as const;

/** How long one of them may take, in ms. */
const patienceMs = 20_000;

/** One file of a collection. */
interface Piece {
  readonly file: string;
  readonly from: string;
  /** `ok`, or why there is nothing or not all. */
  readonly outcome: string;
}

/** Collects what a person needs who looks into a node's trouble. The runner is a seam for tests. */
export function diagsCommand(runner: CommandRunner = systemCommandRunner): Command {
  return {
    name: 'diags',
    usage: 'diags [DIRECTORY] [-o json]',
    summary:
      "collects status, policy state, metrics, routes, rules and sets of this node into files (no secrets; pods' names and addresses are in them)",
    async run(args, env, output) {
      const { flags, positionals } = parseCommandLine(args, outputFlag);
      const [given, ...rest] = positionals;
      if (rest.length > 0) throw new Error('use: tortie diags [DIRECTORY]');
      const isJson = wantsJson(flags);
      const stamp = new Date().toISOString().replaceAll(/[:.]/g, '-');
      const dir = resolve(given ?? `tortie-diags-${hostname()}-${stamp}`);
      mkdirSync(dir, { recursive: true, mode: 0o700 });
      const pieces: Piece[] = [];
      for (const path of questions) pieces.push(await ask(dir, readRunDir(flags, env), path));
      for (const [file, ...rest] of commands) pieces.push(await record(dir, runner, file, rest));
      pieces.push(readSysctls(dir));
      output.out(isJson ? JSON.stringify({ dir, pieces }, null, 2) : piecesText(dir, pieces));
      return 0;
    },
  };
}

async function ask(dir: string, runDir: string, path: string): Promise<Piece> {
  const from = `agent ${path}`;
  const name = `agent-${path.slice(1)}`;
  try {
    const answer = await askAgent(runDir, path);
    const isText = typeof answer === 'string';
    const file = `${name}.${isText ? 'txt' : 'json'}`;
    writeFileSync(join(dir, file), isText ? answer : `${JSON.stringify(answer, null, 2)}\n`);
    return { file, from, outcome: 'ok' };
  } catch (error) {
    const file = `${name}.json`;
    writeFileSync(join(dir, file), `${JSON.stringify({ error: (error as Error).message })}\n`);
    return { file, from, outcome: (error as Error).message };
  }
}

async function record(dir: string, runner: CommandRunner, command: string, args: readonly string[]): Promise<Piece> {
  const from = [command, ...args].join(' ');
  const file = `${from.replaceAll(/[^\w-]+/g, '_').slice(0, 60)}.txt`;
  try {
    const { status, stdout, stderr } = await runner.run(command, args, { timeoutMs: patienceMs });
    writeFileSync(join(dir, file), `$ ${from}\n${stdout}${stderr}`);
    return { file, from, outcome: status === 0 ? 'ok' : `ended with status ${status ?? 'none'}` };
  } catch (error) {
    writeFileSync(join(dir, file), `$ ${from}\n${(error as Error).message}\n`);
    return { file, from, outcome: (error as Error).message };
  }
}

/** As sysctl(8) writes it: dots between the parts, and a slash for a dot in a device's name. */
function sysctlName(path: string): string {
  return path.replaceAll(/[./]/g, (sign) => (sign === '/' ? '.' : '/'));
}

function readSysctls(dir: string): Piece {
  const lines: string[] = [];
  const failures: string[] = [];
  for (const path of globSync([...sysctls], { cwd: '/proc/sys' }).toSorted()) {
    try {
      lines.push(`${sysctlName(path)} = ${readFileSync(join('/proc/sys', path), 'utf8').trim()}\n`);
    } catch (error) {
      // A device that goes meanwhile takes its settings with it.
      failures.push((error as Error).message);
    }
  }
  writeFileSync(join(dir, 'sysctls.txt'), [...lines, ...failures.map((failure) => `${failure}\n`)].join(''));
  return { file: 'sysctls.txt', from: '/proc/sys/net', outcome: failures[0] ?? 'ok' };
}

function piecesText(dir: string, pieces: readonly Piece[]): string {
  const rows = pieces.map(({ file, from, outcome }) => [file, from, outcome]);
  return `${table(['FILE', 'FROM', 'OUTCOME'], rows)}\n\nwritten to ${dir}`;
}
