import { systemClock } from '#api/clock.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { releaseByHand } from '#ipam/release.ts';
import { checkIpam, ipamUsage, type IpamUsage } from '#ipam/report.ts';
import { askAgent } from '../admin/client.ts';
import {
  datastoreRef,
  parseCommandLine,
  readDatastoreRef,
  readRunDir,
  type DatastoreRef,
} from '../config/bootstrap.ts';
import { openDatastore } from '../datastore.ts';
import { createLog, setSeverity } from '../log.ts';
import type { AgentStatus } from '../status.ts';
import { outputFlag, table, wantsJson, type Command, type Output } from './command.ts';

export const ipamCommand: Command = {
  name: 'ipam',
  usage: 'ipam show|check|release ADDRESS|release HANDLE [--force] [-o json]',
  summary: 'pools, blocks and who uses them; inconsistencies; freeing by hand',
  async run(args, env, output) {
    const { flags, positionals } = parseCommandLine(args, { ...outputFlag, force: { type: 'boolean' } });
    const [verb, target, ...rest] = positionals;
    const json = wantsJson(flags);
    const log = createLog('command line');
    setSeverity(log, 'Warning'); // A person asked a question: only what is wrong is said besides the answer.
    const opened = await openDatastore(await whichDatastore(flags, env), log);
    await using datastore = opened.datastore;
    if (verb === 'show' && target === undefined) return await show(datastore, json, output);
    if (verb === 'check' && target === undefined) return await check(datastore, json, output);
    if (verb === 'release' && target !== undefined && rest.length === 0) {
      const released = await releaseByHand(datastore, systemClock, target, { force: flags['force'] === true });
      output.out(json ? JSON.stringify({ released }, null, 2) : `released ${released.join(', ')}`);
      return 0;
    }
    throw new Error('use: tortie ipam show | check | release ADDRESS | release HANDLE');
  },
};

/** As the settings say; otherwise the one that this node's agent uses. */
async function whichDatastore(flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): Promise<DatastoreRef> {
  const named = readDatastoreRef(flags, env);
  if (named !== undefined) return named;
  const status = (await askAgent(readRunDir(flags, env), '/status')) as AgentStatus;
  const ref = datastoreRef(status.datastore.location);
  return ref.kind === 'files' ? ref : { ...ref, kubeconfig: status.datastore.kubeconfig };
}

async function show(datastore: Datastore, json: boolean, output: Output): Promise<number> {
  const usage = await ipamUsage(datastore);
  output.out(json ? JSON.stringify(usage, null, 2) : usageText(usage));
  return 0;
}

async function check(datastore: Datastore, json: boolean, output: Output): Promise<number> {
  const findings = await checkIpam(datastore);
  if (json) output.out(JSON.stringify(findings, null, 2));
  else if (findings.length === 0) output.out('nothing found');
  else
    output.out(
      table(
        ['KIND', 'SUBJECT', 'WHAT'],
        findings.map(({ kind, subject, message }) => [kind, subject, message]),
      ),
    );
  return findings.length === 0 ? 0 : 1;
}

/** An IPv6 pool's number of addresses is no number to read: a power of two. */
export function sizeText(size: number): string {
  return Number.isSafeInteger(size) ? String(size) : `2^${Math.log2(size)}`;
}

function usageText({ pools, strayBlocks, borrowed }: IpamUsage): string {
  const numbers = ({ size, inUse, reserved, cooling, free }: IpamUsage['strayBlocks'][number]) =>
    [size, inUse, reserved, cooling, free].map(String);
  const rows = pools.flatMap((pool) => [
    [
      `pool ${pool.name}${pool.disabled ? ' (disabled)' : ''}`,
      pool.cidr,
      '',
      sizeText(pool.size),
      String(pool.inUse),
      '',
      '',
      '',
    ],
    ...pool.blocks.map((block) => ['  block', block.cidr, block.node ?? '-', ...numbers(block)]),
  ]);
  const stray = strayBlocks.map((block) => ['block in no pool', block.cidr, block.node ?? '-', ...numbers(block)]);
  const lines = [table(['WHAT', 'CIDR', 'NODE', 'SIZE', 'IN USE', 'RESERVE', 'COOLING', 'FREE'], [...rows, ...stray])];
  if (borrowed.length > 0) {
    const rowsOfBorrowed = borrowed.map(({ address, node, block, blockNode }) => [
      address,
      node,
      block,
      blockNode ?? '-',
    ]);
    lines.push('', table(['BORROWED', 'BY', 'FROM', 'OF'], rowsOfBorrowed));
  }
  return lines.join('\n');
}
