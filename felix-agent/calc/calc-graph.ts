import { tryParseCidr } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import type { DataplaneConfig, DataplaneUpdate, EndpointId } from '#dataplanes/messages.ts';
import type { PolicyId, ProfileId } from '#dataplanes/policy.ts';
import { BlockRoutes } from './block-routes.ts';
import {
  convertProfile,
  namespaceProfileId,
  profileOfNamespace,
  profileOfServiceAccount,
  serviceAccountProfileId,
  type CalcProfile,
} from './convert/convert.ts';
import type { TierSource } from './convert/tiers.ts';
import { hostEndpoint, hostSource, networkSetSource } from './endpoints/object-states.ts';
import { Workloads, type LocalWorkload, type PublishedEndpoint } from './endpoints/workloads.ts';
import { hostInfo } from './hosts.ts';
import type { CalcPolicy } from './model.ts';
import { Pending } from './pending.ts';
import { PolicyResolver } from './policy/policy-resolver.ts';
import { Profiles } from './policy/profiles.ts';
import { sameData } from './same-data.ts';
import { ServiceRanges } from './service-ranges.ts';
import { Services } from './services/services.ts';
import { SlicesByService } from './services/slices-by-service.ts';
import { SetStore } from './sets/set-store.ts';

/** How much there is, for metrics. */
export interface CalcStats {
  /** Workload and host endpoints of this node. */
  readonly activeLocalEndpoints: number;
  /** Policies that apply to an endpoint of this node. */
  readonly activePolicies: number;
  /** Sets that rules of active policies and profiles use. */
  readonly activeSelectors: number;
  readonly hosts: number;
  /** In the whole cluster, as far as they are known. */
  readonly workloadEndpoints: number;
  readonly hostEndpoints: number;
  readonly policies: number;
  /** One a namespace, one a service account, and Profile objects. */
  readonly profiles: number;
  readonly tiers: number;
}

/**
 * Turns objects into dataplane messages: pure, incremental, in memory. Inputs may come in any order, be repeated or be squashed; the
 * state reached depends only on the last value of each. `flush` returns what changed since the last one, in an order in which nothing
 * refers to what was not announced: configuration, hosts, pools, routes, services, sets, policies and profiles, endpoints; what goes, goes the other
 * way round. Endpoints that are gone come first of all, since their addresses may already be another's.
 */
export class CalcGraph {
  readonly #nodeName: string;
  readonly #routes: BlockRoutes;
  readonly #hosts = new Pending<'hostUpdate' | 'hostRemove'>();
  readonly #pools = new Pending<'poolUpdate' | 'poolRemove'>();
  readonly #serviceRanges = new ServiceRanges();
  readonly #slices = new SlicesByService();
  readonly #services: Services;
  readonly #sets = new SetStore(this.#slices);
  readonly #profiles = new Profiles(this.#sets);
  readonly #policies = new PolicyResolver(this.#sets, this.#profiles);
  readonly #workloads: Workloads;
  readonly #hostNames = new Set<string>();
  readonly #hostEndpoints = new Map<string, { readonly isHere: boolean }>();
  #localHostEndpoints = 0;
  #config: DataplaneConfig | undefined;
  #sentConfig: DataplaneConfig | undefined;
  #inSync: 'no' | 'due' | 'sent' = 'no';

  constructor(nodeName: string) {
    this.#nodeName = nodeName;
    this.#routes = new BlockRoutes(nodeName);
    this.#services = new Services(nodeName, this.#slices);
    this.#workloads = new Workloads(nodeName, {
      source: (id, state) => {
        // Ids of endpoints are keys as they are: other sources' have a space.
        if (state === undefined) this.#sets.removeSource(id);
        else this.#sets.setSource(id, state);
      },
      local: (id, state) =>
        this.#policies.setLocal('workload', id, state === undefined ? undefined : { kind: 'workload', id, ...state }),
    });
  }

  onConfig(config: DataplaneConfig): void {
    this.#config = config;
  }

  onNode(name: string, node: KindMap['Node'] | undefined): void {
    const host = node === undefined ? undefined : hostInfo(node);
    if (host === undefined) this.#hostNames.delete(name);
    else this.#hostNames.add(name);
    this.#routes.onHost(name, host);
    this.#hosts.set(name, host === undefined ? undefined : { type: 'hostUpdate', node: name, host }, {
      type: 'hostRemove',
      node: name,
    });
  }

  onPool(name: string, pool: KindMap['IPPool'] | undefined): void {
    const cidr = pool && tryParseCidr(pool.spec.cidr)?.text;
    this.#pools.set(name, cidr && { type: 'poolUpdate', id: name, pool: { cidr, masquerade: pool.spec.natOutgoing } }, {
      type: 'poolRemove',
      id: name,
    });
  }

  onBlock(name: string, block: KindMap['IPAMBlock'] | undefined): void {
    this.#routes.onBlock(name, block);
  }

  onBgpConfiguration(name: string, configuration: KindMap['BGPConfiguration'] | undefined): void {
    if (name === 'default') this.#serviceRanges.set(configuration);
  }

  /** `key` is `namespace/name`, here and below. */
  onPod(key: string, pod: KindMap['Pod'] | undefined): void {
    this.#workloads.onPod(key, pod);
  }

  /** A WorkloadEndpoint object, of any node. */
  onWorkloadEndpoint(key: string, endpoint: PublishedEndpoint | undefined): void {
    this.#workloads.onPublished(key, endpoint);
  }

  /** One of this node's endpoints, as the plugin has made it. */
  onLocalEndpoint(id: EndpointId, endpoint: LocalWorkload | undefined): void {
    this.#workloads.onLocal(id, endpoint);
  }

  onHostEndpoint(name: string, object: KindMap['HostEndpoint'] | undefined): void {
    const isHere = object?.spec.node === this.#nodeName;
    const wasHere = this.#hostEndpoints.get(name)?.isHere === true;
    if (object === undefined) {
      this.#hostEndpoints.delete(name);
      this.#sets.removeSource(`host ${name}`);
    } else {
      this.#hostEndpoints.set(name, { isHere });
      this.#sets.setSource(`host ${name}`, hostSource(object));
    }
    if (isHere !== wasHere) this.#localHostEndpoints += isHere ? 1 : -1;
    if (isHere || wasHere) {
      this.#policies.setLocal('host', name, isHere && object !== undefined ? hostEndpoint(object) : undefined);
    }
  }

  onNetworkSet(key: string, object: KindMap['NetworkSet'] | undefined): void {
    this.#setNetworkSet(`networkset ${key}`, object);
  }

  onGlobalNetworkSet(name: string, object: KindMap['GlobalNetworkSet'] | undefined): void {
    this.#setNetworkSet(`globalnetworkset ${name}`, object);
  }

  onNamespace(name: string, object: KindMap['Namespace'] | undefined): void {
    this.#setProfile(namespaceProfileId(name), object === undefined ? undefined : profileOfNamespace(object));
  }

  onServiceAccount(namespace: string, name: string, object: KindMap['ServiceAccount'] | undefined): void {
    const id = serviceAccountProfileId(namespace, name);
    this.#setProfile(id, object === undefined ? undefined : profileOfServiceAccount(object));
  }

  /** A Profile object. Those of namespaces and service accounts are derived, whatever objects of their names say. */
  onProfile(name: string, object: KindMap['Profile'] | undefined): void {
    if (name.startsWith('kns.') || name.startsWith('ksa.')) return;
    this.#setProfile(name, object === undefined ? undefined : convertProfile(object));
  }

  onTier(name: string, tier: TierSource | undefined): void {
    this.#policies.setTier(name, tier);
  }

  onPolicy(id: PolicyId, policy: CalcPolicy | undefined): void {
    this.#policies.setPolicy(id, policy);
  }

  onEndpointSlice(key: string, slice: KindMap['EndpointSlice'] | undefined): void {
    const change = this.#slices.set(key, slice);
    this.#sets.onEndpointSlice(change);
    this.#services.onSlice(change);
  }

  onService(key: string, service: KindMap['Service'] | undefined): void {
    this.#services.onService(key, service);
  }

  /** Every input has been given once: what isn't known by now does not exist. */
  onInSync(): void {
    if (this.#inSync === 'no') this.#inSync = 'due';
  }

  flush(): readonly DataplaneUpdate[] {
    // Policies and profiles take and release sets, so what they have to say is known first.
    const policies = this.#policies.takePolicies();
    const profiles = this.#profiles.take();
    const sets = this.#sets.take();
    const endpoints = this.#policies.takeEndpoints();
    const services = this.#services.take();
    const routes = this.#routes.take();
    const pools = this.#pools.take();
    const hosts = this.#hosts.take();
    return [
      ...this.#takeConfig(),
      ...endpoints.removals,
      ...services.removals,
      ...routes.removals,
      ...pools.removals,
      ...hosts.removals,
      ...hosts.additions,
      ...pools.additions,
      ...routes.additions,
      ...this.#serviceRanges.take(),
      ...services.additions,
      ...sets.updates,
      ...profiles.additions,
      ...policies.additions,
      ...endpoints.additions,
      ...policies.removals,
      ...profiles.removals,
      ...sets.removals,
      ...this.#takeInSync(),
    ];
  }

  /** By object, what of it could not be converted and is left out or replaced by a denial. */
  problems(): ReadonlyMap<string, readonly string[]> {
    return new Map([...this.policyProblems(), ...this.#services.problems()]);
  }

  /** Those of policies and profiles: what isn't enforced as it is written. */
  policyProblems(): ReadonlyMap<string, readonly string[]> {
    return new Map([...this.#policies.problems(), ...this.#profiles.problems()]);
  }

  /** Are the problems of Services others than when this was asked last? Those of policies and profiles change only with the objects themselves. */
  takeServiceProblemsChanged(): boolean {
    return this.#services.takeProblemsChanged();
  }

  stats(): CalcStats {
    return {
      activeLocalEndpoints: this.#workloads.localCount + this.#localHostEndpoints,
      activePolicies: this.#policies.activePolicyCount,
      activeSelectors: this.#sets.count,
      hosts: this.#hostNames.size,
      workloadEndpoints: this.#workloads.count,
      hostEndpoints: this.#hostEndpoints.size,
      policies: this.#policies.policyCount,
      profiles: this.#profiles.givenCount,
      tiers: this.#policies.tierCount,
    };
  }

  #setNetworkSet(id: string, object: KindMap['NetworkSet'] | KindMap['GlobalNetworkSet'] | undefined): void {
    if (object === undefined) this.#sets.removeSource(id);
    else this.#sets.setSource(id, networkSetSource(object));
  }

  #setProfile(id: ProfileId, profile: CalcProfile | undefined): void {
    this.#profiles.set(id, profile);
    this.#sets.setLayer(id, profile?.labels);
    this.#policies.setLayer(id, profile?.labels);
  }

  #takeConfig(): readonly DataplaneUpdate[] {
    if (this.#config === undefined || sameData(this.#config, this.#sentConfig)) return [];
    this.#sentConfig = this.#config;
    return [{ type: 'configUpdate', config: this.#config }];
  }

  #takeInSync(): readonly DataplaneUpdate[] {
    if (this.#inSync !== 'due') return [];
    this.#inSync = 'sent';
    return [{ type: 'inSync' }];
  }
}
