import type { Clock } from '#api/clock.ts';
import { messageOf } from '#api/errors.ts';
import type { MonitorGroup, Netlink, NetlinkEvent } from '#native/types.ts';
import type { Logger } from '../logger.ts';
import type { DataplaneConfig } from '../messages.ts';
import { DeviceEvents, type Monitor } from './device-events.ts';
import type { DeviceFilters } from './device-filters.ts';
import type { LoadedDataplane } from './loaded-dataplane.ts';
import { natPorts } from './nat-ports.ts';
import type { PacketPath } from './packet-path.ts';
import type { Outcome } from './pod-cycle.ts';
import type { PodEndpoints } from './pod-endpoints.ts';
import type { PodLinks } from './pod-links.ts';
import { ShapedDevices } from './shaped-devices.ts';
import type { Ways } from './ways.ts';

/** What is followed of pods' devices, and of the node's addresses. */
const groups = ['link', 'addr4', 'addr6', 'tc'] as const satisfies readonly MonitorGroup[];

export interface NodeDevicesDeps {
  readonly host: Pick<Netlink, 'links' | 'addresses' | 'qdiscs'>;
  /** Opens a monitor of these groups. */
  readonly openMonitor: (groups: readonly MonitorGroup[]) => Monitor;
  /** A sysctl of the node by its path below /proc/sys; undefined: there is none. */
  readonly readSysctl: (path: string) => string | undefined;
  readonly endpoints: PodEndpoints;
  readonly links: PodLinks;
  readonly ways: Ways;
  readonly filters: DeviceFilters;
  readonly path: Pick<PacketPath, 'state' | 'mustHaveFilters'>;
  /** Called before all is read: whoever else reads of the node is to do so too. */
  readonly onRead: () => void;
  /** Called when there is something to apply that nobody has announced. */
  readonly onDisturbed: () => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * The node's devices, addresses and settings, as others leave them: all is read and compared with the maps once, then events tell what changes; and again
 * on request, each routeRefreshInterval, and when events were lost.
 */
export class NodeDevices {
  readonly #deps: NodeDevicesDeps;
  readonly #shaped: ShapedDevices;
  /** Ifindexes of devices that are gone. */
  readonly #gone = new Set<number>();
  #config: DataplaneConfig | undefined;
  #events: DeviceEvents | undefined;
  #timer: Disposable | undefined;
  #mustRead = true;
  /** A setting of the node says them, which is read with everything else and not by each apply. */
  #mustReadPorts = true;

  constructor(deps: NodeDevicesDeps) {
    this.#deps = deps;
    this.#shaped = new ShapedDevices(deps.host);
  }

  configure(config: DataplaneConfig): void {
    const before = this.#config;
    this.#config = config;
    this.#mustReadPorts = true;
    if (before?.routeRefreshIntervalMs !== config.routeRefreshIntervalMs) this.#mustRead = true; // The new interval counts from now.
  }

  /** Events tell what changes from now on. Before anything is read: what happens in between comes as an event. */
  follow(): void {
    const { openMonitor, clock, log } = this.#deps;
    this.#events ??= new DeviceEvents(
      () => openMonitor(groups),
      (event) => this.#take(event),
      clock,
      log,
    );
  }

  /** No more events, and nothing is read by itself. */
  unfollow(): void {
    this.#timer?.[Symbol.dispose]();
    this.#events?.[Symbol.dispose]();
    this.#events = undefined;
  }

  /** The next `compare` reads everything. */
  requestRead(): void {
    this.#mustRead = true;
  }

  /** Whether the device has qdiscs of its own that packets must not pass by. */
  isShaped(ifindex: number): boolean {
    return this.#shaped.has(ifindex);
  }

  /** Compares maps, devices and filters with what is wanted, when it is time. What differs becomes dirty. */
  async compare(loaded: LoadedDataplane, outcome: Outcome): Promise<void> {
    if (this.#mustRead) {
      this.#mustRead = false;
      await this.#readAll(loaded, outcome);
      this.#readAgainLater();
    }
    loaded.maps.setNode(this.#deps.ways.node);
    if (!this.#mustReadPorts) return;
    this.#mustReadPorts = false;
    const config = this.#config;
    loaded.maps.setNatPorts(config === undefined ? undefined : natPorts(config, this.#deps.readSysctl));
  }

  /** Endpoints whose devices others have given qdiscs, or taken them from, become dirty. */
  async lookForShaped(outcome: Outcome): Promise<void> {
    const { endpoints } = this.#deps;
    try {
      for (const ifindex of await this.#shaped.look()) {
        const id = endpoints.ofIfindex(ifindex);
        if (id !== undefined) endpoints.markDirty(id);
      }
    } catch (error) {
      outcome.failed.push({ object: 'qdiscs of pod devices', reason: messageOf(error) });
    }
  }

  /** What maps and filters have of devices that are gone goes. */
  async forgetGone(loaded: LoadedDataplane, outcome: Outcome): Promise<void> {
    const gone = [...this.#gone];
    this.#gone.clear(); // It may be used again, and gone again, meanwhile.
    for (const ifindex of gone) {
      try {
        loaded.pods.forget(ifindex);
        await this.#deps.filters.forgetGone(ifindex);
      } catch (error) {
        this.#gone.add(ifindex);
        outcome.failed.push({ object: `BPF map entries of device #${ifindex}`, reason: messageOf(error) });
      }
    }
  }

  async #readAll(loaded: LoadedDataplane, outcome: Outcome): Promise<void> {
    const { host, links, ways, filters, path, onRead } = this.#deps;
    this.#mustReadPorts = true;
    links.clear();
    onRead();
    try {
      const [found] = await Promise.all([host.links(), ways.read(() => host.addresses())]);
      await loaded.pods.compare(found, outcome);
      loaded.suspectEntered();
      await filters.forgetAllGone();
      this.#shaped.suspect();
      const devices = found.filter((link) => path.mustHaveFilters(link));
      for (const { index } of devices) filters.suspect(index);
      filters.suspectOthers(devices);
    } catch (error) {
      this.#mustRead = true;
      outcome.failed.push({ object: 'BPF maps', reason: messageOf(error) });
    }
  }

  #readAgainLater(): void {
    const { clock, onDisturbed } = this.#deps;
    this.#timer?.[Symbol.dispose]();
    const refreshMs = this.#config?.routeRefreshIntervalMs ?? 0;
    if (refreshMs <= 0) return;
    this.#timer = clock.after(refreshMs, () => {
      this.#mustRead = true;
      onDisturbed();
    });
  }

  #take(event: NetlinkEvent): void {
    const { endpoints, links, ways, onDisturbed } = this.#deps;
    links.follow(event);
    let matters = ways.follow(event);
    switch (event.type) {
      case 'overrun':
        this.#mustRead = true;
        matters = true;
        break;
      case 'link.del':
        this.#gone.add(event.link.index);
        matters = true;
        break;
      case 'link.new': {
        // Another device under the name of one that an endpoint has.
        const id = endpoints.ofDevice(event.link.name);
        if (id === undefined || endpoints.ifindex(event.link.name) === event.link.index) break;
        endpoints.markDirty(id);
        matters = true;
        break;
      }
      case 'qdisc.new':
      case 'qdisc.del':
        // Before its endpoint is known, too.
        this.#shaped.follow(event.qdisc);
        matters = this.#suspect(event.linkIndex) || matters;
        break;
      case 'filter.new':
      case 'filter.del':
        matters = this.#suspect(event.linkIndex) || matters;
        break;
      default:
        break;
    }
    if (matters) onDisturbed();
  }

  /** True if the device is to be looked at: its filters may be others. */
  #suspect(ifindex: number): boolean {
    const { endpoints, filters, path } = this.#deps;
    if (path.state !== 'yes' || endpoints.ofIfindex(ifindex) === undefined) return false;
    filters.suspect(ifindex);
    return true;
  }
}
