import { annotation, type PodAnnotations } from '#api/annotations.ts';
import { withoutPrefix } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import type { Call } from './call.ts';
import type { PodFacts } from './deps.ts';
import { cniCode, CniError } from './errors.ts';
import { isV6 } from './wiring-plan.ts';

type WorkloadEndpoint = KindMap['WorkloadEndpoint'];
type Pod = KindMap['Pod'];

/** What the endpoint carries that isn't in the call. */
export interface EndpointParts {
  readonly nodeName: string;
  readonly hostDevice: string;
  readonly facts: PodFacts | undefined;
  readonly wishes: PodAnnotations;
  /** With /32 and /128. */
  readonly addresses: readonly string[];
  readonly mac: string;
}

/** The WorkloadEndpoint of an attachment, as Calico writes it. */
export function makeEndpoint(call: Call, parts: EndpointParts): WorkloadEndpoint {
  const { identity, attachment, pod } = call;
  const { facts, wishes } = parts;
  const serviceAccount = facts?.pod.spec.serviceAccountName || 'default';
  const nats = floatingIps(call, parts);
  return {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: {
      name: identity.name,
      namespace: identity.namespace,
      labels: {
        ...facts?.pod.metadata.labels,
        'projectcalico.org/namespace': identity.namespace,
        'projectcalico.org/orchestrator': identity.orchestrator,
        ...(pod === undefined ? {} : { 'projectcalico.org/serviceaccount': serviceAccount }),
      },
    },
    spec: {
      orchestrator: identity.orchestrator,
      workload: pod === undefined ? attachment.containerId : `${pod.namespace}.${pod.name}`,
      node: parts.nodeName,
      containerID: attachment.containerId,
      ...(pod === undefined ? {} : { pod: pod.name, serviceAccountName: serviceAccount }),
      endpoint: identity.endpoint,
      ipNetworks: parts.addresses,
      ...(nats === undefined ? {} : { ipNATs: nats }),
      // A container that is no pod belongs to the profile of its network, as with Calico.
      profiles:
        pod === undefined ? [attachment.network] : [`kns.${pod.namespace}`, `ksa.${pod.namespace}.${serviceAccount}`],
      interfaceName: parts.hostDevice,
      mac: parts.mac,
      ports: facts === undefined ? [] : portsOf(facts.pod),
      ...(wishes.allowedSourcePrefixes === undefined
        ? {}
        : { allowSpoofedSourcePrefixes: wishes.allowedSourcePrefixes }),
    },
  };
}

/** Named ports are for policy, host ports for services; init containers count if they stay (sidecars). */
function portsOf({ spec }: Pod): WorkloadEndpoint['spec']['ports'] {
  const sidecars = spec.initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always');
  return [...spec.containers, ...sidecars]
    .flatMap(({ ports }) => ports)
    .filter(({ name, hostPort }) => name !== undefined || (hostPort ?? 0) > 0)
    .map(({ name, protocol, containerPort, hostPort, hostIP }) => ({
      ...(name === undefined ? {} : { name }),
      protocol,
      port: containerPort,
      ...(hostPort === undefined ? {} : { hostPort }),
      ...(hostIP === undefined ? {} : { hostIP }),
    }));
}

function floatingIps({ conf }: Call, { wishes, addresses }: EndpointParts): WorkloadEndpoint['spec']['ipNATs'] {
  if (wishes.floatingIPs === undefined) return undefined;
  if (conf.conf.feature_control?.floating_ips !== true) {
    throw new CniError(
      cniCode.podRefused,
      `annotation ${annotation.floatingIPs} needs feature_control.floating_ips in the network configuration`,
    );
  }
  return wishes.floatingIPs.map((externalIP) => {
    const internal = addresses.find((address) => isV6(address) === isV6(externalIP));
    if (internal === undefined) {
      throw new CniError(
        cniCode.podRefused,
        `annotation ${annotation.floatingIPs}: the pod has no address of the family of ${externalIP}`,
      );
    }
    return { internalIP: withoutPrefix(internal), externalIP };
  });
}
