/**
 * Requests and answers of rtnetlink as plain data. Verbs and words are iproute2's. Addresses are text; the addon puts them on the wire.
 * Facts: linux/rtnetlink.h, linux/if_link.h, rtnetlink(7).
 */

/** A network namespace: by path (`/var/run/netns/x`, `/proc/7/ns/net`) or by a process in it. */
export type NetnsRef = { readonly path: string } | { readonly pid: number };

/** A device by name or by ifindex. A name is looked up in the socket's namespace when the request is encoded. */
export type LinkRef = string | number;

export type Family = 4 | 6;

/** One request. Ops of a batch travel in one message and are carried out in order; a failed one doesn't stop those after it. */
export type NetlinkOp =
  | VethAdd
  | {
      readonly op: 'bridge.add';
      readonly name: string;
      readonly up?: boolean;
      readonly mac?: string;
      readonly mtu?: number;
    }
  | LinkSet
  | { readonly op: 'link.del'; readonly link: LinkRef }
  /** Deletes every device of a group (not 0) at once. */
  | { readonly op: 'linkGroup.del'; readonly group: number }
  | XdpOp
  | {
      readonly op: 'addr.add' | 'addr.replace' | 'addr.del';
      readonly link: LinkRef;
      readonly address: string;
      readonly noDad?: boolean;
    }
  | RouteOp
  | NeighOp
  | { readonly op: 'clsact.add' | 'clsact.del'; readonly link: LinkRef }
  | FilterOp;

/**
 * Makes both ends at once; the peer is created in its namespace (moving it later costs some 17 ms). With `netns` on this end: no
 * `alias`, and only one end can be `up` (the kernel can't bring up the end that it makes first; this one is brought up afterwards).
 */
export interface VethAdd {
  readonly op: 'veth.add';
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  readonly alias?: string;
  readonly up?: boolean;
  readonly queues?: number;
  /** The namespace of this end; absent: the socket's. */
  readonly netns?: NetnsRef;
  readonly peer: {
    readonly name: string;
    readonly mac?: string;
    readonly mtu?: number;
    readonly up?: boolean;
    readonly queues?: number;
    readonly netns?: NetnsRef;
  };
}

export interface LinkSet {
  readonly op: 'link.set';
  readonly link: LinkRef;
  readonly up?: boolean;
  readonly mtu?: number;
  readonly mac?: string;
  readonly alias?: string;
  /** A new name (the device must be down, or the kernel new enough). */
  readonly name?: string;
  /** A bridge, or 0 to leave it. */
  readonly master?: LinkRef;
  /** A number that devices can share; all are in 0 at first. */
  readonly group?: number;
  /** Move there. */
  readonly netns?: NetnsRef;
}

/**
 * The XDP program in one of a device's places, as netlink sets it: it stays until somebody replaces it, whoever that is. Without `expected` only
 * where none is (`EBUSY`; `EEXIST` when the other place is taken); with it (a program's descriptor) only in that one's place (`EEXIST`). Without
 * `fd` that one is taken off. `EOPNOTSUPP`: the driver runs none. Drivers may take the device down for it: keep it out of `batchSync`.
 */
export interface XdpOp {
  readonly op: 'xdp.set';
  readonly link: LinkRef;
  readonly mode: 'native' | 'generic';
  readonly fd?: number;
  readonly expected?: number;
}

/** `dst` in CIDR form, or `default` with `family`. */
export interface RouteOp {
  readonly op: 'route.add' | 'route.replace' | 'route.del';
  readonly dst: string;
  readonly family?: Family;
  readonly link?: LinkRef;
  readonly via?: string;
  readonly onlink?: boolean;
  /** Default 254 (main). */
  readonly table?: number;
  /** rtnetlink's RTPROT number; default 4 (static). */
  readonly protocol?: number;
  readonly scope?: 'global' | 'link' | 'host';
  readonly metric?: number;
  readonly type?: 'unicast' | 'blackhole' | 'unreachable' | 'prohibit' | 'throw';
  readonly src?: string;
}

export interface NeighOp {
  readonly op: 'neigh.replace' | 'neigh.del';
  readonly link: LinkRef;
  readonly address: string;
  readonly mac?: string;
  /** Default `permanent`. */
  readonly state?: 'permanent' | 'reachable' | 'stale' | 'noarp';
  /** A proxy entry (`ip neigh add proxy`). */
  readonly proxy?: boolean;
}

/** A direct-action BPF filter on a clsact qdisc. `fd` is the program's; `handle` and `priority` name the filter. */
export interface FilterOp {
  readonly op: 'filter.replace' | 'filter.del';
  readonly link: LinkRef;
  readonly direction: 'ingress' | 'egress';
  readonly priority: number;
  readonly handle: number;
  readonly name?: string;
  readonly fd?: number;
}

/** What became of one op. */
export type OpResult = { readonly ok: true } | { readonly ok: false; readonly error: Error & NetlinkFailure };

/** What every failed kernel call says. */
export interface NetlinkFailure {
  /** The errno's name: `EEXIST`. */
  readonly code: string;
  readonly errno: number;
  /** `sendmsg`, `setns`, `open`, ... */
  readonly syscall: string;
  /** What was tried, on what: `route.replace 10.65.0.3/32 dev cali1`. */
  readonly object: string;
  /** The kernel's own text (extended ack), if it gave one. */
  readonly extack?: string;
}

export interface Link {
  readonly index: number;
  readonly name: string;
  /** `veth`, `bridge`, `vxlan`, ...; absent for hardware and `lo`. */
  readonly kind?: string;
  readonly mac?: string;
  readonly group: number;
  readonly mtu: number;
  readonly up: boolean;
  /** operstate is up, or the device doesn't say. */
  readonly running: boolean;
  readonly alias?: string;
  readonly master?: number;
  /** The peer's ifindex in its own namespace, for a veth. */
  readonly peerIndex?: number;
}

export interface Address {
  readonly linkIndex: number;
  readonly family: Family;
  /** With prefix length. */
  readonly address: string;
  readonly scope: 'global' | 'site' | 'link' | 'host' | 'nowhere';
  readonly flags: readonly ('permanent' | 'tentative' | 'dadfailed' | 'nodad' | 'secondary' | 'deprecated')[];
}

export interface Route {
  readonly family: Family;
  /** CIDR; the default route is `0.0.0.0/0` or `::/0`. */
  readonly dst: string;
  readonly table: number;
  readonly protocol: number;
  readonly scope: 'global' | 'site' | 'link' | 'host' | 'nowhere';
  readonly type: string;
  readonly linkIndex?: number;
  readonly via?: string;
  readonly onlink: boolean;
  readonly metric?: number;
  readonly src?: string;
  /** More than one next hop: not one of ours. */
  readonly multipath: boolean;
}

export interface Neighbour {
  readonly family: Family;
  readonly linkIndex: number;
  readonly address: string;
  readonly mac?: string;
  readonly state: 'incomplete' | 'reachable' | 'stale' | 'delay' | 'probe' | 'failed' | 'noarp' | 'permanent' | 'none';
  readonly proxy: boolean;
}

/** A filter on clsact as a dump shows it, whatever its classifier. */
export interface Filter {
  /** `bpf`, `flower`, `matchall`, ... */
  readonly kind: string;
  readonly linkIndex: number;
  readonly direction: 'ingress' | 'egress';
  readonly priority: number;
  readonly handle: number;
  /** Of a BPF filter only. */
  readonly name?: string;
  readonly programId?: number;
}

/** A queueing discipline of a device. */
export interface Qdisc {
  /** `clsact`, `ingress`, `tbf`, `noqueue`, ... */
  readonly kind: string;
  readonly linkIndex: number;
  /** What leaves the device passes by it first; `clsact`, `ingress` and those below others are not. */
  readonly isRoot: boolean;
}

/** What a monitor socket reports. `overrun`: the kernel dropped events; none are missed after it, so compare everything again. */
export type NetlinkEvent =
  | { readonly type: 'link.new' | 'link.del'; readonly link: Link }
  | { readonly type: 'addr.new' | 'addr.del'; readonly address: Address }
  | { readonly type: 'route.new' | 'route.del'; readonly route: Route }
  | { readonly type: 'neigh.new' | 'neigh.del'; readonly neighbour: Neighbour }
  | { readonly type: 'filter.new' | 'filter.del'; readonly linkIndex: number }
  | { readonly type: 'qdisc.new' | 'qdisc.del'; readonly linkIndex: number; readonly qdisc: Qdisc }
  | { readonly type: 'overrun' };

export type MonitorGroup = 'link' | 'addr4' | 'addr6' | 'route4' | 'route6' | 'neigh' | 'tc';

/** A route socket, opened once in its namespace and then usable from anywhere. Close it (`using`). */
export interface Netlink extends Disposable {
  /**
   * Carries out all ops in order, many to a message, and returns each one's result. An op that can't be encoded (wrong type, invalid
   * address) is a failure of its own (`EINVAL` of `encode`) and isn't sent. Blocks for the kernel's work: keep link deletion out. It has
   * a socket of its own and doesn't wait for batches and dumps under way.
   */
  batchSync(ops: readonly NetlinkOp[]): readonly OpResult[];
  /** The same on a worker thread, one batch or dump after the other. The ops are read before it returns. */
  batch(ops: readonly NetlinkOp[]): Promise<readonly OpResult[]>;
  /** Like `batch`, but throws the first failure (all ops have been tried). */
  run(ops: readonly NetlinkOp[]): Promise<void>;
  runSync(ops: readonly NetlinkOp[]): void;
  /** One link by name or index, or undefined when there is none. */
  link(link: LinkRef): Link | undefined;
  /** Dumps; interrupted ones are taken again, until one is whole. */
  links(): Promise<readonly Link[]>;
  addresses(filter?: { readonly link?: LinkRef; readonly family?: Family }): Promise<readonly Address[]>;
  routes(filter?: {
    readonly family?: Family;
    readonly table?: number;
    readonly link?: LinkRef;
    readonly protocol?: number;
  }): Promise<readonly Route[]>;
  neighbours(filter?: {
    readonly family?: Family;
    readonly link?: LinkRef;
    readonly proxy?: boolean;
  }): Promise<readonly Neighbour[]>;
  filters(link: LinkRef, direction: 'ingress' | 'egress'): Promise<readonly Filter[]>;
  /** The same on the calling thread, in a tenth of a millisecond: an ADD waits longer for a thread that comes back. */
  filtersSync(link: LinkRef, direction: 'ingress' | 'egress'): readonly Filter[];
  /** All qdiscs of all devices; `noqueue`, which devices have when they have none, is among them. */
  qdiscs(): Promise<readonly Qdisc[]>;
  /** True if the device has a clsact qdisc. */
  hasClsact(link: LinkRef): Promise<boolean>;
}

/** One sysctl: the name with slashes below /proc/sys, and the value to hold. */
export interface Sysctl {
  readonly path: string;
  readonly value: string;
}

/** The result for one sysctl: it was written, already had the value, or failed. */
export type SysctlResult =
  | { readonly path: string; readonly status: 'written' | 'unchanged' }
  | { readonly path: string; readonly status: 'failed'; readonly error: Error & NetlinkFailure };
