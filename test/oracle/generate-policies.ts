/** Random policies of every kind. */
import type { Doc, Family } from './cluster.ts';
import { calicoRule, type RuleWords } from './generate-rules.ts';
import { labelSelector, selectorText } from './generate-selectors.ts';
import type { Direction } from './policy-model.ts';
import type { Random } from './random.ts';
import {
  endpointLabels,
  namespaceLabels,
  namespaces,
  networks,
  outsiders,
  portNames,
  ports,
  serviceAccountLabels,
  someLabels,
} from './vocabulary.ts';

/** Tiers besides the built-in ones; `nowhere` never exists. */
export const tierNames = ['alpha', 'beta', 'gamma'] as const;

const v3 = 'projectcalico.org/v3';
// Few names and few orders: ties must be decided, too.
const policyNames = ['p0', 'p1', 'p1-a', 'p1.a', 'p2'] as const;
const orders = [1, 10, 10, 10.5, 1000, 5000] as const;

/** A tier object. Some stand before the default tier, some after it, some after the last. */
export function tier(random: Random, name: string): Doc {
  return {
    apiVersion: v3,
    kind: 'Tier',
    metadata: { name },
    spec: {
      ...random.maybe(0.85, 'order', () => random.pick([5, 5, 500, 2_000_000, 20_000_000])),
      ...random.maybe(0.7, 'defaultAction', () => random.pick(['Deny', 'Pass', 'Pass'])),
    },
  };
}

/** What host endpoints may name as their profiles; `nobody` never exists. */
export const profileNames = ['shut', 'open', 'projectcalico-default-allow', 'nobody'] as const;

/** A Profile object. */
export function profile(random: Random, words: RuleWords, name: 'open' | 'shut'): Doc {
  const rules = (direction: Direction) =>
    Array.from({ length: 1 + random.below(3) }, () => calicoRule(random, words, direction, true));
  const last = { action: name === 'open' ? 'Allow' : 'Deny' };
  return {
    apiVersion: v3,
    kind: 'Profile',
    metadata: { name },
    spec: {
      ...random.maybe(0.8, 'ingress', () => [...rules('ingress'), ...(random.chance(0.5) ? [last] : [])]),
      ...random.maybe(0.8, 'egress', () => [...rules('egress'), ...(random.chance(0.5) ? [last] : [])]),
      ...random.maybe(0.5, 'labelsToApply', () => someLabels(random, endpointLabels)),
    },
  };
}

/** A policy of any kind. Two may have the same kind and name: the last one counts. */
export function policy(random: Random, words: RuleWords): Doc {
  return random.weighted(
    [30, () => networkPolicy(random, words, 'NetworkPolicy')],
    [24, () => globalNetworkPolicy(random, words, 'GlobalNetworkPolicy')],
    [22, () => kubernetesPolicy(random, words, 'NetworkPolicy')],
    [10, () => clusterNetworkPolicy(random, words)],
    [5, () => networkPolicy(random, words, 'StagedNetworkPolicy')],
    [5, () => globalNetworkPolicy(random, words, 'StagedGlobalNetworkPolicy')],
    [4, () => kubernetesPolicy(random, words, 'StagedKubernetesNetworkPolicy')],
  )();
}

function networkPolicy(random: Random, words: RuleWords, kind: string): Doc {
  return {
    apiVersion: v3,
    kind,
    metadata: { name: random.pick(policyNames), namespace: random.pick(namespaces) },
    spec: calicoSpec(random, words, false),
  };
}

function globalNetworkPolicy(random: Random, words: RuleWords, kind: string): Doc {
  return {
    apiVersion: v3,
    kind,
    metadata: { name: random.pick(policyNames) },
    spec: {
      ...calicoSpec(random, words, true),
      ...random.maybe(0.25, 'namespaceSelector', () =>
        random.chance(0.2) ? 'all()' : selectorText(random, namespaceLabels, 1),
      ),
      ...random.weighted(
        [80, {}],
        [20, { applyOnForward: true }],
        [2, { applyOnForward: true, doNotTrack: true }],
        [2, { applyOnForward: true, preDNAT: true, types: ['Ingress'], egress: [] }],
      ),
    },
  };
}

function calicoSpec(random: Random, words: RuleWords, isGlobal: boolean): object {
  const rules = (direction: Direction) =>
    Array.from({ length: random.weighted([2, 1], [3, 2], [2, 4]) }, () =>
      calicoRule(random, words, direction, isGlobal),
    );
  return {
    ...random.maybe(0.5, 'tier', () =>
      random.weighted(
        [20, random.pick(tierNames)],
        [4, 'default'],
        [2, 'kube-baseline'],
        [2, 'kube-admin'],
        [1, 'nowhere'],
      ),
    ),
    ...random.maybe(0.8, 'order', () => random.pick(orders)),
    ...random.maybe(0.75, 'selector', () => selectorText(random, endpointLabels)),
    ...random.maybe(0.08, 'serviceAccountSelector', () => selectorText(random, serviceAccountLabels, 1)),
    ...random.maybe(0.4, 'types', () => random.some(['Ingress', 'Egress'], 1, 2)),
    ...random.maybe(0.7, 'ingress', () => rules('ingress')),
    ...random.maybe(0.45, 'egress', () => rules('egress')),
  };
}

function kubernetesPolicy(random: Random, words: RuleWords, kind: string): Doc {
  const peers = () => Array.from({ length: 1 + random.below(2) }, () => peer(random, words));
  const list = () => Array.from({ length: 1 + random.below(3) }, () => kubernetesPort(random));
  const rules = (key: 'from' | 'to') =>
    Array.from({ length: 1 + random.below(2) }, () => ({
      ...random.maybe(0.75, key, peers),
      ...random.maybe(0.6, 'ports', list),
    }));
  return {
    apiVersion: kind === 'NetworkPolicy' ? 'networking.k8s.io/v1' : v3,
    kind,
    metadata: { name: random.pick(policyNames), namespace: random.pick(namespaces) },
    spec: {
      podSelector: random.chance(0.3) ? {} : labelSelector(random, endpointLabels),
      ...random.maybe(0.5, 'policyTypes', () => random.some(['Ingress', 'Egress'], 1, 2)),
      ...random.maybe(0.75, 'ingress', () => rules('from')),
      ...random.maybe(0.45, 'egress', () => rules('to')),
    },
  };
}

function peer(random: Random, words: RuleWords): object {
  if (random.chance(0.3)) {
    const family: Family = random.pick([4, 6]);
    const wide = random.pick(family === 4 ? ['10.65.0.0/16', '0.0.0.0/0', '203.0.113.0/24'] : ['fd65::/48', '::/0']);
    const inside = wide.startsWith('203')
      ? '203.0.113.128/25'
      : `${random.pick(words.addresses[family])}/${family === 4 ? 32 : 128}`;
    return { ipBlock: { cidr: wide, ...random.maybe(0.5, 'except', () => [inside]) } };
  }
  const [pods, all] = [() => labelSelector(random, endpointLabels), () => labelSelector(random, namespaceLabels)];
  return random.weighted<() => object>(
    [3, () => ({ podSelector: pods() })],
    [2, () => ({ namespaceSelector: all() })],
    [2, () => ({ podSelector: pods(), namespaceSelector: all() })],
  )();
}

function kubernetesPort(random: Random): object {
  const protocol = random.weighted<string | undefined>([4, undefined], [3, 'TCP'], [3, 'UDP'], [1, 'SCTP']);
  const port = random.weighted<number | string | undefined>(
    [5, random.pick(ports)],
    [3, random.pick(portNames)],
    [2, undefined],
  );
  return {
    ...(protocol === undefined ? {} : { protocol }),
    ...(port === undefined ? {} : { port }),
    ...(typeof port === 'number' && random.chance(0.3) ? { endPort: port + random.pick([0, 1, 400]) } : {}),
  };
}

function clusterNetworkPolicy(random: Random, words: RuleWords): Doc {
  const rules = (direction: Direction) =>
    Array.from({ length: 1 + random.below(3) }, () => clusterRule(random, words, direction));
  return {
    apiVersion: 'policy.networking.k8s.io/v1alpha2',
    kind: 'ClusterNetworkPolicy',
    metadata: { name: random.pick(policyNames) },
    spec: {
      tier: random.pick(['Admin', 'Baseline']),
      priority: random.pick([0, 10, 10, 1000]),
      subject: clusterPods(random),
      ...random.maybe(0.7, 'ingress', () => rules('ingress')),
      ...random.maybe(0.5, 'egress', () => rules('egress')),
    },
  };
}

function clusterPods(random: Random): object {
  return random.chance(0.5)
    ? { namespaces: labelSelector(random, namespaceLabels) }
    : {
        pods: {
          ...random.maybe(0.8, 'namespaceSelector', () => labelSelector(random, namespaceLabels)),
          podSelector: labelSelector(random, endpointLabels),
        },
      };
}

function clusterRule(random: Random, words: RuleWords, direction: Direction): object {
  const networkPeer = () => {
    const family: Family = random.pick([4, 6]);
    return {
      networks: [
        random.pick(networks[family]),
        ...(random.chance(0.4) ? [`${random.pick(words.addresses[4])}/32`, `${random.pick(outsiders[6])}/128`] : []),
      ],
    };
  };
  const peers = Array.from({ length: 1 + random.below(2) }, () =>
    direction === 'egress' && random.chance(0.35) ? networkPeer() : clusterPods(random),
  );
  // What isn't supported must fail closed.
  const strange = direction === 'egress' && random.chance(0.04) ? [{ nodes: {} }] : [];
  const port = () =>
    random.chance(0.6)
      ? { number: random.pick(ports) }
      : { range: { start: random.pick([53, 80]), end: random.pick([81, 443, 9090]) } };
  const named = !peers.some((each) => 'networks' in each) && strange.length === 0;
  const protocol = () =>
    named && random.chance(0.25)
      ? { destinationNamedPort: random.pick(portNames) }
      : { [random.weighted([4, 'tcp'], [2, 'udp'], [1, 'sctp'])]: random.maybe(0.75, 'destinationPort', port) };
  return {
    action: random.pick(['Accept', 'Accept', 'Deny', 'Pass']),
    [direction === 'ingress' ? 'from' : 'to']: [...peers, ...strange],
    ...random.maybe(0.5, 'protocols', () => Array.from({ length: 1 + random.below(2) }, protocol)),
  };
}
