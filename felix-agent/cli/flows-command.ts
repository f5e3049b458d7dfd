import { protocolText } from '#dataplanes/flows.ts';
import { followAgent } from '../admin/client.ts';
import { parseCommandLine, readRunDir } from '../config/bootstrap.ts';
import type { FlowEnd, FlowLine } from '../flows/flow-stream.ts';
import { outputFlag, wantsJson, type Command } from './command.ts';

/** Flags that say which flows; the agent has the same names for them. */
const filterFlags = {
  pod: { type: 'string' },
  address: { type: 'string' },
  port: { type: 'string' },
  protocol: { type: 'string' },
  verdict: { type: 'string' },
} as const;

export const flowsCommand: Command = {
  name: 'flows',
  usage: 'flows [--pod POD] [--address IP] [--port N] [--protocol P] [--verdict V,...] [--limit N] [-o json]',
  summary:
    'new flows and drops as they happen (eBPF dataplane): verdict, rule, ends; verdicts: passed, dropped, or a drop reason; ends with Ctrl-C',
  async run(args, env, output) {
    const { flags, positionals } = parseCommandLine(args, { ...outputFlag, ...filterFlags, limit: { type: 'string' } });
    if (positionals.length > 0) throw new Error('use: tortie flows [filters]');
    const isJson = wantsJson(flags);
    const limit = limitOf(flags['limit']);
    const query = new URLSearchParams();
    for (const name of Object.keys(filterFlags)) {
      const value = flags[name];
      if (typeof value === 'string') query.set(name, value);
    }
    let shown = 0;
    for await (const item of followAgent(readRunDir(flags, env), `/flows?${query.toString()}`)) {
      const line = item as FlowLine;
      if (line.type === 'flow' || isJson) output.out(isJson ? JSON.stringify(line) : lineText(line));
      else output.err(`tortie flows: ${lineText(line)}`);
      if (line.type === 'flow') shown += 1;
      if (shown >= limit) break;
    }
    return 0;
  },
};

function limitOf(text: unknown): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  const limit = Number(text);
  if (typeof text !== 'string' || !/^\d{1,9}$/.test(text) || limit === 0)
    throw new Error(`--limit ${JSON.stringify(text)}: give a number from 1 on`);
  return limit;
}

/** One line: columns are of a usual width, since what comes later isn't known. */
function lineText(line: FlowLine): string {
  switch (line.type) {
    case 'begin':
      return `following the ${line.dataplane} dataplane; Ctrl-C ends it`;
    case 'lost':
      return `${line.events} events are missing here: they came faster than they could be read`;
    case 'end':
      return line.reason;
    case 'flow': {
      const { time, verdict, direction, device, endpoint, protocol, source, destination, icmp, asked, decidedBy } =
        line;
      const type = icmp === undefined ? '' : ` type ${icmp.type}`;
      const through =
        asked === undefined ? '' : ` (asked: ${asked.service ?? 'service'} ${placeText(asked.address, asked.port)})`;
      return [
        time.slice(11, 23),
        verdict.padEnd(8),
        (direction === 'from-pod' ? 'egress' : 'ingress').padEnd(7),
        endpoint ?? device,
        protocolText(protocol),
        `${endText(source)} -> ${endText(destination)}${type}${through};`,
        decidedBy,
      ].join('  ');
    }
  }
}

function endText({ address, port, name }: FlowEnd): string {
  const place = placeText(address, port);
  return name === address ? place : `${name} ${place}`;
}

function placeText(address: string, port: number | undefined): string {
  if (port === undefined) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
