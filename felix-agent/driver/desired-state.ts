import type { DataplaneConfig, DataplaneUpdate, EndpointId, WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import type {
  HostEndpointInfo,
  PolicyId,
  PolicyInfo,
  ProfileId,
  ProfileInfo,
  SetId,
  SetType,
} from '#dataplanes/policy.ts';
import type { ServiceId } from '#dataplanes/services.ts';
import type { PolicyView, SetView } from '../explain/policy-view.ts';

/**
 * What calc has said so far, merged: the present value of each object. A programmer that joins late is told everything from here, and
 * people's questions (`policy show`, `explain`) are answered from the same data.
 */
export class DesiredState implements PolicyView {
  /** Messages of which the last one per object says all, in groups that are replayed in this order. */
  readonly #hosts = new Map<string, DataplaneUpdate>();
  readonly #pools = new Map<string, DataplaneUpdate>();
  readonly #routes = new Map<string, DataplaneUpdate>();
  readonly #services = new Map<ServiceId, DataplaneUpdate>();
  readonly #sets = new Map<SetId, AnnouncedSet>();
  readonly #policies = new Map<PolicyId, PolicyInfo>();
  readonly #profiles = new Map<ProfileId, ProfileInfo>();
  readonly #endpoints = new Map<EndpointId, WorkloadEndpointInfo>();
  readonly #hostEndpoints = new Map<string, HostEndpointInfo>();
  #config: DataplaneConfig | undefined;
  #serviceRanges: DataplaneUpdate | undefined;
  #inSync = false;

  record(update: DataplaneUpdate): void {
    switch (update.type) {
      case 'configUpdate':
        this.#config = update.config;
        break;
      case 'hostUpdate':
        this.#hosts.set(update.node, update);
        break;
      case 'hostRemove':
        this.#hosts.delete(update.node);
        break;
      case 'poolUpdate':
        this.#pools.set(update.id, update);
        break;
      case 'poolRemove':
        this.#pools.delete(update.id);
        break;
      case 'routeUpdate':
        this.#routes.set(update.route.dst, update);
        break;
      case 'routeRemove':
        this.#routes.delete(update.dst);
        break;
      case 'serviceRangesUpdate':
        this.#serviceRanges = update;
        break;
      case 'serviceUpdate':
        this.#services.set(update.id, update);
        break;
      case 'serviceRemove':
        this.#services.delete(update.id);
        break;
      case 'ipSetUpdate':
        this.#sets.set(update.id, new AnnouncedSet(update));
        break;
      case 'ipSetDelta':
        this.#sets.get(update.id)?.apply(update);
        break;
      case 'ipSetRemove':
        this.#sets.delete(update.id);
        break;
      case 'policyUpdate':
        this.#policies.set(update.id, update.policy);
        break;
      case 'policyRemove':
        this.#policies.delete(update.id);
        break;
      case 'profileUpdate':
        this.#profiles.set(update.id, update.profile);
        break;
      case 'profileRemove':
        this.#profiles.delete(update.id);
        break;
      case 'workloadEndpointUpdate':
        this.#endpoints.set(update.id, update.endpoint);
        break;
      case 'workloadEndpointRemove':
        this.#endpoints.delete(update.id);
        break;
      case 'hostEndpointUpdate':
        this.#hostEndpoints.set(update.id, update.endpoint);
        break;
      case 'hostEndpointRemove':
        this.#hostEndpoints.delete(update.id);
        break;
      case 'inSync':
        this.#inSync = true;
        break;
    }
  }

  /** Everything, in the order in which calc says it, and `inSync` if it has been said. */
  *replay(): Generator<DataplaneUpdate> {
    if (this.#config !== undefined) yield { type: 'configUpdate', config: this.#config };
    yield* this.#hosts.values();
    yield* this.#pools.values();
    yield* this.#routes.values();
    if (this.#serviceRanges !== undefined) yield this.#serviceRanges;
    yield* this.#services.values();
    for (const set of this.#sets.values()) yield set.update();
    for (const [id, profile] of this.#profiles) yield { type: 'profileUpdate', id, profile };
    for (const [id, policy] of this.#policies) yield { type: 'policyUpdate', id, policy };
    for (const [id, endpoint] of this.#endpoints) yield { type: 'workloadEndpointUpdate', id, endpoint };
    for (const [id, endpoint] of this.#hostEndpoints) yield { type: 'hostEndpointUpdate', id, endpoint };
    if (this.#inSync) yield { type: 'inSync' };
  }

  config(): DataplaneConfig | undefined {
    return this.#config;
  }

  set(id: SetId): SetView | undefined {
    return this.#sets.get(id);
  }

  sets(): Iterable<readonly [SetId, SetView]> {
    return this.#sets;
  }

  /** How many sets are announced. */
  get setCount(): number {
    return this.#sets.size;
  }

  policy(id: PolicyId): PolicyInfo | undefined {
    return this.#policies.get(id);
  }

  profile(id: ProfileId): ProfileInfo | undefined {
    return this.#profiles.get(id);
  }

  endpoint(id: EndpointId): WorkloadEndpointInfo | undefined {
    return this.#endpoints.get(id);
  }

  endpoints(): Iterable<readonly [EndpointId, WorkloadEndpointInfo]> {
    return this.#endpoints;
  }

  hostEndpoints(): Iterable<readonly [string, HostEndpointInfo]> {
    return this.#hostEndpoints;
  }
}

/** A set with the deltas merged in. */
class AnnouncedSet implements SetView {
  readonly #id: SetId;
  readonly type: SetType;
  readonly about?: string;
  readonly #members: Set<string>;

  constructor({ id, setType, members, about }: Extract<DataplaneUpdate, { readonly type: 'ipSetUpdate' }>) {
    this.#id = id;
    this.type = setType;
    this.#members = new Set(members);
    if (about !== undefined) this.about = about;
  }

  get members(): ReadonlySet<string> {
    return this.#members;
  }

  apply({ added, removed }: Extract<DataplaneUpdate, { readonly type: 'ipSetDelta' }>): void {
    for (const member of removed) this.#members.delete(member);
    for (const member of added) this.#members.add(member);
  }

  update(): DataplaneUpdate {
    const { type, about } = this;
    const base = { type: 'ipSetUpdate', id: this.#id, setType: type, members: [...this.#members] } as const;
    return about === undefined ? base : { ...base, about };
  }
}
