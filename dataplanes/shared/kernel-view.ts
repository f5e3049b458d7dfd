import { type Cidr, containsIp, familyOf, parseIp, tryParseCidr } from '#api/cidr.ts';
import type { Family, Link, Neighbour, Netlink, NetlinkEvent, Route } from '#native/types.ts';
import type { CidrText } from '../messages.ts';

/** rtnetlink's protocol number of every route over other nodes and of every blackhole: ours wherever it is, as Calico's. */
export const BLOCK_PROTOCOL = 80;

/** The kernel's main routing table. */
export const MAIN_TABLE = 254;

/**
 * What the kernel has of links, routes of the main table and permanent neighbours: read as a whole by `read`, kept current by monitor
 * events and by what we write ourselves. Events come late and out of step with our own writes, so what follows from the view is
 * checked by the write itself (`route.add` says EEXIST); a whole read puts everything right.
 */
export class KernelView {
  readonly #links = new Map<number, Link>();
  readonly #linkByName = new Map<string, number>();
  /** By destination, then by what else makes a route different from another. */
  readonly #routes = new Map<string, Map<string, Route>>();
  /** Destinations by which other nodes may be reached: those of any route that isn't one over another node. A small part of all. */
  readonly #reaching = new Map<string, Cidr>();
  /** Permanent ones, by ifindex, then by address. */
  readonly #neighbours = new Map<number, Map<string, Neighbour>>();
  /** Events that came while dumps are under way, whose answers may be older; one list for each that is. */
  readonly #meanwhile = new Set<NetlinkEvent[]>();

  /** Reads everything anew. */
  async read(host: Netlink, families: readonly Family[]): Promise<void> {
    await this.#replace(async () => {
      const links = await host.links();
      const routes = (await Promise.all(families.map((family) => host.routes({ family, table: MAIN_TABLE })))).flat();
      const neighbours = (await Promise.all(families.map((family) => host.neighbours({ family })))).flat();
      return () => this.#put(links, routes, neighbours);
    });
  }

  /** Asks the kernel what it has to exactly these destinations. */
  async readRoutesTo(host: Netlink, dsts: readonly CidrText[]): Promise<void> {
    for (const [family, ofFamily] of Map.groupBy(dsts, familyOf)) {
      const asked = new Set(ofFamily);
      const concerns = (event: NetlinkEvent): boolean =>
        (event.type === 'route.new' || event.type === 'route.del') && asked.has(event.route.dst);
      await this.#replace(async () => {
        const routes = Map.groupBy(await host.routes({ family, table: MAIN_TABLE }), ({ dst }) => dst);
        return () => {
          for (const dst of asked) this.#setRoutesTo(dst, routes.get(dst) ?? []);
        };
      }, concerns);
    }
  }

  /** Puts in what was read, and then what happened since the reading began, as far as it concerns that: an answer may be from before it. */
  async #replace(
    read: () => Promise<() => void>,
    concerns: (event: NetlinkEvent) => boolean = () => true,
  ): Promise<void> {
    const events: NetlinkEvent[] = [];
    this.#meanwhile.add(events);
    try {
      const put = await read();
      put();
    } finally {
      this.#meanwhile.delete(events);
    }
    for (const event of events) if (concerns(event)) this.#follow(event);
  }

  #put(links: readonly Link[], routes: readonly Route[], neighbours: readonly Neighbour[]): void {
    this.#links.clear();
    this.#linkByName.clear();
    this.#routes.clear();
    this.#reaching.clear();
    this.#neighbours.clear();
    for (const link of links) this.putLink(link);
    for (const route of routes) this.putRoute(route);
    for (const neighbour of neighbours) this.putNeighbour(neighbour);
  }

  /** Takes an event in; a device that goes down or away takes its routes and neighbours along, of which IPv4 says nothing. */
  apply(event: NetlinkEvent): void {
    for (const events of this.#meanwhile) events.push(event);
    this.#follow(event);
  }

  #follow(event: NetlinkEvent): void {
    switch (event.type) {
      case 'link.new': {
        const wentDown = this.#links.get(event.link.index)?.up === true && !event.link.up;
        this.putLink(event.link);
        if (wentDown) this.#forget(event.link.index);
        break;
      }
      case 'link.del':
        this.#dropLink(event.link.index);
        break;
      case 'route.new':
        this.putRoute(event.route);
        break;
      case 'route.del':
        this.dropRoute(event.route);
        break;
      case 'neigh.new':
        this.putNeighbour(event.neighbour);
        break;
      case 'neigh.del':
        if (!event.neighbour.proxy) this.dropNeighbour(event.neighbour.linkIndex, event.neighbour.address);
        break;
      default: // Addresses and filters are not kept here.
    }
  }

  link(name: string): Link | undefined {
    const index = this.#linkByName.get(name);
    return index === undefined ? undefined : this.#links.get(index);
  }

  linkByIndex(index: number): Link | undefined {
    return this.#links.get(index);
  }

  links(): Iterable<Link> {
    return this.#links.values();
  }

  /** All routes of the main table to exactly `dst`. */
  routesTo(dst: string): readonly Route[] {
    return [...(this.#routes.get(dst)?.values() ?? [])];
  }

  /** Puts what a dump said of `dst` in the place of what was known of it. */
  #setRoutesTo(dst: string, routes: readonly Route[]): void {
    for (const route of this.routesTo(dst)) this.dropRoute(route);
    for (const route of routes) this.putRoute(route);
  }

  /**
   * True if two routes to `dst` are known with this metric. IPv6 may have both (`append`), or the later one has replaced the
   * earlier, of which the kernel sends no event: only a dump can tell.
   */
  isAmbiguous(dst: string, metric: number): boolean {
    return this.routesTo(dst).filter((route) => metricOf(route) === metric).length > 1;
  }

  *routes(): Iterable<Route> {
    for (const routes of this.#routes.values()) yield* routes.values();
  }

  neighbour(linkIndex: number, address: string): Neighbour | undefined {
    return this.#neighbours.get(linkIndex)?.get(address);
  }

  /** The permanent neighbours on one device. */
  neighboursOf(linkIndex: number): readonly Neighbour[] {
    return [...(this.#neighbours.get(linkIndex)?.values() ?? [])];
  }

  /** The route by which the kernel reaches another node's `address`, routes over other nodes aside: longest prefix, then lowest metric. */
  routeToNode(address: string): Route | undefined {
    const target = parseIp(address);
    let best: { readonly route: Route; readonly length: number } | undefined;
    for (const [dst, cidr] of this.#reaching) {
      if (!containsIp(cidr, target) || (best !== undefined && best.length >= cidr.prefix)) continue;
      const [route] = this.routesTo(dst)
        .filter(({ protocol }) => protocol !== BLOCK_PROTOCOL)
        .sort((a, b) => metricOf(a) - metricOf(b));
      if (route !== undefined) best = { route, length: cidr.prefix };
    }
    return best?.route;
  }

  putLink(link: Link): void {
    const before = this.#links.get(link.index);
    if (before !== undefined && before.name !== link.name) this.#linkByName.delete(before.name);
    const namesake = this.#linkByName.get(link.name);
    if (namesake !== undefined && namesake !== link.index) this.#dropLink(namesake); // It was deleted; its event is still to come.
    this.#links.set(link.index, link);
    this.#linkByName.set(link.name, link.index);
  }

  /** IPv4 holds one route for a destination and metric (but for `append`, which nobody uses there): the newer replaces the older. */
  putRoute(route: Route): void {
    if (route.table !== MAIN_TABLE) return;
    const routes = this.#routes.get(route.dst) ?? new Map<string, Route>();
    this.#routes.set(route.dst, routes);
    if (route.family === 4) {
      for (const [key, other] of routes) if (metricOf(other) === metricOf(route)) routes.delete(key);
    }
    routes.set(routeKey(route), route);
    this.#index(route.dst, routes);
  }

  dropRoute(route: Route): void {
    if (route.table !== MAIN_TABLE) return;
    const routes = this.#routes.get(route.dst);
    routes?.delete(routeKey(route));
    if (routes?.size === 0) this.#routes.delete(route.dst);
    this.#index(route.dst, routes);
  }

  /** Dynamic entries come and go by the thousand and concern nobody here: one that replaces a permanent one removes that. */
  putNeighbour(neighbour: Neighbour): void {
    if (neighbour.proxy) return;
    if (neighbour.state !== 'permanent') {
      this.dropNeighbour(neighbour.linkIndex, neighbour.address);
      return;
    }
    const onLink = this.#neighbours.get(neighbour.linkIndex) ?? new Map<string, Neighbour>();
    this.#neighbours.set(neighbour.linkIndex, onLink.set(neighbour.address, neighbour));
  }

  dropNeighbour(linkIndex: number, address: string): void {
    this.#neighbours.get(linkIndex)?.delete(address);
  }

  #index(dst: string, routes: ReadonlyMap<string, Route> | undefined): void {
    const reaches = [...(routes?.values() ?? [])].some(({ protocol }) => protocol !== BLOCK_PROTOCOL);
    if (!reaches) this.#reaching.delete(dst);
    else if (!this.#reaching.has(dst)) {
      const cidr = tryParseCidr(dst); // Undefined for IPv4 inside IPv6 (`::ffff:0.0.0.0/96`): no node has such an address.
      if (cidr !== undefined) this.#reaching.set(dst, cidr);
    }
  }

  #dropLink(index: number): void {
    const link = this.#links.get(index);
    if (link !== undefined && this.#linkByName.get(link.name) === index) this.#linkByName.delete(link.name);
    this.#links.delete(index);
    this.#forget(index);
  }

  #forget(linkIndex: number): void {
    for (const route of [...this.routes()]) if (route.linkIndex === linkIndex) this.dropRoute(route);
    this.#neighbours.delete(linkIndex);
  }
}

/** A route's metric as the kernel counts: IPv6 has 1024 where none was given. */
export const metricOf = ({ family, metric }: { readonly family: Family; readonly metric?: number }): number =>
  family === 6 && (metric ?? 0) === 0 ? 1024 : (metric ?? 0);

/**
 * What makes a route another one. Only a unicast route is by a device: the kernel hangs IPv6 blackholes on lo, whatever was asked for, so
 * that ours, as we wrote it, and its event would be two.
 */
const routeKey = (route: Route): string =>
  `${metricOf(route)} ${route.type} ${route.type === 'unicast' ? (route.linkIndex ?? 0) : 0} ${route.via ?? ''} ${route.protocol}`;
