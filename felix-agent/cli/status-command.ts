import type { HostDeviceState } from '#dataplanes/contract.ts';
import { askAgent } from '../admin/client.ts';
import { parseCommandLine, readRunDir } from '../config/bootstrap.ts';
import type { AgentStatus } from '../status.ts';
import { problemLines } from '../check/check-text.ts';
import { outputFlag, wantsJson, type Command } from './command.ts';

export const statusCommand: Command = {
  name: 'status',
  usage: 'status [-o json]',
  summary: 'is this node ready, which dataplane is active, and why not',
  async run(args, env, output) {
    const { flags } = parseCommandLine(args, outputFlag);
    const isJson = wantsJson(flags);
    const status = (await askAgent(readRunDir(flags, env), '/status')) as AgentStatus;
    output.out(isJson ? JSON.stringify(status, null, 2) : statusText(status));
    return status.ready ? 0 : 1;
  },
};

/** What is off while a kind isn't served, and what to do. */
const absentKinds: Readonly<Record<string, string>> = {
  ClusterNetworkPolicy:
    'policies of it are off; apply manifests/tortie-clusternetworkpolicy-crd.yaml to have them (Kubernetes NetworkPolicy and the v3 kinds work without)',
};

function addressLines(addresses: AgentStatus['addresses']): readonly string[] {
  if (addresses === null) return [];
  const { leader, leads, candidates, problems } = addresses;
  // The Lease names node and process, with a character between that no node's name has.
  const who = leads ? 'this node' : (leader?.split('_')[0] ?? 'nobody yet');
  return [
    `addresses   ${who} collects what deleted nodes leave`,
    ...(candidates.length === 0 ? [] : [`            - unused, to be released: ${candidates.join(', ')}`]),
    ...problems.map((problem) => `            - ${problem}`),
  ];
}

function hostDeviceLine(state: HostDeviceState): string {
  const { device, hostEndpoint, isUplink, attached, viaStack, xdp, xdpReason } = state;
  const roles = [...(isUplink ? ['uplink'] : []), ...(hostEndpoint === null ? [] : [`host endpoint ${hostEndpoint}`])];
  const what = roles.join(', ') || 'what others let in';
  const early = xdp === undefined ? '' : `, XDP ${xdp}${xdpReason === undefined ? '' : ` (${xdpReason})`}`;
  return `host device ${device}: ${what}, by ${attached}${early}${viaStack === undefined ? '' : `; ${viaStack}`}`;
}

/** A table is named when it is this full. */
const nearlyFull = 0.5;
/** Tables that are named in any case: the fullest ones. */
const fullest = 3;

function inForceLines({ units, failedUnits, tables }: NonNullable<AgentStatus['dataplane']['inForce']>): string[] {
  const byFill = tables.toSorted((a, b) => b.used / b.size - a.used / a.size);
  const named = byFill.filter(({ used, size }, index) => index < fullest || used / size >= nearlyFull);
  return [
    `            ${units} lists of rules in force; fullest tables: ${named.map(({ table, used, size }) => `${table} ${used} of ${size}`).join(', ')}`,
    ...failedUnits.map(
      ({ reason, units: count }) => `            - ${count} lists of rules deny everything: ${reason}`,
    ),
  ];
}

/** What `tortie status` prints. */
export function statusText(status: AgentStatus): string {
  const { dataplane, datastore, configuration } = status;
  const lines = [
    `node        ${status.node} (tortie ${status.version})`,
    `ready       ${status.ready ? 'yes' : 'no'}`,
    ...status.reasons.map((reason) => `            - ${reason}`),
    `dataplane   ${dataplane.active ?? 'none yet'}${dataplane.active === dataplane.wanted ? '' : ` (wanted: ${dataplane.wanted})`}`,
    ...dataplane.reasons
      .filter((reason) => !status.reasons.includes(reason))
      .map((reason) => `            - ${reason}`),
    ...dataplane.failures.map(({ object, reason }) => `            - not programmed: ${object}: ${reason}`),
    ...dataplane.notes.map((note) => `            - ${note}`),
    ...dataplane.hostDevices.map(hostDeviceLine),
    ...(dataplane.inForce === null ? [] : inForceLines(dataplane.inForce)),
    `datastore   ${datastore.location}`,
    ...datastore.absentKinds.map(
      (kind) => `            - the API server has no ${kind}: ${absentKinds[kind] ?? 'it is off'}`,
    ),
    ...datastore.failures.map((failure) => `            - ${failure}`),
    ...datastore.problems.map(({ source, message }) => `            - ${source}: ${message}`),
    ...status.cluster.problems.map((problem) => `cluster     ${problem}`),
    ...addressLines(status.addresses),
    ...status.policy.problems.map(
      ({ object, message }) => `${object.startsWith('Service ') ? 'service' : 'policy '}     ${object}: ${message}`,
    ),
    ...status.services.failures.map((failure) => `service     ${failure}`),
    ...(status.preflight ?? []).flatMap((problem) => {
      const [first = '', ...rest] = problemLines(problem);
      return [`preflight   ${first}`, ...rest.map((line) => `            ${line}`)];
    }),
    `endpoints   ${status.endpoints}`,
  ];
  for (const { field, variable, value } of configuration.overriddenByEnvironment) {
    lines.push(`override    ${field} is ${value} because ${variable} is set; FelixConfiguration doesn't change it`);
  }
  for (const problem of configuration.problems) lines.push(`config      ${problem}`);
  if (configuration.notActedOn.length > 0) {
    lines.push(`no effect   set, but not acted on by this version: ${configuration.notActedOn.join(', ')}`);
  }
  for (const { object, fields } of status.notActedOn) {
    lines.push(`no effect   ${object}: not or only partly acted on by this version: ${fields.join(', ')}`);
  }
  return lines.join('\n');
}
