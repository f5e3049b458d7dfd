/** Objects as users write them, with what is the same in all of them filled in. */
import type { AddressBook, Manifest } from './row.ts';

type Spec = Readonly<Record<string, unknown>>;
type Labels = Readonly<Record<string, string>>;

const v3 = 'projectcalico.org/v3';

function object(
  apiVersion: string,
  kind: string,
  name: string,
  spec: Spec,
  namespace?: string,
  labels?: Labels,
): Manifest {
  return {
    apiVersion,
    kind,
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(labels === undefined ? {} : { labels }),
    },
    spec,
  };
}

export const tier = (name: string, spec: Spec): Manifest => object(v3, 'Tier', name, spec);
export const globalPolicy = (name: string, spec: Spec): Manifest => object(v3, 'GlobalNetworkPolicy', name, spec);
export const networkPolicy = (name: string, spec: Spec, namespace = 'default'): Manifest =>
  object(v3, 'NetworkPolicy', name, spec, namespace);
export const stagedGlobalPolicy = (name: string, spec: Spec): Manifest =>
  object(v3, 'StagedGlobalNetworkPolicy', name, spec);
export const stagedPolicy = (name: string, spec: Spec, namespace = 'default'): Manifest =>
  object(v3, 'StagedNetworkPolicy', name, spec, namespace);
export const stagedKubernetesPolicy = (name: string, spec: Spec, namespace = 'default'): Manifest =>
  object(v3, 'StagedKubernetesNetworkPolicy', name, spec, namespace);
export const networkSet = (name: string, nets: readonly string[], labels: Labels, namespace = 'default'): Manifest =>
  object(v3, 'NetworkSet', name, { nets }, namespace, labels);
export const globalNetworkSet = (name: string, nets: readonly string[], labels: Labels): Manifest =>
  object(v3, 'GlobalNetworkSet', name, { nets }, undefined, labels);
export const hostEndpoint = (name: string, spec: Spec, labels: Labels = {}): Manifest =>
  object(v3, 'HostEndpoint', name, spec, undefined, labels);
export const pool = (name: string, spec: Spec): Manifest => object(v3, 'IPPool', name, spec);
export const reservation = (name: string, reservedCIDRs: readonly string[]): Manifest =>
  object(v3, 'IPReservation', name, { reservedCIDRs });
export const ipamConfiguration = (spec: Spec): Manifest => object(v3, 'IPAMConfiguration', 'default', spec);
export const clusterInformation = (spec: Spec): Manifest => object(v3, 'ClusterInformation', 'default', spec);
export const bgpConfiguration = (spec: Spec): Manifest => object(v3, 'BGPConfiguration', 'default', spec);

export const kubernetesPolicy = (name: string, spec: Spec, namespace = 'default'): Manifest =>
  object('networking.k8s.io/v1', 'NetworkPolicy', name, spec, namespace);
export const clusterPolicy = (name: string, spec: Spec): Manifest =>
  object('policy.networking.k8s.io/v1alpha2', 'ClusterNetworkPolicy', name, spec);

export const namespaceObject = (name: string, labels: Labels = {}): Manifest => ({
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: { name, labels },
});
export const serviceAccountObject = (name: string, namespace: string, labels: Labels = {}): Manifest => ({
  apiVersion: 'v1',
  kind: 'ServiceAccount',
  metadata: { name, namespace, labels },
});
export const service = (name: string, ports: readonly Spec[], namespace = 'default'): Manifest =>
  object('v1', 'Service', name, { ports }, namespace);

/** A Service with these ClusterIPs, one a family. */
export const clusterIpService = (
  name: string,
  clusterIPs: readonly [string, string],
  ports: readonly Spec[],
  spec: Spec = {},
): Manifest => object('v1', 'Service', name, { clusterIP: clusterIPs[0], clusterIPs, ports, ...spec }, 'default');

/** Who may answer for a Service: the name of a pod that is ready, or more of it. */
export type SliceEndpoint =
  | string
  | {
      readonly of: string;
      readonly nodeName?: string;
      readonly conditions?: Readonly<Record<'ready' | 'serving' | 'terminating', boolean>>;
    };

/** One slice, as a controller makes it. */
export const endpointSlice = (
  name: string,
  serviceName: string,
  addressType: 'IPv4' | 'IPv6',
  endpoints: readonly Spec[],
  ports: readonly Spec[],
): Manifest => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name, namespace: 'default', labels: { 'kubernetes.io/service-name': serviceName } },
  addressType,
  endpoints,
  ports,
});

/** The slices, one a family, of a Service's pods: `SERVICE-0` and `SERVICE-1`, with `part` between. */
export const endpointSlices = (
  serviceName: string,
  books: readonly [AddressBook, AddressBook],
  endpoints: readonly SliceEndpoint[],
  ports: readonly Spec[],
  part = '',
): readonly Manifest[] =>
  books.map((book, index) =>
    endpointSlice(
      `${serviceName}${part}-${index}`,
      serviceName,
      index === 0 ? 'IPv4' : 'IPv6',
      endpoints.map((endpoint) => {
        const { of, ...more } = typeof endpoint === 'string' ? { of: endpoint } : endpoint;
        return { addresses: [book[of] ?? ''], conditions: { ready: true }, ...more };
      }),
      ports,
    ),
  );
