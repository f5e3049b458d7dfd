import { loadAddon } from './addon.ts';
import { Turns } from './turns.ts';
import type { Family, NetlinkFailure, NetnsRef } from './types.ts';

/** What a set is, besides its members. Facts: ipset(8). */
export interface IpsetSpec {
  /** 1 to 31 bytes. */
  readonly name: string;
  readonly type: 'hash:net' | 'hash:ip' | 'hash:net,iface' | 'hash:ip,port';
  readonly family: Family;
  /** The most members; the kernel's default is 65536. */
  readonly maxelem?: number;
  /** Initial number of hash buckets; it grows by itself. */
  readonly hashsize?: number;
}

/** A set as the kernel lists it, whoever made it. */
export interface IpsetInfo {
  readonly name: string;
  /** Any type: `hash:net`, `bitmap:port`, `list:set`, ... */
  readonly type: string;
  /** Absent for types without a family. */
  readonly family?: Family;
  readonly maxelem?: number;
  readonly hashsize?: number;
  /** Members now. */
  readonly count?: number;
  /** Rules and sets that refer to it; it can't be destroyed while there are any. */
  readonly references?: number;
}

/** A set with one value for all its members (`IpsetDigest`). */
export interface IpsetSummary extends IpsetInfo {
  readonly digest: string;
}

/** A set with its members. */
export interface IpsetContents extends IpsetSummary {
  readonly members: readonly string[];
}

/** What to change in one set. */
export interface IpsetChange {
  readonly name: string;
  readonly add: readonly string[];
  readonly del: readonly string[];
}

/** A set or, if one is named, a member of it that was refused. */
export interface IpsetFailure {
  readonly set: string;
  readonly member?: string;
  readonly error: Error & NetlinkFailure;
}

/**
 * The address sets of one namespace, over netlink, on worker threads; calls are carried out one after the other. Members are text as
 * ipset(8) prints them: `10.0.0.0/8`, `10.0.0.1` (no /32 or /128), `10.0.0.0/8,eth0`, `10.0.0.1,tcp:80` (tcp, udp, sctp and udplite by
 * name, other protocols by number; a number is understood for all). Whatever else a foreign set's member has is printed, too
 * (`10.0.0.0/8 nomatch`); members that are no addresses are left out.
 *
 * Failures are NetlinkFailures; ipset's own have codes such as `IPSET_ERR_BUSY`, a set that doesn't exist is `ENOENT`.
 */
export interface Ipset extends Disposable {
  list(): Promise<readonly IpsetInfo[]>;
  /** The sets whose names begin so, in one reading; no member reaches JavaScript. */
  summaries(prefix: string): Promise<readonly IpsetSummary[]>;
  /** The sets whose names begin so, or of these names (one that isn't there is left out), with their members, in one reading. */
  contents(which: string | readonly string[]): Promise<readonly IpsetContents[]>;
  /** A set of this name that exists is `EEXIST`. */
  create(set: IpsetSpec): Promise<void>;
  /** Makes many at once; one that fails is in the result and doesn't stop the others. */
  createAll(sets: readonly IpsetSpec[]): Promise<readonly IpsetFailure[]>;
  /**
   * One set after the other: deletes, then adds, many members to a message. A member that is there already, or gone already, is no
   * failure. What is refused is in the result and doesn't stop the rest: a member, or a set without one named when the set itself is the trouble.
   */
  update(changes: readonly IpsetChange[]): Promise<readonly IpsetFailure[]>;
  /** Exchanges the contents of two sets of one type and family in one step. */
  swap(name: string, other: string): Promise<void>;
  /** Removes all members. */
  flush(name: string): Promise<void>;
  /** Removes the set; `IPSET_ERR_BUSY` while a rule refers to it. */
  destroy(name: string): Promise<void>;
}

interface IpsetSocket {
  list(
    which: string | readonly string[],
    detail: 'none' | 'digest' | 'members',
  ): Promise<readonly (IpsetSummary & { readonly members: string })[]>;
  create(sets: readonly object[]): Promise<readonly IpsetFailure[]>;
  change(verb: 'destroy' | 'flush' | 'swap', name: string, other?: string): Promise<void>;
  update(changes: readonly IpsetChange[]): Promise<readonly IpsetFailure[]>;
  close(): void;
}

interface IpsetAddon {
  readonly IpsetSocket: new (ns?: NetnsRef) => IpsetSocket;
}

/** Opens the sets of the namespace (absent: where the process is). Throws `EPERM` without CAP_NET_ADMIN and `EINVAL` when the kernel has no ipset. */
export function openIpset(ns?: NetnsRef): Ipset {
  return new KernelIpset(new (loadAddon<IpsetAddon>().IpsetSocket)(ns));
}

class KernelIpset implements Ipset {
  readonly #socket: IpsetSocket;
  readonly #turns = new Turns();

  constructor(socket: IpsetSocket) {
    this.#socket = socket;
  }

  async list(): Promise<readonly IpsetInfo[]> {
    const sets = await this.#turns.run(() => this.#socket.list('', 'none'));
    return sets.map(({ members: _none, digest: _ofNone, ...info }) => info);
  }

  async summaries(prefix: string): Promise<readonly IpsetSummary[]> {
    const sets = await this.#turns.run(() => this.#socket.list(prefix, 'digest'));
    return sets.map(({ members: _none, ...summary }) => summary);
  }

  async contents(which: string | readonly string[]): Promise<readonly IpsetContents[]> {
    const sets = await this.#turns.run(() => this.#socket.list(which, 'members'));
    return sets.map(({ members, ...info }) => ({ ...info, members: members.split('\n').slice(0, -1) }));
  }

  async create(set: IpsetSpec): Promise<void> {
    const [failure] = await this.createAll([set]);
    if (failure !== undefined) throw failure.error;
  }

  createAll(sets: readonly IpsetSpec[]): Promise<readonly IpsetFailure[]> {
    return this.#turns.run(() => this.#socket.create(sets));
  }

  update(changes: readonly IpsetChange[]): Promise<readonly IpsetFailure[]> {
    return this.#turns.run(() => this.#socket.update(changes));
  }

  swap(name: string, other: string): Promise<void> {
    return this.#turns.run(() => this.#socket.change('swap', name, other));
  }

  flush(name: string): Promise<void> {
    return this.#turns.run(() => this.#socket.change('flush', name));
  }

  destroy(name: string): Promise<void> {
    return this.#turns.run(() => this.#socket.change('destroy', name));
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}
