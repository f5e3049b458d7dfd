/**
 * The slow, obvious oracle: what becomes of a packet, straight from the words of the policy model (Calico's, Kubernetes'). Every
 * question is answered from the objects themselves, by looking at all of them: no index, no set, no state that changes. It reads like
 * a specification; where it and the product differ, one of them is wrong.
 */
import { ofKind, selectables, type Doc, type Selectable } from './cluster.ts';
import type { Direction, Packet, Policy } from './policy-model.ts';
import { calicoPolicies, calicoProfile, tierOf } from './reference-calico.ts';
import { kubernetesPolicies } from './reference-kubernetes.ts';

/** What becomes of a packet, with the rule that says so at each endpoint that it passes. */
export interface Verdict {
  readonly allowed: boolean;
  readonly because: readonly string[];
}

interface Tier {
  readonly name: string;
  readonly order: number;
  readonly defaultAction: 'Deny' | 'Pass';
}

/** Where a packet is judged. A node has one host endpoint at most here, of the device to the other nodes; its failsafe ports are not ours. */
interface Checkpoint {
  readonly endpoint: Selectable;
  readonly direction: Direction;
  /** Through a host endpoint, neither from nor to its host. */
  readonly isForwarding: boolean;
}

const builtInTiers: readonly Tier[] = [
  { name: 'kube-admin', order: 1_000, defaultAction: 'Pass' },
  { name: 'default', order: 1_000_000, defaultAction: 'Deny' },
  { name: 'kube-baseline', order: 10_000_000, defaultAction: 'Pass' },
];

/** Judges packets between pods, nodes and anywhere else. Not from a pod to its own node: that is up to a setting. */
export class Reference {
  readonly #docs: readonly Doc[];
  readonly #things: readonly Selectable[];
  readonly #tiers: readonly (Tier & { readonly policies: readonly Policy[] })[];

  constructor(docs: readonly Doc[]) {
    this.#docs = docs;
    this.#things = selectables(docs);
    const policies = [...calicoPolicies(docs, this.#things), ...kubernetesPolicies(docs, this.#things)].sort(byOrder);
    this.#tiers = tiersOf(docs).map((tier) => ({
      ...tier,
      policies: policies.filter((policy) => policy.tier === tier.name),
    }));
  }

  judge(packet: Packet): Verdict {
    const because: string[] = [];
    for (const checkpoint of this.#way(packet)) {
      const { action, reason } = this.#decide(checkpoint, packet);
      const { endpoint, direction, isForwarding } = checkpoint;
      because.push(`${endpoint.id} ${direction}${isForwarding ? ' (forward)' : ''}: ${action} by ${reason}`);
      if (action === 'Deny') return { allowed: false, because };
    }
    return { allowed: true, because };
  }

  /** From a pod out of its node into another node to a pod; whoever isn't ours has no checkpoint. */
  #way({ from, to }: Packet): readonly Checkpoint[] {
    const [source, destination] = [this.#podAt(from), this.#podAt(to)];
    const leaves = source?.node ?? this.#nodeAt(from);
    const enters = destination?.node ?? this.#nodeAt(to);
    const at = (endpoint: Selectable | undefined, direction: Direction, isForwarding = false): Checkpoint[] =>
      endpoint === undefined ? [] : [{ endpoint, direction, isForwarding }];
    const isWithin = leaves === enters;
    return [
      ...at(source, 'egress'),
      ...at(isWithin ? undefined : this.#hostEndpointOf(leaves), 'egress', source !== undefined),
      ...at(isWithin ? undefined : this.#hostEndpointOf(enters), 'ingress', destination !== undefined),
      // A host always reaches its own pods: the kubelet must.
      ...at(isWithin && source === undefined ? undefined : destination, 'ingress'),
    ];
  }

  /** One endpoint, one direction: tiers in order, then profiles. */
  #decide(
    { endpoint, direction, isForwarding }: Checkpoint,
    packet: Packet,
  ): { readonly action: 'Allow' | 'Deny'; readonly reason: string } {
    tiers: for (const tier of this.#tiers) {
      const policies = tier.policies.filter(
        (policy) =>
          policy[direction] !== undefined &&
          policy.selects(endpoint) &&
          (!isForwarding || policy.appliesOnForward === true),
      );
      // A tier in which nothing applies has no say. Staged policies aren't here at all: they decide nothing.
      if (policies.length === 0) continue;
      for (const policy of policies) {
        for (const [index, rule] of (policy[direction] ?? []).entries()) {
          if (rule.action === 'Log' || !rule.matches(packet)) continue;
          if (rule.action === 'Pass') continue tiers;
          return { action: rule.action, reason: `${policy.id} ${direction} ${index}` };
        }
      }
      if (tier.defaultAction === 'Deny') return { action: 'Deny', reason: `the end of tier ${tier.name}` };
    }
    // What passes through a host is left alone unless a policy for that says otherwise.
    if (isForwarding) return { action: 'Allow', reason: 'no policy on what is forwarded' };
    // A pod's namespace has a profile that allows everything, that of its service account has labels only.
    if (endpoint.kind === 'pod') return { action: 'Allow', reason: `profile kns.${endpoint.namespace}` };
    for (const name of endpoint.profiles ?? []) {
      if (name === 'projectcalico-default-allow') return { action: 'Allow', reason: `profile ${name}` };
      const profile = calicoProfile(this.#docs, this.#things, name);
      if (profile === undefined) return { action: 'Deny', reason: `profile ${name}, which nobody has defined` };
      const rule = profile[direction].find((each) => each.action !== 'Log' && each.matches(packet));
      // A profile that passes, like one that says nothing, leaves it to the next one.
      if (rule === undefined || rule.action === 'Pass') continue;
      return { action: rule.action === 'Allow' ? 'Allow' : 'Deny', reason: `profile ${name}` };
    }
    return { action: 'Deny', reason: 'no profile' };
  }

  #podAt(address: string): Selectable | undefined {
    return this.#things.find(({ kind, nets }) => kind === 'pod' && nets.includes(address));
  }

  #hostEndpointOf(node: string | undefined): Selectable | undefined {
    return this.#things.find((thing) => thing.kind === 'host' && thing.node === node);
  }

  #nodeAt(address: string): string | undefined {
    return ofKind(this.#docs, 'Node').find(({ status }) => {
      const { addresses = [] } = (status ?? {}) as { readonly addresses?: readonly { readonly address: string }[] };
      return addresses.some((each) => each.address === address);
    })?.metadata.name;
  }
}

/** By order, without one last; ties by name. A tier that policies name and nobody defined comes after all, and denies. */
function tiersOf(docs: readonly Doc[]): readonly Tier[] {
  const written = ofKind(docs, 'Tier').map(({ metadata, spec }): Tier => {
    const { order, defaultAction } = (spec ?? {}) as Partial<Tier>;
    return { name: metadata.name, order: order ?? Infinity, defaultAction: defaultAction ?? 'Deny' };
  });
  const isWritten = (name: string) => written.some((tier) => tier.name === name);
  const known = [...builtInTiers.filter(({ name }) => !isWritten(name)), ...written];
  const isKnown = (name: string) => known.some((tier) => tier.name === name);
  const unknown = [...new Set(docs.map(tierOf))].flatMap((name): Tier[] =>
    name === undefined || isKnown(name) ? [] : [{ name, order: Infinity, defaultAction: 'Deny' }],
  );
  const sorted = (tiers: readonly Tier[]) =>
    tiers.toSorted((a, b) => compare(a.order, b.order) || compare(a.name, b.name));
  return [...sorted(known), ...sorted(unknown)];
}

/** Within a tier: by order, without one last. */
function byOrder(a: Policy, b: Policy): number {
  return compare(a.order, b.order) || compare(a.tie, b.tie);
}

function compare<T extends number | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
