/** What every API object carries, Kubernetes' and projectcalico.org/v3's alike. */

/** `metadata` of an object. Times are RFC 3339 text; `resourceVersion` is opaque: compare for equality only. */
export interface ObjectMeta {
  name: string;
  namespace?: string | undefined;
  uid?: string | undefined;
  resourceVersion?: string | undefined;
  generation?: number | undefined;
  creationTimestamp?: string | undefined;
  deletionTimestamp?: string | undefined;
  labels?: Record<string, string> | undefined;
  annotations?: Record<string, string> | undefined;
}

/** Names one object of a known kind; `namespace` only for namespaced kinds. */
export interface ObjectKey {
  readonly namespace?: string | undefined;
  readonly name: string;
}

/** The key of an object, as it is used in maps and in messages: `namespace/name` or `name`. */
export function keyText(key: ObjectKey): string {
  return key.namespace === undefined ? key.name : `${key.namespace}/${key.name}`;
}
