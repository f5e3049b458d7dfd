/** The least that each kind takes, for tests of kinds. */
import { kinds, type KindName } from './kinds.ts';
import type { ValidationError } from './errors.ts';

export const block = {
  cidr: '10.65.0.0/30',
  affinity: 'host:node-1',
  allocations: [null, 0, null, null],
  unallocated: [0, 2, 3],
  attributes: [{ handle_id: 'net.abc', secondary: { pod: 'web' } }],
  sequenceNumber: 7,
};
export const endpoint = { orchestrator: 'k8s', node: 'node-1', endpoint: 'eth0', interfaceName: 'cali0123456789a' };

/** The least that each kind takes. */
export const least: Readonly<Record<KindName, object>> = {
  Node: {},
  Pod: {},
  Namespace: {},
  Service: {},
  EndpointSlice: { addressType: 'IPv4' },
  ServiceAccount: {},
  ConfigMap: {},
  Lease: {},
  KubernetesNetworkPolicy: {},
  ClusterNetworkPolicy: { tier: 'Admin', priority: 10, subject: { namespaces: {} } },
  WorkloadEndpoint: endpoint,
  IPPool: { cidr: '10.65.0.0/16' },
  IPAMBlock: block,
  BlockAffinity: { state: 'confirmed', node: 'node-1', cidr: '10.65.0.0/26' },
  IPAMHandle: { handleID: 'net.abc' },
  IPReservation: {},
  IPAMConfiguration: {},
  FelixConfiguration: {},
  ClusterInformation: {},
  BGPConfiguration: {},
  Tier: {},
  NetworkPolicy: {},
  GlobalNetworkPolicy: {},
  StagedNetworkPolicy: {},
  StagedGlobalNetworkPolicy: {},
  StagedKubernetesNetworkPolicy: {},
  NetworkSet: {},
  GlobalNetworkSet: {},
  HostEndpoint: { node: 'node-1', interfaceName: 'eth0' },
  Profile: {},
};

/** An object called `a` (of a kind without `spec`: with its fields at the top), with the least that its kind takes unless `spec` says. */
export function object(kind: KindName, spec: object = least[kind], metadata: object = {}): Record<string, unknown> {
  const head = { apiVersion: kinds[kind].apiVersion, kind: kinds[kind].kind, metadata: { name: 'a', ...metadata } };
  return kind === 'EndpointSlice' ? { ...head, ...spec } : { ...head, spec };
}

/** What an action throws; fails if it does not. */
export function errorOf(action: () => unknown): ValidationError {
  try {
    action();
  } catch (error) {
    return error as ValidationError;
  }
  throw new Error('no error was thrown');
}
