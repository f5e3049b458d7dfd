import { withoutPrefix } from '#api/cidr.ts';
import type { Clock } from '#api/clock.ts';
import type { Link, MonitorGroup, Netlink, NetlinkEvent } from '#native/types.ts';
import type { Logger } from '../../logger.ts';
import type { IpText } from '../../messages.ts';
import type { HostEndpointInfo } from '../../policy.ts';
import { type Monitor, MonitorFollower } from '../../shared/monitor-follower.ts';
import { flowConstants } from '../bpf-types.gen.ts';
import { macBytes } from '../keys.ts';
import type { HostSlotDevice } from './host-slots.ts';

/** Pause before a monitor that broke is opened again. */
const REOPEN_MS = 1_000;
const LINK_GROUPS = ['link', 'addr4', 'addr6', 'tc'] as const satisfies readonly MonitorGroup[];
const ALL_GROUPS = [...LINK_GROUPS, 'route4', 'route6'] as const satisfies readonly MonitorGroup[];

export interface HostDeviceDeps {
  readonly host: Pick<Netlink, 'links' | 'addresses' | 'routes'>;
  /** Opens a monitor of these groups. */
  readonly openMonitor: (groups: readonly MonitorGroup[]) => Monitor;
  readonly clock: Clock;
  readonly log: Logger;
}

/** A device, and the host endpoint that stands for it. */
export interface HostDevice {
  readonly ifindex: number;
  readonly name: string;
  readonly device: HostSlotDevice;
  /** Undefined: no host endpoint has it, but the node forwards by it. */
  readonly endpoint: string | undefined;
}

/** What is known of a device. */
interface Known {
  name: string;
  /** Of an Ethernet device; tunnels have no hardware address, or an IP address for one. */
  mac: string | undefined;
  readonly addresses: Set<IpText>;
  /** Unicast routes that leave by it, as far as counted. */
  routes: number;
}

/**
 * The devices of the node that host endpoints stand for, as they are at the moment: the one that a host endpoint names; those that have one of its
 * `expectedIps`; for `*` every other device by which a route leaves, or that has an address (routes with several next hops name no device), but
 * pods' and `lo`. Where two stand for one device the first by name has it, and `*` comes last. Links, addresses and routes are followed
 * only as far as some host endpoint needs them: without one nothing is read and no socket is open.
 */
export class HostDevices implements Disposable {
  readonly #deps: HostDeviceDeps;
  readonly #onEvent: (event: NetlinkEvent, isChange: boolean) => void;
  readonly #follower: MonitorFollower;
  readonly #endpoints = new Map<string, HostEndpointInfo>();
  readonly #known = new Map<number, Known>();
  #prefixes: readonly string[] = ['cali'];
  /** Devices are needed by which the node forwards, whoever has them. */
  #needsForwarding = false;
  /** Events that come while the dumps are under way. */
  #pending: NetlinkEvent[] | undefined;
  #groups: readonly MonitorGroup[] = LINK_GROUPS;
  #isRead = false;
  #reopen: Disposable | undefined;

  /** `onEvent` is told of every event while devices are followed, and whether `resolve` may answer otherwise now. */
  constructor(deps: HostDeviceDeps, onEvent: (event: NetlinkEvent, isChange: boolean) => void) {
    this.#deps = deps;
    this.#onEvent = onEvent;
    this.#follower = new MonitorFollower(
      () => deps.openMonitor(this.#groups),
      (event) => this.#take(event),
      (reason) => this.#lost(reason),
    );
  }

  /** Announces, replaces or (undefined) removes a host endpoint. */
  set(id: string, endpoint: HostEndpointInfo | undefined): void {
    if (endpoint === undefined) this.#endpoints.delete(id);
    else this.#endpoints.set(id, endpoint);
  }

  /** What pods' devices are called. */
  setPrefixes(prefixes: readonly string[]): void {
    if (prefixes.join() !== this.#prefixes.join()) this.#isRead = false; // What was a pod's is not known.
    this.#prefixes = prefixes;
  }

  /** Whether devices by which the node forwards are listed, too. */
  setForwarding(isNeeded: boolean): void {
    this.#needsForwarding = isNeeded;
  }

  /** All is read anew by the next `resolve`. */
  requestResync(): void {
    this.#isRead = false;
  }

  /** The host endpoint that stands for `*`; undefined: none. */
  get everywhere(): string | undefined {
    return this.#sorted().find(([, { ifaceName }]) => ifaceName === '*')?.[0];
  }

  /** The devices now, by ifindex. Throws what netlink says; then nothing is known. */
  async resolve(): Promise<readonly HostDevice[]> {
    if (this.#endpoints.size === 0) {
      this.#stop();
      return [];
    }
    await this.#read();
    const owners = new Map<number, string>();
    for (const [id, endpoint] of this.#sorted()) {
      for (const [ifindex, device] of this.#known) {
        if (!owners.has(ifindex) && standsFor(endpoint, device)) owners.set(ifindex, id);
      }
    }
    const { everywhere } = this;
    const devices: HostDevice[] = [];
    for (const [ifindex, device] of this.#known) {
      const endpoint = owners.get(ifindex) ?? (this.#isUplink(device) ? everywhere : undefined);
      if (endpoint === undefined && !(this.#needsForwarding && this.#isUplink(device))) continue;
      devices.push({
        ifindex,
        name: device.name,
        device: slotDevice(device.mac),
        endpoint,
      });
    }
    return devices.sort((a, b) => a.ifindex - b.ifindex);
  }

  [Symbol.dispose](): void {
    this.#stop();
  }

  get #needsRoutes(): boolean {
    return this.#needsForwarding || this.everywhere !== undefined;
  }

  #sorted(): readonly (readonly [string, HostEndpointInfo])[] {
    return [...this.#endpoints].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  #isUplink({ name, addresses, routes }: Known): boolean {
    return name !== 'lo' && !this.#isPods(name) && (routes > 0 || addresses.size > 0);
  }

  #isPods(name: string): boolean {
    return this.#prefixes.some((prefix) => name.startsWith(prefix));
  }

  /** The monitor before the dumps: what happens meanwhile comes as events, after them. */
  async #read(): Promise<void> {
    const groups = this.#needsRoutes ? ALL_GROUPS : LINK_GROUPS;
    if (groups !== this.#groups) this.#stop();
    this.#groups = groups;
    this.#follower.start();
    if (this.#isRead) return;
    this.#isRead = true;
    const events: NetlinkEvent[] = [];
    this.#pending = events;
    const { host } = this.#deps;
    try {
      const [links, addresses, routes] = await Promise.all([
        host.links(),
        host.addresses(),
        this.#needsRoutes ? host.routes() : [],
      ]);
      this.#known.clear();
      for (const link of links) this.#noteLink(link);
      for (const { linkIndex, address } of addresses) this.#known.get(linkIndex)?.addresses.add(withoutPrefix(address));
      for (const { linkIndex, type } of routes) this.#count(linkIndex, type, 1);
      for (const event of events) this.#follow(event);
    } catch (error) {
      this.#isRead = false;
      throw error;
    } finally {
      this.#pending = undefined;
    }
  }

  #take(event: NetlinkEvent): void {
    if (event.type === 'overrun') this.#isRead = false;
    if (this.#pending !== undefined && event.type !== 'overrun') this.#pending.push(event);
    else this.#onEvent(event, event.type === 'overrun' || this.#follow(event));
  }

  /** True if it may matter to a host endpoint. */
  #follow(event: NetlinkEvent): boolean {
    switch (event.type) {
      case 'link.new':
        return this.#noteLink(event.link);
      case 'link.del':
        return this.#known.delete(event.link.index);
      case 'addr.new':
      case 'addr.del': {
        const addresses = this.#known.get(event.address.linkIndex)?.addresses;
        const address = withoutPrefix(event.address.address);
        if (addresses === undefined || addresses.has(address) === (event.type === 'addr.new')) return false;
        if (event.type === 'addr.new') addresses.add(address);
        else addresses.delete(address);
        return true;
      }
      case 'route.new':
      case 'route.del':
        return this.#count(event.route.linkIndex, event.route.type, event.type === 'route.new' ? 1 : -1);
      default:
        return false;
    }
  }

  /** Pods' devices aren't kept: they may be many, and no host endpoint is for them. True if it may matter. */
  #noteLink({ index, name, up, mac }: Link): boolean {
    if (this.#isPods(name)) return this.#known.delete(index);
    const known = this.#known.get(index);
    const ethernet = mac?.split(':').length === 6 ? mac : undefined;
    if (known === undefined) {
      this.#known.set(index, { name, mac: ethernet, addresses: new Set(), routes: 0 });
      return [...this.#endpoints.values()].some(({ ifaceName }) => ifaceName === name);
    }
    const isAnother = known.name !== name || known.mac !== ethernet;
    known.mac = ethernet;
    known.name = name;
    // The kernel takes the routes of a device that goes down without saying so for each.
    const isShut = !up && known.routes > 0;
    if (isShut) this.#isRead = false;
    return isAnother || isShut;
  }

  /** A route that is replaced counts twice: before the last one seems to go, all are counted anew. */
  #count(ifindex: number | undefined, type: string, by: 1 | -1): boolean {
    const known = ifindex === undefined || type !== 'unicast' ? undefined : this.#known.get(ifindex);
    if (known === undefined) return false;
    const before = known.routes;
    known.routes = Math.max(0, before + by);
    if (known.routes === 0) this.#isRead = false;
    return (before === 0) !== (known.routes === 0);
  }

  #lost(reason: string): void {
    this.#deps.log.warn('the monitor of links, addresses and routes broke; it is opened again', { reason });
    this.#reopen?.[Symbol.dispose]();
    this.#reopen = this.#deps.clock.after(REOPEN_MS, () => {
      this.#isRead = false;
      this.#onEvent({ type: 'overrun' }, true);
    });
  }

  #stop(): void {
    this.#follower.stop();
    this.#reopen?.[Symbol.dispose]();
    this.#isRead = false;
    this.#known.clear();
  }
}

const slotDevice = (mac: string | undefined): HostSlotDevice =>
  mac === undefined
    ? { flags: flowConstants.hostWithoutEthernet, mac: new Uint8Array(6) }
    : { flags: 0, mac: macBytes(mac) };

function standsFor({ ifaceName, expectedIps }: HostEndpointInfo, { name, addresses }: Known): boolean {
  if (ifaceName !== undefined) return ifaceName === name;
  return expectedIps.some((ip) => addresses.has(ip));
}
