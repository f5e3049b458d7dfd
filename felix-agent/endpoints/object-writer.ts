import { objectText } from '#api/kinds.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import type { EndpointWriter } from './endpoint-writer.ts';

/** Where WorkloadEndpoints are objects of their own: one for each endpoint of this node. */
export class ObjectWriter implements EndpointWriter {
  readonly #datastore: Pick<Datastore, 'get' | 'create' | 'update' | 'delete'>;

  constructor(datastore: Pick<Datastore, 'get' | 'create' | 'update' | 'delete'>) {
    this.#datastore = datastore;
  }

  subject({ endpoint }: LocalEndpoint): string {
    return objectText('WorkloadEndpoint', endpoint.metadata);
  }

  async put({ endpoint }: LocalEndpoint): Promise<void> {
    const stored = await this.#datastore.get('WorkloadEndpoint', endpoint.metadata);
    if (stored === undefined) {
      await this.#datastore.create('WorkloadEndpoint', endpoint);
    } else if (JSON.stringify(stored.spec) !== JSON.stringify(endpoint.spec)) {
      const { resourceVersion, uid, creationTimestamp } = stored.metadata;
      await this.#datastore.update('WorkloadEndpoint', {
        ...endpoint,
        metadata: { ...endpoint.metadata, resourceVersion, uid, creationTimestamp },
      });
    }
  }

  async remove({ endpoint }: LocalEndpoint): Promise<void> {
    const stored = await this.#datastore.get('WorkloadEndpoint', endpoint.metadata);
    // A newer sandbox's object stays: it isn't the one that was asked to go.
    if (stored === undefined || stored.spec.containerID !== endpoint.spec.containerID) return;
    try {
      await this.#datastore.delete('WorkloadEndpoint', endpoint.metadata, {
        resourceVersion: stored.metadata.resourceVersion,
      });
    } catch (error) {
      if (!isDatastoreError(error, 'not-found')) throw error;
    }
  }
}
