import type { Netlink, NetlinkEvent } from '#native/types.ts';
import { withoutPrefix } from '#api/cidr.ts';
import type { Clock } from '#api/clock.ts';
import type { ApplyFailure } from '../contract.ts';
import type { Logger } from '../logger.ts';
import type { IpText } from '../messages.ts';
import type { HostEndpointInfo } from '../policy.ts';
import { type Monitor, MonitorFollower } from '../shared/monitor-follower.ts';
import { deviceName } from './render/names.ts';
import type { HostDevice } from './render/types.ts';

/** Pause before a monitor that broke is opened again. */
const REOPEN_MS = 1_000;

interface HostDeviceDeps {
  readonly host: Pick<Netlink, 'links' | 'addresses'>;
  /** Opens a monitor of links and addresses. */
  readonly openMonitor: () => Monitor;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Which device each host endpoint stands for. One that names its device (or `*`) stands for it whether it is there or not, so that rules
 * are there before the device is. One with expectedIPs stands for the devices that have one of these addresses; links and addresses are
 * followed only while there is such a one. Where two stand for one device the first by name has it.
 */
export class HostDevices implements Disposable {
  readonly #deps: HostDeviceDeps;
  readonly #onChange: () => void;
  readonly #follower: MonitorFollower;
  readonly #endpoints = new Map<string, HostEndpointInfo>();
  readonly #linkNames = new Map<number, string>();
  /** By address, the ifindexes of the links that have it. */
  readonly #links = new Map<IpText, Set<number>>();
  /** Events that come while the dumps are under way. */
  #pending: NetlinkEvent[] | undefined;
  #isRead = false;
  #isDirty = false;
  #reopen: Disposable | undefined;

  /** `onChange` is called when events may change what `resolve` answers. */
  constructor(deps: HostDeviceDeps, onChange: () => void) {
    this.#deps = deps;
    this.#onChange = onChange;
    this.#follower = new MonitorFollower(
      deps.openMonitor,
      (event) => this.#take(event),
      (reason) => this.#lost(reason),
    );
  }

  /** Announces, replaces or (undefined) removes a host endpoint. */
  set(id: string, endpoint: HostEndpointInfo | undefined): void {
    if (endpoint === undefined) this.#endpoints.delete(id);
    else this.#endpoints.set(id, endpoint);
    this.#isDirty = true;
  }

  requestResync(): void {
    if (this.#needsAddresses) this.#forget();
  }

  /** What has changed since the last call: the devices of all host endpoints. Undefined: nothing. Throws what netlink says; then it is asked again. */
  async resolve(): Promise<{ devices: readonly HostDevice[]; failed: readonly ApplyFailure[] } | undefined> {
    if (!this.#isDirty) return undefined;
    this.#isDirty = false;
    try {
      if (this.#needsAddresses) await this.#read();
      else this.#stop();
    } catch (error) {
      this.#isDirty = true;
      throw error;
    }
    const devices = new Map<string, HostDevice>();
    const failed: ApplyFailure[] = [];
    for (const [id, endpoint] of [...this.#endpoints].sort(([a], [b]) => (a < b ? -1 : 1))) {
      for (const device of this.#devicesOf(endpoint)) {
        if (devices.has(device)) continue;
        try {
          if (device !== '*') deviceName(device);
          devices.set(device, { device, endpoint });
        } catch (error) {
          failed.push({ object: `host endpoint ${id}`, reason: (error as Error).message });
        }
      }
    }
    return { devices: [...devices.values()], failed };
  }

  [Symbol.dispose](): void {
    this.#stop();
  }

  get #needsAddresses(): boolean {
    return [...this.#endpoints.values()].some(({ ifaceName }) => ifaceName === undefined);
  }

  #devicesOf({ ifaceName, expectedIps }: HostEndpointInfo): readonly string[] {
    if (ifaceName !== undefined) return [ifaceName];
    const names = expectedIps.flatMap((ip) =>
      [...(this.#links.get(ip) ?? [])].flatMap((index) => this.#linkNames.get(index) ?? []),
    );
    return [...new Set(names)].sort();
  }

  /** The monitor before the dumps: what happens meanwhile comes as events, after them. */
  async #read(): Promise<void> {
    this.#follower.start();
    if (this.#isRead) return;
    this.#isRead = true;
    const events: NetlinkEvent[] = [];
    this.#pending = events;
    try {
      const [links, addresses] = await Promise.all([this.#deps.host.links(), this.#deps.host.addresses()]);
      this.#linkNames.clear();
      this.#links.clear();
      for (const { index, name } of links) this.#linkNames.set(index, name);
      for (const { linkIndex, address } of addresses) this.#note(linkIndex, address, true);
      for (const event of events) this.#follow(event);
    } catch (error) {
      this.#isRead = false;
      throw error;
    } finally {
      this.#pending = undefined;
    }
  }

  #take(event: NetlinkEvent): void {
    if (event.type === 'overrun') this.#forget();
    else if (this.#pending !== undefined) this.#pending.push(event);
    else if (this.#follow(event)) this.#changed();
  }

  /** True if it may matter to a host endpoint. */
  #follow(event: NetlinkEvent): boolean {
    switch (event.type) {
      case 'addr.new':
      case 'addr.del':
        return this.#note(event.address.linkIndex, event.address.address, event.type === 'addr.new');
      case 'link.new': {
        const { index, name } = event.link;
        const isRenamed = this.#linkNames.has(index) && this.#linkNames.get(index) !== name;
        this.#linkNames.set(index, name);
        return isRenamed;
      }
      case 'link.del': {
        this.#linkNames.delete(event.link.index);
        let mattered = false;
        for (const [address, links] of this.#links) {
          if (!links.delete(event.link.index)) continue;
          mattered = true;
          if (links.size === 0) this.#links.delete(address);
        }
        return mattered;
      }
      default:
        return false;
    }
  }

  #note(linkIndex: number, cidr: string, isThere: boolean): boolean {
    const address = withoutPrefix(cidr);
    const links = this.#links.get(address) ?? new Set();
    if (isThere === links.has(linkIndex)) return false;
    if (isThere) this.#links.set(address, links.add(linkIndex));
    else links.delete(linkIndex);
    if (links.size === 0) this.#links.delete(address);
    return [...this.#endpoints.values()].some(({ expectedIps }) => expectedIps.includes(address));
  }

  #lost(reason: string): void {
    this.#deps.log.warn('the monitor of links and addresses broke; it is opened again', { reason });
    this.#reopen?.[Symbol.dispose]();
    this.#reopen = this.#deps.clock.after(REOPEN_MS, () => this.#forget());
  }

  /** Nobody knows what links and addresses are now. */
  #forget(): void {
    this.#isRead = false;
    this.#changed();
  }

  #changed(): void {
    this.#isDirty = true;
    this.#onChange();
  }

  #stop(): void {
    this.#follower.stop();
    this.#reopen?.[Symbol.dispose]();
    this.#isRead = false;
  }
}
