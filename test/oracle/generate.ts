/** Random clusters, changes to them, and packets. */
import { policy, profile, profileNames, tier, tierNames } from './generate-policies.ts';
import type { RuleWords } from './generate-rules.ts';
import { familyOf, ofKind, type Doc, type Family } from './cluster.ts';
import type { Packet } from './policy-model.ts';
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
  serviceAccounts,
  services,
  someLabels,
  sourcePorts,
} from './vocabulary.ts';

/** What of a pod is fixed once it runs. */
export interface PodSlot {
  readonly name: string;
  readonly namespace: string;
  readonly node: string;
  readonly serviceAccount: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly ports: readonly { readonly name: string; readonly containerPort: number; readonly protocol: string }[];
}

/** What a random cluster is built around. */
export interface Ground {
  readonly pods: readonly PodSlot[];
  /** Nodes and their addresses; these objects stay as they are. */
  readonly nodes: readonly Doc[];
  /** Kinds that the other side of the comparison can't take, for example host endpoints in a real lab. */
  readonly without: readonly ('HostEndpoint' | 'PodChange')[];
}

const v3 = 'projectcalico.org/v3';

/** Two nodes with a few pods, for comparisons that need no kernel. */
export function imaginaryGround(random: Random): Ground {
  const nodes = ['node1', 'node2'].map((name, index) => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name },
    status: {
      addresses: [`172.31.0.${11 + index}`, `fd31::${11 + index}`].map((address) => ({ type: 'InternalIP', address })),
    },
  }));
  const pods = Array.from({ length: 4 + random.below(4) }, (_, index) => ({
    name: `pod${index}`,
    namespace: random.pick(namespaces),
    node: random.pick(['node1', 'node2']),
    serviceAccount: random.pick(serviceAccounts),
    ipv4: `10.65.0.${index + 1}`,
    ipv6: `fd65::${index + 1}`,
    ports: podPorts(random),
  }));
  return { nodes, pods, without: [] };
}

/** A few named ports; a name may stand for different numbers in different pods, and for two protocols in one. */
export function podPorts(random: Random): PodSlot['ports'] {
  return random
    .some(
      [
        { name: 'http', containerPort: random.pick([80, 8080]), protocol: 'TCP' },
        { name: 'dns', containerPort: random.pick([53, 5353]), protocol: 'UDP' },
        { name: 'dns-tcp', containerPort: 53, protocol: 'TCP' },
        { name: 'sig', containerPort: random.pick([8081, 9090]), protocol: 'SCTP' },
        { name: 'admin', containerPort: random.pick([8081, 9090]), protocol: random.pick(['TCP', 'UDP']) },
      ],
      0,
      4,
    )
    .filter(({ name }) => name === 'dns-tcp' || (portNames as readonly string[]).includes(name));
}

/** All objects of a random cluster, nodes included. */
export function randomCluster(random: Random, ground: Ground): Doc[] {
  const docs = [
    ...ground.nodes,
    ...namespaces.flatMap((name) => (random.chance(0.03) ? [] : [namespaceDoc(random, name)])),
    ...namespaces.flatMap((namespace) =>
      serviceAccounts.flatMap((name) => (random.chance(0.1) ? [] : [serviceAccountDoc(random, namespace, name)])),
    ),
    ...ground.pods.map((pod) => podDoc(random, pod)),
    ...random.some(extras(random, ground), 1, 8),
    ...random.some(tierNames, 0, 3).map((name) => tier(random, name)),
    ...Array.from({ length: random.weighted([1, 1], [3, 3], [3, 5], [1, 9]) }, () => policy(random, wordsOf(ground))),
  ];
  return [...new Map(docs.map((doc) => [keyOf(doc), doc])).values()];
}

/** The cluster after one random change of one object. */
export function changed(random: Random, ground: Ground, docs: readonly Doc[]): Doc[] {
  const replaced = (doc: Doc) => [...docs.filter((other) => keyOf(other) !== keyOf(doc)), doc];
  const removable = docs.filter(({ kind }) => kind !== 'Node' && kind !== 'Pod');
  const removed = removable.length > 0 ? random.pick(removable) : undefined;
  const podChange = ground.without.includes('PodChange') ? 0 : 1;
  const gone = ofKind(docs, 'Pod').length > 3 ? random.pick(ofKind(docs, 'Pod')) : undefined;
  const change = random.weighted<() => Doc[]>(
    [podChange, () => docs.filter((doc) => doc !== gone)],
    [podChange, () => replaced(podDoc(random, { ...random.pick(ground.pods), node: random.pick(['node1', 'node2']) }))],
    [6, () => replaced(podDoc(random, random.pick(ground.pods)))],
    [5, () => replaced(policy(random, wordsOf(ground)))],
    [3, () => docs.filter((doc) => doc !== removed)],
    [2, () => replaced(random.pick(extras(random, ground)))],
    [2, () => replaced(namespaceDoc(random, random.pick(namespaces)))],
    [1, () => replaced(serviceAccountDoc(random, random.pick(namespaces), random.pick(serviceAccounts)))],
    [1, () => replaced(tier(random, random.pick(tierNames)))],
  );
  return change();
}

/** One object's identity: kind, group, namespace, name. */
export function keyOf(doc: Doc): string {
  return `${doc.apiVersion} ${doc.kind} ${doc.metadata.namespace ?? ''}/${doc.metadata.name}`;
}

/**
 * A packet from or to a pod, or between nodes. Where `real` only what somebody can send and hear: of ICMP echo requests, and protocols
 * without sockets from pods only. Never from a pod to its own node: that is up to a setting.
 */
export function randomPacket(random: Random, docs: readonly Doc[], { real }: { readonly real: boolean }): Packet {
  const family: Family = random.weighted<Family>([60, 4], [40, 6]);
  const pods = ofKind(docs, 'Pod').map((pod) => addressOf(pod, family));
  const hosts = nodeAddresses(docs, family);
  const to = random.weighted(
    [real ? 0 : 1, random.pick(hosts)],
    [8, random.pick(pods)],
    [2, random.pick(outsiders[family])],
  );
  const sources = random.weighted(
    [hosts.includes(to) ? 0 : 8, pods],
    [outsiders[family].includes(to) ? 0 : 3, outsiders[family]],
    [real && outsiders[family].includes(to) ? 0 : 1, hosts],
  );
  const from = random.pick(sources.filter((address) => address !== to));
  const isSocketless = !real || pods.includes(from);
  const protocol = random.weighted(
    [50, 6],
    [24, 17],
    [isSocketless ? 8 : 0, 132],
    [14, family === 4 ? 1 : 58],
    [isSocketless ? 2 : 0, 47],
    [real ? 0 : 2, 136],
  );
  if (protocol === 1 || protocol === 58) {
    const echo = family === 4 ? 8 : 128;
    const type = real ? echo : random.pick(family === 4 ? [8, 8, 3, 13] : [128, 128, 1, 2]);
    return { from, to, protocol, icmp: { type, code: real || random.chance(0.7) ? 0 : 1 } };
  }
  if (protocol === 47 || protocol === 136) return { from, to, protocol };
  // Often to a port that the destination has a name for, if it has any.
  const named = ofKind(docs, 'Pod').find((doc) => addressOf(doc, family) === to);
  const known = named === undefined ? [] : portsOfPod(named);
  const port = known.length > 0 && random.chance(0.4) ? random.pick(known) : random.pick(ports);
  const sourcePort = random.chance(0.5) ? random.pick(sourcePorts) : 20_000 + random.below(10_000);
  return { from, to, protocol, sourcePort, port };
}

function nodeAddresses(docs: readonly Doc[], family: Family): readonly string[] {
  return ofKind(docs, 'Node').flatMap(({ status }) => {
    const { addresses } = status as { readonly addresses: readonly { readonly address: string }[] };
    return addresses.flatMap(({ address }) => (familyOf(address) === family ? [address] : []));
  });
}

interface PodShape {
  readonly spec: { readonly containers: readonly { readonly ports: readonly { readonly containerPort: number }[] }[] };
  readonly status: { readonly podIPs: readonly { readonly ip: string }[] };
}

function addressOf(pod: Doc, family: Family): string {
  return (pod as unknown as PodShape).status.podIPs[family === 4 ? 0 : 1]?.ip ?? '';
}

function portsOfPod(pod: Doc): readonly number[] {
  return (pod as unknown as PodShape).spec.containers.flatMap(({ ports }) => ports.map((port) => port.containerPort));
}

function wordsOf({ pods }: Ground): RuleWords {
  return { addresses: { 4: pods.map(({ ipv4 }) => ipv4), 6: pods.map(({ ipv6 }) => ipv6) } };
}

function namespaceDoc(random: Random, name: string): Doc {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: someLabels(random, namespaceLabels) } };
}

function serviceAccountDoc(random: Random, namespace: string, name: string): Doc {
  const labels = someLabels(random, serviceAccountLabels);
  return { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace, labels } };
}

/** Now and then some that only a namespace or a service account can give. */
function podLabels(random: Random): Record<string, string> {
  const forged = { 'pcns.env': ['prod'], 'pcsa.trust': ['high'], 'projectcalico.org/serviceaccount': ['robot'] };
  return { ...someLabels(random, endpointLabels), ...(random.chance(0.1) ? someLabels(random, forged) : {}) };
}

function podDoc(random: Random, { name, namespace, node, serviceAccount, ipv4, ipv6, ports }: PodSlot): Doc {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels: podLabels(random) },
    spec: { nodeName: node, serviceAccountName: serviceAccount, containers: [{ name: 'main', ports }] },
    status: { phase: 'Running', podIP: ipv4, podIPs: [{ ip: ipv4 }, { ip: ipv6 }] },
  };
}

/** Network sets, host endpoints and their profiles, EndpointSlices: one of each that may exist. */
function extras(random: Random, ground: Ground): Doc[] {
  const someNets = () => {
    const family: Family = random.pick([4, 6]);
    return [
      ...random.some(
        networks[family].filter((net) => !net.endsWith('/0') && !net.endsWith('/1')),
        0,
        2,
      ),
      ...random.some(outsiders[4], 0, 2),
      ...random.some(outsiders[6], 0, 2),
      ...(random.chance(0.3) ? [random.pick(ground.pods).ipv4] : []),
      ...(random.chance(0.05) ? ['0.0.0.0/0'] : []),
    ];
  };
  const set = (kind: string, name: string, namespace?: string): Doc => ({
    apiVersion: v3,
    kind,
    metadata: { name, ...(namespace === undefined ? {} : { namespace }), labels: someLabels(random, endpointLabels) },
    spec: { nets: someNets() },
  });
  const slice = (name: string): Doc => {
    const family: Family = random.pick([4, 6]);
    const pods = random.some(ground.pods, 0, 3);
    return {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name,
        namespace: random.pick(namespaces),
        labels: { 'kubernetes.io/service-name': random.pick(services) },
      },
      addressType: `IPv${family}`,
      endpoints: pods.map(({ ipv4, ipv6 }) => ({
        addresses: [family === 4 ? ipv4 : ipv6],
        conditions: { ready: random.chance(0.8) },
      })),
      ports: random
        .some(ports, 0, 3)
        .map((port) => ({ name: `p${port}`, port, protocol: random.weighted([4, 'TCP'], [2, 'UDP'], [1, 'SCTP']) })),
    };
  };
  return [
    set('NetworkSet', 'near', random.pick(namespaces)),
    set('NetworkSet', 'far', random.pick(namespaces)),
    set('GlobalNetworkSet', 'world'),
    set('GlobalNetworkSet', 'office'),
    slice('slice1'),
    slice('slice2'),
    ...(ground.without.includes('HostEndpoint')
      ? []
      : [
          edge(random),
          ...ground.nodes.map((node) => uplink(random, node)),
          profile(random, wordsOf(ground), 'open'),
          profile(random, wordsOf(ground), 'shut'),
        ]),
  ];
}

/** Only as a member of selectors: it is on an address that no node has. */
function edge(random: Random): Doc {
  return hostEndpoint(random, 'edge', 'node3', [random.pick(outsiders[4]), random.pick(outsiders[6])]);
}

/** Of the device that leads to the other nodes. */
function uplink(random: Random, node: Doc): Doc {
  const { name } = node.metadata;
  const addresses = [...nodeAddresses([node], 4), ...nodeAddresses([node], 6)];
  return hostEndpoint(random, `uplink-of-${name}`, name, random.some(addresses, 0, 2));
}

function hostEndpoint(random: Random, name: string, node: string, expectedIPs: readonly string[]): Doc {
  return {
    apiVersion: v3,
    kind: 'HostEndpoint',
    metadata: { name, labels: someLabels(random, endpointLabels) },
    spec: {
      node,
      interfaceName: 'uplink',
      expectedIPs,
      ...random.maybe(0.8, 'profiles', () => random.some(profileNames, 1, 3)),
      ports: [{ name: random.pick(['http', 'admin']), protocol: 'TCP', port: random.pick(ports) }],
    },
  };
}
