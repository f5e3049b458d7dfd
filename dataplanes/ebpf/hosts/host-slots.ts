import type { MappedArray } from '#native/bpf.ts';
import type { AfterFlush } from '../after-flush.ts';
import { flowConstants, HostSlot } from '../bpf-types.gen.ts';
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
export const PODS_DEVICE: HostSlotDevice = {
  hasEthernet: true,
  mac: new Uint8Array(6),
  masquerade4: new Uint8Array(4),
  masquerade6: new Uint8Array(16),
};

/** What a slot says of its device as long as it is the device's. */
export interface HostSlotDevice {
  /** Its packets begin with a MAC header. */
  readonly hasEthernet: boolean;
  /** Six bytes; zeros without Ethernet. */
  readonly mac: Uint8Array;
  /** What pods that are masqueraded have for a source where they leave by it; zeros: netfilter says. */
  readonly masquerade4: Uint8Array;
  readonly masquerade6: Uint8Array;
}

interface Slot {
  readonly index: number;
  readonly device: HostSlotDevice;
  isNamed: boolean;
  /** What it says is what the device was. */
  isStale: boolean;
}

/**
 * The slots of uplinks and devices with a host endpoint. A slot is written before anything names it, and belongs to nobody else before a grace period after
 * nothing does. That of the pods' devices (`PODS`) has no element; `run.pods_host` names it.
 */
export class HostSlots {
  readonly #maps: HostSlotMaps;
  readonly #afterFlush: AfterFlush;
  /** Slot 0 is nobody's. */
  readonly #indexes: IdPool;
  readonly #byIfindex = new Map<number, Slot>();
  #direct: ReadonlySet<number> = new Set();
  #shared: ReadonlySet<number> = new Set();

  constructor(maps: HostSlotMaps, afterFlush: AfterFlush) {
    this.#maps = maps;
    this.#afterFlush = afterFlush;
    this.#indexes = new IdPool(1, maps.hosts.length);
  }

  /**
   * Pods' packets may come and leave by these devices past the stack, and by no other, from now on; those that have no slot yet, as soon as they do. Their
   * programs must be on them as long as this is said. By those that are `shared` only packets of flows do that nobody else can translate.
   */
  setDirect(ifindexes: ReadonlySet<number>, shared: ReadonlySet<number> = new Set()): void {
    const [before, sharedBefore] = [this.#direct, this.#shared];
    this.#direct = ifindexes;
    this.#shared = shared;
    for (const [ifindex, slot] of this.#byIfindex)
      if (before.has(ifindex) !== ifindexes.has(ifindex) || sharedBefore.has(ifindex) !== shared.has(ifindex))
        this.#writeFlags(ifindex, slot);
  }

  /**
   * The device's packets are judged by these units from now on; a flush must have made them. Returns the slot, another one if the device has changed.
   * Throws `BPF_MAP_FULL` or what the maps say; then the device is judged so by the slot that it had, if it had one, and is no uplink.
   */
  store(ifindex: number, device: HostSlotDevice, units: HostUnitNumbers): number {
    const has = this.#byIfindex.get(ifindex);
    if (has !== undefined && isSame(has.device, device)) {
      if (has.isStale) {
        has.isStale = false;
        this.#writeFlags(ifindex, has);
      }
      this.#write(has.index, units);
      this.#name(ifindex, has);
      return has.index;
    }
    try {
      return this.#replace(ifindex, device, units);
    } catch (error) {
      if (has !== undefined) {
        // Its units may be others' soon. What else it says is the former device's, whose address nobody may be masqueraded by any more.
        this.#write(has.index, units);
        has.isStale = true;
        this.#writeFlags(ifindex, has);
      }
      throw error;
    }
  }

  /** Nobody needs the device any more; the slot is free a grace period after the next flush. */
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

  #replace(ifindex: number, device: HostSlotDevice, units: HostUnitNumbers): number {
    const index = this.#indexes.take();
    if (index === undefined) throw mapFull('tortie_hosts', `${this.#maps.hosts.length - 1} slots`);
    const { mac, masquerade4, masquerade6 } = device;
    const flags = this.#flags(ifindex, { device, isStale: false });
    this.#maps.hosts.value(index).set(HostSlot.encode({ unit: units, ifindex, flags, mac, masquerade4, masquerade6 }));
    const slot = { index, device, isNamed: false, isStale: false };
    try {
      this.#name(ifindex, slot);
    } catch (error) {
      this.#indexes.give(index); // Nobody has seen it.
      throw error;
    }
    const former = this.#byIfindex.get(ifindex);
    this.#byIfindex.set(ifindex, slot);
    if (former !== undefined) this.#afterFlush.add(() => this.#indexes.give(former.index));
    return index;
  }

  #flags(ifindex: number, { device: { hasEthernet }, isStale }: Pick<Slot, 'device' | 'isStale'>): number {
    const { hostWithoutEthernet, hostDirect, hostShared } = flowConstants;
    return (
      (hasEthernet ? 0 : hostWithoutEthernet) |
      (this.#direct.has(ifindex) && !isStale ? hostDirect : 0) |
      (this.#shared.has(ifindex) ? hostShared : 0)
    );
  }

  #writeFlags(ifindex: number, slot: Slot): void {
    this.#maps.hosts.store32(slot.index, HostSlot.offsets.flags, this.#flags(ifindex, slot));
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
  a.hasEthernet === b.hasEthernet &&
  isEqual(a.mac, b.mac) &&
  isEqual(a.masquerade4, b.masquerade4) &&
  isEqual(a.masquerade6, b.masquerade6);

const isEqual = (a: Uint8Array, b: Uint8Array): boolean => a.every((byte, index) => byte === b[index]);
