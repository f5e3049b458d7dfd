import { protocolText } from '#dataplanes/flows.ts';
import { askAgent } from '../admin/client.ts';
import { parseCommandLine, readRunDir } from '../config/bootstrap.ts';
import type { ServicesReport } from '../services/services-report.ts';
import { outputFlag, table, wantsJson, type Command } from './command.ts';

/** Backends of one frontend that are shown, at most; `-o json` has all. */
const shownBackends = 5;

export const servicesCommand: Command = {
  name: 'services',
  usage: 'services [NAMESPACE/NAME] [-o json]',
  summary: 'Services as the eBPF dataplane has them: addresses, who answers there, what is done otherwise than said',
  async run(args, env, output) {
    const { flags, positionals } = parseCommandLine(args, outputFlag);
    const [service, ...rest] = positionals;
    if (rest.length > 0) throw new Error('use: tortie services [NAMESPACE/NAME]');
    const isJson = wantsJson(flags);
    const query = new URLSearchParams(service === undefined ? {} : { service });
    const report = (await askAgent(readRunDir(flags, env), `/services?${query.toString()}`)) as ServicesReport;
    output.out(isJson ? JSON.stringify(report, null, 2) : servicesText(report));
    return 0;
  },
};

function servicesText({ services, note }: ServicesReport): string {
  const rows = services.flatMap(({ service, frontends }) =>
    frontends.map(({ address, port, protocol, backends }) => [
      service,
      `${placeText(address, port)}/${protocolText(protocol)}`,
      backends === undefined ? '-' : String(backends.length),
      backends === undefined ? 'not translated here' : backendsText(backends),
    ]),
  );
  const remarks = services.flatMap(({ service, limits, failures }) => [
    ...failures.map((failure) => `${service}: ${failure}`),
    ...limits.map((limit) => `${service}: ${limit}`),
  ]);
  return [
    table(['SERVICE', 'ADDRESS', 'BACKENDS', ''], rows),
    ...(remarks.length === 0 ? [] : ['', ...remarks]),
    '',
    `note      ${note}`,
  ].join('\n');
}

function backendsText(backends: readonly { readonly address: string; readonly port: number }[]): string {
  if (backends.length === 0) return 'none: connections are refused';
  const texts = backends.slice(0, shownBackends).map(({ address, port }) => placeText(address, port));
  return [...texts, ...(backends.length > shownBackends ? [`and ${backends.length - shownBackends} more`] : [])].join(
    ', ',
  );
}

function placeText(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
