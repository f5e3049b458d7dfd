/** Random objects of a small cluster, in which names, labels and addresses meet often. For tests. */
import fc from 'fast-check';
import { parseAs, type KindMap } from '#api/kinds.ts';
import { keyText } from '#api/meta.ts';
import { endpointId, endpointInfo } from '../endpoints/endpoint-info.ts';
import type { CalcGraph } from './calc-graph.ts';
import { convertPolicy, policyKinds, type PolicyKind } from './convert/convert.ts';
import { policyId } from './convert/policy.ts';
import type { Cluster } from './reference-for-tests.ts';
import { services, slices } from './services/world-for-tests.ts';

/** The node whose graph is tested. */
export const self = 'me';

/** One input to the graph: an object of a kind, or its absence. `local` is an endpoint that this node's plugin has made. */
export interface Input {
  readonly kind: keyof Cluster;
  readonly object: KindMap[keyof KindMap];
  readonly isPresent: boolean;
}

/** Which object an input is about. */
export function keyOf({ kind, object }: Input): string {
  return `${kind} ${keyText(object.metadata)}`;
}

/** Hands an input to the graph. */
export function give(graph: CalcGraph, { kind, object, isPresent }: Input): void {
  const { name, namespace = '' } = object.metadata as { name: string; namespace?: string };
  const key = keyText(object.metadata);
  const present = isPresent ? object : undefined;
  const endpoint = object as KindMap['WorkloadEndpoint'];
  switch (kind) {
    case 'Pod':
      return graph.onPod(key, present as KindMap['Pod'] | undefined);
    case 'Namespace':
      return graph.onNamespace(name, present as KindMap['Namespace'] | undefined);
    case 'ServiceAccount':
      return graph.onServiceAccount(namespace, name, present as KindMap['ServiceAccount'] | undefined);
    case 'WorkloadEndpoint':
      return graph.onWorkloadEndpoint(key, isPresent ? { id: endpointId(endpoint), object: endpoint } : undefined);
    case 'local':
      return graph.onLocalEndpoint(
        endpointId(endpoint),
        isPresent ? { device: endpointInfo(endpoint), object: endpoint } : undefined,
      );
    case 'HostEndpoint':
      return graph.onHostEndpoint(name, present as KindMap['HostEndpoint'] | undefined);
    case 'NetworkSet':
      return graph.onNetworkSet(key, present as KindMap['NetworkSet'] | undefined);
    case 'GlobalNetworkSet':
      return graph.onGlobalNetworkSet(name, present as KindMap['GlobalNetworkSet'] | undefined);
    case 'Profile':
      return graph.onProfile(name, present as KindMap['Profile'] | undefined);
    case 'Tier':
      return graph.onTier(name, present as KindMap['Tier'] | undefined);
    case 'EndpointSlice':
      return graph.onEndpointSlice(key, present as KindMap['EndpointSlice'] | undefined);
    case 'Service':
      return graph.onService(key, present as KindMap['Service'] | undefined);
    case 'BGPConfiguration':
      return graph.onBgpConfiguration(name, present as KindMap['BGPConfiguration'] | undefined);
    default: {
      const policyKind = policyKinds.find((candidate) => candidate === kind);
      if (policyKind === undefined) throw new Error(`the test world has no ${kind}`);
      const id = policyId({ kind: policyKind, name, ...(namespace === '' ? {} : { namespace }) });
      graph.onPolicy(id, isPresent ? convertPolicy(policyKind, object as never) : undefined);
    }
  }
}

/** All objects that are there when of each the last input counts. */
export function clusterOf(inputs: Iterable<Input>): Cluster {
  const cluster: Record<string, unknown[]> = {};
  for (const { kind, object, isPresent } of inputs) if (isPresent) (cluster[kind] ??= []).push(object);
  return cluster;
}

const v3 = { apiVersion: 'projectcalico.org/v3' } as const;
const namespaces = fc.constantFrom('red', 'blue');
const nodes = fc.constantFrom(self, 'other');
const labels = fc.record(
  {
    app: fc.constantFrom('web', 'db'),
    role: fc.constantFrom('a', 'b', 'constructor'),
    env: fc.constantFrom('x', 'y'),
    // Forged, unless a Profile gives it.
    'pcns.env': fc.constantFrom('x'),
    'projectcalico.org/serviceaccount': fc.constantFrom('robot'),
  },
  { requiredKeys: [] },
);
const addresses = fc.uniqueArray(fc.constantFrom('10.0.0.1', '10.0.0.2', '10.0.0.3', 'fd00::1', 'fd00::2'), {
  maxLength: 2,
});
const portName = fc.constantFrom('http', 'dns');
const selectors = fc.constantFrom(
  'all()',
  "app == 'web'",
  "app == 'db' || role == 'a'",
  "app in {'web', 'db'} && env != 'x'",
  'has(role)',
  '!has(app)',
  "env not in {'x'}",
  "role contains 'a'",
  "app starts with 'w' && (env == 'y' || role == 'b')",
  'has(constructor)',
);
const subjectNamespaces = fc.constantFrom('all()', "env == 'x'", "projectcalico.org/name == 'red'", 'has(app)');
const namespaceSelectors = fc.oneof(subjectNamespaces, fc.constant('global()'));

const pod = fc
  .record({
    namespace: namespaces,
    name: fc.constantFrom('p', 'q', 'r'),
    labels,
    node: fc.option(nodes, { nil: undefined }),
    serviceAccountName: fc.option(fc.constantFrom('robot'), { nil: undefined }),
    hostNetwork: fc.constantFrom(false, false, false, true),
    ips: addresses,
    annotated: fc.option(fc.constantFrom('', '10.0.0.2/32'), { nil: undefined }),
    isDeleted: fc.boolean(),
    phase: fc.constantFrom('Running', 'Running', 'Running', 'Succeeded'),
    ports: fc.array(fc.record({ name: portName, containerPort: fc.constantFrom(80, 53) }), { maxLength: 2 }),
  })
  .map(
    ({
      namespace,
      name,
      labels: own,
      node,
      serviceAccountName,
      hostNetwork,
      ips,
      annotated,
      isDeleted,
      phase,
      ports,
    }) =>
      make('Pod', {
        apiVersion: 'v1',
        metadata: {
          name,
          namespace,
          labels: own,
          ...(annotated === undefined ? {} : { annotations: { 'cni.projectcalico.org/podIPs': annotated } }),
          ...(isDeleted ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
        },
        spec: { nodeName: node, serviceAccountName, hostNetwork, containers: [{ name: 'main', ports }] },
        status: { phase, podIPs: ips.map((ip) => ({ ip })) },
      }),
  );

const endpointOf = (kind: 'WorkloadEndpoint' | 'local') =>
  fc
    .record({
      namespace: namespaces,
      workload: fc.constantFrom('p', 'q', 'container1'),
      node: kind === 'local' ? fc.constant(self) : nodes,
      labels,
      ips: addresses,
      networks: fc.constantFrom<string[]>([], ['net1'], ['custom']),
      ports: fc.array(fc.record({ name: portName, protocol: fc.constantFrom('TCP', 'UDP'), port: fc.constant(80) }), {
        maxLength: 1,
      }),
    })
    .map(({ namespace, workload, node, labels: own, ips, networks, ports }) => {
      const isPod = workload !== 'container1';
      return make(
        'WorkloadEndpoint',
        {
          ...v3,
          metadata: { name: `${node}-${isPod ? 'k8s' : 'cni'}-${workload}-eth0`, namespace, labels: own },
          spec: {
            orchestrator: isPod ? 'k8s' : 'cni',
            workload: isPod ? `${namespace}.${workload}` : `${namespace}${workload}`,
            node,
            containerID: 'c1',
            ...(isPod ? { pod: workload, serviceAccountName: 'robot' } : {}),
            endpoint: 'eth0',
            ipNetworks: ips.map((ip) => `${ip}/${ip.includes(':') ? 128 : 32}`),
            profiles: isPod ? [`kns.${namespace}`, `ksa.${namespace}.robot`] : networks,
            interfaceName: `cali${workload}`,
            mac: '02:00:00:00:00:01',
            ports,
          },
        },
        kind,
      );
    });

const hostEndpoint = fc
  .record({
    name: fc.constantFrom('h1', 'h2'),
    node: nodes,
    labels,
    interfaceName: fc.constantFrom('eth0', '*'),
    expectedIPs: addresses,
    profiles: fc.constantFrom<string[]>([], ['custom'], ['projectcalico-default-allow', 'nobody']),
  })
  .map(({ name, labels: own, ...spec }) =>
    make('HostEndpoint', {
      ...v3,
      metadata: { name, labels: own },
      spec: { ...spec, ports: [{ name: 'http', protocol: 'TCP', port: 8080 }] },
    }),
  );

const nets = fc.uniqueArray(fc.constantFrom('10.0.0.1', '10.0.0.0/24', '192.0.2.7/24', 'fd00::/64'), { maxLength: 3 });
const networkSet = fc
  .record({ name: fc.constantFrom('n1', 'n2'), namespace: namespaces, labels, nets })
  .map(({ name, namespace, labels: own, nets: list }) =>
    make('NetworkSet', { ...v3, metadata: { name, namespace, labels: own }, spec: { nets: list } }),
  );
const globalNetworkSet = fc
  .record({ name: fc.constantFrom('n1', 'n2'), labels, nets })
  .map(({ name, labels: own, nets: list }) =>
    make('GlobalNetworkSet', { ...v3, metadata: { name, labels: own }, spec: { nets: list } }),
  );

const entity = fc.oneof(
  fc.constant({}),
  selectors.map((selector) => ({ selector })),
  selectors.map((notSelector) => ({ notSelector })),
  fc.tuple(selectors, namespaceSelectors).map(([selector, namespaceSelector]) => ({ selector, namespaceSelector })),
  fc.constant({ nets: ['10.0.0.0/24', '192.0.2.0/24'] }),
  fc.constant({ nets: ['10.0.0.0/24'], notNets: ['10.0.0.1/32', '10.0.0.2/32'] }),
  fc.constant({ serviceAccounts: { names: ['robot'] } }),
);
const rule = fc.oneof(
  fc.record({ action: fc.constantFrom('Allow', 'Deny', 'Pass', 'Log'), source: entity, destination: entity }),

  fc.record({ destination: entity, port: portName }).map(({ destination, port }) => ({
    action: 'Allow',
    protocol: 'TCP',
    destination: { ...destination, ports: [port, 443] },
  })),
);
const serviceRule = namespaces.map((namespace) => ({
  action: 'Allow',
  destination: { services: { name: 'svc', namespace } },
}));
const spec = fc.record(
  {
    tier: fc.constantFrom('default', 'first', 'second', 'kube-admin'),
    order: fc.constantFrom(1, 2),
    selector: selectors,
    types: fc.constantFrom(['Ingress'], ['Egress'], ['Ingress', 'Egress']),
    ingress: fc.array(rule, { maxLength: 2 }),
    egress: fc.array(fc.oneof(rule, serviceRule), { maxLength: 2 }),
  },
  { requiredKeys: ['selector'] },
);
const forHosts = fc.constantFrom(
  {},
  {},
  { applyOnForward: true },
  { applyOnForward: true, doNotTrack: true },
  { applyOnForward: true, preDNAT: true },
);
const policyNames = fc.constantFrom('a', 'b', 'c');
const named = (name: string, tier = 'default') => (tier === 'default' ? name : `${tier}.${name}`);
const namespacedPolicy = (kind: PolicyKind & ('NetworkPolicy' | 'StagedNetworkPolicy')) =>
  fc
    .record({ name: policyNames, namespace: namespaces, spec })
    .map(({ name, namespace, spec: body }) =>
      make(kind, { ...v3, metadata: { name: named(name, body.tier), namespace }, spec: body }),
    );
const globalPolicy = (kind: PolicyKind & ('GlobalNetworkPolicy' | 'StagedGlobalNetworkPolicy')) =>
  fc
    .record({ name: policyNames, spec, hosts: forHosts, within: fc.option(subjectNamespaces, { nil: undefined }) })
    .map(({ name, spec: body, hosts, within }) => {
      const isPreDnat = 'preDNAT' in hosts;
      const { egress, types, ...ingressOnly } = body;
      return make(kind, {
        ...v3,
        metadata: { name: named(name, body.tier) },
        spec: {
          ...(isPreDnat ? ingressOnly : { ...ingressOnly, egress, types }),
          ...hosts,
          namespaceSelector: within,
        },
      });
    });
const kubernetesPolicy = fc
  .record({ name: policyNames, namespace: namespaces, labels, peers: fc.array(labels, { maxLength: 2 }) })
  .map(({ name, namespace, labels: matchLabels, peers }) =>
    make('KubernetesNetworkPolicy', {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name, namespace },
      spec: {
        podSelector: { matchLabels },
        policyTypes: ['Ingress'],
        ingress: peers.map((peer) => ({
          from: [{ podSelector: { matchLabels: peer }, namespaceSelector: {} }],
          ports: [{ port: 'http', protocol: 'TCP' }],
        })),
      },
    }),
  );

const tier = fc
  .record({
    name: fc.constantFrom('first', 'second'),
    order: fc.constantFrom(1, 5),
    defaultAction: fc.constantFrom('Deny', 'Pass'),
  })
  .map(({ name, ...body }) => make('Tier', { ...v3, metadata: { name }, spec: body }));
const profile = fc
  .record({ labelsToApply: labels, ingress: fc.array(rule, { maxLength: 1 }) })
  .map((body) => make('Profile', { ...v3, metadata: { name: 'custom' }, spec: body }));
const namespace = fc
  .record({ name: namespaces, labels })
  .map((metadata) => make('Namespace', { apiVersion: 'v1', metadata }));
const serviceAccount = fc
  .record({ namespace: namespaces, labels })
  .map((metadata) => make('ServiceAccount', { apiVersion: 'v1', metadata: { name: 'robot', ...metadata } }));
const slice = slices.map((object): Omit<Input, 'isPresent'> => ({ kind: 'EndpointSlice', object }));
const service = services.map((object): Omit<Input, 'isPresent'> => ({ kind: 'Service', object }));
const bgp = fc
  .record({
    name: fc.constantFrom('default', 'node.me'),
    cidrs: fc.array(fc.constantFrom('10.96.0.0/12', 'fd01::/112')),
  })
  .map(({ name, cidrs }) =>
    make('BGPConfiguration', {
      ...v3,
      metadata: { name },
      spec: { serviceClusterIPs: cidrs.map((cidr) => ({ cidr })) },
    }),
  );

/** Any object of the world, present three times as often as absent. */
export const inputs: fc.Arbitrary<Input> = fc
  .tuple(
    fc.oneof(
      { weight: 4, arbitrary: pod },
      { weight: 3, arbitrary: endpointOf('local') },
      { weight: 2, arbitrary: endpointOf('WorkloadEndpoint') },
      { weight: 2, arbitrary: hostEndpoint },
      networkSet,
      globalNetworkSet,
      { weight: 3, arbitrary: namespacedPolicy('NetworkPolicy') },
      { weight: 3, arbitrary: globalPolicy('GlobalNetworkPolicy') },
      namespacedPolicy('StagedNetworkPolicy'),
      globalPolicy('StagedGlobalNetworkPolicy'),
      { weight: 2, arbitrary: kubernetesPolicy },
      tier,
      profile,
      namespace,
      serviceAccount,
      { weight: 2, arbitrary: slice },
      { weight: 2, arbitrary: service },
      bgp,
    ),
    fc.constantFrom(true, true, true, false),
  )
  .map(([input, isPresent]) => ({ ...input, isPresent }));

function make(kind: keyof KindMap, body: object, as: keyof Cluster = kind): Omit<Input, 'isPresent'> {
  return { kind: as, object: parseAs(kind, { kind, ...body }).object };
}
