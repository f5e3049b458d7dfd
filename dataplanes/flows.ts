/** Flows as both dataplanes tell of them, whoever remembers them: the kernel's connection tracking or records in BPF maps. Plain data. */
import type { Family } from '#native/types.ts';
import type { IpText } from './messages.ts';

/** What the packets of a flow's opener look like at one place. */
export interface FlowTuple {
  readonly source: IpText;
  readonly destination: IpText;
  /** Of protocols with ports. */
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** Of ICMP requests: type and identifier. */
  readonly icmp?: { readonly type: number; readonly id: number };
}

/**
 * `new`: nobody has answered. `opening` (TCP): answered, but the opener hasn't confirmed. `closing` (TCP): one end has sent its FIN. `closed` (TCP):
 * both have, or there was a reset.
 */
export const flowStates = ['new', 'opening', 'established', 'closing', 'closed'] as const;
export type FlowState = (typeof flowStates)[number];

export type FlowWay = 'pod' | 'net' | 'stack';

/** Of the opener, and of the other end. */
export interface FlowCounts {
  readonly opener: number;
  readonly other: number;
}

/** One flow. Absent: the dataplane doesn't know it. */
export interface Flow {
  readonly family: Family;
  /** IANA's number. */
  readonly protocol: number;
  /** As the opener sends it. */
  readonly asked: FlowTuple;
  /** As the other end gets it: after translation by this node. Answers are its inverse. Equal to `asked` without translation. */
  readonly delivered: FlowTuple;
  readonly state: FlowState;
  /** TCP: which end has sent a FIN. */
  readonly finished?: { readonly opener: boolean; readonly other: boolean };
  /** Netfilter sees its packets, and so has an entry of its own. */
  readonly crossesNetfilter: boolean;
  /** Where a dataplane with ways of its own sends its packets: from pod to pod, past the stack by an uplink, or by the stack. */
  readonly way?: FlowWay;
  /** Since its first packet, since its last, and until it is forgotten if none comes; in s. */
  readonly ageSeconds?: number;
  readonly idleSeconds?: number;
  readonly leftSeconds?: number;
  readonly packets?: FlowCounts;
  readonly bytes?: FlowCounts;
  /** The dataplane's own words about it: flags of the record, status of the entry. */
  readonly details: readonly string[];
  /** Why it can't be carried to another dataplane; absent: it can. */
  readonly bound?: string;
}

/** Which flows; every part that is given must hold. */
export interface FlowFilter {
  /** One end is one of these, before or after translation. */
  readonly addresses?: readonly IpText[];
  /** And one end, the same or the other, is one of these. */
  readonly peers?: readonly IpText[];
  /** One end's, before or after translation. */
  readonly port?: number;
  readonly protocol?: number;
  readonly states?: readonly FlowState[];
}

/** What a deletion did. */
export interface FlowDeletion {
  readonly deleted: number;
  /** Why some could not be deleted, in words. */
  readonly failed: readonly string[];
}

/** Whose flows are carried to another dataplane: those with at least one end among these addresses, this node's pods. */
export interface FlowScope {
  readonly local: ReadonlySet<IpText>;
  /**
   * The dataplane that tells them leaves the path as soon as they are taken over. What it translates itself before netfilter sees it is told only
   * then, and stands still until it has left: two entries of nf_conntrack for one flow would get in each other's way.
   */
  readonly isLeaving?: boolean;
}

/**
 * A piece of what is carried to another dataplane. `flows`: they are there, or have changed; `gone`: they ended. `whole`: everything that was there at
 * the beginning has been said; what follows are changes. `again`: something was missed; everything is said once more, until the next `whole`.
 */
export type FlowExportItem =
  | { readonly type: 'flows' | 'gone'; readonly flows: readonly Flow[] }
  | { readonly type: 'whole' | 'again' };

/** What became of flows that were to be taken over. */
export interface FlowImportReport {
  readonly imported: number;
  /** Those that were there already: the importing dataplane had seen their packets itself. */
  readonly present: number;
  /** Not carried, by reason. */
  readonly skipped: Readonly<Record<string, number>>;
  /** Refused by the kernel: the first few, in words, and how many in all. */
  readonly failed: { readonly count: number; readonly examples: readonly string[] };
}

/** One family's part of a table that a dataplane keeps itself. */
export interface FamilyFlowStats {
  /** Elements at the last sweep, and how many there may be; records and pointers. */
  readonly elements: number;
  readonly maxElements: number;
  /** Of `elements`: pointers. */
  readonly pointers: number;
  /** Forgotten because their time was over, since the agent's start, by what they were. */
  readonly deleted: Readonly<Record<'tcp' | 'udp' | 'icmp' | 'other' | 'pointer', number>>;
}

/** How full the table is, and what sweeping it took. */
export interface FlowTableStats {
  readonly 4: FamilyFlowStats;
  readonly 6: FamilyFlowStats;
  /** Since the agent's start. */
  readonly sweeps: number;
  readonly failures: number;
  /** Of the last sweep, and of its longest call; in s. */
  readonly seconds: number;
  readonly longestCallSeconds: number;
  /** Why the last sweep wasn't whole. */
  readonly failure?: string;
}

/** The flows of one dataplane. */
export interface DataplaneFlows {
  /** Where the dataplane itself forgets flows: absent if the kernel does. */
  readonly stats?: FlowTableStats | undefined;
  /** All that match, in arrays of some thousand, read as they are asked for; no snapshot, and one may come twice. Leaving the loop ends it. */
  list(filter: FlowFilter): AsyncIterable<readonly Flow[]>;
  /** Forgets all that match at the time: the next packet of each is a new flow. */
  delete(filter: FlowFilter): Promise<FlowDeletion>;
  /** What another dataplane needs, in order. It goes on with changes until the signal; a dataplane that can't tell changes ends after `whole`. */
  exportFlows(scope: FlowScope, signal: AbortSignal): AsyncIterable<FlowExportItem>;
  /**
   * Takes over what another one exports, until that ends. What this dataplane has seen itself wins. `onWhole` is called when everything up to the
   * first `whole` is written.
   */
  importFlows(
    items: AsyncIterable<FlowExportItem>,
    scope: FlowScope,
    onWhole?: (report: FlowImportReport) => void,
  ): Promise<FlowImportReport>;
}

const protocolNames: Readonly<Record<number, string>> = {
  1: 'icmp',
  6: 'tcp',
  17: 'udp',
  47: 'gre',
  58: 'icmpv6',
  132: 'sctp',
  136: 'udplite',
};

/** A protocol's name, or its number where it has none here. */
export function protocolText(protocol: number): string {
  return protocolNames[protocol] ?? String(protocol);
}

/** A protocol's number from its name or number; undefined for neither. */
export function protocolNumber(text: string): number | undefined {
  const known = Object.entries(protocolNames).find(([, name]) => name === text.toLowerCase());
  if (known !== undefined) return Number(known[0]);
  return /^\d{1,3}$/.test(text) && Number(text) <= 255 ? Number(text) : undefined;
}

/** Whether a flow is one of those that the filter says. */
export function flowMatcher({ addresses, peers, port, protocol, states }: FlowFilter): (flow: Flow) => boolean {
  const scopes = [addresses, peers].flatMap((list) => (list === undefined ? [] : [{ local: new Set(list) }]));
  const hasPort = (tuple: FlowTuple): boolean => tuple.sourcePort === port || tuple.destinationPort === port;
  return (flow) =>
    (protocol === undefined || flow.protocol === protocol) &&
    (states === undefined || states.includes(flow.state)) &&
    (port === undefined || hasPort(flow.asked) || hasPort(flow.delivered)) &&
    scopes.every((scope) => isInScope(flow, scope));
}

/** Whether one end is among the addresses, at either place. */
export function isInScope({ asked, delivered }: Flow, { local }: FlowScope): boolean {
  return (
    local.has(asked.source) ||
    local.has(asked.destination) ||
    local.has(delivered.source) ||
    local.has(delivered.destination)
  );
}

/** Whether both say the same. */
export function sameTuple(a: FlowTuple, b: FlowTuple): boolean {
  return (
    a.source === b.source &&
    a.destination === b.destination &&
    a.sourcePort === b.sourcePort &&
    a.destinationPort === b.destinationPort &&
    a.icmp?.id === b.icmp?.id &&
    a.icmp?.type === b.icmp?.type
  );
}

/** One line that tells a flow from all others of its family: `tcp 10.65.0.2 40000 > 10.96.0.1 80`. */
export function flowName({ protocol, asked }: Pick<Flow, 'protocol' | 'asked'>): string {
  const { source, destination, sourcePort, destinationPort, icmp } = asked;
  const port = (number: number | undefined): string => (number === undefined ? '' : ` ${number}`);
  const kind = icmp === undefined ? '' : ` type ${icmp.type} id ${icmp.id}`;
  return `${protocolText(protocol)} ${source}${port(sourcePort)} > ${destination}${port(destinationPort)}${kind}`;
}

/** Counts what becomes of flows while they are taken over. */
export class FlowImportTally {
  #imported = 0;
  #present = 0;
  #failed = 0;
  readonly #skipped = new Map<string, number>();
  readonly #examples: string[] = [];

  addImported(count = 1): void {
    this.#imported += count;
  }

  addPresent(): void {
    this.#present += 1;
  }

  addSkipped(reason: string): void {
    this.#skipped.set(reason, (this.#skipped.get(reason) ?? 0) + 1);
  }

  /** Only the first few are kept in words. */
  addFailed(flow: Flow, reason: string): void {
    this.#failed += 1;
    if (this.#examples.length < 10) this.#examples.push(`${flowName(flow)}: ${reason}`);
  }

  get report(): FlowImportReport {
    return {
      imported: this.#imported,
      present: this.#present,
      skipped: Object.fromEntries(this.#skipped),
      failed: { count: this.#failed, examples: [...this.#examples] },
    };
  }
}
