import type { ApplyFailure, Counter, DeviceCounters } from '#dataplanes/contract.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import { endpointId } from './endpoint-info.ts';

/** One line of `tortie endpoints`; a stable shape. */
export interface EndpointReport {
  readonly id: string;
  readonly namespace: string;
  readonly pod: string | null;
  readonly container: string;
  readonly network: string;
  readonly addresses: readonly string[];
  readonly mac: string;
  readonly device: string;
  /** `programmed`, or why not. */
  readonly state: string;
  /** Per direction and verdict, where the active dataplane counts them. */
  readonly counters: readonly { readonly direction: string; readonly verdicts: Readonly<Record<string, Counter>> }[];
}

/** The node's endpoints as people see them, sorted by id. */
export function reportEndpoints(
  endpoints: readonly LocalEndpoint[],
  failures: readonly ApplyFailure[],
  counters: readonly DeviceCounters[],
): readonly EndpointReport[] {
  return endpoints
    .map(({ endpoint, network }) => {
      const { metadata, spec } = endpoint;
      const id = endpointId(endpoint);
      return {
        id,
        namespace: metadata.namespace ?? '',
        pod: spec.pod ?? null,
        container: spec.containerID ?? '',
        network,
        addresses: spec.ipNetworks ?? [],
        mac: spec.mac ?? '',
        device: spec.interfaceName,
        state: failures.find((failure) => failure.endpoint === id)?.reason ?? 'programmed',
        counters: counters
          .filter(({ ifaceName }) => ifaceName === spec.interfaceName)
          .map(({ direction, verdicts }) => ({ direction, verdicts })),
      };
    })
    .toSorted((a, b) => (a.id < b.id ? -1 : 1));
}
