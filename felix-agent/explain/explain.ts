import { protocolHasPorts, protocolNumber, protocolNumbers } from '#api/policy/protocols.ts';
import type { PacketView } from '#dataplanes/observe.ts';
import type { Directory, Party } from './directory.ts';
import type { ServiceChoice } from './in-kernel.ts';
import type { Packet } from './packet.ts';
import type { PolicyView } from './policy-view.ts';
import { walk, type Judgement } from './walk.ts';

/** What is asked: texts as on the command line. */
export interface ExplainRequest {
  readonly source: string;
  readonly destination: string;
  /** A name (`tcp`) or a number. */
  readonly protocol: string;
  /** A destination port; for ICMP its type (default: echo request); absent for protocols without ports. */
  readonly port?: string;
  /** Default 49152: the first that hosts choose by themselves (RFC 6335 section 6). */
  readonly sourcePort?: string;
  /** Default: 4 where both ends have an address of it. */
  readonly family?: 4 | 6;
}

/** The answer; a stable shape. */
export interface Explanation {
  /** `depends`: on which backend of the Service a connection gets. */
  readonly verdict: 'allow' | 'deny' | 'depends';
  /** One sentence: the rule, tier end or setting that decides. */
  readonly reason: string;
  readonly packet: Packet;
  readonly source: Party;
  readonly destination: Party;
  /** What the source's egress policy says; null where it isn't judged on this node. */
  readonly egress: Judgement | null;
  /** What the destination's ingress policy says; null where it isn't judged on this node or not asked any more. */
  readonly ingress: Judgement | null;
  /** What else a reader must know: which other node has a say, what comes before or after policy. */
  readonly notes: readonly string[];
  /** What the tables of the dataplane in force say; absent where it has none. */
  readonly kernel?: PacketView;
  /** Set where the destination is a Service's address that the dataplane in force translates: the rest is about the first backend. */
  readonly service?: ServiceChoice;
}

/** The request can't be answered as it stands. */
export class ExplainError extends Error {
  override readonly name = 'ExplainError';
  readonly code = 'bad-request';
}

/** The request as it comes over the admin socket. */
export function requestOf(query: URLSearchParams): ExplainRequest {
  const [source, destination, protocol] = ['source', 'destination', 'protocol'].map((name) => query.get(name) ?? '');
  const [port, sourcePort, family] = ['port', 'sourcePort', 'family'].map((name) => query.get(name));
  if (!source || !destination || !protocol) throw new ExplainError('source, destination and protocol are needed');
  if (family && family !== '4' && family !== '6') throw new ExplainError(`family ${family} is neither 4 nor 6`);
  return {
    source,
    destination,
    protocol,
    ...(port ? { port } : {}),
    ...(sourcePort ? { sourcePort } : {}),
    ...(family === '4' || family === '6' ? { family: family === '4' ? 4 : 6 } : {}),
  };
}

const firstEphemeralPort = 49152;
const echoRequest = { 4: 8, 6: 128 } as const;
const icmp = { 4: protocolNumbers.ICMP, 6: protocolNumbers.ICMPv6 } as const;
const ipInIp = 4;

/** Judges the first packet of a connection by what calc told the dataplane: the same data that the kernel's rules are made from. */
export function explain(request: ExplainRequest, directory: Pick<Directory, 'find'>, view: PolicyView): Explanation {
  const source = directory.find(request.source);
  const destination = directory.find(request.destination);
  const packet = packetOf(request, source, destination);
  const notes = notesOf(source, destination, view);
  const base = { packet, source, destination, notes };
  const isLocal = ({ kind }: Party) => kind === 'local endpoint' || kind === 'this host';
  if (!isLocal(source) && !isLocal(destination)) {
    const nodes = [source, destination].flatMap(({ node }) => node ?? []).join(' or ');
    const where = nodes === '' ? 'on the node of one of them' : `on ${nodes}`;
    throw new ExplainError(`neither ${source.name} nor ${destination.name} is on this node: ask ${where}`);
  }
  if (source.endpoint !== undefined && source.endpoint === destination.endpoint) {
    const reason = `${source.name} asks itself: that does not leave it, and nobody judges it`;
    return { ...base, verdict: 'allow', reason, egress: null, ingress: null };
  }
  const barred = source.kind === 'local endpoint' ? encapsulation(view, packet) : undefined;
  if (barred !== undefined) return { ...base, verdict: 'deny', reason: barred, egress: null, ingress: null };
  const egress = judge(view, source, 'egress', packet);
  if (egress?.verdict === 'deny') {
    return { ...base, verdict: 'deny', reason: `egress of ${source.name}: ${egress.reason}`, egress, ingress: null };
  }
  if (source.kind === 'this host' && destination.kind === 'local endpoint') {
    const reason = 'a host may always reach its own pods (kubelet probes depend on it)';
    return { ...base, verdict: 'allow', reason, egress, ingress: null };
  }
  if (destination.kind === 'this host' && source.kind === 'local endpoint') {
    return { ...base, ...toHost(view, source, egress), egress, ingress: null };
  }
  const ingress = judge(view, destination, 'ingress', packet);
  const reasons = [
    ...(egress === null ? [] : [`egress of ${source.name}: ${egress.reason}`]),
    ...(ingress === null ? [] : [`ingress of ${destination.name}: ${ingress.reason}`]),
  ];
  if (ingress?.verdict === 'deny') return { ...base, verdict: 'deny', reason: reasons.at(-1) ?? '', egress, ingress };
  const reason = reasons.length === 0 ? 'no policy of this node judges it' : reasons.join('; ');
  return { ...base, verdict: 'allow', reason, egress, ingress };
}

function judge(view: PolicyView, party: Party, direction: 'ingress' | 'egress', packet: Packet): Judgement | null {
  const endpoint = party.endpoint === undefined ? undefined : view.endpoint(party.endpoint);
  return endpoint === undefined ? null : walk(view, endpoint, direction, packet);
}

/** What no pod may send, whatever its policy says: packets that other nodes would take for ones out of the node's tunnels. */
function encapsulation(view: PolicyView, { protocol, destinationPort }: Packet): string | undefined {
  const config = view.config();
  if (config === undefined) return undefined;
  if (protocol === protocolNumbers.UDP && destinationPort === config.vxlanPort && !config.allowVxlanFromWorkloads) {
    return 'pods may not send VXLAN packets (allowVXLANPacketsFromWorkloads is false)';
  }
  return protocol === ipInIp && !config.allowIpipFromWorkloads
    ? 'pods may not send IP-in-IP packets (allowIPIPPacketsFromWorkloads is false)'
    : undefined;
}

function toHost(view: PolicyView, source: Party, egress: Judgement | null): Pick<Explanation, 'verdict' | 'reason'> {
  const action = view.config()?.endpointToHostAction ?? 'drop';
  if (action === 'drop') {
    return { verdict: 'deny', reason: 'defaultEndpointToHostAction is Drop: pods may not reach their own host' };
  }
  const then = action === 'accept' ? 'accepts it' : "leaves it to the host's own rules";
  const first = egress === null ? '' : `egress of ${source.name}: ${egress.reason}; `;
  return { verdict: 'allow', reason: `${first}defaultEndpointToHostAction ${then}` };
}

function notesOf(source: Party, destination: Party, view: PolicyView): string[] {
  const elsewhere = (party: Party, direction: string) =>
    party.kind === 'remote pod'
      ? [
          `${direction} of ${party.name} is judged on ${party.node === undefined ? 'its own node' : `node ${party.node}`}: ask there too`,
        ]
      : [];
  const involvesHost = [source, destination].some(({ kind }) => kind !== 'local endpoint');
  const hosts = [...view.hostEndpoints()].map(([id]) => id);
  return [
    ...elsewhere(source, 'egress'),
    ...elsewhere(destination, 'ingress'),
    ...(involvesHost && hosts.length > 0
      ? [`host endpoints of this node may judge it too, and are not part of this answer: ${hosts.join(', ')}`]
      : []),
    ...(destination.kind === 'outside'
      ? ["if it is a Service's address, policy sees the backend instead: ask for that one"]
      : []),
  ];
}

function packetOf(request: ExplainRequest, source: Party, destination: Party): Packet {
  const family = familyFor(request, source, destination);
  const address = (party: Party) => addressOf(party, family) ?? '';
  const base = { source: address(source), destination: address(destination) };
  const isIcmp = /^icmp(v6)?$/i.test(request.protocol);
  const name = Object.keys(protocolNumbers).find((known) => known.toLowerCase() === request.protocol.toLowerCase());
  const protocol = isIcmp ? icmp[family] : protocolNumber(name ?? request.protocol);
  if (protocol === undefined) {
    throw new ExplainError(
      `protocol ${request.protocol} is unknown: give tcp, udp, sctp, udplite, icmp or a number from 1 to 255`,
    );
  }
  if (protocol === icmp[family]) {
    const icmpType = request.port === undefined ? echoRequest[family] : numberIn(request.port, 0, 255, 'an ICMP type');
    return { ...base, protocol, icmpType, icmpCode: 0 };
  }
  if (!protocolHasPorts(protocol)) return { ...base, protocol };
  if (request.port === undefined) throw new ExplainError(`protocol ${request.protocol} needs a destination port`);
  const sourcePort = numberIn(request.sourcePort ?? String(firstEphemeralPort), 1, 65535, 'a source port');
  return { ...base, protocol, sourcePort, destinationPort: numberIn(request.port, 1, 65535, 'a port') };
}

function familyFor({ family }: ExplainRequest, source: Party, destination: Party): 4 | 6 {
  const has = (wanted: 4 | 6) => [source, destination].every((party) => addressOf(party, wanted) !== undefined);
  const found = ([4, 6] as const).find((each) => (family === undefined || family === each) && has(each));
  if (found !== undefined) return found;
  const texts = [source, destination].map(({ name, addresses }) => `${name} has ${addresses.join(', ') || 'none'}`);
  throw new ExplainError(
    `there is no${family === undefined ? '' : ` IPv${family}`} address of one family at both ends: ${texts.join('; ')}`,
  );
}

function addressOf({ addresses }: Party, family: 4 | 6): string | undefined {
  return addresses.find((address) => address.includes(':') === (family === 6));
}

function numberIn(text: string, min: number, max: number, what: string): number {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) throw new ExplainError(`${text} is not ${what} (${min} to ${max})`);
  return value;
}
