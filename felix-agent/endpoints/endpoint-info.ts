import type { KindMap } from '#api/kinds.ts';
import type { EndpointId, WorkloadDevice } from '#dataplanes/messages.ts';

type WorkloadEndpoint = KindMap['WorkloadEndpoint'];

/** The dataplane's name for an endpoint: `<orchestrator>/<namespace>/<workload>/<endpoint>`, without a namespace for what is no pod. */
export function endpointId({ metadata, spec }: WorkloadEndpoint): EndpointId {
  const workload = spec.pod === undefined ? spec.workload : `${metadata.namespace ?? ''}/${spec.pod}`;
  return `${spec.orchestrator}/${workload ?? spec.containerID ?? metadata.name}/${spec.endpoint}`;
}

/** What the dataplane needs to know of an endpoint. */
export function endpointInfo({ spec }: WorkloadEndpoint): WorkloadDevice {
  const nets = spec.ipNetworks ?? [];
  return {
    ifaceName: spec.interfaceName,
    mac: spec.mac ?? '',
    ipv4Nets: nets.filter((net) => !net.includes(':')),
    ipv6Nets: nets.filter((net) => net.includes(':')),
    allowedSourcePrefixes: spec.allowSpoofedSourcePrefixes ?? [],
  };
}
