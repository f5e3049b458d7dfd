import { kinds, type KindName } from '#api/kinds.ts';
import type { ObjectKey } from '#api/meta.ts';

/** The API's address of all objects of a kind, or of those in one namespace. */
export function collectionPath(kind: KindName, namespace?: string): string {
  const { apiVersion, plural } = kinds[kind];
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  return namespace === undefined
    ? `${group}/${plural}`
    : `${group}/namespaces/${encodeURIComponent(namespace)}/${plural}`;
}

/** The API's address of one object, or of a part of it that has rights of its own (`status`). */
export function objectPath(kind: KindName, key: ObjectKey, subresource?: 'status'): string {
  const path = `${collectionPath(kind, key.namespace)}/${encodeURIComponent(key.name)}`;
  return subresource === undefined ? path : `${path}/${subresource}`;
}
