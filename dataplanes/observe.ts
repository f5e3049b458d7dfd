/** What a dataplane lets people see of its work: what happens to new flows, what would happen to a packet, Services, how full its tables are. */
import type { Family } from '#native/types.ts';
import type { IpText } from './messages.ts';
import type { RuleId } from './policy.ts';
import type { ServiceId } from './services.ts';

/** Something that has become of a packet: the first of a flow, or one that was dropped. */
export interface FlowEvent {
  /** Unix time, in ms. */
  readonly time: number;
  /** `passed`, or the drop reason's name. */
  readonly verdict: string;
  /** Seen from the pod; at a host endpoint: seen from the node. */
  readonly direction: 'from-pod' | 'to-pod';
  /** The device whose leg of the flow it was; `#<ifindex>` if it is gone. */
  readonly device: string;
  readonly family: Family;
  /** IANA's number. */
  readonly protocol: number;
  /** As policy saw it, after translation; of what was dropped for another reason than policy: as it came. All zero where it had none to be read. */
  readonly source: IpText;
  readonly destination: IpText;
  /** Of protocols with ports. */
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
  /** The Service's address and port that the opener asked for, if that was translated. */
  readonly asked?: { readonly address: IpText; readonly port: number };
  /** The rule that decided; absent where none did. */
  readonly rule?: RuleId;
  /** The rule's id, or which end of policy decided (`the end of tier default`); absent: policy was not asked. */
  readonly decidedBy?: string;
}

/** What is said to who follows flows. */
export type FlowNews =
  | { readonly type: 'flow'; readonly event: FlowEvent }
  /** So many events are missing before the next one: the kernel's ring was full, or this listener too slow. */
  | { readonly type: 'lost'; readonly events: number };

/** Events as they come; ends when the dataplane leaves the path. To be disposed of. */
export interface FlowFollower extends AsyncIterable<FlowNews>, Disposable {}

/** Who tells of flows while somebody listens. */
export interface FlowEventSource {
  /** Every word that a verdict may be. */
  readonly verdicts: readonly string[];
  /** Throws when there is nothing to listen to yet. */
  follow(): FlowFollower;
}

/** The first packet of a flow, as its opener sends it. Addresses without prefix length. */
export interface PacketQuestion {
  readonly source: IpText;
  readonly destination: IpText;
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmpType?: number;
  readonly icmpCode?: number;
  /** Devices of this node's pods at the ends. */
  readonly sourceDevice?: string;
  readonly destinationDevice?: string;
}

/** What an address is to the dataplane. */
export interface AddressView {
  readonly address: IpText;
  /** Addresses of one class are in the same sets. 0: in none that a rule names. */
  readonly class: number;
  /** Number of its next hop, and the way in words. */
  readonly hop: number;
  readonly nextHop: string;
}

/** What one direction of a pod's policy says. */
export interface LegView {
  readonly direction: 'egress' | 'ingress';
  readonly device: string;
  /** The number of the rules' list that judges; 0: none, everything is denied. */
  readonly unit: number;
  readonly verdict: 'allow' | 'deny';
  /** Index of the rule word that decided. */
  readonly word?: number;
  readonly rule?: RuleId;
  /** The rule's id, which end it is, or why no rule decided. */
  readonly decidedBy: string;
}

/** What the maps that programs read say of a packet. */
export interface PacketView {
  readonly source: AddressView;
  readonly destination: AddressView;
  /** Of the pods of this node that the packet leaves and reaches, in this order. */
  readonly legs: readonly LegView[];
}

/** One address of a Service, as the dataplane has it. */
export interface FrontendView {
  readonly address: IpText;
  readonly port: number;
  readonly protocol: number;
  /** Who gets connections, each as likely as the others; empty: they are refused at once. Absent: it isn't translated here. */
  readonly backends?: readonly { readonly address: IpText; readonly port: number }[];
}

/** One Service, as the dataplane has it. */
export interface ServiceView {
  readonly service: ServiceId;
  readonly frontends: readonly FrontendView[];
  /** What is done otherwise than its spec says. */
  readonly limits: readonly string[];
  /** What isn't in the kernel as it should be. */
  readonly failures: readonly string[];
}

/** Services that the dataplane translates itself. */
export interface ServicesView {
  /** How many there are, and those of them that are done otherwise than they say, or not wholly. */
  readonly figures: { readonly services: number; readonly limited: number };
  /** All, by name. */
  list(): readonly ServiceView[];
  /** Who gets connections to an address; undefined: it is no Service's. */
  find(
    address: IpText,
    port: number,
    protocol: number,
  ): { readonly service?: ServiceId; readonly backends: NonNullable<FrontendView['backends']> } | undefined;
}

/** How full one table is. */
export interface TableFill {
  readonly table: string;
  readonly used: number;
  readonly size: number;
}

/** What of policy and Services is in force in a dataplane that compiles it into tables. */
export interface InForceView {
  readonly tables: readonly TableFill[];
  /** Lists of rules that endpoints share, and those of them that could not be made, so that they deny everything, by reason. */
  readonly units: number;
  readonly failedUnits: readonly { readonly reason: string; readonly units: number }[];
}
