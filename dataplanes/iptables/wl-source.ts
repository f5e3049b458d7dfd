import { familyOf } from '#api/cidr.ts';
import type { Family } from '#native/types.ts';
import type { DataplaneConfig, EndpointId, WorkloadEndpointInfo } from '../messages.ts';
import { netMembers, setName } from '../netfilter/ipsets.ts';

/** The set of {address, device} pairs: what may come from which pod device. */
export const wlSourceSet = (family: Family): string => setName(family, 'wl-src');

/** One member of a family's set. */
export interface SourceMember {
  readonly family: Family;
  readonly member: string;
}

/**
 * Which sources each announced endpoint may send from, as set members. Two endpoints may name the same pair (a pod's successor is
 * announced before it is removed): the pair stays until the last one goes.
 */
export class WorkloadSources {
  readonly #endpoints = new Map<EndpointId, WorkloadEndpointInfo>();
  readonly #owners = new Map<string, Set<EndpointId>>();
  #spoofing: DataplaneConfig['workloadSourceSpoofing'] = 'disabled';

  /** Announces, replaces or (undefined) removes an endpoint; returns what changes in the sets. */
  set(id: EndpointId, endpoint: WorkloadEndpointInfo | undefined): { add: SourceMember[]; remove: SourceMember[] } {
    const before = this.#members(this.#endpoints.get(id));
    const after = this.#members(endpoint);
    if (endpoint === undefined) this.#endpoints.delete(id);
    else this.#endpoints.set(id, endpoint);
    const add: SourceMember[] = [];
    const remove: SourceMember[] = [];
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

  /** Changes workloadSourceSpoofing; returns what changes in the sets. */
  setSpoofing(spoofing: DataplaneConfig['workloadSourceSpoofing']): { add: SourceMember[]; remove: SourceMember[] } {
    if (spoofing === this.#spoofing) return { add: [], remove: [] };
    const all = [...this.#endpoints];
    const removed = all.flatMap(([id]) => this.set(id, undefined).remove);
    this.#spoofing = spoofing;
    const added = all.flatMap(([id, endpoint]) => this.set(id, endpoint).add);
    const [stays, was] = [new Set(added.map(keyOf)), new Set(removed.map(keyOf))];
    return { add: added.filter((m) => !was.has(keyOf(m))), remove: removed.filter((m) => !stays.has(keyOf(m))) };
  }

  /** The members of one announced endpoint, to tell whose a refused one is. */
  of(id: EndpointId): readonly SourceMember[] {
    return [...this.#members(this.#endpoints.get(id)).values()];
  }

  /** All members of one family. */
  all(family: Family): readonly SourceMember[] {
    return [...this.#endpoints.keys()].flatMap((id) => this.of(id)).filter((source) => source.family === family);
  }

  #members(endpoint: WorkloadEndpointInfo | undefined): Map<string, SourceMember> {
    if (endpoint === undefined) return new Map();
    const { ipv4Nets, ipv6Nets, allowedSourcePrefixes, ifaceName } = endpoint;
    const nets = [...ipv4Nets, ...ipv6Nets, ...(this.#spoofing === 'any' ? allowedSourcePrefixes : [])];
    const members = nets.flatMap((net) =>
      netMembers(net).map((part): SourceMember => ({
        family: familyOf(net),
        member: `${part},${ifaceName}`,
      })),
    );
    return new Map(members.map((member) => [keyOf(member), member]));
  }
}

const keyOf = ({ family, member }: SourceMember): string => `${family} ${member}`;
