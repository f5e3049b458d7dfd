import { tryParseIp } from '#api/cidr.ts';
import { protocolNumber } from '#dataplanes/flows.ts';
import type { FlowEvent, FlowEventSource } from '#dataplanes/observe.ts';
import type { Directory } from '../explain/directory.ts';

/** One line of `tortie flows -o json`; a stable shape. */
export type FlowLine =
  | {
      /** What happens from now on is told. */
      readonly type: 'begin';
      readonly dataplane: string;
    }
  | {
      readonly type: 'flow';
      /** ISO 8601, of the node's clock. */
      readonly time: string;
      readonly verdict: string;
      /** Seen from the pod; at a host endpoint: seen from the node. */
      readonly direction: 'from-pod' | 'to-pod';
      readonly device: string;
      /** The pod, as people know it; null for a device without one. */
      readonly endpoint: string | null;
      readonly family: 4 | 6;
      readonly protocol: number;
      readonly source: FlowEnd;
      readonly destination: FlowEnd;
      readonly icmp?: { readonly type: number; readonly code: number };
      /** The Service's address that was asked for. */
      readonly asked?: { readonly address: string; readonly port: number; readonly service: string | null };
      /** Null where no rule decided: policy's end, or policy was not asked. */
      readonly policy: string | null;
      readonly rule: string | null;
      /** The rule, the end of policy, or why policy was not asked. */
      readonly decidedBy: string;
    }
  | {
      readonly type: 'lost';
      /** So many are missing here. */
      readonly events: number;
    }
  | {
      readonly type: 'end';
      readonly reason: string;
    };

/** One end of a flow. */
export interface FlowEnd {
  readonly address: string;
  readonly port?: number;
  /** `pod default/web`, `node node1`, or the address. */
  readonly name: string;
}

/** A question about events that has no answer. */
export class FlowQuestionError extends Error {
  override readonly name = 'FlowQuestionError';
  readonly code = 'bad-request';
}

/** What is asked of the dataplane in force. */
interface Active {
  readonly kind: string;
  readonly flowEvents?: FlowEventSource;
  readonly services?: {
    find(address: string, port: number, protocol: number): { readonly service?: string } | undefined;
  };
}

/** What is asked about this node. */
export interface FlowNode {
  readonly directory: Pick<Directory, 'find'>;
  /** The endpoint that has the device, as people know it. */
  readonly endpointOf: (device: string) => string | undefined;
}

/** How long a name of an address is believed, in ms. */
const nameMs = 1000;

/** Follows what happens to flows, as far as the question asks. Throws, before anything is followed, for a question that has no answer. */
export function followFlows(
  query: URLSearchParams,
  active: Active | undefined,
  node: FlowNode,
): AsyncIterable<FlowLine> {
  if (active === undefined) throw new FlowQuestionError('no dataplane is in force yet');
  const { flowEvents, kind } = active;
  if (flowEvents === undefined)
    throw new FlowQuestionError(
      `the ${kind} dataplane doesn't tell of single flows: only the eBPF dataplane does. Here "tortie policy show POD" counts what each rule has matched, ` +
        'rules with action Log write into the kernel log, and "tortie conntrack" has the connections that passed',
    );
  const matches = matcherOf(query, flowEvents.verdicts, node.directory);
  const follower = flowEvents.follow();
  const nameOf = namesFor(node.directory);
  return (async function* () {
    using _follower = follower;
    yield { type: 'begin', dataplane: kind };
    for await (const news of follower) {
      if (news.type === 'lost') yield news;
      else if (matches(news.event)) yield lineOf(news.event, nameOf, node, active);
    }
    yield { type: 'end', reason: `the ${kind} dataplane has left the packets' path` };
  })();
}

function matcherOf(
  query: URLSearchParams,
  verdicts: readonly string[],
  directory: Pick<Directory, 'find'>,
): (event: FlowEvent) => boolean {
  const [pod, address, port, protocol, verdict] = ['pod', 'address', 'port', 'protocol', 'verdict'].map((name) =>
    query.get(name),
  );
  const tests: ((event: FlowEvent) => boolean)[] = [];
  const has = (addresses: ReadonlySet<string>) => (event: FlowEvent) =>
    [event.source, event.destination, event.asked?.address ?? ''].some((each) => addresses.has(each));
  if (pod) tests.push(has(new Set(directory.find(pod).addresses)));
  if (address) {
    const ip = tryParseIp(address);
    if (ip === undefined) throw new FlowQuestionError(`${address} is no address`);
    tests.push(has(new Set([ip.text])));
  }
  if (port) {
    const number = Number(port);
    if (!/^\d{1,5}$/.test(port) || number > 65_535) throw new FlowQuestionError(`${port} is no port: 0 to 65535`);
    tests.push((event) => [event.sourcePort, event.destinationPort, event.asked?.port].includes(number));
  }
  if (protocol) {
    const number = protocolNumber(protocol);
    if (number === undefined)
      throw new FlowQuestionError(`${protocol} is no protocol: give tcp, udp, sctp, icmp, icmpv6 or a number to 255`);
    tests.push((event) => event.protocol === number);
  }
  if (verdict) {
    const wanted = verdict.split(',');
    const unknown = wanted.find((each) => each !== 'dropped' && !verdicts.includes(each));
    if (unknown !== undefined)
      throw new FlowQuestionError(
        `${unknown} is no verdict: there are dropped (all but passed), ${verdicts.join(', ')}`,
      );
    tests.push(
      (event) => wanted.includes(event.verdict === 'passed' ? 'passed' : 'dropped') || wanted.includes(event.verdict),
    );
  }
  return (event) => tests.every((test) => test(event));
}

/** Names of addresses; remembered for a moment, since finding one goes through all pods. */
function namesFor(directory: Pick<Directory, 'find'>): (address: string) => string {
  const names = new Map<string, string>();
  let until = 0;
  return (address) => {
    const now = performance.now();
    if (now > until) {
      names.clear();
      until = now + nameMs;
    }
    let name = names.get(address);
    if (name === undefined) names.set(address, (name = nameIn(directory, address)));
    return name;
  };
}

/** A pod that is to be here and isn't yet has no name yet. */
function nameIn(directory: Pick<Directory, 'find'>, address: string): string {
  try {
    return directory.find(address).name;
  } catch (error) {
    if ((error as { readonly code?: unknown }).code === 'unknown-party') return address;
    throw error;
  }
}

function lineOf(
  event: FlowEvent,
  nameOf: (address: string) => string,
  { endpointOf }: FlowNode,
  { services }: Active,
): FlowLine {
  const { device, family, protocol, verdict, direction, icmp, asked, rule, decidedBy } = event;
  const end = (address: string, port: number | undefined): FlowEnd => ({
    address,
    ...(port === undefined ? {} : { port }),
    name: nameOf(address),
  });
  return {
    type: 'flow',
    time: new Date(event.time).toISOString(),
    verdict,
    direction,
    device,
    endpoint: endpointOf(device) ?? null,
    family,
    protocol,
    source: end(event.source, event.sourcePort),
    destination: end(event.destination, event.destinationPort),
    ...(icmp === undefined ? {} : { icmp }),
    ...(asked === undefined
      ? {}
      : { asked: { ...asked, service: services?.find(asked.address, asked.port, protocol)?.service ?? null } }),
    policy: rule === undefined ? null : policyOf(rule),
    rule: rule ?? null,
    decidedBy: decidedBy ?? (verdict === 'passed' ? 'the node itself sent it: not judged' : `not policy: ${verdict}`),
  };
}

/** `<policy> <ingress|egress> <index>`: the object that the rule is of. */
function policyOf(rule: string): string {
  return rule.replace(/ (?:ingress|egress) \S+$/, '');
}
