import { systemClock } from '#api/clock.ts';
import type { ClusterWrites } from '#datastore/cluster-writes.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { openFilesDatastore } from '#datastore/files/files-datastore.ts';
import { openKubernetesDatastore } from '#datastore/kubernetes/kubernetes-datastore.ts';
import { KernelFileLock } from '#native/flock.ts';
import type { DatastoreRef } from './config/bootstrap.ts';
import type { Log } from './log.ts';

/** A datastore, and, where its Pods and Nodes belong to a cluster, the writes to them. */
export interface OpenedDatastore {
  readonly datastore: Datastore;
  readonly cluster: ClusterWrites | undefined;
}

/** Opens the datastore that the settings name. Rejects, naming it, when it can't be used. */
export async function openDatastore(ref: DatastoreRef, log: Log): Promise<OpenedDatastore> {
  switch (ref.kind) {
    case 'files': {
      const datastore = await openFilesDatastore({
        dir: ref.dir,
        lock: new KernelFileLock(),
        clock: systemClock,
        log: (level, message) => log[level](message),
      });
      return { datastore, cluster: undefined };
    }
    case 'kubernetes': {
      const datastore = await openKubernetesDatastore({
        kubeconfig: ref.kubeconfig,
        clock: systemClock,
        log: (level, message) => log[level](message),
      });
      return { datastore, cluster: datastore };
    }
  }
}
