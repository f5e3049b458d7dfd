/** Entries of the kernel's connection tracking as flows, and flows as entries to be made. */
import type { ConntrackEntry, ConntrackTuple, NewConntrackEntry } from '#native/conntrack-types.ts';
import { type Flow, type FlowState, type FlowTuple, sameTuple } from '../flows.ts';

const ICMP = 1;
const TCP = 6;
const UDP = 17;
const ICMPV6 = 58;
const SCTP = 132;

/** The states of TCP in the kernel's words, as ours. */
const tcpStates = {
  none: 'new',
  'syn-sent': 'new',
  'syn-sent2': 'new',
  'syn-recv': 'opening',
  established: 'established',
  'fin-wait': 'closing',
  'close-wait': 'closing',
  'last-ack': 'closed',
  'time-wait': 'closed',
  close: 'closed',
} as const satisfies Record<string, FlowState>;

const sctpClosing = new Set(['shutdown-sent', 'shutdown-recd', 'shutdown-ack-sent']);

/** The flow of an entry. */
export function flowOfEntry(entry: ConntrackEntry): Flow {
  const { family, original, reply, timeoutSeconds, tcp, status } = entry;
  const bound = boundReason(entry);
  const state = stateOf(entry);
  const closer = state === 'closing' && tcp !== undefined;
  return {
    family,
    protocol: original.protocol,
    asked: tupleOf(original),
    delivered: inverse(reply, original),
    state,
    // An entry says who closed first. Where neither side does, it is taken to be the opener.
    ...(closer && {
      finished: closedByOther(entry) ? { opener: false, other: true } : { opener: true, other: false },
    }),
    crossesNetfilter: true,
    ...(timeoutSeconds !== undefined && { leftSeconds: timeoutSeconds }),
    details: [
      ...(tcp === undefined ? [] : [tcp.state]),
      ...(entry.sctp === undefined ? [] : [entry.sctp.state]),
      ...status,
    ],
    ...(bound !== undefined && { bound }),
  };
}

/** How long entries live without packets, in s: the namespace's sysctls of nf_conntrack. */
export interface EntryTimeouts {
  readonly tcpSynRecv: number;
  readonly tcpEstablished: number;
  readonly tcpFinWait: number;
  readonly udpStream: number;
  readonly generic: number;
}

/** Below net/netfilter, and the kernel's own defaults for where there is none. */
const timeoutSysctls = {
  tcpSynRecv: ['nf_conntrack_tcp_timeout_syn_recv', 60],
  tcpEstablished: ['nf_conntrack_tcp_timeout_established', 432_000],
  tcpFinWait: ['nf_conntrack_tcp_timeout_fin_wait', 120],
  udpStream: ['nf_conntrack_udp_timeout_stream', 120],
  generic: ['nf_conntrack_generic_timeout', 600],
} as const satisfies Record<keyof EntryTimeouts, readonly [string, number]>;

/** Reads them; `readSysctl` gets a path below /proc/sys. */
export function entryTimeouts(readSysctl: (path: string) => string | undefined): EntryTimeouts {
  const seconds = (timer: keyof EntryTimeouts): number => {
    const [sysctl, fallback] = timeoutSysctls[timer];
    const text = readSysctl(`net/netfilter/${sysctl}`);
    return text !== undefined && /^\d+$/.test(text) ? Number(text) : fallback;
  };
  return {
    tcpSynRecv: seconds('tcpSynRecv'),
    tcpEstablished: seconds('tcpEstablished'),
    tcpFinWait: seconds('tcpFinWait'),
    udpStream: seconds('udpStream'),
    generic: seconds('generic'),
  };
}

/** The entry that is to be made for a flow, or why there can be none. */
export function entryOfFlow(flow: Flow, timeouts: EntryTimeouts): NewConntrackEntry | string {
  const { family, protocol, asked, delivered, state, finished, bound } = flow;
  if (bound !== undefined) return bound;
  if (state === 'new') return 'nobody has answered';
  if (state === 'closed') return 'closed';
  if (protocol === ICMP || protocol === ICMPV6) return 'ICMP: the next request makes an entry';
  if (protocol === SCTP) return 'SCTP: its verification tags are not known';
  const { icmp: _, ...addressed } = asked;
  const isClosing = state === 'closing';
  // (A handshake's entry is made as of a connection: its next packet, whatever it is, goes on from there.)
  const side = { flags: [], windowScale: 0 } as const;
  const closing = { ...side, flags: ['close-init'] } as const;
  return {
    family,
    original: { protocol, ...addressed },
    ...(!sameTuple(asked, delivered) && { nat: natOf(asked, delivered) }),
    timeoutSeconds: timeoutOf(protocol, state, timeouts),
    status: ['seen-reply', 'assured', 'confirmed'],
    ...(protocol === TCP && {
      tcp: {
        state: isClosing ? 'fin-wait' : 'established',
        original: isClosing && finished?.other !== true ? closing : side,
        reply: isClosing && finished?.other === true ? closing : side,
      },
    }),
  };
}

function timeoutOf(protocol: number, state: FlowState, timeouts: EntryTimeouts): number {
  if (protocol === TCP && state === 'opening') return timeouts.tcpSynRecv;
  if (protocol === TCP) return state === 'closing' ? timeouts.tcpFinWait : timeouts.tcpEstablished;
  return protocol === UDP ? timeouts.udpStream : timeouts.generic;
}

function natOf(asked: FlowTuple, delivered: FlowTuple): NonNullable<NewConntrackEntry['nat']> {
  const isSource = asked.source !== delivered.source || asked.sourcePort !== delivered.sourcePort;
  const isDestination =
    asked.destination !== delivered.destination || asked.destinationPort !== delivered.destinationPort;
  const of = (address: string, port: number | undefined) => (port === undefined ? { address } : { address, port });
  return {
    ...(isSource && { source: of(delivered.source, delivered.sourcePort) }),
    ...(isDestination && { destination: of(delivered.destination, delivered.destinationPort) }),
  };
}

/** Names are the kernel's; see `sameEntryAgain` for what can't be made again. */
function boundReason({ status, helper, zone }: ConntrackEntry): string | undefined {
  if (helper !== undefined || status.includes('helper')) return 'a helper follows it';
  if (status.includes('expected')) return 'it is related to another flow';
  if (status.includes('seq-adjust')) return 'its sequence numbers are adjusted';
  if (status.includes('offload') || status.includes('hw-offload')) return 'a flowtable has it';
  if (zone !== 0) return 'it is in a zone';
  return undefined;
}

function stateOf({ status, tcp, sctp }: ConntrackEntry): FlowState {
  if (status.includes('dying')) return 'closed';
  const isAnswered = status.includes('seen-reply');
  if (tcp !== undefined) {
    const state = tcpStates[tcp.state];
    return isAnswered || state === 'closed' ? state : 'new';
  }
  if (sctp?.state === 'closed') return 'closed';
  if (sctp !== undefined && sctpClosing.has(sctp.state)) return 'closing';
  return isAnswered ? 'established' : 'new';
}

function closedByOther({ tcp }: ConntrackEntry): boolean {
  return tcp?.reply.flags.includes('close-init') === true && !tcp.original.flags.includes('close-init');
}

function tupleOf({ source, destination, sourcePort, destinationPort, icmp }: ConntrackTuple): FlowTuple {
  return {
    source,
    destination,
    ...(sourcePort !== undefined && { sourcePort }),
    ...(destinationPort !== undefined && { destinationPort }),
    ...(icmp !== undefined && { icmp: { type: icmp.type, id: icmp.id } }),
  };
}

/** What the opener's packets are after translation; ICMP's type is the request's. */
function inverse(reply: ConntrackTuple, original: ConntrackTuple): FlowTuple {
  const { source, destination, sourcePort, destinationPort, icmp } = reply;
  return {
    source: destination,
    destination: source,
    ...(destinationPort !== undefined && { sourcePort: destinationPort }),
    ...(sourcePort !== undefined && { destinationPort: sourcePort }),
    ...(icmp !== undefined && { icmp: { type: original.icmp?.type ?? icmp.type, id: icmp.id } }),
  };
}
