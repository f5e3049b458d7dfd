import type { KindMap } from '#api/kinds.ts';
import type { EndpointId, WorkloadDevice } from '#dataplanes/messages.ts';

type WorkloadEndpoint = KindMap['WorkloadEndpoint'];

/** The dataplane's name for an endpoint: `<orchestrator>/<namespace>/<workload>/<endpoint>`, without a namespace for what is no pod. */
export function endpointId(endpoint: WorkloadEndpoint): EndpointId {
  const { orchestrator, endpoint: name } = endpoint.spec;
  return `${orchestrator}/${workloadName(endpoint)}/${name}`;
}

/** What the endpoint belongs to: `<namespace>/<pod>`, or the container. */
export function workloadName({ metadata, spec }: WorkloadEndpoint): string {
  if (spec.pod !== undefined) return `${metadata.namespace}/${spec.pod}`;
  return spec.workload ?? spec.containerID ?? metadata.name;
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
