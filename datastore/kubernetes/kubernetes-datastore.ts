import type { Clock } from '#api/clock.ts';
import type { ClusterWrites } from '../cluster-writes.ts';
import type { Datastore } from '../datastore.ts';
import { DatastoreError } from '../errors.ts';

/** What a `KubernetesDatastore` works with. */
export interface KubernetesDatastoreOptions {
  /** A kubeconfig's path; absent: the service account of the pod that this process runs in. */
  readonly kubeconfig: string | undefined;
  readonly clock: Clock;
  readonly log: (level: 'info' | 'warn', message: string) => void;
}

/** A cluster's API server as datastore. */
export interface KubernetesDatastore extends Datastore, ClusterWrites {}

/** Opens it. Rejects, naming the setting, when credentials or address can't be used; a server that is away is no reason. */
export function openKubernetesDatastore(_options: KubernetesDatastoreOptions): Promise<KubernetesDatastore> {
  return Promise.reject(new DatastoreError('unavailable', 'open the API server: being written'));
}
