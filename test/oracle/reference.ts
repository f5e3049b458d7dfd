/**
 * The slow, obvious oracle: what becomes of a packet, straight from the words of the policy model (Calico's, Kubernetes'). Every
 * question is answered from the objects themselves, by looking at all of them: no index, no set, no state that changes. It reads like
 * a specification; where it and the product differ, one of them is wrong.
 */
import { ofKind, selectables, type Doc, type Selectable } from './cluster.ts';
import type { Direction, Packet, Policy } from './policy-model.ts';
import { calicoPolicies, tierOf } from './reference-calico.ts';
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

const builtInTiers: readonly Tier[] = [
  { name: 'kube-admin', order: 1_000, defaultAction: 'Pass' },
  { name: 'default', order: 1_000_000, defaultAction: 'Deny' },
  { name: 'kube-baseline', order: 10_000_000, defaultAction: 'Pass' },
];

/** Judges packets between the pods of a cluster, or between a pod and somewhere else. */
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
    for (const direction of ['egress', 'ingress'] as const) {
      const endpoint = this.#podAt(direction === 'egress' ? packet.from : packet.to);
      if (endpoint === undefined) continue;
      const { action, reason } = this.#decide(endpoint, direction, packet);
      because.push(`${endpoint.id} ${direction}: ${action} by ${reason}`);
      if (action === 'Deny') return { allowed: false, because };
    }
    return { allowed: true, because };
  }

  /** One endpoint, one direction: tiers in order, then profiles. */
  #decide(endpoint: Selectable, direction: Direction, packet: Packet): { action: 'Allow' | 'Deny'; reason: string } {
    // A host always reaches its own pods: the kubelet must.
    if (direction === 'ingress' && this.#isHostOf(endpoint, packet.from))
      return { action: 'Allow', reason: 'own host' };
    tiers: for (const tier of this.#tiers) {
      const policies = tier.policies.filter((policy) => policy[direction] !== undefined && policy.selects(endpoint));
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
    // A pod's namespace has a profile that allows everything, that of its service account has labels only.
    return { action: 'Allow', reason: `profile kns.${endpoint.namespace}` };
  }

  #podAt(address: string): Selectable | undefined {
    return this.#things.find(({ isPod, nets }) => isPod && nets.includes(address));
  }

  #isHostOf(pod: Selectable, address: string): boolean {
    return ofKind(this.#docs, 'Node').some(({ metadata, status }) => {
      const { addresses = [] } = (status ?? {}) as { readonly addresses?: readonly { readonly address: string }[] };
      return metadata.name === pod.node && addresses.some((each) => each.address === address);
    });
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

/** Within a tier: by order, without one last; ties by name, namespace, kind. */
function byOrder(a: Policy, b: Policy): number {
  return (
    compare(a.order, b.order) ||
    compare(a.tie[0], b.tie[0]) ||
    compare(a.tie[1], b.tie[1]) ||
    compare(a.tie[2], b.tie[2])
  );
}

function compare<T extends number | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
