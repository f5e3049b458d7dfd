import { parseAs, type KindMap } from '#api/kinds.ts';

/** The block that the handles of these tests have addresses in. */
export const block = '10.65.0.0/26';

/** A handle with so many addresses. */
export function handle(name: string, count = 0): KindMap['IPAMHandle'] {
  return parseAs('IPAMHandle', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'IPAMHandle',
    metadata: { name },
    spec: { handleID: name, block: { [block]: count } },
  }).object;
}

/** The same object with another count. */
export function counted(object: KindMap['IPAMHandle'], count: number): KindMap['IPAMHandle'] {
  return { ...object, spec: { ...object.spec, block: { [block]: count } } };
}

/** The count. */
export function countOf(object: KindMap['IPAMHandle'] | undefined): number | undefined {
  return object?.spec.block[block];
}

/** The namespaces that objects of these tests are in, besides `default`. */
export const namespaces = ['x', 'x-y', 'y'] as const;

/** A network set, the namespaced kind of these tests. */
export function networkSet(namespace: string, name: string): KindMap['NetworkSet'] {
  return parseAs('NetworkSet', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'NetworkSet',
    metadata: { namespace, name },
    spec: { nets: ['10.0.0.0/8'] },
  }).object;
}

/** A workload endpoint. */
export function endpoint(namespace: string, name: string): KindMap['WorkloadEndpoint'] {
  return parseAs('WorkloadEndpoint', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: { namespace, name },
    spec: { orchestrator: 'cni', node: 'n1', endpoint: 'eth0', interfaceName: 'cali1' },
  }).object;
}

/** Calico's NetworkPolicy, in `default`, that isolates everything. */
export function networkPolicy(name: string): KindMap['NetworkPolicy'] {
  return {
    apiVersion: 'projectcalico.org/v3',
    kind: 'NetworkPolicy',
    metadata: { namespace: 'default', name },
    spec: { tier: 'default', types: ['Ingress'] },
  };
}

/** Kubernetes' NetworkPolicy, in `default`, that isolates everything. */
export function kubernetesNetworkPolicy(name: string): KindMap['KubernetesNetworkPolicy'] {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace: 'default', name },
    spec: { podSelector: {}, policyTypes: ['Ingress'] },
  };
}
