/** A dataplane that believes what it is told, and refuses what calc may never say. For tests. */
import assert from 'node:assert/strict';
import type { DataplaneUpdate, WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import type { HostEndpointInfo, PolicyInfo, ProfileInfo, RuleInfo, SetType, TierInfo } from '#dataplanes/policy.ts';
import type { ServiceInfo } from '#dataplanes/services.ts';

/** What a dataplane knows of policy and services, in a form that compares. */
export interface PolicyState {
  readonly sets: Record<string, { readonly type: SetType; readonly members: readonly string[] }>;
  readonly policies: Record<string, PolicyInfo>;
  readonly profiles: Record<string, ProfileInfo>;
  readonly endpoints: Record<string, WorkloadEndpointInfo>;
  readonly hostEndpoints: Record<string, HostEndpointInfo>;
  readonly serviceRanges: readonly string[];
  readonly services: Record<string, ServiceInfo>;
}

/** Folds messages; throws where one refers to what was not announced, takes away what is still used, or says nothing new. */
export class ModelDataplane {
  readonly #sets = new Map<string, { readonly type: SetType; readonly members: Set<string> }>();
  readonly #policies = new Map<string, PolicyInfo>();
  readonly #profiles = new Map<string, ProfileInfo>();
  readonly #endpoints = new Map<string, WorkloadEndpointInfo>();
  readonly #hostEndpoints = new Map<string, HostEndpointInfo>();
  readonly #services = new Map<string, ServiceInfo>();
  #serviceRanges: readonly string[] = [];

  tell(updates: readonly DataplaneUpdate[]): void {
    for (const update of updates) this.#tell(update);
  }

  state(): PolicyState {
    const sets = [...this.#sets].map(([id, { type, members }]) => [id, { type, members: [...members].sort() }]);
    return {
      sets: Object.fromEntries(sets) as PolicyState['sets'],
      policies: Object.fromEntries(this.#policies),
      profiles: Object.fromEntries(this.#profiles),
      endpoints: Object.fromEntries(this.#endpoints),
      hostEndpoints: Object.fromEntries(this.#hostEndpoints),
      serviceRanges: this.#serviceRanges,
      services: Object.fromEntries(this.#services),
    };
  }

  #tell(update: DataplaneUpdate): void {
    switch (update.type) {
      case 'ipSetUpdate':
        assert(!this.#sets.has(update.id), `set ${update.id} is announced again instead of a delta`);
        assert.equal(new Set(update.members).size, update.members.length, 'a member stands in a set twice');
        this.#sets.set(update.id, { type: update.setType, members: new Set(update.members) });
        break;
      case 'ipSetDelta': {
        const members = this.#sets.get(update.id)?.members;
        assert(members !== undefined, `delta of set ${update.id}, which was not announced`);
        assert(update.added.length + update.removed.length > 0, 'an empty delta');
        for (const member of update.removed) assert(members.delete(member), `${member} was not in ${update.id}`);
        for (const member of update.added) {
          assert(!members.has(member), `${member} was in ${update.id}`);
          members.add(member);
        }
        break;
      }
      case 'ipSetRemove':
        assert(this.#sets.delete(update.id), `set ${update.id} was not announced`);
        for (const [id, policy] of [...this.#policies, ...this.#profiles]) {
          assert(!setIds(policy).includes(update.id), `set ${update.id} goes while ${id} refers to it`);
        }
        break;
      case 'policyUpdate':
        this.#announce(this.#policies, update.id, update.policy);
        this.#checkSets(update.id, update.policy);
        break;
      case 'policyRemove':
        assert(this.#policies.delete(update.id), `policy ${update.id} was not announced`);
        for (const endpoint of [...this.#endpoints.values(), ...this.#hostEndpoints.values()]) {
          assert(!policyIds(endpoint).includes(update.id), `policy ${update.id} goes while an endpoint has it`);
        }
        break;
      case 'profileUpdate':
        this.#announce(this.#profiles, update.id, update.profile);
        this.#checkSets(update.id, update.profile);
        break;
      case 'profileRemove':
        assert(this.#profiles.delete(update.id), `profile ${update.id} was not announced`);
        break;
      case 'workloadEndpointUpdate':
        this.#announce(this.#endpoints, update.id, update.endpoint);
        this.#checkPolicies(update.id, update.endpoint);
        break;
      case 'workloadEndpointRemove':
        assert(this.#endpoints.delete(update.id), `endpoint ${update.id} was not announced`);
        break;
      case 'hostEndpointUpdate':
        this.#announce(this.#hostEndpoints, update.id, update.endpoint);
        this.#checkPolicies(update.id, update.endpoint);
        break;
      case 'hostEndpointRemove':
        assert(this.#hostEndpoints.delete(update.id), `host endpoint ${update.id} was not announced`);
        break;
      case 'serviceUpdate':
        this.#announce(this.#services, update.id, update.service);
        break;
      case 'serviceRemove':
        assert(this.#services.delete(update.id), `service ${update.id} was not announced`);
        break;
      case 'serviceRangesUpdate':
        assert.notDeepEqual(update.cidrs, this.#serviceRanges);
        this.#serviceRanges = update.cidrs;
        break;
      default:
    }
  }

  #announce<T>(known: Map<string, T>, id: string, value: T): void {
    assert.notDeepEqual(known.get(id), value, `${id} is announced although nothing has changed`);
    known.set(id, value);
  }

  #checkSets(id: string, rules: PolicyInfo | ProfileInfo): void {
    for (const set of setIds(rules)) assert(this.#sets.has(set), `${id} refers to set ${set}, which was not announced`);
  }

  #checkPolicies(id: string, endpoint: WorkloadEndpointInfo | HostEndpointInfo): void {
    for (const policy of policyIds(endpoint)) {
      assert(this.#policies.has(policy), `${id} refers to ${policy}, which was not announced`);
    }
  }
}

/** Every set that the rules refer to. */
export function setIds({ ingress, egress }: PolicyInfo | ProfileInfo): string[] {
  return [...ingress, ...egress].flatMap(({ source, destination }: RuleInfo) =>
    [source, destination].flatMap((peer) => [
      ...peer.sets,
      ...peer.notSets,
      ...peer.portSets,
      ...peer.notPortSets,
      ...peer.ipPortSets,
    ]),
  );
}

/** Every policy that the endpoint has in one of its lists. */
export function policyIds(endpoint: WorkloadEndpointInfo | HostEndpointInfo): string[] {
  const lists: readonly (readonly TierInfo[])[] =
    'mac' in endpoint
      ? [endpoint.tiers]
      : [endpoint.tiers, endpoint.forwardTiers, endpoint.preDnatTiers, endpoint.untrackedTiers];
  return lists.flat().flatMap(({ ingress, egress }) => [...ingress, ...egress]);
}
