import { messageOf } from '#api/errors.ts';
import { kinds, parseAs, type KindMap, type KindName } from '#api/kinds.ts';
import type { ObjectKey } from '#api/meta.ts';
import { closedPolicy } from '#api/policy/closed.ts';
import type { Directions } from '#api/policy/types-of.ts';
import { keyOf, withMetadata, type AnyObject } from '../stored-object.ts';
import { flawOf } from './derived.ts';
import { slimmed, type Sharing } from './slim.ts';

/** What the API server has under one name, as far as it can be used. */
export interface Reading<K extends KindName = KindName> {
  readonly key: ObjectKey;
  readonly uid: string | undefined;
  /** Undefined if it can't be used. */
  readonly object: KindMap[K] | undefined;
  /** Fields that no schema knows, which the object has kept. */
  readonly unknownFields: readonly string[];
  /** Why it can't be used; empty if it can. */
  readonly wrong: string;
  /** What of it can't be used although it can, and what holds meanwhile; empty if nothing. */
  readonly flaw: string;
  /** What stands in for it then. */
  readonly replacement: Replacement<K> | undefined;
}

/** Denies in the stead of a policy that can't be used. */
export interface Replacement<K extends KindName = KindName> {
  readonly object: KindMap[K];
  readonly denies: Directions;
}

/** Reads an object as it came from the API server. Never throws: what is wrong with it is said in its content. */
export function readObject<K extends KindName>(kind: K, raw: Record<string, unknown>, sharing: Sharing): Reading<K> {
  const info = kinds[kind];
  // Members of a list of Kubernetes' own kinds don't say what they are.
  const whole = raw['kind'] === undefined ? { kind: info.kind, apiVersion: info.apiVersion, ...raw } : raw;
  try {
    const { object, unknownFields } = parseAs(kind, slimmed(kind, whole));
    return {
      key: keyOf(kind, object),
      uid: object.metadata.uid,
      object: sharing.share(kind, object),
      unknownFields,
      wrong: '',
      flaw: kind === 'Pod' ? flawOf(object as KindMap['Pod']) : '',
      replacement: undefined,
    };
  } catch (error) {
    // Of what an API server stores, name and namespace are always in order.
    const { namespace, name = '', uid, resourceVersion } = (raw['metadata'] ?? {}) as Readonly<Record<string, string>>;
    const closed = closedPolicy(kind, whole);
    return {
      key: info.namespaced ? { namespace, name } : { name },
      uid,
      object: undefined,
      unknownFields: [],
      wrong: messageOf(error),
      flaw: '',
      replacement: closed && {
        denies: closed.denies,
        object: withMetadata<AnyObject>(closed.object, { uid, resourceVersion }) as KindMap[K],
      },
    };
  }
}
