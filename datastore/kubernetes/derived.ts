import { annotation, parsePodAnnotations } from '#api/annotations.ts';
import { parseAs, type KindMap } from '#api/kinds.ts';
import { hostDeviceName, workloadEndpointObjectName } from '#api/names.ts';
import { hasLeftNetwork, podNets } from '#api/pod-network.ts';
import { v3 } from '#api/v3/group.ts';

type Pod = KindMap['Pod'];
type WorkloadEndpoint = KindMap['WorkloadEndpoint'];

/** The first of a pod's host devices is called so, unless `interfacePrefix` says otherwise: that is the node's setting and not known here. */
const devicePrefix = 'cali';

/**
 * The WorkloadEndpoint that a Pod stands for, as Calico derives it: of a pod that has a node, isn't in its host's network, has not run to its end
 * and has not been taken down. Addresses are what its kubelet reports, until then what the plugin has annotated. Undefined for any other pod.
 */
export function workloadEndpointOf(pod: Pod): WorkloadEndpoint | undefined {
  const { metadata, spec } = pod;
  if (!spec.nodeName || spec.hostNetwork || hasLeftNetwork(pod)) return undefined;
  const { namespace, name } = metadata;
  const serviceAccountName = spec.serviceAccountName || 'default';
  const containerID = metadata.annotations?.[annotation.containerID];
  const sources = allowedSources(pod);
  return parseAs('WorkloadEndpoint', {
    apiVersion: v3,
    kind: 'WorkloadEndpoint',
    metadata: {
      namespace,
      name: workloadEndpointName(pod),
      uid: metadata.uid,
      resourceVersion: metadata.resourceVersion,
      creationTimestamp: metadata.creationTimestamp,
      labels: {
        ...metadata.labels,
        'projectcalico.org/namespace': namespace,
        'projectcalico.org/orchestrator': 'k8s',
        'projectcalico.org/serviceaccount': serviceAccountName,
      },
    },
    spec: {
      orchestrator: 'k8s',
      workload: `${namespace}.${name}`,
      node: spec.nodeName,
      ...(containerID ? { containerID } : {}),
      pod: name,
      serviceAccountName,
      endpoint: 'eth0',
      ipNetworks: podNets(pod),
      profiles: [`kns.${namespace}`, `ksa.${namespace}.${serviceAccountName}`],
      interfaceName: hostDeviceName(devicePrefix, `${namespace}.${name}`),
      ports: portsOf(pod),
      ...(sources === undefined ? {} : { allowSpoofedSourcePrefixes: sources }),
    },
  }).object;
}

/** What the WorkloadEndpoint of a Pod that has a node is called. */
export function workloadEndpointName({ metadata, spec }: Pod): string {
  return workloadEndpointObjectName({
    node: spec.nodeName ?? '',
    orchestrator: 'k8s',
    workload: metadata.name,
    endpoint: 'eth0',
  });
}

/** Those that have a name (for policy) or a host port, also of init containers that stay. */
function portsOf({ spec }: Pod): unknown[] {
  const sidecars = spec.initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always');
  return [...spec.containers, ...sidecars]
    .flatMap(({ ports }) => ports)
    .filter(({ name, hostPort }) => name !== undefined || (hostPort ?? 0) > 0)
    .map(({ containerPort, ...port }) => ({ ...port, port: containerPort }));
}

/** An annotation that can't be used is reported when the pod is wired; here it says nothing. */
function allowedSources({ metadata }: Pod): readonly string[] | undefined {
  try {
    return parsePodAnnotations(metadata.annotations).allowedSourcePrefixes;
  } catch {
    return undefined;
  }
}
