import { withoutPrefix } from '#api/cidr.ts';
import type { Address, NetlinkEvent } from '#native/types.ts';
import type { CidrText, DataplaneUpdate, HostInfo, IpText } from '../messages.ts';
import type { HopWish } from './hops.ts';

/** What is used of `Hops`. */
export interface WayTable {
  set(owner: string, net: CidrText, wish: HopWish | undefined): void;
  setMasqueraded(nets: readonly CidrText[]): void;
}

/**
 * Which way packets go that aren't for this node's pods: the node's own addresses, pools, other nodes' blocks; and which pools masquerade. From what calc says and from
 * the addresses that the node's devices have. Remembers it all, for the table that it is told of later.
 */
export class Ways {
  /** By owner: networks and their wishes. */
  readonly #wishes = new Map<string, ReadonlyMap<CidrText, HopWish>>();
  /** Pools that masquerade, by id. */
  readonly #masqueraded = new Map<string, CidrText>();
  readonly #ofLinks = new Map<number, Set<IpText>>();
  readonly #nodeName: string;
  /** Followed while addresses are read. */
  #meanwhile: NetlinkEvent[] | undefined;
  #table: WayTable | undefined;
  #node: HostInfo = {};

  constructor(nodeName: string) {
    this.#nodeName = nodeName;
  }

  /** The table that all goes into from now on; undefined: it is gone. */
  useTable(table: WayTable | undefined): void {
    this.#table = table;
    if (table === undefined) return;
    table.setMasqueraded([...this.#masqueraded.values()]);
    for (const [owner, wishes] of this.#wishes) for (const [net, wish] of wishes) table.set(owner, net, wish);
  }

  /** This node's addresses, as calc says them. */
  get node(): HostInfo {
    return this.#node;
  }

  /** Records an update; what isn't about ways is passed over. */
  record(update: DataplaneUpdate): void {
    switch (update.type) {
      case 'poolUpdate':
        this.#wish(`pool ${update.id}`, [update.pool.cidr], 'pool');
        this.#masquerade(update.id, update.pool.masquerade ? update.pool.cidr : undefined);
        break;
      case 'poolRemove':
        this.#wish(`pool ${update.id}`, [], 'pool');
        this.#masquerade(update.id, undefined);
        break;
      case 'routeUpdate':
        // Our own blocks' addresses are pods' here, or nobody's, which the stack knows.
        this.#wish(`route ${update.route.dst}`, update.route.type === 'localBlock' ? [] : [update.route.dst], 'pool');
        break;
      case 'routeRemove':
        this.#wish(`route ${update.dst}`, [], 'pool');
        break;
      case 'serviceRangesUpdate':
        // By the stack, never past it: what netfilter translates, and what nobody has, which its rules keep from going round.
        this.#wish('services', update.cidrs, 'host');
        break;
      case 'hostUpdate':
        if (update.node === this.#nodeName) this.#setNode(update.host);
        break;
      case 'hostRemove':
        if (update.node === this.#nodeName) this.#setNode({});
        break;
      default:
        break;
    }
  }

  /** All addresses that devices have. What is followed meanwhile is newer than the dump. Rejects as `dump` does; then nothing has changed. */
  async read(dump: () => Promise<readonly Address[]>): Promise<void> {
    const events: NetlinkEvent[] = [];
    this.#meanwhile = events;
    try {
      const addresses = await dump();
      for (const index of [...this.#ofLinks.keys()]) this.#setLink(index, new Set());
      for (const address of addresses) this.#note(address, true);
      for (const event of events) this.#take(event);
    } finally {
      this.#meanwhile = undefined;
    }
  }

  /** Follows what the kernel says of addresses; true if it matters. */
  follow(event: NetlinkEvent): boolean {
    this.#meanwhile?.push(event);
    return this.#take(event);
  }

  #take(event: NetlinkEvent): boolean {
    switch (event.type) {
      case 'addr.new':
      case 'addr.del':
        return this.#note(event.address, event.type === 'addr.new');
      case 'link.del': {
        const had = this.#ofLinks.has(event.link.index);
        this.#setLink(event.link.index, new Set());
        return had;
      }
      default:
        return false;
    }
  }

  #masquerade(id: string, net: CidrText | undefined): void {
    if (this.#masqueraded.get(id) === net) return;
    if (net === undefined) this.#masqueraded.delete(id);
    else this.#masqueraded.set(id, net);
    this.#table?.setMasqueraded([...this.#masqueraded.values()]);
  }

  #setNode(host: HostInfo): void {
    this.#node = host;
    this.#wish('node', [host.ipv4, host.ipv6].filter((ip) => ip !== undefined).map(wholeNet), 'host');
  }

  /** Loopback's and link-local addresses are no way to anybody from a pod. */
  #note({ linkIndex, address, scope }: Address, isThere: boolean): boolean {
    if (scope !== 'global' && scope !== 'site') return false;
    const ip = withoutPrefix(address);
    const has = this.#ofLinks.get(linkIndex) ?? new Set();
    if (has.has(ip) === isThere) return false;
    const next = new Set(has);
    if (isThere) next.add(ip);
    else next.delete(ip);
    this.#setLink(linkIndex, next);
    return true;
  }

  #setLink(index: number, addresses: Set<IpText>): void {
    if (addresses.size === 0) this.#ofLinks.delete(index);
    else this.#ofLinks.set(index, addresses);
    this.#wish(`device ${index}`, [...addresses].map(wholeNet), 'host');
  }

  #wish(owner: string, nets: readonly CidrText[], kind: 'host' | 'pool'): void {
    const before = this.#wishes.get(owner);
    const now = new Map<CidrText, HopWish>(nets.map((net) => [net, { kind }]));
    if (now.size === 0) this.#wishes.delete(owner);
    else this.#wishes.set(owner, now);
    for (const [net, wish] of now) if (before?.has(net) !== true) this.#table?.set(owner, net, wish);
    for (const net of before?.keys() ?? []) if (!now.has(net)) this.#table?.set(owner, net, undefined);
  }
}

const wholeNet = (ip: IpText): CidrText => `${ip}/${ip.includes(':') ? 128 : 32}`;
