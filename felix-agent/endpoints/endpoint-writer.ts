import type { LocalEndpoint } from '#cni/deps.ts';

/** Writes what everybody else must know of one of this node's endpoints to where the datastore keeps it. Failures are `DatastoreError`s. */
export interface EndpointWriter {
  /** What is written, as messages name it: `WorkloadEndpoint default/x`, `Pod default/web`. */
  subject(endpoint: LocalEndpoint): string;
  /** The endpoint is there. Writes nothing that stands already. */
  put(endpoint: LocalEndpoint): Promise<void>;
  /** The endpoint is gone; what is of a newer sandbox stays. */
  remove(endpoint: LocalEndpoint): Promise<void>;
}
