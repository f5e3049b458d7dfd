import { askAgent } from '../admin/client.ts';
import { parseCommandLine, readRunDir } from '../config/bootstrap.ts';
import type { EndpointPolicyReport, PolicyReport } from '../explain/policy-report.ts';
import { outputFlag, table, wantsJson, type Command } from './command.ts';

export const policyCommand: Command = {
  name: 'policy',
  usage: 'policy show POD [-o json]',
  summary:
    "what judges one of this node's pods: tiers, policies, rules, and what each has matched; POD is [namespace/]pod",
  async run(args, env, output) {
    const { flags, positionals } = parseCommandLine(args, outputFlag);
    const [verb, pod, ...rest] = positionals;
    if (verb !== 'show' || pod === undefined || rest.length > 0)
      throw new Error('use: tortie policy show [NAMESPACE/]POD');
    const isJson = wantsJson(flags);
    const query = new URLSearchParams({ endpoint: pod });
    const report = (await askAgent(readRunDir(flags, env), `/policy?${query.toString()}`)) as EndpointPolicyReport;
    output.out(isJson ? JSON.stringify(report, null, 2) : reportText(report));
    return 0;
  },
};

/** The rule comes last: it has no limit in length. */
function reportText(report: EndpointPolicyReport): string {
  const { endpoint, device, addresses } = report;
  const lines = [`endpoint  ${endpoint} (${device}; ${addresses.join(', ')})`];
  for (const direction of ['ingress', 'egress'] as const) {
    const { tiers, profiles } = report[direction];
    const rows = tiers.flatMap(({ name, endsWith, policies }) => [
      ...policies.flatMap((policy) => policyRows(`tier ${name}`, policy)),
      ...(endsWith === null ? [] : [[`tier ${name}`, '', '', '', `${endsWith} what no rule matched`]]),
    ]);
    rows.push(...profiles.flatMap((profile) => policyRows('profiles', profile)), ['', '', '', '', 'deny the rest']);
    lines.push('', table([direction.toUpperCase(), 'POLICY', 'PACKETS', 'BYTES', 'RULE'], rows));
  }
  lines.push(...report.notes.flatMap((note, index) => [...(index === 0 ? [''] : []), `note      ${note}`]));
  return lines.join('\n');
}

function policyRows(place: string, { id, staged, rules }: PolicyReport): string[][] {
  const name = staged ? `${id} (staged: counts only)` : id;
  if (rules.length === 0) return [[place, name, '', '', '(no rules)']];
  return rules.map(({ text, counter }) => [
    place,
    name,
    counter === null ? '-' : String(counter.packets),
    counter === null ? '-' : String(counter.bytes),
    text,
  ]);
}
