import { askAgent } from '../admin/client.ts';
import { parseCommandLine, readRunDir } from '../config/bootstrap.ts';
import type { PacketView } from '#dataplanes/observe.ts';
import type { Explanation } from '../explain/explain.ts';
import type { ServiceChoice } from '../explain/in-kernel.ts';
import type { Judgement } from '../explain/walk.ts';
import { outputFlag, table, wantsJson, type Command } from './command.ts';

export const explainCommand: Command = {
  name: 'explain',
  usage: 'explain SRC DST PROTO [PORT] [--source-port N] [--family 4|6] [--all] [-o json]',
  summary: 'would this connection pass, and which rule decides; SRC and DST are namespace/pod, an address or "host"',
  async run(args, env, output) {
    const { flags, positionals } = parseCommandLine(args, {
      ...outputFlag,
      'source-port': { type: 'string' },
      family: { type: 'string' },
      all: { type: 'boolean' },
    });
    const [source, destination, protocol, port, ...rest] = positionals;
    if (source === undefined || destination === undefined || protocol === undefined || rest.length > 0) {
      throw new Error(
        'use: tortie explain SRC DST PROTO [PORT], for example: tortie explain default/web 10.65.0.7 tcp 80',
      );
    }
    const { family } = flags;
    if (family !== undefined && family !== '4' && family !== '6')
      throw new Error(`--family ${JSON.stringify(family)}: 4 or 6`);
    const isJson = wantsJson(flags);
    const query = new URLSearchParams({ source, destination, protocol });
    if (port !== undefined) query.set('port', port);
    if (typeof flags['source-port'] === 'string') query.set('sourcePort', flags['source-port']);
    if (family !== undefined) query.set('family', family);
    const answer = (await askAgent(readRunDir(flags, env), `/explain?${query.toString()}`)) as Explanation;
    output.out(isJson ? JSON.stringify(answer, null, 2) : explanationText(answer, flags['all'] === true));
    return 0;
  },
};

function explanationText(answer: Explanation, all: boolean): string {
  const { packet, source, destination, verdict, reason, notes } = answer;
  const ports =
    packet.destinationPort === undefined ? '' : ` port ${packet.destinationPort} (from port ${packet.sourcePort})`;
  const icmp = packet.icmpType === undefined ? '' : ` type ${packet.icmpType}`;
  const lines = [
    `${verdict.toUpperCase()}   ${reason}`,
    '',
    `packet    ${source.name} (${packet.source}) -> ${destination.name} (${packet.destination}), protocol ${packet.protocol}${ports}${icmp}`,
    ...judgementLines('egress', source.name, answer.egress, all),
    ...judgementLines('ingress', destination.name, answer.ingress, all),
    ...(answer.service === undefined ? [] : serviceLines(answer.service)),
    ...(answer.kernel === undefined ? [] : kernelLines(answer.kernel)),
    ...notes.map((note) => `note      ${note}`),
  ];
  return lines.join('\n');
}

function serviceLines({ service, address, port, backends, more }: ServiceChoice): string[] {
  const rows = backends.map((backend) => [
    `  ${backend.address}`,
    String(backend.port),
    backend.verdict,
    backend.reason,
  ]);
  return [
    `service   ${service ?? '(none)'} at ${address} port ${port}: ${backends.length + more} backends, each as likely as the others; the first is explained here`,
    ...(rows.length === 0 ? [] : [table(['  BACKEND', 'PORT', 'VERDICT', 'WHY'], rows)]),
    ...(more === 0 ? [] : [`  and ${more} more`]),
  ];
}

/** What the lookup that packets meet says. */
function kernelLines({ source, destination, legs }: PacketView): string[] {
  return [
    ...legs.map(({ direction, device, unit, verdict, word, decidedBy }) => {
      const by = word === undefined ? decidedBy : `${decidedBy} (rule word ${word})`;
      return `kernel    ${direction} at ${device}: unit ${unit} says ${verdict}, by ${by}`;
    }),
    `kernel    source ${source.address}: class ${source.class}; destination ${destination.address}: class ${destination.class}`,
    `next hop  ${destination.nextHop} (hop ${destination.hop}); back: ${source.nextHop} (hop ${source.hop})`,
  ];
}

/** The rules that matched; with `--all` also those that didn't, and why. */
function judgementLines(direction: string, name: string, judgement: Judgement | null, all: boolean): string[] {
  if (judgement === null) return [];
  const head = `${direction.padEnd(9)} ${name}: ${judgement.verdict}; ${judgement.reason}`;
  const rows = judgement.steps
    .filter(({ matched }) => all || matched)
    .map(({ tier, rule, action, matched, note }) => [
      `  ${tier ?? 'profiles'}`,
      rule,
      action,
      matched ? 'matches' : 'no match',
      note,
    ]);
  return rows.length === 0 ? [head] : [head, table(['  TIER', 'RULE', 'ACTION', '', 'WHY'], rows)];
}
