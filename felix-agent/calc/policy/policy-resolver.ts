import type { DataplaneUpdate, EndpointId, WorkloadDevice } from '#dataplanes/messages.ts';
import type { HostEndpointInfo, PolicyId, ProfileId } from '#dataplanes/policy.ts';
import type { TierSource } from '../convert/tiers.ts';
import { LabelIndex, type LabelRecord, type LabelSources } from '../labels/label-index.ts';
import type { CalcPolicy } from '../model.ts';
import { Pending, type Changes } from '../pending.ts';
import type { SetStore } from '../sets/set-store.ts';
import { AnnouncedRules, type RuleMessage } from './announced-rules.ts';
import { PolicyOrder, type Ranked } from './policy-order.ts';
import type { Profiles, ProfileUser } from './profiles.ts';
import { ruleInfos } from './rule-info.ts';
import { appliesToHosts, appliesToWorkloads, hostTiers, workloadTiers } from './tier-lists.ts';

/** An endpoint of this node before it meets policy. */
export type LocalEndpoint = {
  readonly labels: LabelSources;
  readonly profiles: readonly ProfileId[];
  readonly profileUser: ProfileUser;
} & (
  | { readonly kind: 'workload'; readonly id: EndpointId; readonly device: WorkloadDevice }
  | { readonly kind: 'host'; readonly id: string; readonly device: HostDevice }
);

/** What of a host endpoint is not policy. */
export type HostDevice = Pick<HostEndpointInfo, 'ifaceName' | 'expectedIps'>;

type EndpointMessage =
  | 'workloadEndpointUpdate'
  | 'workloadEndpointRemove'
  | 'hostEndpointUpdate'
  | 'hostEndpointRemove';

/**
 * Which policies each of this node's endpoints meets, and thereby which policies are in use. A policy's change touches the endpoints
 * that it selects, a label's change the policies that look at it.
 */
export class PolicyResolver {
  readonly #profiles: Profiles;
  readonly #order = new PolicyOrder();
  readonly #policies = new Map<PolicyId, Entry>();
  readonly #locals = new Map<string, Local>();
  readonly #announced: AnnouncedRules;
  readonly #endpoints = new Pending<EndpointMessage>();
  readonly #dirtyPolicies = new Set<PolicyId>();
  readonly #dirtyLocals = new Set<string>();
  readonly #index = new LabelIndex<Entry, Local>({
    started: (entry, local) => this.#started(entry, local),
    stopped: (entry, local) => this.#stopped(entry, local),
  });

  constructor(sets: SetStore, profiles: Profiles) {
    this.#announced = new AnnouncedRules(sets);
    this.#profiles = profiles;
  }

  get policyCount(): number {
    return this.#policies.size;
  }

  get activePolicyCount(): number {
    return this.#announced.count;
  }

  get tierCount(): number {
    return this.#order.tierCount;
  }

  /** What could not be converted. */
  *problems(): Generator<readonly [PolicyId, readonly string[]]> {
    for (const [id, { policy }] of this.#policies) if (policy.problems.length > 0) yield [id, policy.problems];
  }

  setTier(name: string, tier: TierSource | undefined): void {
    this.#order.setTier(name, tier);
    for (const [key, { policies }] of this.#locals) {
      for (const { policy } of policies) {
        if (policy.tier !== name) continue;
        this.#dirtyLocals.add(key);
        break;
      }
    }
  }

  setPolicy(id: PolicyId, policy: CalcPolicy | undefined): void {
    const entry = this.#policies.get(id);
    if (policy === undefined) {
      if (entry !== undefined) this.#removePolicy(id, entry);
    } else if (entry === undefined) {
      const added = new Entry(policy);
      this.#policies.set(id, added);
      this.#index.addSelector(added, policy.selector);
    } else if (entry.policy.selector.text === policy.selector.text && sameReach(entry.policy, policy)) {
      entry.policy = policy;
      this.#order.touch();
      if (entry.users > 0) this.#dirtyPolicies.add(id);
      for (const local of this.#index.itemsOf(entry)) this.#dirtyLocals.add(local.key);
    } else {
      this.#removePolicy(id, entry);
      this.setPolicy(id, policy);
    }
  }

  setLayer(id: ProfileId, labels: LabelRecord | undefined): void {
    this.#index.setLayer(id, labels);
  }

  setLocal(kind: LocalEndpoint['kind'], id: string, endpoint: LocalEndpoint | undefined): void {
    const key = `${kind} ${id}`;
    let local = this.#locals.get(key);
    this.#dirtyLocals.add(key);
    if (endpoint === undefined) {
      if (local === undefined) return;
      this.#locals.delete(key);
      this.#index.removeItem(local);
      this.#profiles.release(local.endpoint.profiles, local.endpoint.profileUser);
      return;
    }
    this.#profiles.use(endpoint.profiles, endpoint.profileUser);
    if (local === undefined) {
      local = new Local(key, endpoint);
      this.#locals.set(key, local);
    } else {
      this.#profiles.release(local.endpoint.profiles, local.endpoint.profileUser);
      local.endpoint = endpoint;
    }
    this.#index.setItem(local, endpoint.labels);
  }

  /** What is to be said of policies; acquires and releases sets, so it comes before theirs. */
  takePolicies(): Changes<RuleMessage> {
    for (const id of this.#dirtyPolicies) {
      const entry = this.#policies.get(id);
      const policy = entry !== undefined && entry.users > 0 ? entry.policy : undefined;
      this.#announced.set(
        id,
        policy,
        policy && {
          type: 'policyUpdate',
          id,
          policy: {
            tier: policy.tier,
            staged: policy.staged,
            ingress: ruleInfos(policy.ingress),
            egress: ruleInfos(policy.egress),
          },
        },
        { type: 'policyRemove', id },
      );
    }
    this.#dirtyPolicies.clear();
    return this.#announced.take();
  }

  takeEndpoints(): Changes<EndpointMessage> {
    this.#order.rank();
    for (const key of this.#dirtyLocals) {
      const local = this.#locals.get(key);
      this.#endpoints.set(key, local && this.#message(local), removalOf(key));
    }
    this.#dirtyLocals.clear();
    return this.#endpoints.take();
  }

  #message({ endpoint, policies }: Local): Extract<DataplaneUpdate, { type: EndpointMessage }> {
    const sorted = [...policies].sort((a, b) => a.rank - b.rank).map(({ policy }) => policy);
    const tierOf = (name: string) => this.#order.tier(name);
    const { profiles } = endpoint;
    if (endpoint.kind === 'workload') {
      const { id, device } = endpoint;
      return {
        type: 'workloadEndpointUpdate',
        id,
        endpoint: { ...device, tiers: workloadTiers(sorted, tierOf), profiles },
      };
    }
    const { id, device } = endpoint;
    return { type: 'hostEndpointUpdate', id, endpoint: { ...device, profiles, ...hostTiers(sorted, tierOf) } };
  }

  #removePolicy(id: PolicyId, entry: Entry): void {
    this.#policies.delete(id);
    for (const local of this.#index.itemsOf(entry)) this.#stopped(entry, local);
    this.#index.removeSelector(entry);
  }

  #started(entry: Entry, local: Local): void {
    if (!local.isReachedBy(entry.policy)) return;
    local.policies.add(entry);
    this.#dirtyLocals.add(local.key);
    if (entry.users++ > 0) return;
    this.#order.add(entry);
    this.#dirtyPolicies.add(entry.policy.id);
  }

  #stopped(entry: Entry, local: Local): void {
    if (!local.policies.delete(entry)) return;
    this.#dirtyLocals.add(local.key);
    if (--entry.users > 0) return;
    this.#order.delete(entry);
    this.#dirtyPolicies.add(entry.policy.id);
  }
}

class Entry implements Ranked {
  policy: CalcPolicy;
  rank = 0;
  /** How many endpoints of this node it applies to. */
  users = 0;

  constructor(policy: CalcPolicy) {
    this.policy = policy;
  }
}

class Local {
  /** `<kind> <id>`. */
  readonly key: string;
  endpoint: LocalEndpoint;
  readonly policies = new Set<Entry>();

  constructor(key: string, endpoint: LocalEndpoint) {
    this.key = key;
    this.endpoint = endpoint;
  }

  isReachedBy(policy: CalcPolicy): boolean {
    return this.endpoint.kind === 'workload' ? appliesToWorkloads(policy) : appliesToHosts(policy);
  }
}

/** Takes back what a `Local` with this key was announced as. */
function removalOf(key: string): Extract<DataplaneUpdate, { type: EndpointMessage }> {
  const space = key.indexOf(' ');
  const id = key.slice(space + 1);
  return key.slice(0, space) === 'host' ? { type: 'hostEndpointRemove', id } : { type: 'workloadEndpointRemove', id };
}

/** Would both apply to the same endpoints, given that they select the same? */
function sameReach(a: CalcPolicy, b: CalcPolicy): boolean {
  return appliesToWorkloads(a) === appliesToWorkloads(b) && appliesToHosts(a) === appliesToHosts(b);
}
