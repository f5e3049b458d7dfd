import { annotation, parsePodAnnotations } from '#api/annotations.ts';
import { messageOf } from '#api/errors.ts';
import { objectText, parseAs, type KindMap } from '#api/kinds.ts';
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
  if (!hasEndpoint(pod)) return undefined;
  const { namespace, name } = metadata;
  const serviceAccountName = spec.serviceAccountName || 'default';
  const containerID = metadata.annotations?.[annotation.containerID];
  // What is wrong with the annotation is told with the Pod.
  const { prefixes } = allowedSources(pod);
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
      ...(prefixes === undefined ? {} : { allowSpoofedSourcePrefixes: prefixes }),
    },
  }).object;
}

function hasEndpoint(pod: Pod): boolean {
  const { nodeName, hostNetwork } = pod.spec;
  return Boolean(nodeName) && !hostNetwork && !hasLeftNetwork(pod);
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

/** Why the WorkloadEndpoint of a Pod lacks something that the Pod asks for, and what holds meanwhile; empty if it lacks nothing, or the Pod stands for none. */
export function flawOf(pod: Pod): string {
  if (!hasEndpoint(pod)) return '';
  const { wrong } = allowedSources(pod);
  if (wrong === '') return '';
  return `${objectText('Pod', pod.metadata)}: ${wrong}; it is ignored: a WorkloadEndpoint made of this Pod has no allowed sources`;
}

/** `wrong`: why the annotation can't be used; empty if it can. */
function allowedSources({ metadata }: Pod): {
  readonly prefixes: readonly string[] | undefined;
  readonly wrong: string;
} {
  const value = metadata.annotations?.[annotation.allowedSourcePrefixes];
  if (value === undefined) return { prefixes: undefined, wrong: '' };
  try {
    const only = { [annotation.allowedSourcePrefixes]: value };
    return { prefixes: parsePodAnnotations(only).allowedSourcePrefixes, wrong: '' };
  } catch (error) {
    return { prefixes: undefined, wrong: messageOf(error) };
  }
}
