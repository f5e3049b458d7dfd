import { messageOf } from '#api/errors.ts';
import { flowConstants } from '../bpf-types.gen.ts';
import type { HostEndpointInfo } from '../../policy.ts';
import type { ApplyFailure } from '../../contract.ts';
import { DENY, forPods, HostUnits, type HostUnitNumbers, traitsOf } from './host-units.ts';
import type { HostDevice } from './host-devices.ts';
import { type HostSlots, PODS, PODS_DEVICE } from './host-slots.ts';
import type { NodeMaps } from '../node-maps.ts';

type Maps = Pick<NodeMaps, 'classifier' | 'flush' | 'setHosts'> & {
  readonly hostSlots: Pick<HostSlots, 'store' | 'release' | 'ifindexes'>;
};

/**
 * Host endpoints in one agent's maps. The order, as pods': units acquired, flush, numbers stored into the slots of their devices, former units
 * released, flush. A unit that can't be made denies: its host endpoint has failed, and what it would have judged is refused.
 */
export class HostTables {
  readonly #maps: Maps;
  readonly #units: HostUnits;
  readonly #wanted = new Map<string, HostEndpointInfo>();
  /** Host endpoints whose units aren't those of what they are. */
  readonly #dirty = new Set<string>();
  readonly #prepared = new Set<string>();
  /** Host endpoints whose slots deny in the place of a unit that had no number when they were written, and why. */
  readonly #denied = new Map<string, string>();
  /** The devices on which everything is in force; undefined: something isn't, or not as it should be. */
  #inForceOn: readonly HostDevice[] | undefined;

  constructor(maps: Maps) {
    this.#maps = maps;
    this.#units = new HostUnits(maps.classifier);
  }

  /** Announces, replaces or (undefined) removes a host endpoint. */
  set(id: string, endpoint: HostEndpointInfo | undefined): void {
    this.#dirty.add(id);
    if (endpoint === undefined) this.#wanted.delete(id);
    else this.#wanted.set(id, endpoint);
  }

  /** Something is in the maps, or should be. */
  get hasAny(): boolean {
    return (
      this.#dirty.size + this.#prepared.size + this.#units.known.length + this.#maps.hostSlots.ifindexes.length > 0
    );
  }

  /** Nothing is to be done as long as these are the devices: the very list that was last committed. */
  isInForceOn(devices: readonly HostDevice[]): boolean {
    return this.#inForceOn === devices && this.#dirty.size + this.#prepared.size === 0;
  }

  /** Takes the units of what has changed, and makes them. Throws what the maps say; call it again. */
  async prepare(): Promise<void> {
    for (const id of this.#dirty) {
      const endpoint = this.#wanted.get(id);
      if (endpoint !== undefined) {
        this.#units.prepare(id, endpoint);
        this.#prepared.add(id);
      }
      this.#dirty.delete(id);
    }
    if (this.#prepared.size > 0) await this.#maps.flush();
  }

  /** Brings what was prepared into force on these devices. `everywhere`: the host endpoint whose say pods' devices have too. */
  async commit(devices: readonly HostDevice[], everywhere: string | undefined): Promise<readonly ApplyFailure[]> {
    this.#inForceOn = undefined;
    this.#denied.clear();
    const failed = new Map<string, string>();
    const fail = (object: string, reason: string): void => void failed.set(object, failed.get(object) ?? reason);
    const has = new Set<number>();
    const inForce = new Set<string>();
    for (const { ifindex, name, endpoint, device } of devices) {
      has.add(ifindex);
      if (endpoint !== undefined) inForce.add(endpoint);
      try {
        // A device without a slot lets everything pass at once; one without a host endpoint has one that asks nothing.
        const numbers = endpoint === undefined ? NOTHING_ASKED : this.#numbers(endpoint);
        this.#maps.hostSlots.store(ifindex, device, numbers);
      } catch (error) {
        if (endpoint === undefined) fail(`device ${name}`, messageOf(error));
        else fail(`host endpoint ${endpoint}`, `its device ${name}: ${messageOf(error)}`);
      }
    }
    const podsHost = everywhere === undefined ? 0 : this.#storePods(everywhere, fail);
    if (everywhere !== undefined) inForce.add(everywhere);
    if (podsHost !== 0) has.add(PODS);
    const traits = [...inForce].flatMap((id) => {
      const endpoint = this.#wanted.get(id);
      return endpoint === undefined ? [] : [traitsOf(endpoint)];
    });
    this.#maps.setHosts({
      forwardsIn: traits.some(({ forwardsIn }) => forwardsIn),
      forwardsOut: traits.some(({ forwardsOut }) => forwardsOut),
      podsHost,
    });
    let isFreed = false;
    for (const ifindex of this.#maps.hostSlots.ifindexes) {
      if (has.has(ifindex)) continue;
      this.#maps.hostSlots.release(ifindex);
      isFreed = true;
    }
    for (const id of this.#prepared) {
      this.#units.commit(id);
      isFreed = true;
    }
    this.#prepared.clear();
    for (const id of this.#units.known) {
      if (this.#wanted.has(id)) continue;
      this.#units.remove(id);
      isFreed = true;
    }
    if (isFreed) await this.#maps.flush();
    if (failed.size === 0 && this.failures.length === 0) this.#inForceOn = devices;
    return [...failed].map(([object, reason]) => ({ object, reason }));
  }

  /** Host endpoints one of whose units denies everything because it could not be made, after whatever flush, or had no number when slots were written. */
  get failures(): readonly ApplyFailure[] {
    return [...this.#wanted.keys()].flatMap((id) => {
      const reason = this.#units.failure(id) ?? this.#denied.get(id);
      return reason === undefined ? [] : [{ object: `host endpoint ${id}`, reason }];
    });
  }

  /** To be stored now. */
  #numbers(id: string): HostUnitNumbers {
    const numbers = this.#units.numbers(id);
    // It may get one by any flush, and then they have to be stored again.
    if (numbers.includes(DENY)) this.#denied.set(id, this.#units.failure(id) ?? 'one of its units has no number yet');
    return numbers;
  }

  /** Its slot; 0: it has no say in what pods forward. */
  #storePods(id: string, fail: (object: string, reason: string) => void): number {
    const numbers = forPods(this.#numbers(id));
    if (numbers.every((number) => number === 0)) return 0;
    try {
      return this.#maps.hostSlots.store(PODS, PODS_DEVICE, numbers);
    } catch (error) {
      fail(`host endpoint ${id}`, `pods' devices: ${messageOf(error)}`);
      return 0;
    }
  }
}

const NOTHING_ASKED: HostUnitNumbers = Array.from({ length: flowConstants.hostUnits }, () => 0);
