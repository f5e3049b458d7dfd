import type { MappedArray } from '#native/bpf.ts';
import type { AfterFlush } from './after-flush.ts';
import { flowConstants, PodSlot } from './bpf-types.gen.ts';
import { IdPool } from './classifier/id-pool.ts';
import { macBytes, u32Key, u64Value } from './keys.ts';
import { type ElementMap, mapFull, orFull } from './full-map.ts';

/** Units by their place: `direction * 2 + (IPv6 ? 1 : 0)`, egress first. */
export type UnitNumbers = readonly [number, number, number, number];
const NO_UNITS: UnitNumbers = [0, 0, 0, 0];

/** What a slot says of its device as long as it is the device's. */
export interface SlotDevice {
  readonly ifindex: number;
  readonly podMac: string;
  readonly hostMac: string;
}

/** What a slot says anew each time. */
export interface SlotState {
  /** Units by their place: `direction * 2 + (IPv6 ? 1 : 0)`, egress first. */
  readonly units: UnitNumbers;
  /** The device has qdiscs of its own, by which packets must pass: flows that begin from now on go by the stack. */
  readonly isShaped: boolean;
}

/** The maps: `tortie_slots`, and the memory of `tortie_pods`. */
export interface SlotMaps {
  readonly slots: Pick<ElementMap, 'set' | 'delete' | 'shape'>;
  readonly pods: Pick<MappedArray, 'length' | 'value' | 'store32'>;
}

interface Slot {
  readonly index: number;
  readonly device: SlotDevice;
  isNamed: boolean;
  /** The device's before, which programs find until this one is named. */
  former: Slot | undefined;
}

/**
 * The slots of pod devices: what programs read of an endpoint in one look. A slot is written before `tortie_slots` names it, and belongs
 * to nobody else before a grace period after nothing does. Unit numbers are stored one by one; MACs and ifindex never change while
 * the slot is a device's: a device with another MAC gets another slot.
 */
export class SlotTable {
  readonly #maps: SlotMaps;
  readonly #afterFlush: AfterFlush;
  /** Slot 0 is nobody's. */
  readonly #indexes: IdPool;
  readonly #byIfindex = new Map<number, Slot>();

  constructor(maps: SlotMaps, afterFlush: AfterFlush) {
    this.#maps = maps;
    this.#afterFlush = afterFlush;
    this.#indexes = new IdPool(1, maps.pods.length);
  }

  /**
   * The device's slot, made if it has none that says this of it. Everything is denied until units are stored, and nobody finds it before
   * `name`. Throws `BPF_MAP_FULL`.
   */
  take(device: SlotDevice): number {
    const has = this.#byIfindex.get(device.ifindex);
    if (has !== undefined && isSame(has.device, device)) return has.index;
    const index = this.#indexes.take();
    if (index === undefined) throw mapFull('tortie_pods', `${this.size} slots`, 'the endpoint stays closed');
    const record: PodSlot = {
      unit: NO_UNITS,
      ifindex: device.ifindex,
      podMac: macBytes(device.podMac),
      hostMac: macBytes(device.hostMac),
      // Said with the way to them: slot-addresses.ts.
      address4: new Uint8Array(4),
      address6: new Uint8Array(16),
      flags: 0,
    };
    this.#maps.pods.value(index).set(PodSlot.encode(record));
    this.#byIfindex.set(device.ifindex, { index, device, isNamed: false, former: has });
    return index;
  }

  /** Stores what the device's packets are judged by from now on; returns its slot, which it must have. */
  store(ifindex: number, { units, isShaped }: SlotState): number {
    const slot = this.#byIfindex.get(ifindex);
    if (slot === undefined) throw new TypeError(`device #${ifindex} has no slot`);
    this.#maps.pods.store32(slot.index, PodSlot.offsets.flags, isShaped ? flowConstants.podShaped : 0);
    this.#write(slot.index, units);
    return slot.index;
  }

  /** Programs find the device's slot from now on. Throws `BPF_MAP_FULL`, or what the map says. */
  name(ifindex: number): void {
    const slot = this.#byIfindex.get(ifindex);
    if (slot === undefined || slot.isNamed) return;
    const { slots } = this.#maps;
    orFull(slots, () => slots.set(u32Key(ifindex), u64Value(ifindex, slot.index)));
    slot.isNamed = true;
    this.#retire(slot.former);
    slot.former = undefined;
  }

  /** Nothing passes by the device's slot from now on; it is free a grace period after the next flush. */
  release(ifindex: number): void {
    const slot = this.#byIfindex.get(ifindex);
    if (slot === undefined) return;
    for (let each: Slot | undefined = slot; each !== undefined; each = each.former) this.#write(each.index, NO_UNITS);
    this.#maps.slots.delete(u32Key(ifindex));
    this.#byIfindex.delete(ifindex);
    this.#retire(slot);
  }

  /** Devices that have a slot. */
  get ifindexes(): readonly number[] {
    return [...this.#byIfindex.keys()];
  }

  /** Slots that aren't free: of devices, and of such that were lately. */
  get used(): number {
    return this.#indexes.used;
  }

  /** Slots that there are. */
  get size(): number {
    return this.#maps.pods.length - 1;
  }

  #retire(slot: Slot | undefined): void {
    for (let each = slot; each !== undefined; each = each.former) {
      const { index } = each;
      this.#afterFlush.add(() => {
        this.#write(index, NO_UNITS);
        this.#indexes.give(index);
      });
    }
  }

  #write(index: number, units: UnitNumbers): void {
    for (const [place, unit] of units.entries()) this.#maps.pods.store32(index, PodSlot.offsets.unit + place * 4, unit);
  }
}

const isSame = (a: SlotDevice, b: SlotDevice): boolean => a.podMac === b.podMac && a.hostMac === b.hostMac;
