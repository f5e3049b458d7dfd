import type { ServiceIdentifier } from 'inversify';
import type { ObjectKey } from '#api/meta.ts';

/**
 * Writes to objects that are not ours, field by field and never whole: only a datastore whose Pods and Nodes belong to a cluster has them.
 * Failures are `DatastoreError`s, as of `Datastore`.
 */
export interface ClusterWrites {
  /**
   * Sets annotations of a Pod, if it is still the one with this uid and, where given, resourceVersion (else `conflict`; `not-found` if it is gone). By its
   * status subresource, as Calico does: no right to change a Pod's spec is needed.
   */
  annotatePod(
    key: ObjectKey,
    annotations: Readonly<Record<string, string>>,
    only: { readonly uid: string; readonly resourceVersion?: string | undefined },
  ): Promise<void>;
  /** Sets annotations of a Node; null removes one. */
  annotateNode(name: string, annotations: Readonly<Record<string, string | null>>): Promise<void>;
  /** Sets the Node's condition NetworkUnavailable to False, with reason and message: pods may be scheduled there. */
  reportNetworkAvailable(name: string, reason: string, message: string): Promise<void>;
}
export const ClusterWrites: ServiceIdentifier<ClusterWrites> = Symbol.for('ClusterWrites');
