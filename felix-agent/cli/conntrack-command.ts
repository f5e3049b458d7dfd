import { type Flow, flowStates, type FlowTuple, protocolText } from '#dataplanes/flows.ts';
import { askAgent, tellAgent } from '../admin/client.ts';
import { parseCommandLine, readRunDir } from '../config/bootstrap.ts';
import type { ConntrackDeletion, ConntrackReport } from '../conntrack/conntrack-report.ts';
import { outputFlag, table, wantsJson, type Command } from './command.ts';

/** Flags that say which flows; the agent has the same names for them. */
const filterFlags = {
  pod: { type: 'string' },
  address: { type: 'string' },
  port: { type: 'string' },
  protocol: { type: 'string' },
  state: { type: 'string' },
} as const;

export const conntrackCommand: Command = {
  name: 'conntrack',
  usage:
    'conntrack [delete] [--pod POD] [--address IP] [--port N] [--protocol P] [--state S,...] [--limit N] [-o json]',
  summary: `the flows that the dataplane remembers, or forgets by delete (which needs a filter); states: ${flowStates.join(', ')}`,
  async run(args, env, output) {
    const { flags, positionals } = parseCommandLine(args, { ...outputFlag, ...filterFlags, limit: { type: 'string' } });
    const [verb, ...rest] = positionals;
    if ((verb !== undefined && verb !== 'delete') || rest.length > 0)
      throw new Error('use: tortie conntrack [filters], or tortie conntrack delete and at least one filter');
    const isJson = wantsJson(flags);
    const query = new URLSearchParams();
    for (const name of Object.keys(filterFlags)) {
      const value = flags[name];
      if (typeof value === 'string') query.set(name, value);
    }
    const runDir = readRunDir(flags, env);
    if (verb === 'delete') {
      if (query.size === 0)
        throw new Error(
          `which flows? Give at least one of ${Object.keys(filterFlags)
            .map((name) => `--${name}`)
            .join(', ')}`,
        );
      if (flags['limit'] !== undefined) throw new Error('--limit is for lists: delete takes all that match');
      const answer = (await tellAgent(runDir, `/conntrack/delete?${query.toString()}`)) as ConntrackDeletion;
      output.out(isJson ? JSON.stringify(answer, null, 2) : `${answer.deleted} flows deleted`);
      if (!isJson) for (const reason of answer.failed) output.err(`tortie conntrack: ${reason}`);
      return answer.failed.length === 0 ? 0 : 1;
    }
    if (typeof flags['limit'] === 'string') query.set('limit', flags['limit']);
    const report = (await askAgent(runDir, `/conntrack?${query.toString()}`)) as ConntrackReport;
    output.out(isJson ? JSON.stringify(report, null, 2) : flowsText(report));
    return 0;
  },
};

/** One line a flow; what translation made of it comes after it. */
function flowsText({ flows, more }: ConntrackReport): string {
  const rows = flows.map((flow) => [
    protocolText(flow.protocol),
    flow.state,
    endText(flow.asked.source, flow.asked.sourcePort),
    endText(flow.asked.destination, flow.asked.destinationPort) + icmpText(flow.asked),
    translationText(flow),
    seconds(flow.idleSeconds),
    seconds(flow.leftSeconds),
    flow.packets === undefined ? '-' : `${flow.packets.opener}/${flow.packets.other}`,
    flow.way ?? '-',
    flow.details.join(','),
  ]);
  const header = ['PROTOCOL', 'STATE', 'FROM', 'TO', 'TRANSLATED', 'IDLE', 'LEFT', 'PACKETS', 'WAY', 'DETAILS'];
  const text = table(header, rows);
  return more ? `${text}\n\nthere are more: narrow it by a filter, or give a larger --limit` : text;
}

function endText(address: string, port: number | undefined): string {
  if (port === undefined) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function icmpText({ icmp }: FlowTuple): string {
  return icmp === undefined ? '' : ` type ${icmp.type} id ${icmp.id}`;
}

/** Only the ends that differ: `from` is the opener's. */
function translationText({ asked, delivered }: Flow): string {
  const source = endText(delivered.source, delivered.sourcePort);
  const destination = endText(delivered.destination, delivered.destinationPort);
  return [
    ...(endText(asked.source, asked.sourcePort) === source ? [] : [`from ${source}`]),
    ...(endText(asked.destination, asked.destinationPort) === destination ? [] : [`to ${destination}`]),
  ].join(' ');
}

function seconds(value: number | undefined): string {
  return value === undefined ? '-' : `${Math.round(value)}s`;
}
