/**
 * The objects as a user writes them, as far as the oracle reads them, and what they say of addresses and labels. Loose on purpose: no
 * schema, no defaults of `api/`; a field that is absent is undefined here, and the reference says what that means.
 */
import ipaddr from 'ipaddr.js';
import type { Labels } from './selector-text.ts';

export type Family = 4 | 6;

/** Any object: only what the oracle looks at is typed. */
export interface Doc {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Labels;
    readonly annotations?: Labels;
  };
  readonly spec?: unknown;
  readonly [field: string]: unknown;
}

/** A port that an endpoint has a name for. */
export interface NamedPort {
  readonly name: string;
  readonly protocol: number;
  readonly port: number;
}

/** What a selector can select: a pod, a host endpoint or a network set. */
export interface Selectable {
  /** For people: `Pod red/p1`. */
  readonly id: string;
  readonly labels: Labels;
  readonly namespace?: string;
  /** The labels of its namespace, `{}` for what is in none. */
  readonly namespaceLabels: Labels;
  readonly serviceAccount?: string;
  readonly serviceAccountLabels: Labels;
  /** Addresses and networks. */
  readonly nets: readonly string[];
  readonly namedPorts: readonly NamedPort[];
  readonly kind: 'pod' | 'host' | 'networks';
  /** Where it is; not of networks. */
  readonly node?: string;
  /** Of a host endpoint. */
  readonly profiles?: readonly string[];
}

const protocolNumbers: Readonly<Record<string, number>> = {
  ICMP: 1,
  TCP: 6,
  UDP: 17,
  ICMPv6: 58,
  SCTP: 132,
  UDPLite: 136,
};

/** The number of a protocol that is given by name or number. */
export function protocolNumber(protocol: string | number): number {
  return typeof protocol === 'number' ? protocol : (protocolNumbers[protocol] ?? Number(protocol));
}

/** 4 or 6, by the look of an address or network. */
export function familyOf(net: string): Family {
  return net.includes(':') ? 6 : 4;
}

/** The same few addresses are read millions of times. */
const known = new Map<string, ReturnType<typeof ipaddr.parse>>();
function addressOf(text: string): ReturnType<typeof ipaddr.parse> {
  const found = known.get(text);
  if (found !== undefined) return found;
  const address = ipaddr.parse(text);
  known.set(text, address);
  return address;
}

/** Is the address in the network (or is it the address)? Host bits of the network mean nothing. */
export function isIn(address: string, net: string): boolean {
  if (familyOf(address) !== familyOf(net)) return false;
  const [base = '', length] = net.split('/');
  const prefix = length === undefined ? (familyOf(net) === 4 ? 32 : 128) : Number(length);
  return addressOf(address).match(addressOf(base), prefix);
}

/** The objects of one kind; `apiVersion` where two kinds share a name. */
export function ofKind(docs: readonly Doc[], kind: string, apiVersion?: string): readonly Doc[] {
  return docs.filter((doc) => doc.kind === kind && (apiVersion === undefined || doc.apiVersion === apiVersion));
}

/** `default` where the object doesn't say. */
export function namespaceOf(doc: Doc): string {
  return doc.metadata.namespace ?? 'default';
}

/** Everything that selectors can select. */
export function selectables(docs: readonly Doc[]): readonly Selectable[] {
  return [
    ...ofKind(docs, 'Pod').flatMap((pod) => podOf(docs, pod)),
    ...ofKind(docs, 'HostEndpoint').map((doc) => hostEndpointOf(docs, doc)),
    ...ofKind(docs, 'NetworkSet').map((set) => ({
      ...networkSetOf(set),
      namespace: namespaceOf(set),
      labels: { ...set.metadata.labels, 'projectcalico.org/namespace': namespaceOf(set) },
      namespaceLabels: labelsOfNamespace(docs, namespaceOf(set)),
    })),
    ...ofKind(docs, 'GlobalNetworkSet').map(networkSetOf),
  ];
}

/** A namespace's labels as selectors see them. Its name is one, even while there is no object; so is Kubernetes' own label for it. */
function labelsOfNamespace(docs: readonly Doc[], name: string): Labels {
  const namespace = ofKind(docs, 'Namespace').find(({ metadata }) => metadata.name === name);
  return { ...namespace?.metadata.labels, 'kubernetes.io/metadata.name': name, 'projectcalico.org/name': name };
}

interface PodFields {
  readonly spec?: {
    readonly nodeName?: string;
    readonly serviceAccountName?: string;
    readonly hostNetwork?: boolean;
    readonly containers?: readonly {
      readonly ports?: readonly {
        readonly name?: string;
        readonly containerPort: number;
        readonly protocol?: string;
      }[];
    }[];
  };
  readonly status?: { readonly podIPs?: readonly { readonly ip: string }[] };
}

/** None for a pod that has no network of its own. */
function podOf(docs: readonly Doc[], pod: Doc): Selectable[] {
  const { spec = {}, status = {} } = pod as PodFields;
  if (spec.hostNetwork === true) return [];
  const namespace = namespaceOf(pod);
  const serviceAccount = spec.serviceAccountName ?? 'default';
  const account = ofKind(docs, 'ServiceAccount').find(
    (each) => namespaceOf(each) === namespace && each.metadata.name === serviceAccount,
  );
  return [
    {
      id: `Pod ${namespace}/${pod.metadata.name}`,
      kind: 'pod',
      ...(spec.nodeName === undefined ? {} : { node: spec.nodeName }),
      namespace,
      serviceAccount,
      labels: {
        ...pod.metadata.labels,
        'projectcalico.org/orchestrator': 'k8s',
        'projectcalico.org/namespace': namespace,
        'projectcalico.org/serviceaccount': serviceAccount,
      },
      namespaceLabels: labelsOfNamespace(docs, namespace),
      serviceAccountLabels: { ...account?.metadata.labels, 'projectcalico.org/name': serviceAccount },
      nets: (status.podIPs ?? []).map(({ ip }) => ip),
      namedPorts: (spec.containers ?? []).flatMap(({ ports = [] }) =>
        ports.flatMap(({ name, containerPort, protocol = 'TCP' }) =>
          name === undefined ? [] : [{ name, port: containerPort, protocol: protocolNumber(protocol) }],
        ),
      ),
    },
  ];
}

function networkSetOf(set: Doc): Selectable {
  const { nets = [] } = (set.spec ?? {}) as { readonly nets?: readonly string[] };
  return {
    id: `${set.kind} ${set.metadata.name}`,
    kind: 'networks',
    labels: set.metadata.labels ?? {},
    namespaceLabels: {},
    serviceAccountLabels: {},
    nets,
    namedPorts: [],
  };
}

/** It inherits what its profiles apply; the first that says anything of a label counts, and its own before all. */
function hostEndpointOf(docs: readonly Doc[], doc: Doc): Selectable {
  const spec = doc.spec as {
    readonly node: string;
    readonly expectedIPs?: readonly string[];
    readonly profiles?: readonly string[];
    readonly ports?: readonly { readonly name: string; readonly port: number; readonly protocol: string | number }[];
  };
  const inherited = (spec.profiles ?? []).map((name): Labels => {
    const profile = ofKind(docs, 'Profile').find(({ metadata }) => metadata.name === name);
    return (profile?.spec as { readonly labelsToApply?: Labels } | undefined)?.labelsToApply ?? {};
  });
  return {
    id: `HostEndpoint ${doc.metadata.name}`,
    kind: 'host',
    profiles: spec.profiles ?? [],
    node: spec.node,
    labels: Object.assign({}, ...inherited.toReversed(), doc.metadata.labels) as Labels,
    namespaceLabels: {},
    serviceAccountLabels: {},
    nets: spec.expectedIPs ?? [],
    namedPorts: (spec.ports ?? []).map(({ name, port, protocol }) => ({
      name,
      port,
      protocol: protocolNumber(protocol),
    })),
  };
}
