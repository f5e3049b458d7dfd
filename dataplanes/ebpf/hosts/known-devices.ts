import { setImmediate as nextTurn } from 'node:timers/promises';
import { overlaps, tryParseNet, withoutPrefix, type Cidr } from '#api/cidr.ts';
import type { Clock } from '#api/clock.ts';
import type { Address, Link, MonitorGroup, Netlink, NetlinkEvent, Route } from '#native/types.ts';
import type { Logger } from '../../logger.ts';
import type { CidrText, IpText } from '../../messages.ts';
import { type Monitor, MonitorFollower } from '../../shared/monitor-follower.ts';

/** Pause before a monitor that broke is opened again. */
const REOPEN_MS = 1_000;
/** Routes that are looked at in one turn of the event loop: some ms. */
const slice = 1_000;
const GROUPS = ['link', 'addr4', 'addr6', 'tc', 'route4', 'route6'] as const satisfies readonly MonitorGroup[];

export interface KnownDevicesDeps {
  readonly host: Pick<Netlink, 'links' | 'addresses' | 'routes'>;
  /** Opens a monitor of these groups. */
  readonly openMonitor: (groups: readonly MonitorGroup[]) => Monitor;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What is known of a device. */
export interface KnownDevice {
  readonly name: string;
  /** Of an Ethernet device; tunnels have no hardware address, or an IP address for one. */
  readonly mac: string | undefined;
  /** In the order in which the kernel said them. */
  readonly addresses: ReadonlyMap<IpText, Address>;
  /** Unicast routes that leave by it, as far as counted. */
  readonly routes: number;
  /** Networks of such routes that are default routes or overlap a pool. */
  readonly waysToPods: ReadonlySet<CidrText>;
}

interface Known extends KnownDevice {
  name: string;
  mac: string | undefined;
  readonly addresses: Map<IpText, Address>;
  routes: number;
  readonly waysToPods: Set<CidrText>;
}

/**
 * The devices of the node, with their addresses and how many routes leave by them, followed by netlink; pods' devices aren't kept, which may be many.
 * Routes are counted by device: replacing one counts twice, so a count may be too high, and before it reaches 0 all are read again. The
 * networks are kept only of those by which pods elsewhere may be reached.
 */
export class KnownDevices implements Disposable {
  readonly #deps: KnownDevicesDeps;
  readonly #isAwaited: (name: string) => boolean;
  readonly #onEvent: (event: NetlinkEvent, isChange: boolean) => void;
  readonly #follower: MonitorFollower;
  readonly #known = new Map<number, Known>();
  #prefixes: readonly string[] = ['cali'];
  #pools: readonly Cidr[] = [];
  /** Events that come while the dumps are under way. */
  #pending: NetlinkEvent[] | undefined;
  #isRead = false;
  #reopen: Disposable | undefined;

  /**
   * `isAwaited`: a new device of this name matters as such. `onEvent` is told of every event while devices are followed, and whether `read` may
   * answer otherwise now.
   */
  constructor(
    deps: KnownDevicesDeps,
    isAwaited: (name: string) => boolean,
    onEvent: (event: NetlinkEvent, isChange: boolean) => void,
  ) {
    this.#deps = deps;
    this.#isAwaited = isAwaited;
    this.#onEvent = onEvent;
    this.#follower = new MonitorFollower(
      () => deps.openMonitor(GROUPS),
      (event) => this.#take(event),
      (reason) => this.#lost(reason),
    );
  }

  /** What pods' devices are called. */
  setPrefixes(prefixes: readonly string[]): void {
    if (prefixes.join() !== this.#prefixes.join()) this.#isRead = false; // What was a pod's is not known.
    this.#prefixes = prefixes;
  }

  /** Where pods' addresses are from. */
  setPools(nets: readonly CidrText[]): void {
    this.#pools = nets.map(tryParseNet).filter((net) => net !== undefined);
    this.#isRead = false;
  }

  /** All is read anew by the next `read`. */
  requestResync(): void {
    this.#isRead = false;
  }

  /** What is known is what `read` would answer now. */
  get isRead(): boolean {
    return this.#isRead;
  }

  /** The devices now, by ifindex; from now on they are followed. Throws what netlink says; then nothing is known. */
  async read(): Promise<ReadonlyMap<number, KnownDevice>> {
    this.#follower.start(); // Before the dumps: what happens meanwhile comes as events, after them.
    if (this.#isRead) return this.#known;
    this.#isRead = true;
    const events: NetlinkEvent[] = [];
    this.#pending = events;
    const { host } = this.#deps;
    try {
      const [links, addresses, routes] = await Promise.all([host.links(), host.addresses(), host.routes()]);
      this.#known.clear();
      for (const link of links) this.#noteLink(link);
      for (const address of addresses) this.#noteAddress(address, true);
      for (const [index, route] of routes.entries()) {
        if (index % slice === slice - 1) await nextTurn();
        this.#noteRoute(route, true);
      }
      // From here on as if they came now: they say more than where routes lead.
      this.#pending = undefined;
      for (const event of events) this.#take(event);
    } catch (error) {
      this.#isRead = false;
      throw error;
    } finally {
      this.#pending = undefined;
    }
    return this.#known;
  }

  /** Nothing is followed any more, and all is forgotten. */
  [Symbol.dispose](): void {
    this.#follower.stop();
    this.#reopen?.[Symbol.dispose]();
    this.#isRead = false;
    this.#known.clear();
  }

  #isPods(name: string): boolean {
    return this.#prefixes.some((prefix) => name.startsWith(prefix));
  }

  #take(event: NetlinkEvent): void {
    if (event.type === 'overrun') this.#isRead = false;
    if (this.#pending !== undefined && event.type !== 'overrun') this.#pending.push(event);
    else this.#onEvent(event, event.type === 'overrun' || this.#follow(event));
  }

  /** True if it may matter to anybody. */
  #follow(event: NetlinkEvent): boolean {
    switch (event.type) {
      case 'link.new':
        return this.#noteLink(event.link);
      case 'link.del':
        return this.#known.delete(event.link.index);
      case 'addr.new':
      case 'addr.del':
        return this.#noteAddress(event.address, event.type === 'addr.new');
      case 'route.new':
      case 'route.del':
        return this.#noteRoute(event.route, event.type === 'route.new');
      default:
        return false;
    }
  }

  #noteLink({ index, name, up, mac }: Link): boolean {
    if (this.#isPods(name)) return this.#known.delete(index);
    const known = this.#known.get(index);
    const ethernet = mac?.split(':').length === 6 ? mac : undefined;
    if (known === undefined) {
      this.#known.set(index, { name, mac: ethernet, addresses: new Map(), routes: 0, waysToPods: new Set() });
      return this.#isAwaited(name);
    }
    const isAnother = known.name !== name || known.mac !== ethernet;
    known.mac = ethernet;
    known.name = name;
    // The kernel takes the routes of a device that goes down without saying so for each.
    const isShut = !up && known.routes > 0;
    if (isShut) this.#isRead = false;
    return isAnother || isShut;
  }

  /** An address that changes (from tentative, to deprecated) is said anew. */
  #noteAddress(address: Address, isThere: boolean): boolean {
    const addresses = this.#known.get(address.linkIndex)?.addresses;
    const ip = withoutPrefix(address.address);
    const before = addresses?.get(ip);
    if (addresses === undefined || (isThere ? isSame(before, address) : before === undefined)) return false;
    if (isThere) addresses.set(ip, address);
    else addresses.delete(ip);
    return true;
  }

  #noteRoute(route: Pick<Route, 'linkIndex' | 'type' | 'dst'>, isThere: boolean): boolean {
    // It may have replaced one by another device, which nobody says.
    const mayReplace =
      isThere &&
      this.#pending === undefined &&
      [...this.#known].some(([index, { waysToPods }]) => index !== route.linkIndex && waysToPods.has(route.dst));
    if (mayReplace) this.#isRead = false;
    const known =
      route.linkIndex === undefined || route.type !== 'unicast' ? undefined : this.#known.get(route.linkIndex);
    if (known === undefined) return mayReplace;
    const before = [known.routes > 0, known.waysToPods.size > 0];
    known.routes = Math.max(0, known.routes + (isThere ? 1 : -1));
    if (this.#leadsToPods(route.dst)) {
      if (isThere) known.waysToPods.add(route.dst);
      // Another route to the same network may be left, so the last one is not the last before all are read again.
      else if (known.waysToPods.delete(route.dst) && known.waysToPods.size === 0) this.#isRead = false;
    }
    if (known.routes === 0) this.#isRead = false;
    return mayReplace || before[0] !== known.routes > 0 || before[1] !== known.waysToPods.size > 0;
  }

  #leadsToPods(dst: CidrText): boolean {
    if (dst.endsWith('/0')) return true;
    const net = tryParseNet(dst);
    return net !== undefined && this.#pools.some((pool) => overlaps(pool, net));
  }

  #lost(reason: string): void {
    this.#deps.log.warn('the monitor of links, addresses and routes broke; it is opened again', { reason });
    this.#reopen?.[Symbol.dispose]();
    this.#reopen = this.#deps.clock.after(REOPEN_MS, () => {
      this.#isRead = false;
      this.#onEvent({ type: 'overrun' }, true);
    });
  }
}

const isSame = (a: Address | undefined, b: Address): boolean =>
  a !== undefined && a.address === b.address && a.scope === b.scope && a.flags.join() === b.flags.join();
