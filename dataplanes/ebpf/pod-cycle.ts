import { messageOf } from '#api/errors.ts';
import type { Link } from '#native/types.ts';
import type { ApplyFailure } from '../contract.ts';
import type { EndpointId } from '../messages.ts';
import type { Announcements } from './announcements.ts';
import type { NodeMaps } from './node-maps.ts';
import type { PodEndpoints } from './pod-endpoints.ts';
import type { PodLinks } from './pod-links.ts';
import { PodWiring } from './pod-wiring.ts';

/** What an apply did, while it is under way. */
export interface Outcome {
  readonly programmed: EndpointId[];
  readonly failed: ApplyFailure[];
  readonly repaired: string[];
}

/** Of an apply that has not done anything yet. */
export const newOutcome = (): Outcome => ({ programmed: [], failed: [], repaired: [] });

/** What is to be known of devices, and done to them. */
export interface DeviceSide {
  /** Sees to it that a device which is about to be opened has its filters: without them it would be open to everything. */
  attach(link: Link): Promise<void>;
  /** It has qdiscs of its own, by which packets must pass. */
  isShaped(ifindex: number): boolean;
}

/**
 * The part of an apply that is about pods: from what is wanted of them and from the node's devices to maps. All dirty endpoints go together through
 * the steps of `PodWiring`, so that a cycle costs two flushes however many there are, and one without dirty endpoints one.
 */
export class PodCycle {
  readonly #links: Pick<PodLinks, 'find' | 'forget'>;
  readonly #endpoints: PodEndpoints;
  readonly #announcements: Announcements;
  readonly #maps: NodeMaps;
  readonly #wiring: PodWiring;
  /** Closed because a unit could not be made. */
  readonly #denied = new Set<EndpointId>();

  constructor(
    links: Pick<PodLinks, 'find' | 'forget'>,
    endpoints: PodEndpoints,
    announcements: Announcements,
    maps: NodeMaps,
  ) {
    this.#links = links;
    this.#endpoints = endpoints;
    this.#announcements = announcements;
    this.#maps = maps;
    this.#wiring = new PodWiring(maps, announcements);
    maps.classifier.onNumber((unit) => {
      for (const id of this.#wiring.units.usersOf(unit)) endpoints.markDirty(id);
    });
  }

  /** Compares maps and devices with what is wanted. What differs becomes dirty. */
  async compare(links: readonly Link[], outcome: Outcome): Promise<void> {
    const endpoints = this.#endpoints;
    await this.#announcements.read();
    const indexes = new Map(links.map((link) => [link.name, link.index]));
    for (const id of endpoints.all) {
      const name = endpoints.device(id) ?? '';
      const index = indexes.get(name);
      if (index !== undefined && this.#isAsWanted(id, index)) {
        if (!endpoints.isDirty(id)) endpoints.opened(id, index);
        continue;
      }
      if (!endpoints.isDirty(id) && index !== undefined && index === endpoints.ifindex(name)) {
        outcome.repaired.push(`BPF map entries of endpoint ${id} (${name})`);
      }
      endpoints.markDirty(id);
    }
    this.#sweep(links);
  }

  /** Closes what no endpoint is any more. */
  closeAbandoned(outcome: Outcome): void {
    for (const id of this.#endpoints.removed) {
      this.#wiring.close(id);
      this.#denied.delete(id);
    }
    for (const { name, ifindex } of this.#endpoints.takeAbandoned()) {
      try {
        const index = ifindex ?? this.#links.find(name)?.index;
        // The ifindex may be another endpoint's by now.
        if (index !== undefined && this.#endpoints.ofIfindex(index) === undefined) this.#announcements.withdraw(index);
      } catch (error) {
        this.#endpoints.abandon(name, ifindex);
        outcome.failed.push({ object: `device ${name}`, reason: messageOf(error) });
      }
    }
  }

  /** Sweeps after a device that the kernel says is gone. An open one has the ifindex by now: the news were old. */
  forget(ifindex: number): void {
    if (this.#announcements.isOpen(ifindex)) return;
    const id = this.#wiring.closeDevice(ifindex);
    if (id !== undefined) this.#endpoints.markDirty(id);
    this.#announcements.forget(ifindex);
  }

  /**
   * Programs what is dirty, and brings all that was said of policy into force. False if the maps don't say everything that they should.
   */
  async program(outcome: Outcome, devices: DeviceSide): Promise<boolean> {
    const prepared: EndpointId[] = [];
    const fail = (endpoint: EndpointId, reason: string): void => {
      this.#endpoints.markDirty(endpoint);
      // It may be another device by now.
      this.#links.forget(this.#endpoints.device(endpoint) ?? '');
      outcome.failed.push({ object: `endpoint ${endpoint}`, endpoint, reason });
    };
    for (const id of this.#endpoints.takeDirty()) {
      try {
        await this.#prepare(id, devices);
        prepared.push(id);
      } catch (error) {
        fail(id, messageOf(error));
      }
    }
    try {
      await this.#maps.flush();
    } catch (error) {
      const reason = messageOf(error);
      outcome.failed.push({ object: 'BPF policy maps', reason });
      for (const id of prepared) fail(id, reason);
      return false;
    }
    for (const id of prepared) {
      try {
        this.#commit(id);
        outcome.programmed.push(id);
      } catch (error) {
        fail(id, messageOf(error));
      }
    }
    const programmed = new Set(outcome.programmed);
    const failing = this.#newlyFailing();
    for (const [id, reason] of failing) {
      programmed.delete(id);
      this.#deny(id);
      fail(id, reason);
    }
    outcome.programmed.splice(0, outcome.programmed.length, ...programmed);
    if (prepared.length + failing.size === 0) return true;
    try {
      // The ways to addresses, and what nobody uses any more.
      await this.#maps.flush();
      return true;
    } catch (error) {
      const reason = messageOf(error);
      outcome.failed.push({ object: 'BPF policy maps', reason });
      // Without the way to its addresses no pod is ready.
      for (const id of outcome.programmed.splice(0)) fail(id, reason);
      return false;
    }
  }

  /** After units may have been made, or have failed, without an apply: true if there is something to do for one. */
  noticeUnits(): boolean {
    let has = this.#newlyFailing().size > 0;
    for (const id of this.#denied) {
      if (this.#wiring.failure(id) !== undefined) continue;
      this.#denied.delete(id);
      this.#endpoints.markDirty(id);
      has = true;
    }
    return has;
  }

  async #prepare(id: EndpointId, devices: DeviceSide): Promise<void> {
    const endpoint = this.#endpoints.endpoint(id);
    if (endpoint === undefined) throw new TypeError(`endpoint ${id} is dirty and not there`);
    const link = this.#links.find(endpoint.ifaceName);
    if (link === undefined) {
      this.#wiring.close(id);
      throw new Error(`its device ${endpoint.ifaceName} is not there`);
    }
    if (this.#wiring.ifindex(id) !== link.index) await devices.attach(link);
    const isShaped = devices.isShaped(link.index);
    const device = { ifindex: link.index, podMac: endpoint.mac, hostMac: link.mac ?? '', isShaped };
    this.#wiring.prepare(id, endpoint, device, this.#endpoints.sources(id));
  }

  #commit(id: EndpointId): void {
    const failure = this.#wiring.failure(id);
    if (failure !== undefined) {
      this.#deny(id);
      throw new Error(failure);
    }
    this.#wiring.commit(id);
    this.#denied.delete(id);
    const ifindex = this.#wiring.ifindex(id);
    if (ifindex !== undefined) this.#endpoints.opened(id, ifindex);
  }

  #deny(id: EndpointId): void {
    this.#wiring.deny(id);
    this.#denied.add(id);
    this.#endpoints.markDirty(id);
  }

  /** Endpoints in force one of whose units can't be made any more, with the reason. */
  #newlyFailing(): ReadonlyMap<EndpointId, string> {
    const failing = new Map<EndpointId, string>();
    for (const unit of this.#maps.classifier.failed) {
      for (const id of this.#wiring.units.usersOf(unit)) {
        if (!this.#denied.has(id) && unit.failure !== undefined) failing.set(id, unit.failure);
      }
    }
    return failing;
  }

  #isAsWanted(id: EndpointId, ifindex: number): boolean {
    if (this.#denied.has(id)) return !this.#announcements.isOpen(ifindex);
    return this.#wiring.ifindex(id) === ifindex && this.#announcements.matches(ifindex, this.#endpoints.sources(id));
  }

  /** Elements of devices that are gone go at once; those of devices that no endpoint has, when all endpoints are known. */
  #sweep(links: readonly Link[]): void {
    const present = new Map(links.map((link) => [link.index, link]));
    for (const ifindex of this.#announcements.known) {
      const link = present.get(ifindex);
      if (link === undefined) this.#announcements.forget(ifindex);
      else if (this.#endpoints.inSync && this.#endpoints.ofDevice(link.name) === undefined)
        this.#announcements.withdraw(ifindex);
    }
  }
}
