import { tryParseIp } from '#api/cidr.ts';
import type { DataplaneFlows, Flow, FlowDeletion, FlowFilter, FlowState } from '#dataplanes/flows.ts';
import { flowStates, protocolNumber } from '#dataplanes/flows.ts';
import type { Directory } from '../explain/directory.ts';

/** What the agent answers to `tortie conntrack`. */
export interface ConntrackReport {
  readonly dataplane: string;
  readonly flows: readonly Flow[];
  /** There are more than were asked for. */
  readonly more: boolean;
}

/** What the agent answers to `tortie conntrack delete`. */
export interface ConntrackDeletion extends FlowDeletion {
  readonly dataplane: string;
}

/** A question about flows that has no answer. */
export class ConntrackQuestionError extends Error {
  override readonly name = 'ConntrackQuestionError';
  readonly code = 'bad-request';
}

/** Flows in one answer, at most, and where nobody says how many. */
export const flowLimit = { most: 100_000, usual: 10_000 } as const;

/** The dataplane in force, if there is one. */
interface Active {
  readonly kind: string;
  readonly flows?: DataplaneFlows;
}

/** What the dataplane remembers of flows, as far as the question names them. Throws for a question that can't be answered. */
export async function reportFlows(
  query: URLSearchParams,
  active: Active | undefined,
  directory: Pick<Directory, 'find'>,
): Promise<ConntrackReport> {
  const { kind, flows } = flowsOf(active);
  const limit = limitOf(query.get('limit'));
  const found: Flow[] = [];
  for await (const some of flows.list(filterOf(query, directory))) {
    const room = limit - found.length;
    found.push(...some.slice(0, room));
    if (some.length > room) return { dataplane: kind, flows: found, more: true };
  }
  return { dataplane: kind, flows: found, more: false };
}

/** Has the dataplane forget the flows that the question names; it must name some. */
export async function deleteFlows(
  query: URLSearchParams,
  active: Active | undefined,
  directory: Pick<Directory, 'find'>,
): Promise<ConntrackDeletion> {
  const { kind, flows } = flowsOf(active);
  const filter = filterOf(query, directory);
  if (Object.keys(filter).length === 0)
    throw new ConntrackQuestionError('which flows? Give at least one of pod, address, port, protocol, state');
  return { dataplane: kind, ...(await flows.delete(filter)) };
}

function flowsOf(active: Active | undefined): { readonly kind: string; readonly flows: DataplaneFlows } {
  if (active === undefined) throw new ConntrackQuestionError('no dataplane is in force yet');
  if (active.flows === undefined)
    throw new ConntrackQuestionError(`the dataplane ${active.kind} doesn't tell the flows that it remembers`);
  return { kind: active.kind, flows: active.flows };
}

function filterOf(query: URLSearchParams, directory: Pick<Directory, 'find'>): FlowFilter {
  const [pod, address, port, protocol, state] = ['pod', 'address', 'port', 'protocol', 'state'].map((name) =>
    query.get(name),
  );
  return {
    ...(pod && { addresses: directory.find(pod).addresses }),
    ...(address && { peers: [addressOf(address)] }),
    ...(port && { port: portOf(port) }),
    ...(protocol && { protocol: protocolOf(protocol) }),
    ...(state && { states: state.split(',').map(stateOf) }),
  };
}

function addressOf(text: string): string {
  const ip = tryParseIp(text);
  if (ip === undefined) throw new ConntrackQuestionError(`${text} is no address`);
  return ip.text;
}

function portOf(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65_535) throw new ConntrackQuestionError(`${text} is no port: 0 to 65535`);
  return port;
}

function protocolOf(text: string): number {
  const protocol = protocolNumber(text);
  if (protocol === undefined)
    throw new ConntrackQuestionError(`${text} is no protocol: give tcp, udp, sctp, icmp, icmpv6 or a number to 255`);
  return protocol;
}

function stateOf(text: string): FlowState {
  const state = flowStates.find((known) => known === text);
  if (state === undefined) throw new ConntrackQuestionError(`${text} is no state: there are ${flowStates.join(', ')}`);
  return state;
}

function limitOf(text: string | null): number {
  if (text === null) return flowLimit.usual;
  const limit = Number(text);
  if (!/^\d{1,6}$/.test(text) || limit === 0 || limit > flowLimit.most)
    throw new ConntrackQuestionError(`${text} flows: give a number from 1 to ${flowLimit.most}`);
  return limit;
}
