import type { CidrText, EndpointId, WorkloadEndpointInfo } from '../messages.ts';
import type { Announcements } from './announcements.ts';
import { EndpointUnits } from './endpoint-units.ts';
import type { NodeMaps } from './node-maps.ts';
import type { SlotDevice } from './slot-table.ts';

/** An endpoint's device. */
export interface WiredDevice extends SlotDevice {
  /** It has qdiscs of its own, by which packets must pass. */
  readonly isShaped: boolean;
}

/** What an endpoint becomes, or is, in the maps. */
interface Wire {
  readonly ifindex: number;
  /** Its own addresses, to which its device is the way. */
  readonly nets: readonly CidrText[];
  readonly sources: readonly CidrText[];
  readonly isShaped: boolean;
  /** Who had the device before. */
  readonly former: EndpointId | undefined;
}

/**
 * An endpoint in the maps: its slot, its units, its announcement, the way to its addresses. The order, so that no program finds what is half done:
 *
 *     prepare (slot written, units taken) - flush - commit (units stored, slot named, announced; way said, former units left) - flush
 *
 * and back: `close` takes effect at once, then the next flush takes the way.
 */
export class PodWiring {
  readonly #maps: Pick<NodeMaps, 'slots' | 'hops'>;
  readonly #announcements: Announcements;
  readonly #units: EndpointUnits;
  readonly #prepared = new Map<EndpointId, Wire>();
  readonly #committed = new Map<EndpointId, Wire>();
  /** By ifindex, the endpoint that was last said to have the device. */
  readonly #owners = new Map<number, EndpointId>();

  constructor(maps: Pick<NodeMaps, 'classifier' | 'slots' | 'hops'>, announcements: Announcements) {
    this.#maps = maps;
    this.#announcements = announcements;
    this.#units = new EndpointUnits(maps.classifier);
  }

  /** Units that endpoints have or go over to. */
  get units(): Pick<EndpointUnits, 'usersOf'> {
    return this.#units;
  }

  /** Throws `BPF_MAP_FULL`. Then, and until `commit`, what was committed stays. */
  prepare(
    id: EndpointId,
    endpoint: Pick<WorkloadEndpointInfo, 'tiers' | 'profiles' | 'ipv4Nets' | 'ipv6Nets'>,
    { isShaped, ...device }: WiredDevice,
    sources: readonly CidrText[],
  ): void {
    const { ifindex } = device;
    // Another device: nothing of the one before may stay.
    const before = this.#committed.get(id);
    if (before !== undefined && before.ifindex !== ifindex) this.close(id);
    this.#maps.slots.take(device);
    const has = this.#owners.get(ifindex);
    const former = has === id ? this.#prepared.get(id)?.former : has;
    this.#owners.set(ifindex, id);
    this.#units.prepare(id, endpoint, sources);
    this.#prepared.set(id, { ifindex, nets: [...endpoint.ipv4Nets, ...endpoint.ipv6Nets], sources, isShaped, former });
  }

  /** Why one of its units, as it is or as it was prepared, denies everything. */
  failure(id: EndpointId): string | undefined {
    return this.#units.failure(id);
  }

  /** What was prepared comes into force; a flush must have made its units. Throws `BPF_MAP_FULL` or what the maps say; then it is closed. */
  commit(id: EndpointId): void {
    const wire = this.#prepared.get(id);
    if (wire === undefined) throw new TypeError(`endpoint ${id} is not prepared`);
    const { slots, hops } = this.#maps;
    const before = this.#committed.get(id);
    if (this.#owners.get(wire.ifindex) !== id) throw new Error("its device is another endpoint's");
    // Its device is gone, and the number is this one's, which from now on is open: nothing of its may come here.
    const former = wire.former === undefined ? undefined : this.#committed.get(wire.former);
    if (wire.former !== undefined && former?.ifindex === wire.ifindex)
      for (const net of former.nets) hops.set(owner(wire.former), net, undefined);
    const slot = slots.store(wire.ifindex, { units: this.#units.numbers(id), isShaped: wire.isShaped });
    this.#committed.set(id, wire);
    this.#prepared.delete(id);
    try {
      slots.name(wire.ifindex);
      this.#announcements.announce(wire.ifindex, wire.sources);
    } catch (error) {
      this.close(id);
      throw error;
    }
    for (const net of before?.nets ?? []) if (!wire.nets.includes(net)) hops.set(owner(id), net, undefined);
    for (const net of wire.nets)
      hops.set(owner(id), net, { kind: 'pod', ifindex: wire.ifindex, slot, isShaped: wire.isShaped });
    this.#units.commit(id);
  }

  /** Nothing passes to or from it any more. The next flush frees what it had. */
  close(id: EndpointId): void {
    this.#shut(id);
    this.#units.remove(id);
  }

  /** As `close`, because one of its units could not be made: it keeps them, so that `failure` tells when that is over. */
  deny(id: EndpointId): void {
    this.#shut(id);
    this.#units.commit(id);
  }

  /** The device is gone, or not the endpoint's any more; returns whose it was. */
  closeDevice(ifindex: number): EndpointId | undefined {
    const id = this.#owners.get(ifindex);
    if (id !== undefined) this.close(id);
    return id;
  }

  /** The device on which the endpoint is in force. */
  ifindex(id: EndpointId): number | undefined {
    return this.#committed.get(id)?.ifindex;
  }

  #shut(id: EndpointId): void {
    const wires = [this.#committed.get(id), this.#prepared.get(id)];
    this.#committed.delete(id);
    this.#prepared.delete(id);
    for (const wire of wires) {
      if (wire === undefined) continue;
      for (const net of wire.nets) this.#maps.hops.set(owner(id), net, undefined);
      // It may be another endpoint's by now.
      if (this.#owners.get(wire.ifindex) !== id) continue;
      this.#owners.delete(wire.ifindex);
      this.#announcements.withdraw(wire.ifindex);
      this.#maps.slots.release(wire.ifindex);
    }
  }
}

const owner = (id: EndpointId): string => `endpoint ${id}`;
