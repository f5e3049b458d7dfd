import { familyOf } from '#api/cidr.ts';
import type { Family } from '#native/types.ts';
import type { DataplaneConfig, EndpointId, WorkloadEndpointInfo } from '../messages.ts';
import { netMembers, setName } from '../netfilter/ipsets.ts';
import { unitSetName } from './render/names.ts';

/** The set of {address, device} pairs: what may come from which pod device. */
export const wlSourceSet = (family: Family): string => setName(family, 'wl-src');

/** One member of a kernel set. */
export interface EndpointMember {
  readonly family: Family;
  readonly set: string;
  readonly member: string;
}

export interface MemberChanges {
  readonly add: readonly EndpointMember[];
  readonly remove: readonly EndpointMember[];
}

interface Announced {
  readonly endpoint: WorkloadEndpointInfo;
  readonly unitId: string;
}

/**
 * The {address, device} pairs of each announced endpoint, as members of two sets: the sources that may be, and its policy unit's. Two
 * endpoints may name the same pair (a pod's successor is announced before it is removed): it stays until the last one goes.
 */
export class EndpointMembers {
  readonly #endpoints = new Map<EndpointId, Announced>();
  readonly #owners = new Map<string, Set<EndpointId>>();
  #spoofing: DataplaneConfig['workloadSourceSpoofing'] = 'disabled';

  /** Announces or replaces an endpoint; returns what changes in the sets. */
  set(id: EndpointId, endpoint: WorkloadEndpointInfo, unitId: string): MemberChanges {
    return this.#change(id, { endpoint, unitId });
  }

  remove(id: EndpointId): MemberChanges {
    return this.#change(id, undefined);
  }

  /** Changes workloadSourceSpoofing; returns what changes in the sets. */
  setSpoofing(spoofing: DataplaneConfig['workloadSourceSpoofing']): MemberChanges {
    if (spoofing === this.#spoofing) return { add: [], remove: [] };
    const all = [...this.#endpoints];
    const removed = all.flatMap(([id]) => this.#change(id, undefined).remove);
    this.#spoofing = spoofing;
    const added = all.flatMap(([id, announced]) => this.#change(id, announced).add);
    const [stays, was] = [new Set(added.map(keyOf)), new Set(removed.map(keyOf))];
    return { add: added.filter((m) => !was.has(keyOf(m))), remove: removed.filter((m) => !stays.has(keyOf(m))) };
  }

  /** The members of one announced endpoint, to tell whose a refused one is. */
  of(id: EndpointId): readonly EndpointMember[] {
    return [...this.#members(this.#endpoints.get(id)).values()];
  }

  #change(id: EndpointId, announced: Announced | undefined): MemberChanges {
    const before = this.#members(this.#endpoints.get(id));
    const after = this.#members(announced);
    if (announced === undefined) this.#endpoints.delete(id);
    else this.#endpoints.set(id, announced);
    const add: EndpointMember[] = [];
    const remove: EndpointMember[] = [];
    for (const [key, member] of after) {
      const owners = this.#owners.get(key) ?? new Set();
      if (owners.size === 0) add.push(member);
      this.#owners.set(key, owners.add(id));
    }
    for (const [key, member] of before) {
      if (after.has(key)) continue;
      const owners = this.#owners.get(key);
      owners?.delete(id);
      if (owners?.size !== 0) continue;
      this.#owners.delete(key);
      remove.push(member);
    }
    return { add, remove };
  }

  #members(announced: Announced | undefined): Map<string, EndpointMember> {
    const all = new Map<string, EndpointMember>();
    if (announced === undefined) return all;
    const { ipv4Nets, ipv6Nets, allowedSourcePrefixes, ifaceName } = announced.endpoint;
    const nets = [...ipv4Nets, ...ipv6Nets, ...(this.#spoofing === 'any' ? allowedSourcePrefixes : [])];
    for (const net of nets) {
      const family = familyOf(net);
      for (const part of netMembers(net)) {
        for (const set of [wlSourceSet(family), unitSetName(family, announced.unitId)]) {
          const member = { family, set, member: `${part},${ifaceName}` };
          all.set(keyOf(member), member);
        }
      }
    }
    return all;
  }
}

const keyOf = ({ set, member }: EndpointMember): string => `${set} ${member}`;
