/** The rules of writing that are the same for every backend that keeps objects itself. */
import { isDeepStrictEqual } from 'node:util';
import { messageOf } from '#api/errors.ts';
import { kinds, objectText, parseAs, type KindMap, type KindName } from '#api/kinds.ts';
import type { ObjectKey, ObjectMeta } from '#api/meta.ts';
import { parseJson, stringifyJson } from '#api/sequence.ts';
import { DatastoreError } from './errors.ts';

/** Any object, where its kind doesn't matter. */
export type AnyObject = KindMap[KindName];

/** What names an object. A namespace on a kind that has none doesn't count. */
export function keyOf(kind: KindName, object: { readonly metadata: ObjectKey }): ObjectKey {
  const { namespace, name } = object.metadata;
  return kinds[kind].namespaced ? { namespace, name } : { name };
}

/** The object as it may be stored, with defaults, frozen, and sharing nothing with the given one; else `invalid` with the reason. */
export function validated<K extends KindName>(verb: string, kind: K, object: KindMap[K]): KindMap[K] {
  try {
    // Through JSON, since that is what it will be: members that are undefined are none.
    return parseAs(kind, parseJson(stringifyJson(object))).object;
  } catch (cause) {
    throw new DatastoreError('invalid', `${verb} ${objectText(kind, object.metadata)}: ${messageOf(cause)}`, { cause });
  }
}

/** A frozen copy with other metadata. */
export function withMetadata<T extends AnyObject>(object: T, metadata: Readonly<Partial<ObjectMeta>>): T {
  return Object.freeze({ ...object, metadata: Object.freeze({ ...object.metadata, ...metadata }) }) as T;
}

/** A key that some object can have; else `invalid`: what can't be a name must not become a path. */
export function checkKey(verb: string, kind: KindName, key: ObjectKey): void {
  const { namespaced } = kinds[kind];
  const wrong = [key.name, ...(key.namespace === undefined ? [] : [key.namespace])].find(
    (part) => part === '' || part === '.' || part === '..' || /[/\0]/.test(part),
  );
  if (wrong !== undefined) {
    throw new DatastoreError('invalid', `${verb} ${objectText(kind, key)}: ${JSON.stringify(wrong)} can't be a name`);
  }
  if (namespaced !== (key.namespace !== undefined)) {
    throw new DatastoreError(
      'invalid',
      `${verb} ${objectText(kind, key)}: ${namespaced ? 'a namespace is needed' : 'this kind has no namespaces'}`,
    );
  }
}

/** Throws unless a new object may be stored: `already-exists`, or `invalid` if it claims to have been stored before. */
export function checkCreate(kind: KindName, stored: AnyObject | undefined, object: AnyObject): void {
  const subject = `create ${objectText(kind, object.metadata)}`;
  if (object.metadata.resourceVersion !== undefined) {
    throw new DatastoreError('invalid', `${subject}: metadata.resourceVersion must not be set on a new object`);
  }
  if (stored !== undefined) {
    throw new DatastoreError('already-exists', `${subject}: it exists, with uid ${stored.metadata.uid}`);
  }
}

/** Throws unless `object` may take the place of what is stored: `not-found`, `conflict`, or `invalid` without a resourceVersion. */
export function checkUpdate<T extends AnyObject>(
  kind: KindName,
  stored: T | undefined,
  object: T,
): asserts stored is T {
  const subject = `update ${objectText(kind, object.metadata)}`;
  if (object.metadata.resourceVersion === undefined) {
    throw new DatastoreError('invalid', `${subject}: metadata.resourceVersion is missing; update what was read`);
  }
  checkStored(subject, stored, object.metadata);
}

/** Throws unless what is stored may be deleted: `not-found` or `conflict`. */
export function checkDelete(
  kind: KindName,
  key: ObjectKey,
  stored: AnyObject | undefined,
  only: { readonly resourceVersion?: string | undefined; readonly uid?: string | undefined },
): asserts stored is AnyObject {
  checkStored(`delete ${objectText(kind, key)}`, stored, only);
}

/** What an update leaves in the store; the same object if it changes nothing (then nothing is written, as in Kubernetes). */
export function replacement<T extends AnyObject>(stored: T, object: T, nextResourceVersion: () => string): T {
  const { uid, creationTimestamp, resourceVersion } = stored.metadata;
  const kept = withMetadata(object, { uid, creationTimestamp, resourceVersion });
  return isDeepStrictEqual(kept, stored) ? stored : withMetadata(kept, { resourceVersion: nextResourceVersion() });
}

function checkStored(
  subject: string,
  stored: AnyObject | undefined,
  expected: { readonly resourceVersion?: string | undefined; readonly uid?: string | undefined },
): asserts stored is AnyObject {
  if (stored === undefined) {
    throw new DatastoreError('not-found', `${subject}: there is none`);
  }
  for (const field of ['uid', 'resourceVersion'] as const) {
    if (expected[field] !== undefined && expected[field] !== stored.metadata[field]) {
      throw new DatastoreError(
        'conflict',
        `${subject}: ${field} is ${stored.metadata[field]}, not ${expected[field]}; read it again`,
      );
    }
  }
}
