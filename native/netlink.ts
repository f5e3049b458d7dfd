import { loadAddon } from './addon.ts';
import { Turns } from './turns.ts';
import type {
  Address,
  Family,
  Filter,
  Link,
  LinkRef,
  Neighbour,
  Netlink,
  NetlinkOp,
  NetnsRef,
  OpResult,
  Qdisc,
  Route,
  Sysctl,
  SysctlResult,
} from './types.ts';

/** An encoded batch, as the addon keeps it. */
type Prepared = object & { readonly prepared: unique symbol };

interface RouteSocket {
  readonly sysctls: readonly SysctlResult[];
  prepare(ops: readonly NetlinkOp[]): Prepared;
  sendSync(batch: Prepared): readonly OpResult[];
  send(batch: Prepared): Promise<readonly OpResult[]>;
  link(link: LinkRef): Link | undefined;
  dump(kind: string, filter?: object): Promise<readonly unknown[]>;
  dumpSync(kind: string, filter?: object): readonly unknown[];
  close(): void;
}

interface NetlinkAddon {
  readonly RouteSocket: new (ns?: NetnsRef, sysctls?: readonly Sysctl[]) => RouteSocket;
}

/**
 * Opens a route socket in the namespace (absent: where the process is). It stays in that namespace, may be used from anywhere, and
 * keeps the namespace alive until it is closed. Throws when the namespace can't be entered: `ENOENT` of `open`, `EINVAL` for a file that
 * is no network namespace, `EPERM` of `setns`.
 */
export function openNetlink(ns?: NetnsRef): Netlink {
  return new RouteNetlink(new (loadAddon<NetlinkAddon>().RouteSocket)(ns));
}

/** Like `openNetlink`, and writes sysctls (as `writeSysctls`) during the same visit to the namespace. */
export function openNetlinkWithSysctls(
  ns: NetnsRef | undefined,
  sysctls: readonly Sysctl[],
): { readonly netlink: Netlink; readonly sysctls: readonly SysctlResult[] } {
  const socket = new (loadAddon<NetlinkAddon>().RouteSocket)(ns, sysctls);
  return { netlink: new RouteNetlink(socket), sysctls: socket.sysctls };
}

/** The kernel's rtnetlink. */
class RouteNetlink implements Netlink {
  readonly #socket: RouteSocket;
  /** The worker's socket takes one request at a time: each waits for the one before. */
  readonly #turns = new Turns();

  constructor(socket: RouteSocket) {
    this.#socket = socket;
  }

  batchSync(ops: readonly NetlinkOp[]): readonly OpResult[] {
    return this.#socket.sendSync(this.#socket.prepare(ops));
  }

  async batch(ops: readonly NetlinkOp[]): Promise<readonly OpResult[]> {
    const prepared = this.#socket.prepare(ops);
    return await this.#turns.run(() => this.#socket.send(prepared));
  }

  async run(ops: readonly NetlinkOp[]): Promise<void> {
    throwFirst(await this.batch(ops));
  }

  runSync(ops: readonly NetlinkOp[]): void {
    throwFirst(this.batchSync(ops));
  }

  link(link: LinkRef): Link | undefined {
    return this.#socket.link(link);
  }

  links(): Promise<readonly Link[]> {
    return this.#dump<Link>('links');
  }

  addresses(filter: { readonly link?: LinkRef; readonly family?: Family } = {}): Promise<readonly Address[]> {
    return this.#dump<Address>('addresses', filter);
  }

  routes(
    filter: {
      readonly family?: Family;
      readonly table?: number;
      readonly link?: LinkRef;
      readonly protocol?: number;
    } = {},
  ): Promise<readonly Route[]> {
    return this.#dump<Route>('routes', filter);
  }

  neighbours(
    filter: { readonly family?: Family; readonly link?: LinkRef; readonly proxy?: boolean } = {},
  ): Promise<readonly Neighbour[]> {
    return this.#dump<Neighbour>('neighbours', filter);
  }

  filters(link: LinkRef, direction: 'ingress' | 'egress'): Promise<readonly Filter[]> {
    return this.#dump<Filter>('filters', { link, direction });
  }

  filtersSync(link: LinkRef, direction: 'ingress' | 'egress'): readonly Filter[] {
    return this.#socket.dumpSync('filters', { link, direction }) as readonly Filter[];
  }

  qdiscs(): Promise<readonly Qdisc[]> {
    return this.#dump<Qdisc>('qdiscs');
  }

  async hasClsact(link: LinkRef): Promise<boolean> {
    return (await this.#dump<true>('clsact', { link })).length > 0;
  }

  /** A batch or dump that is under way ends normally; what waits behind it fails with EBADF. */
  [Symbol.dispose](): void {
    this.#socket.close();
  }

  #dump<Item>(kind: string, filter?: object): Promise<readonly Item[]> {
    return this.#turns.run(() => this.#socket.dump(kind, filter)) as Promise<readonly Item[]>;
  }
}

function throwFirst(results: readonly OpResult[]): void {
  for (const result of results) if (!result.ok) throw result.error;
}
