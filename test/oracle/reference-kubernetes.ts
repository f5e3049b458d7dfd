/** Kubernetes' own policy kinds, by the words of their API: NetworkPolicy (networking.k8s.io/v1) and ClusterNetworkPolicy. */
import { isIn, namespaceOf, ofKind, protocolNumber, type Doc, type Selectable } from './cluster.ts';
import { isNamedPort, type Action, type Direction, type Packet, type Policy, type Rule } from './policy-model.ts';
import type { Labels } from './selector-text.ts';

interface LabelSelector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
    readonly values?: readonly string[];
  }[];
}

interface Peer {
  readonly podSelector?: LabelSelector;
  readonly namespaceSelector?: LabelSelector;
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] };
}

interface Port {
  readonly protocol?: string;
  readonly port?: number | string;
  readonly endPort?: number;
}

interface NetworkPolicySpec {
  readonly podSelector?: LabelSelector;
  readonly policyTypes?: readonly ('Ingress' | 'Egress')[];
  readonly ingress?: readonly { readonly from?: readonly Peer[]; readonly ports?: readonly Port[] }[];
  readonly egress?: readonly { readonly to?: readonly Peer[]; readonly ports?: readonly Port[] }[];
}

interface ClusterPeer {
  readonly namespaces?: LabelSelector;
  readonly pods?: { readonly namespaceSelector?: LabelSelector; readonly podSelector: LabelSelector };
  readonly networks?: readonly string[];
}

type ClusterPort = { readonly number: number } | { readonly range: { readonly start: number; readonly end: number } };

interface ClusterProtocol {
  readonly destinationNamedPort?: string;
  readonly tcp?: { readonly destinationPort?: ClusterPort };
  readonly udp?: { readonly destinationPort?: ClusterPort };
  readonly sctp?: { readonly destinationPort?: ClusterPort };
}

interface ClusterRule {
  readonly action: 'Accept' | 'Deny' | 'Pass';
  readonly from?: readonly ClusterPeer[];
  readonly to?: readonly ClusterPeer[];
  readonly protocols?: readonly ClusterProtocol[];
}

interface ClusterPolicySpec {
  readonly tier: 'Admin' | 'Baseline';
  readonly priority: number;
  readonly subject: ClusterPeer;
  readonly ingress?: readonly ClusterRule[];
  readonly egress?: readonly ClusterRule[];
}

/** Both kinds as the reference takes policies. */
export function kubernetesPolicies(docs: readonly Doc[], things: readonly Selectable[]): readonly Policy[] {
  return [
    ...ofKind(docs, 'NetworkPolicy', 'networking.k8s.io/v1').map((doc) => networkPolicy(things, doc)),
    ...ofKind(docs, 'ClusterNetworkPolicy').map((doc) => clusterNetworkPolicy(things, doc)),
  ];
}

/** In tier default with order 1000. Selects pods of its namespace; what a rule names is allowed, and nothing else. */
function networkPolicy(things: readonly Selectable[], doc: Doc): Policy {
  const namespace = namespaceOf(doc);
  const { podSelector = {}, policyTypes, ingress = [], egress = [] } = (doc.spec ?? {}) as NetworkPolicySpec;
  const types = policyTypes ?? ['Ingress', ...(egress.length > 0 ? ['Egress'] : [])];
  const rule = (peers: readonly Peer[], ports: readonly Port[], side: Direction): Rule => ({
    action: 'Allow',
    matches: (packet) =>
      (peers.length === 0 ||
        peers.some((peer) => isPeer(things, namespace, peer, side === 'ingress' ? packet.from : packet.to))) &&
      (ports.length === 0 || ports.some((port) => isPort(things, port, packet))),
  });
  return {
    id: `KubernetesNetworkPolicy ${namespace}/${doc.metadata.name}`,
    tier: 'default',
    order: 1_000,
    tie: `${doc.metadata.name}/${namespace}/KubernetesNetworkPolicy`,
    selects: (endpoint) =>
      endpoint.kind === 'pod' && endpoint.namespace === namespace && fits(podSelector, endpoint.labels),
    ...(types.includes('Ingress')
      ? { ingress: ingress.map(({ from = [], ports = [] }) => rule(from, ports, 'ingress')) }
      : {}),
    ...(types.includes('Egress') ? { egress: egress.map(({ to = [], ports = [] }) => rule(to, ports, 'egress')) } : {}),
  };
}

/** Without a namespaceSelector pods of the policy's own namespace. */
function isPeer(things: readonly Selectable[], namespace: string, peer: Peer, address: string): boolean {
  const { ipBlock, podSelector = {}, namespaceSelector } = peer;
  if (ipBlock !== undefined) {
    return isIn(address, ipBlock.cidr) && !(ipBlock.except ?? []).some((net) => isIn(address, net));
  }
  return podsAt(things, address).some(
    (pod) =>
      fits(podSelector, pod.labels) &&
      (namespaceSelector === undefined ? pod.namespace === namespace : fits(namespaceSelector, pod.namespaceLabels)),
  );
}

/** The destination's port; a name is what the destination pod calls it. */
function isPort(things: readonly Selectable[], { protocol = 'TCP', port, endPort }: Port, packet: Packet): boolean {
  const number = protocolNumber(protocol);
  if (packet.protocol !== number) return false;
  if (port === undefined) return true;
  if (typeof port === 'string') return isNamedPort(things, port, number, packet.to, packet.port, packet.protocol);
  return packet.port !== undefined && packet.port >= port && packet.port <= (endPort ?? port);
}

/** Tier kube-admin or kube-baseline, ordered by priority. Governs a direction only if it has rules for it. */
function clusterNetworkPolicy(things: readonly Selectable[], doc: Doc): Policy {
  const { tier, priority, subject, ingress = [], egress = [] } = doc.spec as ClusterPolicySpec;
  const rule = (written: ClusterRule): Rule => {
    const { action, from, to, protocols = [] } = written;
    // What asks for something that we can't judge must not let anything through: Accept matches nothing, the others deny everything.
    if (!isUnderstood(written)) return { action: 'Deny', matches: () => action !== 'Accept' };
    return {
      action: ({ Accept: 'Allow', Deny: 'Deny', Pass: 'Pass' } satisfies Record<string, Action>)[action],
      matches: (packet) =>
        (from ?? to ?? []).some((peer) => isClusterPeer(things, peer, from === undefined ? packet.to : packet.from)) &&
        (protocols.length === 0 || protocols.some((protocol) => isClusterPort(things, protocol, packet))),
    };
  };
  return {
    id: `ClusterNetworkPolicy ${doc.metadata.name}`,
    tier: tier === 'Admin' ? 'kube-admin' : 'kube-baseline',
    order: priority,
    tie: `${doc.metadata.name}//ClusterNetworkPolicy`,
    selects: (endpoint) => endpoint.kind === 'pod' && isClusterPod(subject, endpoint),
    ...(ingress.length > 0 ? { ingress: ingress.map(rule) } : {}),
    ...(egress.length > 0 ? { egress: egress.map(rule) } : {}),
  };
}

/** Peers by nodes or domain names are not supported; an entry without any known field is of a newer version. */
function isUnderstood({ from, to, protocols = [] }: ClusterRule): boolean {
  return (
    (from ?? to ?? []).every((peer) => (peer.namespaces ?? peer.pods ?? peer.networks) !== undefined) &&
    protocols.every(
      ({ tcp, udp, sctp, destinationNamedPort }) => (tcp ?? udp ?? sctp ?? destinationNamedPort) !== undefined,
    )
  );
}

function isClusterPeer(things: readonly Selectable[], peer: ClusterPeer, address: string): boolean {
  if (peer.networks !== undefined) return peer.networks.some((net) => isIn(address, net));
  return podsAt(things, address).some((pod) => isClusterPod(peer, pod));
}

function isClusterPod({ namespaces, pods }: ClusterPeer, pod: Selectable): boolean {
  return pods === undefined
    ? fits(namespaces ?? {}, pod.namespaceLabels)
    : fits(pods.namespaceSelector ?? {}, pod.namespaceLabels) && fits(pods.podSelector, pod.labels);
}

function isClusterPort(things: readonly Selectable[], entry: ClusterProtocol, packet: Packet): boolean {
  const { tcp, udp, sctp, destinationNamedPort: name } = entry;
  // A name is looked up in every protocol: the entry has none.
  if (name !== undefined) {
    return isNamedPort(things, name, packet.protocol, packet.to, packet.port, packet.protocol);
  }
  const [fields, protocol] = tcp === undefined ? (udp === undefined ? [sctp, 'SCTP'] : [udp, 'UDP']) : [tcp, 'TCP'];
  const wanted = fields?.destinationPort;
  if (packet.protocol !== protocolNumber(protocol)) return false;
  if (wanted === undefined) return true;
  const [first, last] = 'number' in wanted ? [wanted.number, wanted.number] : [wanted.range.start, wanted.range.end];
  return packet.port !== undefined && packet.port >= first && packet.port <= last;
}

function podsAt(things: readonly Selectable[], address: string): readonly Selectable[] {
  return things.filter(({ kind, nets }) => kind === 'pod' && nets.includes(address));
}

/** Everything that it says must hold; an empty one selects everything. */
function fits({ matchLabels = {}, matchExpressions = [] }: LabelSelector, labels: Labels): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      switch (operator) {
        case 'In':
          return value !== undefined && values.includes(value);
        case 'NotIn':
          return value === undefined || !values.includes(value);
        case 'Exists':
          return value !== undefined;
        case 'DoesNotExist':
          return value === undefined;
      }
    })
  );
}
