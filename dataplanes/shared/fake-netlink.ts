import { familyOf } from '#api/cidr.ts';
import type {
  Address,
  Family,
  Link,
  LinkRef,
  Neighbour,
  NeighOp,
  Netlink,
  NetlinkEvent,
  NetlinkFailure,
  NetlinkOp,
  OpResult,
  Route,
  RouteOp,
} from '#native/types.ts';
import { metricOf } from './kernel-view.ts';
import type { Monitor } from './monitor-follower.ts';

/**
 * A namespace's links, routes and neighbours in memory, for tests, with the kernel's manners as far as this folder depends on them: EEXIST
 * for a second route of one destination and metric, ESRCH, ENODEV, ENETDOWN; IPv4 routes go silently when their device does, replaced ones
 * always; IPv6 blackholes hang on lo. Monitors
 * get an event for every change, delivered when the test awaits.
 */
export class FakeNetlink implements Netlink {
  readonly #links = new Map<number, Link>();
  #routes: Route[] = [];
  readonly #neighbours = new Map<string, Neighbour>();
  readonly #monitors = new Map<(event: NetlinkEvent) => void, (reason: string) => void>();
  #nextIndex = 1;
  /** Runs once, before the next batch, as another program that acts at the same moment. */
  beforeBatch: (() => void) | undefined;
  /** Runs once, after the next batch was done and before its answer arrives. */
  duringBatch: (() => Promise<void>) | undefined;
  /** Runs once, after the next dump of routes was made and before its answer arrives. */
  duringDump: (() => Promise<void>) | undefined;
  /** How many batches, ops and dumps were asked for. */
  readonly counts = { batches: 0, ops: 0, dumps: 0 };

  constructor() {
    this.addLink('lo');
  }

  addLink(name: string, up = true): number {
    const index = this.#nextIndex;
    this.#nextIndex += 1;
    this.#putLink({ index, name, group: 0, mtu: 1500, up, running: up });
    return index;
  }

  /** As `ip link set`: going down drops the device's routes and neighbours. */
  setUp(name: string, up: boolean): void {
    const link = this.link(name);
    if (link === undefined) throw new Error(`no link ${name}`);
    if (!up) this.#forget(link.index);
    this.#putLink({ ...link, up, running: up });
  }

  delLink(name: string): void {
    const link = this.link(name);
    if (link === undefined) return;
    this.#forget(link.index);
    this.#links.delete(link.index);
    this.#emit({ type: 'link.del', link });
  }

  /** The whole state as sorted text. */
  dump(): string[] {
    const device = (index: number | undefined): string =>
      index === undefined ? '' : ` dev ${this.#links.get(index)?.name ?? '?'}`;
    return [
      ...this.#routes.map(
        (r) =>
          `${r.type} ${r.dst}${r.via === undefined ? '' : ` via ${r.via}`}${device(r.linkIndex)} proto ${r.protocol} metric ${metricOf(r)}`,
      ),
      ...[...this.#neighbours.values()].map(
        (n) => `neigh ${n.address}${device(n.linkIndex)} ${n.mac ?? ''} ${n.state}`,
      ),
    ].sort();
  }

  /** A monitor of this namespace. */
  monitor(): Monitor {
    const queue: NetlinkEvent[] = [];
    let wake = Promise.withResolvers<void>();
    let closed = false;
    let broken: string | undefined;
    const push = (event: NetlinkEvent): void => {
      queue.push(event);
      wake.resolve();
    };
    this.#monitors.set(push, (reason) => {
      broken = reason;
      close();
    });
    const close = (): void => {
      closed = true;
      this.#monitors.delete(push);
      wake.resolve();
    };
    return {
      async *[Symbol.asyncIterator]() {
        for (;;) {
          for (let event = queue.shift(); event !== undefined; event = queue.shift()) yield event;
          if (broken !== undefined) throw new Error(broken);
          if (closed) return;
          await wake.promise;
          wake = Promise.withResolvers<void>();
        }
      },
      [Symbol.dispose]: close,
    };
  }

  /** Ends all monitors with an error; they are told nothing more. */
  breakMonitors(reason: string): void {
    for (const stop of this.#monitors.values()) stop(reason);
  }

  /** What the kernel says when a monitor's buffer was full. */
  overrun(): void {
    this.#emit({ type: 'overrun' });
  }

  batchSync(ops: readonly NetlinkOp[]): readonly OpResult[] {
    this.counts.batches += 1;
    this.counts.ops += ops.length;
    return ops.map((op): OpResult => {
      try {
        this.#carryOut(op);
        return { ok: true };
      } catch (error) {
        return { ok: false, error: error as Error & NetlinkFailure };
      }
    });
  }

  async batch(ops: readonly NetlinkOp[]): Promise<readonly OpResult[]> {
    const { beforeBatch, duringBatch } = this;
    this.beforeBatch = undefined;
    beforeBatch?.();
    const results = this.batchSync(ops);
    this.duringBatch = undefined;
    await duringBatch?.();
    return results;
  }

  runSync(ops: readonly NetlinkOp[]): void {
    for (const result of this.batchSync(ops)) if (!result.ok) throw result.error;
  }

  run(ops: readonly NetlinkOp[]): Promise<void> {
    this.runSync(ops);
    return Promise.resolve();
  }

  link(ref: LinkRef): Link | undefined {
    return typeof ref === 'number' ? this.#links.get(ref) : [...this.#links.values()].find(({ name }) => name === ref);
  }

  links(): Promise<readonly Link[]> {
    this.counts.dumps += 1;
    return Promise.resolve([...this.#links.values()]);
  }

  addresses(): Promise<readonly Address[]> {
    return Promise.resolve([]);
  }

  async routes(filter: { readonly family?: Family } = {}): Promise<readonly Route[]> {
    this.counts.dumps += 1;
    const routes = this.#routes.filter(({ family }) => filter.family === undefined || family === filter.family);
    const during = this.duringDump;
    this.duringDump = undefined;
    await during?.();
    return routes;
  }

  neighbours(filter: { readonly family?: Family } = {}): Promise<readonly Neighbour[]> {
    this.counts.dumps += 1;
    return Promise.resolve(
      [...this.#neighbours.values()].filter(({ family }) => filter.family === undefined || family === filter.family),
    );
  }

  filters(): Promise<readonly never[]> {
    return Promise.resolve([]);
  }

  filtersSync(): readonly never[] {
    return [];
  }

  qdiscs(): Promise<readonly never[]> {
    return Promise.resolve([]);
  }

  hasClsact(): Promise<boolean> {
    return Promise.resolve(false);
  }

  [Symbol.dispose](): void {}

  #carryOut(op: NetlinkOp): void {
    if (op.op === 'route.add' || op.op === 'route.replace' || op.op === 'route.del') this.#route(op);
    else if (op.op === 'neigh.replace' || op.op === 'neigh.del') this.#neigh(op);
    else throw failure('EOPNOTSUPP', op.op);
  }

  #route(op: RouteOp): void {
    const what = `${op.op} ${op.dst}`;
    const family = op.family ?? familyOf(op.dst);
    const isUnicast = (op.type ?? 'unicast') === 'unicast';
    const linkIndex =
      op.link !== undefined
        ? this.link(op.link)?.index
        : family === 6 && !isUnicast
          ? this.link('lo')?.index
          : undefined;
    if (op.link !== undefined && linkIndex === undefined) throw failure('ENODEV', what);
    if (op.op !== 'route.del' && linkIndex !== undefined && this.#links.get(linkIndex)?.up !== true)
      throw failure('ENETDOWN', what);
    const route: Route = {
      family,
      dst: op.dst,
      table: op.table ?? 254,
      protocol: op.protocol ?? 4,
      scope: op.scope ?? 'global',
      type: op.type ?? 'unicast',
      onlink: false,
      multipath: false,
      ...(linkIndex === undefined ? {} : { linkIndex }),
      ...(op.via === undefined ? {} : { via: op.via }),
      ...(op.metric === undefined ? {} : { metric: op.metric }),
    };
    const same = this.#routes.find((other) => other.dst === route.dst && metricOf(other) === metricOf(route));
    if (op.op === 'route.del') {
      if (same === undefined || (op.link !== undefined && same.linkIndex !== linkIndex)) throw failure('ESRCH', what);
      this.#routes = this.#routes.filter((other) => other !== same);
      this.#emit({ type: 'route.del', route: same });
      return;
    }
    if (same !== undefined && op.op === 'route.add') throw failure('EEXIST', what);
    this.#routes = [...this.#routes.filter((other) => other !== same), route];
    this.#emit({ type: 'route.new', route });
  }

  #neigh(op: NeighOp): void {
    const linkIndex = this.link(op.link)?.index;
    if (linkIndex === undefined) throw failure('ENODEV', `${op.op} ${op.address}`);
    const key = `${linkIndex} ${op.address}`;
    if (op.op === 'neigh.del') {
      const neighbour = this.#neighbours.get(key);
      if (neighbour === undefined) throw failure('ENOENT', `${op.op} ${op.address}`);
      this.#neighbours.delete(key);
      this.#emit({ type: 'neigh.del', neighbour });
      return;
    }
    const neighbour: Neighbour = {
      family: familyOf(op.address),
      linkIndex,
      address: op.address,
      state: op.state ?? 'permanent',
      proxy: false,
      ...(op.mac === undefined ? {} : { mac: op.mac }),
    };
    this.#neighbours.set(key, neighbour);
    this.#emit({ type: 'neigh.new', neighbour });
  }

  #putLink(link: Link): void {
    this.#links.set(link.index, link);
    this.#emit({ type: 'link.new', link });
  }

  #forget(linkIndex: number): void {
    const gone = this.#routes.filter((route) => route.linkIndex === linkIndex);
    this.#routes = this.#routes.filter((route) => route.linkIndex !== linkIndex);
    for (const route of gone) if (route.family === 6) this.#emit({ type: 'route.del', route });
    for (const [key, neighbour] of this.#neighbours)
      if (neighbour.linkIndex === linkIndex) this.#neighbours.delete(key);
  }

  #emit(event: NetlinkEvent): void {
    for (const push of this.#monitors.keys()) push(event);
  }
}

const failure = (code: string, object: string): Error & NetlinkFailure =>
  Object.assign(new Error(`${object}: ${code}`), { code, errno: 0, syscall: 'sendmsg', object });
