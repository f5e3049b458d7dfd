import { containsIp, familyOf, parseIp, tryParseCidr, withoutPrefix, type Cidr } from '#api/cidr.ts';
import type { Family, Netlink, OpResult, Route, RouteOp } from '#native/types.ts';
import type { ApplyFailure } from '../contract.ts';
import type { CidrText, DataplaneConfig, RouteInfo } from '../messages.ts';
import { HeardSince } from './heard-since.ts';
import { BLOCK_PROTOCOL, type KernelView, MAIN_TABLE, metricOf } from './kernel-view.ts';
import type { RouteWishes } from './route-wishes.ts';

/** RTPROT_KERNEL: what the kernel makes by itself, such as a device's fe80::/64. */
const KERNEL_PROTOCOL = 2;

/** A route that cannot be made, and why. */
class RouteProblem extends Error {}

/** What the configuration says of routes. */
export type RouteSettings = Pick<
  DataplaneConfig,
  | 'interfacePrefixes'
  | 'ipv6Support'
  | 'deviceRouteProtocol'
  | 'removeExternalRoutes'
  | 'routeMetricV4'
  | 'routeMetricV6'
>;

/** As FelixConfiguration has them by default. */
export const DEFAULT_ROUTE_SETTINGS: RouteSettings = {
  interfacePrefixes: ['cali'],
  ipv6Support: true,
  deviceRouteProtocol: 3,
  removeExternalRoutes: true,
  routeMetricV4: 1024,
  routeMetricV6: 1024,
};

interface PlannedOp {
  readonly op: RouteOp;
  readonly route: Route;
  /** The route that goes by `route.replace`; the kernel says nothing of it. */
  readonly replaces?: Route;
}

/**
 * Keeps the routes of the main table as wanted. Ours are: protocol 80 anywhere; on pod devices the configured protocol and, unless
 * removeExternalRoutes is off, every other but the kernel's own. A destination is looked at when its wish or its kernel state changed;
 * nothing is removed before `allowRemoval`. A route that isn't ours is never replaced: the failure names it.
 */
export class RouteSync {
  readonly #host: Netlink;
  readonly #view: KernelView;
  readonly #wishes: RouteWishes;
  readonly #dirty = new Set<CidrText>();
  /** Destinations that were right when last looked at: if one is wrong now and its wish didn't change, somebody else did it. */
  readonly #right = new Set<CidrText>();
  /** How each node is reached, until a route that isn't ours changes. */
  readonly #toNodes = new Map<string, Route | undefined>();
  /** Destinations whose wish changed while a cycle runs: what it says of them is out of date. */
  readonly #changed = new Set<CidrText>();
  readonly #heard = new HeardSince();
  #config: RouteSettings | undefined;
  #mayRemove = false;

  constructor(host: Netlink, view: KernelView, wishes: RouteWishes) {
    this.#host = host;
    this.#view = view;
    this.#wishes = wishes;
  }

  setConfig(config: RouteSettings): void {
    this.#config = config;
    for (const dst of this.#wishes.destinations()) this.wishChanged(dst);
  }

  allowRemoval(): void {
    this.#mayRemove = true;
    this.lookAtAll();
  }

  /** Somebody wants this destination otherwise now. */
  wishChanged(dst: CidrText): void {
    this.#changed.add(dst);
    this.startOver(dst);
  }

  /** The device of this destination is gone: what will be written on its successor repairs nothing. */
  startOver(dst: CidrText): void {
    this.#right.delete(dst);
    this.#dirty.add(dst);
  }

  /** The kernel's side of this destination changed. */
  lookAt(dst: CidrText): void {
    this.#dirty.add(dst);
  }

  /** The next cycle looks at every wanted destination and at everything of ours that the kernel has. */
  lookAtAll(): void {
    this.#toNodes.clear();
    for (const dst of this.#wishes.destinations()) this.#dirty.add(dst);
    for (const route of this.#view.routes()) if (this.#isOurs(route)) this.#dirty.add(route.dst);
  }

  /** The kernel's routes to `dst` changed. True if they are not as wanted: a cycle is due. Devices of unknown pods wait for `lookAtAll`. */
  kernelChanged(route: Route): boolean {
    const { dst } = route;
    if (route.table === MAIN_TABLE) this.#heard.hear(placeOf(route));
    const isOurs = this.#isOurs(route);
    if (!isOurs) this.#toNodes.clear();
    const affected = isOurs ? [] : this.#overNodesWithin(dst);
    for (const other of affected) this.#dirty.add(other);
    const isWanted = this.#wishes.winner(dst) !== undefined;
    const link = route.linkIndex === undefined ? undefined : this.#view.linkByIndex(route.linkIndex);
    const isKnownPods = link !== undefined && this.#wishes.idOf(link.name) !== undefined;
    if (isWanted || isKnownPods || route.protocol === BLOCK_PROTOCOL) {
      if (this.#isRight(dst)) return affected.length > 0;
      this.#dirty.add(dst);
      return true;
    }
    return affected.length > 0;
  }

  /** A device other than a pod's changed: routes over other nodes may run over it. */
  uplinkChanged(): boolean {
    this.#toNodes.clear();
    let any = false;
    for (const { dst } of this.#wishes.overNodes()) {
      this.#dirty.add(dst);
      any = true;
    }
    return any;
  }

  /** Looks at what is dirty, makes it right and reports; a destination that failed stays dirty. What changes meanwhile is the next call's. */
  async apply(): Promise<{ failed: Map<CidrText, ApplyFailure>; repaired: string[] }> {
    const failed = new Map<CidrText, ApplyFailure>();
    const repaired: string[] = [];
    const dsts = [...this.#dirty];
    this.#dirty.clear();
    this.#changed.clear();
    try {
      await this.#makeRight(dsts, failed, repaired);
    } catch (error) {
      for (const dst of dsts) this.#dirty.add(dst);
      throw error;
    }
    for (const dst of failed.keys()) {
      this.#dirty.add(dst);
      if (this.#changed.has(dst)) failed.delete(dst);
    }
    return { failed, repaired };
  }

  async #makeRight(dsts: readonly CidrText[], failed: Map<CidrText, ApplyFailure>, repaired: string[]): Promise<void> {
    await this.#view.readRoutesTo(
      this.#host,
      dsts.filter((dst) => this.#isAmbiguous(dst)),
    );
    const stale = await this.#pass(dsts, failed, repaired);
    if (stale.length > 0) {
      // The kernel has something to these destinations that the view doesn't know yet: its event is still on the way.
      await this.#view.readRoutesTo(this.#host, stale);
      for (const dst of await this.#pass(stale, failed, repaired)) {
        failed.set(dst, {
          object: `route ${dst}`,
          reason: 'the kernel says that the route exists, but does not list it; trying again',
        });
      }
    }
  }

  /** True if the view can't tell which route the kernel has to a wanted destination. What nobody wants is removed whichever it is. */
  #isAmbiguous(dst: CidrText): boolean {
    const wanted = this.#wishes.winner(dst) !== undefined;
    return (
      wanted && this.#config !== undefined && this.#view.isAmbiguous(dst, this.#metric(familyOf(dst), this.#config))
    );
  }

  #metric(family: Family, config: RouteSettings): number {
    return metricOf({ family, metric: family === 4 ? config.routeMetricV4 : config.routeMetricV6 });
  }

  /** One round of ops for these destinations. Returns those where the kernel had a route that the view doesn't. */
  async #pass(dsts: readonly CidrText[], failed: Map<CidrText, ApplyFailure>, repaired: string[]): Promise<CidrText[]> {
    const ops: (PlannedOp & { readonly dst: CidrText })[] = [];
    const wrong = new Set<CidrText>();
    for (const dst of dsts) {
      const { ops: planned, problem } = this.#plan(dst);
      if (planned.length > 0) wrong.add(dst);
      ops.push(...planned.map((op) => ({ dst, ...op })));
      if (problem !== undefined) {
        this.#right.delete(dst);
        failed.set(dst, { object: `route ${dst}`, reason: problem });
      } else if (planned.length === 0) {
        this.#done(dst);
      }
    }
    if (ops.length === 0) return [];
    const stale = await this.#heard.during(() => this.#send(ops, failed));
    for (const dst of wrong) {
      if (stale.has(dst) || failed.has(dst)) continue;
      if (this.#right.has(dst)) repaired.push(`route ${dst} had been changed`); // Not if its wish changed meanwhile.
      this.#done(dst);
    }
    return [...stale];
  }

  /** Does these and remembers what came of them. Returns destinations where the kernel had a route that the view doesn't. */
  async #send(
    ops: readonly (PlannedOp & { readonly dst: CidrText })[],
    failed: Map<CidrText, ApplyFailure>,
  ): Promise<ReadonlySet<CidrText>> {
    const stale = new Set<CidrText>();
    const results = await this.#host.batch(ops.map(({ op }) => op));
    for (const [index, { dst, op, route, replaces }] of ops.entries()) {
      const result = results[index] as OpResult;
      const isGone = op.op === 'route.del' && !result.ok && ['ESRCH', 'ENODEV', 'ENOENT'].includes(result.error.code);
      if (result.ok || isGone) {
        // What somebody did right behind it may have been heard of before its answer.
        if (result.ok && this.#heard.has(placeOf(route))) continue;
        if (replaces !== undefined) this.#view.dropRoute(replaces);
        if (op.op === 'route.del') this.#view.dropRoute(route);
        else this.#view.putRoute(route);
      } else if (op.op === 'route.add' && result.error.code === 'EEXIST') {
        stale.add(dst);
      } else {
        failed.set(dst, { object: `route ${dst}`, reason: result.error.message });
      }
    }
    return stale;
  }

  #done(dst: CidrText): void {
    if (this.#changed.has(dst)) return;
    if (this.#wishes.winner(dst) === undefined) this.#right.delete(dst);
    else this.#right.add(dst);
  }

  #isRight(dst: CidrText): boolean {
    if (this.#isAmbiguous(dst)) return false;
    const { ops, problem } = this.#plan(dst);
    return ops.length === 0 && problem === undefined;
  }

  /** What must be done for one destination, additions before removals, and what keeps it from becoming right. */
  #plan(dst: CidrText): { readonly ops: readonly PlannedOp[]; readonly problem?: string } {
    const present = this.#view.routesTo(dst);
    try {
      const wanted = this.#wanted(dst);
      const right = wanted === undefined ? undefined : present.find((route) => isSame(route, wanted));
      if (wanted === undefined || right !== undefined) return { ops: this.#removals(present, right) };
      const replaced = present.find((route) => metricOf(route) === metricOf(wanted));
      if (replaced === undefined) {
        return { ops: [{ op: toOp('route.add', wanted), route: wanted }, ...this.#removals(present)] };
      }
      if (!this.#isOurs(replaced)) {
        throw new RouteProblem(
          `there is a route that is not ours: ${this.#describe(replaced)}; remove it, or the pod's address from elsewhere`,
        );
      }
      const replace = { op: toOp('route.replace', wanted), route: wanted, replaces: replaced };
      return { ops: [replace, ...this.#removals(present, replaced)] };
    } catch (error) {
      if (!(error instanceof RouteProblem)) throw error;
      // What leads a pod's packets to another device must go; another node's block may still be reached as it was.
      const isPods = this.#wishes.winner(dst)?.kind === 'pod';
      return { ops: isPods ? this.#removals(present) : [], problem: error.message };
    }
  }

  /** Removals of all of ours but `keep`. */
  #removals(present: readonly Route[], keep?: Route): PlannedOp[] {
    if (!this.#mayRemove) return [];
    return present
      .filter((route) => route !== keep && this.#isOurs(route))
      .map((route) => ({ op: toOp('route.del', route), route }));
  }

  /** The route that `dst` should have; undefined: none. */
  #wanted(dst: CidrText): Route | undefined {
    const config = this.#config;
    const claim = this.#wishes.winner(dst);
    if (claim === undefined || config === undefined) return undefined;
    const family = familyOf(dst);
    if (family === 6 && !config.ipv6Support) return undefined;
    const common = {
      family,
      dst,
      table: MAIN_TABLE,
      onlink: false,
      multipath: false,
      metric: this.#metric(family, config),
    };
    if (claim.kind === 'pod') {
      const link = this.#podLink(claim.ifaceName);
      return {
        ...common,
        type: 'unicast',
        protocol: config.deviceRouteProtocol,
        linkIndex: link,
        scope: family === 4 ? 'link' : 'global',
      };
    }
    const { route } = claim;
    if (route.type === 'localBlock') return { ...common, type: 'blackhole', protocol: BLOCK_PROTOCOL, scope: 'global' };
    if (route.nodeIp === undefined) throw new RouteProblem(`node ${route.nodeName} has no IPv${family} address`);
    return {
      ...common,
      type: 'unicast',
      protocol: BLOCK_PROTOCOL,
      scope: 'global',
      via: route.nodeIp,
      linkIndex: this.#deviceTo(route, route.nodeIp),
    };
  }

  #podLink(ifaceName: string): number {
    let link = this.#view.link(ifaceName);
    if (link === undefined) {
      link = this.#host.link(ifaceName); // Made a moment ago: its event is still on the way.
      if (link !== undefined) this.#view.putLink(link);
    }
    if (link === undefined) throw new RouteProblem(`device ${ifaceName} does not exist`);
    if (!link.up) throw new RouteProblem(`device ${ifaceName} is down`);
    return link.index;
  }

  /** The device on whose subnet the other node is. */
  #deviceTo({ nodeName }: RouteInfo, nodeIp: string): number {
    const best = this.#routeToNode(nodeIp);
    if (best === undefined) throw new RouteProblem(`there is no route to node ${nodeName} (${nodeIp})`);
    if (best.type !== 'unicast' || best.via !== undefined || best.multipath || best.linkIndex === undefined) {
      throw new RouteProblem(
        `node ${nodeName} (${nodeIp}) is not in a shared subnet (it is reached by ${this.#describe(best)}); VXLAN is not there yet`,
      );
    }
    return best.linkIndex;
  }

  #routeToNode(nodeIp: string): Route | undefined {
    if (!this.#toNodes.has(nodeIp)) this.#toNodes.set(nodeIp, this.#view.routeToNode(nodeIp));
    return this.#toNodes.get(nodeIp);
  }

  #isOurs(route: Route): boolean {
    if (route.table !== MAIN_TABLE || this.#config === undefined) return false;
    if (route.protocol === BLOCK_PROTOCOL) return true;
    const name = route.linkIndex === undefined ? undefined : this.#view.linkByIndex(route.linkIndex)?.name;
    if (name === undefined || !this.#config.interfacePrefixes.some((prefix) => name.startsWith(prefix))) return false;
    if (route.protocol === this.#config.deviceRouteProtocol) return true;
    return this.#config.removeExternalRoutes && route.protocol !== KERNEL_PROTOCOL;
  }

  /** Wanted destinations over nodes whose address is inside `dst`. Each change of the kernel's asks, so nothing is parsed that need not be. */
  #overNodesWithin(dst: CidrText): CidrText[] {
    const family = familyOf(dst);
    let cidr: Cidr | undefined;
    const affected: CidrText[] = [];
    for (const { nodeIp, dst: wanted } of this.#wishes.overNodes()) {
      if (nodeIp === undefined || familyOf(nodeIp) !== family) continue;
      cidr ??= tryParseCidr(dst);
      if (cidr === undefined) return []; // IPv4 inside IPv6: no node has such an address.
      // A pod's, nearly always; an IPv4 address has one text.
      const isOneIpv4 = cidr.family === 4 && cidr.prefix === 32;
      const isWithin = isOneIpv4 ? nodeIp === withoutPrefix(dst) : containsIp(cidr, parseIp(nodeIp));
      if (isWithin) affected.push(wanted);
    }
    return affected;
  }

  #describe(route: Route): string {
    const device =
      route.linkIndex === undefined
        ? undefined
        : (this.#view.linkByIndex(route.linkIndex)?.name ?? String(route.linkIndex));
    return [
      ...(route.type === 'unicast' ? [] : [route.type]),
      route.dst,
      ...(route.via === undefined ? [] : ['via', route.via]),
      ...(device === undefined ? [] : ['dev', device]),
      `proto ${route.protocol} metric ${metricOf(route)}`,
    ].join(' ');
  }
}

/** The kernel has one route in such a place; of IPv6 several, which are one multipath route. */
function placeOf(route: Route): string {
  return `${route.dst} ${metricOf(route)}`;
}

/** Equal in all that a packet or another program would see. IPv6 has no scope, and hangs a blackhole on the loopback device. */
function isSame(present: Route, wanted: Route): boolean {
  return (
    present.type === wanted.type &&
    present.protocol === wanted.protocol &&
    metricOf(present) === metricOf(wanted) &&
    !present.multipath &&
    present.via === wanted.via &&
    (wanted.type === 'blackhole' || present.linkIndex === wanted.linkIndex) &&
    (wanted.family === 6 || present.scope === wanted.scope)
  );
}

function toOp(op: RouteOp['op'], route: Route): RouteOp {
  const type = route.type as NonNullable<RouteOp['type']>;
  const { dst, family, table, protocol, via } = route;
  const withLink = type === 'unicast' && route.linkIndex !== undefined && !route.multipath;
  return {
    op,
    dst,
    family,
    table,
    protocol,
    type,
    metric: metricOf(route),
    ...(withLink ? { link: route.linkIndex } : {}),
    ...(via === undefined ? {} : { via }),
    ...(route.scope === 'global' || route.scope === 'link' || route.scope === 'host' ? { scope: route.scope } : {}),
  };
}
