import type { KindMap } from '#api/kinds.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { isDatastoreError } from '#datastore/errors.ts';

/** Kinds with a `deleted` mark. */
export type MarkedKind = 'IPAMBlock' | 'BlockAffinity' | 'IPAMHandle';

/** Compare-and-swap loops end after so many conflicts, as Calico's do; far beyond what contention causes. */
export const maxTries = 100;

/** Marks the object as deleted, by compare-and-swap: from then on nobody uses it. Returns it as marked. Throws `conflict`, `not-found`. */
export async function markDeleted<K extends MarkedKind>(
  datastore: Datastore,
  kind: K,
  object: KindMap[K],
): Promise<KindMap[K]> {
  return object.spec.deleted ? object : datastore.update(kind, { ...object, spec: { ...object.spec, deleted: true } });
}

/** Removes an object that is marked. Gone already is success; so is one that was made anew since. */
export async function removeMarked<K extends MarkedKind>(
  datastore: Datastore,
  kind: K,
  object: KindMap[K],
): Promise<void> {
  const { name, uid, resourceVersion } = object.metadata;
  try {
    await datastore.delete(kind, { name }, { uid, resourceVersion });
  } catch (error) {
    if (!isDatastoreError(error, 'not-found') && !isDatastoreError(error, 'conflict')) {
      throw error;
    }
  }
}

/**
 * Calico's delete: first the mark, by compare-and-swap, then the removal by uid and resourceVersion. Between the two, and after a crash
 * there, every program sees the mark and treats the object as absent. False if the object changed meanwhile: nothing was done.
 */
export async function deleteInTwoSteps<K extends MarkedKind>(
  datastore: Datastore,
  kind: K,
  object: KindMap[K],
): Promise<boolean> {
  try {
    await removeMarked(datastore, kind, await markDeleted(datastore, kind, object));
    return true;
  } catch (error) {
    if (isDatastoreError(error, 'not-found')) {
      return true;
    }
    if (isDatastoreError(error, 'conflict')) {
      return false;
    }
    throw error;
  }
}
