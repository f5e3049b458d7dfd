import type { ServiceIdentifier } from 'inversify';
import type { KindMap, KindName } from '#api/kinds.ts';
import type { ObjectKey } from '#api/meta.ts';

/**
 * What happened to one object. A `bookmark` only moves the point to resume from. Of a `deleted` object only `metadata` counts: one that could
 * not be used has nothing else.
 */
export type WatchEvent<K extends KindName> =
  | { readonly type: 'added' | 'modified' | 'deleted'; readonly object: KindMap[K]; readonly resourceVersion: string }
  | { readonly type: 'bookmark'; readonly resourceVersion: string };

/** A listing, and the point in the collection's history that `watch` can start from. */
export interface Listing<K extends KindName> {
  readonly items: readonly KindMap[K][];
  readonly resourceVersion: string;
}

/**
 * What holds while something can't be used. `last-valid`: the last good state of the objects. `denies`: of a policy that never had one, a
 * replacement that is handed out in its place and denies. `ignored`: nothing of it.
 */
export type ProblemEffect = 'last-valid' | 'denies' | 'ignored';

/** Input that could not be used. */
export interface DatastoreProblem {
  /** Where it stands: a file's path, or the API's address of the object. */
  readonly source: string;
  /** The objects concerned, as `Kind namespace/name`; empty if the input could not be read that far. */
  readonly objects: readonly string[];
  /** What is wrong, in words that name object and field, and what holds meanwhile. */
  readonly message: string;
  /** What holds meanwhile, to count by. */
  readonly effect: ProblemEffect;
}

/**
 * Where API objects live. Every write is compare-and-swap; every read returns frozen objects that are never changed in place.
 * Failures are `DatastoreError`s: test their `code`.
 */
export interface Datastore extends AsyncDisposable {
  /** As it is named in the setting `--datastore`: `files:DIR` or `kubernetes`. */
  readonly location: string;
  /**
   * Kinds that have no objects of their own here: `get` and `list` make them of others (a WorkloadEndpoint of its Pod). Who watches the others
   * knows all; `watch` of such a kind is `invalid`.
   */
  readonly derived: ReadonlySet<KindName>;
  /** Optional kinds that this datastore does not serve at present. They list as empty; should they come, their watches bring them. */
  absent(): readonly KindName[];
  /** The object as it is now (not as a watch has last seen it), or undefined. */
  get<K extends KindName>(kind: K, key: ObjectKey): Promise<KindMap[K] | undefined>;
  /** All objects of a kind, of one namespace if given. */
  list<K extends KindName>(kind: K, options?: { readonly namespace?: string }): Promise<Listing<K>>;
  /**
   * Changes after `resourceVersion` (from a listing or an event), in order, until `signal` aborts (then it ends without an error). Begins with a
   * bookmark at that point, as soon as the datastore has taken it up; then, and whenever it ends, it may be taken up from its last point.
   * Throws `expired` when that point is too old: list again.
   */
  watch<K extends KindName>(
    kind: K,
    options: { readonly resourceVersion: string; readonly signal?: AbortSignal },
  ): AsyncIterable<WatchEvent<K>>;
  /** Stores a new object (without a resourceVersion, else `invalid`); `already-exists` if there is one. Returns it with uid and resourceVersion. */
  create<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]>;
  /**
   * Replaces an object if its stored resourceVersion is still `object.metadata.resourceVersion`; else `conflict`, or `not-found`; `invalid`
   * without one. What changes nothing writes nothing: the stored object is returned.
   */
  update<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]>;
  /** Deletes an object; `not-found` if there is none, `conflict` if a given uid or resourceVersion differs. */
  delete(
    kind: KindName,
    key: ObjectKey,
    only?: { readonly resourceVersion?: string | undefined; readonly uid?: string | undefined },
  ): Promise<void>;
  /** What can't be used at present. */
  problems(): readonly DatastoreProblem[];
}
export const Datastore: ServiceIdentifier<Datastore> = Symbol.for('Datastore');
