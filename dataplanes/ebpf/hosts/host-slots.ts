import type { MappedArray } from '#native/bpf.ts';
import type { AfterFlush } from '../after-flush.ts';
import { HostSlot } from '../bpf-types.gen.ts';
import { IdPool } from '../classifier/id-pool.ts';
import { type ElementMap, mapFull, orFull } from '../full-map.ts';
import { u32Key, u64Value } from '../keys.ts';
import type { HostUnitNumbers } from './host-units.ts';

/** The maps: `tortie_hslots`, and the memory of `tortie_hosts`. */
export interface HostSlotMaps {
  readonly slots: Pick<ElementMap, 'set' | 'delete' | 'shape'>;
  readonly hosts: Pick<MappedArray, 'length' | 'value' | 'store32'>;
}

/** Stands for all devices of pods, in the place of an ifindex. */
export const PODS = 0;
/** What their slot says of them. */
export const PODS_DEVICE: HostSlotDevice = { flags: 0, mac: new Uint8Array(6) };

/** What a slot says of its device as long as it is the device's. */
export interface HostSlotDevice {
  /** `HOST_WITHOUT_ETHERNET`, or nothing. */
  readonly flags: number;
  /** Six bytes; zeros without Ethernet. */
  readonly mac: Uint8Array;
}

interface Slot {
  readonly index: number;
  readonly device: HostSlotDevice;
  isNamed: boolean;
}

/**
 * The slots of devices with a host endpoint. A slot is written before anything names it, and belongs to nobody else before a grace period after
 * nothing does. That of the pods' devices (`PODS`) has no element; `run.pods_host` names it.
 */
export class HostSlots {
  readonly #maps: HostSlotMaps;
  readonly #afterFlush: AfterFlush;
  /** Slot 0 is nobody's. */
  readonly #indexes: IdPool;
  readonly #byIfindex = new Map<number, Slot>();

  constructor(maps: HostSlotMaps, afterFlush: AfterFlush) {
    this.#maps = maps;
    this.#afterFlush = afterFlush;
    this.#indexes = new IdPool(1, maps.hosts.length);
  }

  /**
   * The device's packets are judged by these units from now on; a flush must have made them. Returns the slot, another one if the device has changed.
   * Throws `BPF_MAP_FULL` or what the maps say; then the device has what it had.
   */
  store(ifindex: number, device: HostSlotDevice, units: HostUnitNumbers): number {
    const has = this.#byIfindex.get(ifindex);
    if (has !== undefined && isSame(has.device, device)) {
      this.#write(has.index, units);
      this.#name(ifindex, has);
      return has.index;
    }
    const index = this.#indexes.take();
    if (index === undefined) throw mapFull('tortie_hosts', `${this.#maps.hosts.length - 1} slots`);
    this.#maps.hosts
      .value(index)
      .set(
        HostSlot.encode({
          unit: units,
          ifindex,
          ...device,
          masquerade4: new Uint8Array(4),
          masquerade6: new Uint8Array(16),
        }),
      );
    const slot = { index, device, isNamed: false };
    try {
      this.#name(ifindex, slot);
    } catch (error) {
      this.#indexes.give(index); // Nobody has seen it.
      throw error;
    }
    this.#byIfindex.set(ifindex, slot);
    if (has !== undefined) this.#afterFlush.add(() => this.#indexes.give(has.index));
    return index;
  }

  /** No host endpoint has the device any more; the slot is free a grace period after the next flush. */
  release(ifindex: number): void {
    const slot = this.#byIfindex.get(ifindex);
    if (slot === undefined) return;
    if (ifindex !== PODS) this.#maps.slots.delete(u32Key(ifindex));
    this.#byIfindex.delete(ifindex);
    this.#afterFlush.add(() => this.#indexes.give(slot.index));
  }

  /** Devices that have a slot, `PODS` among them. */
  get ifindexes(): readonly number[] {
    return [...this.#byIfindex.keys()];
  }

  #name(ifindex: number, slot: Slot): void {
    if (slot.isNamed || ifindex === PODS) return;
    const { slots } = this.#maps;
    orFull(slots, () => slots.set(u32Key(ifindex), u64Value(ifindex, slot.index)), 'nothing is judged on the device');
    slot.isNamed = true;
  }

  #write(index: number, units: HostUnitNumbers): void {
    for (const [place, unit] of units.entries())
      this.#maps.hosts.store32(index, HostSlot.offsets.unit + place * 4, unit);
  }
}

const isSame = (a: HostSlotDevice, b: HostSlotDevice): boolean =>
  a.flags === b.flags && a.mac.every((byte, index) => byte === b.mac[index]);
