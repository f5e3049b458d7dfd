/**
 * Entries of the kernel's connection tracking as plain data. Facts: linux/netfilter/nfnetlink_conntrack.h (attributes),
 * nf_conntrack_common.h (status), nf_conntrack_tcp.h and nf_conntrack_sctp.h (states, flags).
 */
import type { Family, NetlinkFailure } from './types.ts';

/** One direction of a flow: what its packets look like before this host translates them. */
export interface ConntrackTuple {
  /** Addresses without prefix length; IPv6 in its one text (RFC 5952, no dots). */
  readonly source: string;
  readonly destination: string;
  /** IANA's number: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6, 132 SCTP. */
  readonly protocol: number;
  /** Of protocols with ports (GRE: its keys). */
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** Of ICMP and ICMPv6. The reply of an echo request has the same `id`. */
  readonly icmp?: { readonly id: number; readonly type: number; readonly code: number };
}

/** What an address and a port (ICMP: the id) become. */
export interface ConntrackTranslation {
  readonly address: string;
  /** Absent for protocols without ports. Absent in a new entry: the port stays as it is. */
  readonly port?: number;
}

/** What becomes of the original direction's packets; the reply's are translated back. */
export interface ConntrackNat {
  readonly source?: ConntrackTranslation;
  readonly destination?: ConntrackTranslation;
}

/** IPS_*, by bit number. */
export const conntrackStatusNames = [
  'expected',
  'seen-reply',
  'assured',
  'confirmed',
  'src-nat',
  'dst-nat',
  'seq-adjust',
  'src-nat-done',
  'dst-nat-done',
  'dying',
  'fixed-timeout',
  'template',
  'untracked',
  'helper',
  'offload',
  'hw-offload',
] as const;

/** One bit of an entry's status: `offload` is a flowtable's, `seq-adjust` and `helper` say that it can't be carried elsewhere. */
export type ConntrackStatus = (typeof conntrackStatusNames)[number];

/** TCP_CONNTRACK_*, by number. `syn-sent2` is a simultaneous open. */
export const conntrackTcpStates = [
  'none',
  'syn-sent',
  'syn-recv',
  'established',
  'fin-wait',
  'close-wait',
  'last-ack',
  'time-wait',
  'close',
  'syn-sent2',
] as const;

export type ConntrackTcpState = (typeof conntrackTcpStates)[number];

/** IP_CT_TCP_FLAG_*, by bit number. */
export const conntrackTcpFlagNames = [
  'window-scale',
  'sack-perm',
  'close-init',
  'be-liberal',
  'data-unacknowledged',
  'maxack-set',
  'challenge-ack',
  'simultaneous-open',
] as const;

/** One flag of a TCP direction: `be-liberal` takes packets outside the window, `close-init` sent the first FIN. */
export type ConntrackTcpFlag = (typeof conntrackTcpFlagNames)[number];

/** What is known of one direction of a TCP connection. */
export interface ConntrackTcpSide {
  readonly flags: readonly ConntrackTcpFlag[];
  /** The shift, 0 to 14; says something only if both sides have the flag `window-scale`. */
  readonly windowScale: number;
}

export interface ConntrackTcp {
  readonly state: ConntrackTcpState;
  readonly original: ConntrackTcpSide;
  readonly reply: ConntrackTcpSide;
}

/** SCTP_CONNTRACK_*, by number. */
export const conntrackSctpStates = [
  'none',
  'closed',
  'cookie-wait',
  'cookie-echoed',
  'established',
  'shutdown-sent',
  'shutdown-recd',
  'shutdown-ack-sent',
  'heartbeat-sent',
  'heartbeat-acked',
] as const;

export type ConntrackSctpState = (typeof conntrackSctpStates)[number];

export interface ConntrackSctp {
  readonly state: ConntrackSctpState;
  /** Verification tags: what packets of the direction carry. */
  readonly originalTag: number;
  readonly replyTag: number;
}

/** Names an entry. Of a zone for one direction only, the other direction is looked up in zone 0. */
export interface ConntrackKey {
  readonly family: Family;
  readonly original: ConntrackTuple;
  /** Default 0. */
  readonly zone?: number;
  /** Which direction's tuples are in the zone; default `both`. */
  readonly zoneDirection?: ConntrackZoneDirection;
  /** The kernel's number of the entry, from its place in memory and its tuple: one made anew has another one, or by chance the same. */
  readonly id?: number;
}

export type ConntrackZoneDirection = 'both' | 'original' | 'reply';

/** An entry as the kernel tells of it; frozen. */
export interface ConntrackEntry extends ConntrackKey {
  /** As the first packet arrived here. */
  readonly original: ConntrackTuple;
  /** As answers arrive here: of a translated flow it isn't the inverse of `original`. */
  readonly reply: ConntrackTuple;
  readonly zone: number;
  readonly zoneDirection: ConntrackZoneDirection;
  readonly mark: number;
  readonly status: readonly ConntrackStatus[];
  /** What is left, in s. Absent when an entry has run out (in its `destroy` event). */
  readonly timeoutSeconds?: number;
  readonly id: number;
  /** Found by comparing the tuples; absent: not translated. */
  readonly nat?: ConntrackNat;
  /** Of TCP; in an `update` event only if it has changed. */
  readonly tcp?: ConntrackTcp;
  /** Of SCTP, likewise. */
  readonly sctp?: ConntrackSctp;
  /** The helper's name (`ftp`), if it has one: its expectations can't be carried elsewhere. */
  readonly helper?: string;
}

/** An entry to be made. */
export interface NewConntrackEntry extends Omit<ConntrackKey, 'id'> {
  /**
   * The plain inverse of `original`, which is what it is when absent. The kernel would take a reply that is translated already, track the
   * flow, and never translate it: refused here (`EINVAL` of `encode`). Translation is said in `nat`.
   */
  readonly reply?: ConntrackTuple;
  readonly nat?: ConntrackNat;
  /** Time to live without packets, in s. */
  readonly timeoutSeconds: number;
  /** `confirmed` is always set. Without `seen-reply` the original direction's packets are `ct state new`. */
  readonly status?: readonly ('seen-reply' | 'assured' | 'confirmed')[];
  /** Default 0. */
  readonly mark?: number;
  /**
   * TCP's, required for it. The flag `be-liberal` is added to both sides: nobody knows the windows of a connection that is half-way. Of
   * others `window-scale`, `sack-perm` and `close-init` are set; the rest belongs to sequence numbers that can't be handed over.
   */
  readonly tcp?: ConntrackTcp;
  /** SCTP's, required for it: packets with other tags are invalid. */
  readonly sctp?: ConntrackSctp;
}

/** What became of an entry to be made. */
export type ConntrackCreated =
  | {
      readonly ok: true;
      /** Entries that were in its way and deleted first (only by `replace`): that of its original tuple, of its reply tuple. */
      readonly replaced: readonly ('original' | 'reply')[];
    }
  | { readonly ok: false; readonly error: Error & NetlinkFailure };

/** What became of an entry to be deleted; one that wasn't there is a success, and said. */
export type ConntrackDeleted =
  | { readonly ok: true; readonly existed: boolean }
  | { readonly ok: false; readonly error: Error & NetlinkFailure };

/** A piece of a dump. `restarted`: the kernel says that changes interrupted it; all that came before is to be forgotten. */
export type ConntrackDumpItem =
  | { readonly type: 'entries'; readonly entries: readonly ConntrackEntry[] }
  | { readonly type: 'restarted' };

/**
 * What happened to entries. `lost`: the kernel had no room for some events. What had been waiting was thrown away with them, and nothing is
 * missed after it: whoever dumps everything then is up to date.
 */
export type ConntrackEvent =
  | { readonly type: 'new' | 'update' | 'destroy'; readonly entry: ConntrackEntry }
  | { readonly type: 'lost' };
