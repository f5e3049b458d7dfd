import type { NetlinkEvent } from '#native/types.ts';
import type { DataplaneConfig, HostInfo } from '../../messages.ts';
import type { HostEndpointInfo } from '../../policy.ts';
import { addressBytes, macBytes } from '../keys.ts';
import type { HostSlotDevice } from './host-slots.ts';
import { type KnownDevice, KnownDevices, type KnownDevicesDeps } from './known-devices.ts';
import { masqueradeSources } from './masquerade-source.ts';

export type HostDeviceDeps = KnownDevicesDeps;

/** A device of the node that is to have our programs. */
export interface HostDevice {
  readonly ifindex: number;
  readonly name: string;
  readonly device: HostSlotDevice;
  /** The host endpoint that stands for it; undefined: none. */
  readonly endpoint: string | undefined;
  /** Pods' packets may come and leave by it past the stack. */
  readonly isUplink: boolean;
  /** What goes out by it is judged, or comes in: it has a host endpoint, or the node forwards by it what came in by such a device. */
  readonly isJudged: boolean;
}

/** The settings that say what devices are. */
export type DeviceSettings = Pick<DataplaneConfig, 'interfacePrefixes' | 'uplinkPattern' | 'natOutgoingAddress'>;

/**
 * The devices of the node that are to have our programs, as they are at the moment.
 *
 * Uplinks: devices with Ethernet that have the node's address, or by which a default route leaves or one to a network that overlaps a pool; with a pattern
 * those whose names match it. Never pods' or `lo`.
 *
 * Host endpoints': the one that a host endpoint names; those that have one of its `expectedIps`; for `*` every other device by which a route
 * leaves, or that has an address (routes with several next hops name no device), but pods' and `lo`. Where two stand for one device the
 * first by name has it, and `*` comes last.
 */
export class HostDevices implements Disposable {
  readonly #known: KnownDevices;
  readonly #endpoints = new Map<string, HostEndpointInfo>();
  #settings: DeviceSettings = { interfacePrefixes: ['cali'] };
  #pattern: RegExp | undefined;
  #node: HostInfo = {};
  /** Devices are needed by which the node forwards, whoever has them. */
  #needsForwarding = false;
  /** What `resolve` has said last; undefined: it may say something else now. */
  #answer: { readonly areJudged: boolean; readonly devices: readonly HostDevice[] } | undefined;

  /** `onEvent` is told of every event while devices are followed, and whether `resolve` may answer otherwise now. */
  constructor(deps: HostDeviceDeps, onEvent: (event: NetlinkEvent, isChange: boolean) => void) {
    this.#known = new KnownDevices(
      deps,
      (name) => this.#isAwaited(name),
      (event, isChange) => {
        if (isChange) this.#answer = undefined;
        onEvent(event, isChange);
      },
    );
  }

  /** Announces, replaces or (undefined) removes a host endpoint. */
  set(id: string, endpoint: HostEndpointInfo | undefined): void {
    this.#answer = undefined;
    if (endpoint === undefined) this.#endpoints.delete(id);
    else this.#endpoints.set(id, endpoint);
  }

  /** Throws SyntaxError of a pattern that is none. */
  setSettings(settings: DeviceSettings): void {
    this.#answer = undefined;
    this.#pattern = settings.uplinkPattern === undefined ? undefined : new RegExp(settings.uplinkPattern);
    this.#settings = settings;
    this.#known.setPrefixes(settings.interfacePrefixes);
  }

  /** This node's addresses, as calc says them. */
  setNode(node: HostInfo): void {
    this.#answer = undefined;
    this.#node = node;
  }

  /** Where pods' addresses are from. */
  setPools(nets: readonly string[]): void {
    this.#known.setPools(nets);
  }

  /** Whether devices by which the node forwards are listed, too. */
  setForwarding(isNeeded: boolean): void {
    if (isNeeded !== this.#needsForwarding) this.#answer = undefined;
    this.#needsForwarding = isNeeded;
  }

  /** All is read anew by the next `resolve`. */
  requestResync(): void {
    this.#known.requestResync();
  }

  /** The host endpoint that stands for `*`; undefined: none. */
  get everywhere(): string | undefined {
    return this.#sorted().find(([, { ifaceName }]) => ifaceName === '*')?.[0];
  }

  /**
   * The devices now, by ifindex, which are followed from now on; the very same list as long as nothing was said or has happened that could change it.
   * `areJudged` false: host endpoints stand for none. Throws what netlink says.
   */
  async resolve(areJudged = true): Promise<readonly HostDevice[]> {
    if (this.#answer?.areJudged === areJudged && this.#known.isRead) return this.#answer.devices;
    const known = await this.#known.read();
    const owners = new Map<number, string>();
    for (const [id, endpoint] of areJudged ? this.#sorted() : []) {
      for (const [ifindex, device] of known) {
        if (!owners.has(ifindex) && standsFor(endpoint, device)) owners.set(ifindex, id);
      }
    }
    const everywhere = areJudged ? this.everywhere : undefined;
    const devices: HostDevice[] = [];
    for (const [ifindex, device] of known) {
      const endpoint = owners.get(ifindex) ?? (leadsOut(device) ? everywhere : undefined);
      const isJudged = endpoint !== undefined || (areJudged && this.#needsForwarding && leadsOut(device));
      const isUplink = this.#isUplink(device);
      if (!isJudged && !isUplink) continue;
      devices.push({
        ifindex,
        name: device.name,
        device: this.#slotDevice(device, isUplink),
        endpoint,
        isUplink,
        isJudged,
      });
    }
    devices.sort((a, b) => a.ifindex - b.ifindex);
    this.#answer = { areJudged, devices };
    return devices;
  }

  [Symbol.dispose](): void {
    this.#answer = undefined;
    this.#known[Symbol.dispose]();
  }

  #sorted(): readonly (readonly [string, HostEndpointInfo])[] {
    return [...this.#endpoints].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  /** Others matter when they get an address or a route. */
  #isAwaited(name: string): boolean {
    return (
      this.#pattern?.test(name) === true || [...this.#endpoints.values()].some(({ ifaceName }) => ifaceName === name)
    );
  }

  #isUplink({ name, mac, addresses, waysToPods }: KnownDevice): boolean {
    if (name === 'lo' || mac === undefined) return false;
    if (this.#pattern !== undefined) return this.#pattern.test(name);
    const { ipv4, ipv6 } = this.#node;
    return waysToPods.size > 0 || [ipv4, ipv6].some((ip) => ip !== undefined && addresses.has(ip));
  }

  #slotDevice({ mac, addresses }: KnownDevice, isUplink: boolean): HostSlotDevice {
    const settings = { address: this.#settings.natOutgoingAddress, node: this.#node };
    const sources = isUplink ? masqueradeSources(addresses, settings) : undefined;
    return {
      hasEthernet: mac !== undefined,
      mac: mac === undefined ? new Uint8Array(6) : macBytes(mac),
      masquerade4: addressBytes(sources?.[4], 4),
      masquerade6: addressBytes(sources?.[6], 16),
    };
  }
}

/** By way of it the node reaches others. */
const leadsOut = ({ name, addresses, routes }: KnownDevice): boolean =>
  name !== 'lo' && (routes > 0 || addresses.size > 0);

function standsFor({ ifaceName, expectedIps }: HostEndpointInfo, { name, addresses }: KnownDevice): boolean {
  if (ifaceName !== undefined) return ifaceName === name;
  return expectedIps.some((ip) => addresses.has(ip));
}
