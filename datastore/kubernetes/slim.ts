import { kinds, type KindName } from '#api/kinds.ts';
import { knownFields, type KnownFields } from '#api/schema/known-fields.ts';
import type { AnyObject } from '../stored-object.ts';

/**
 * Annotations that somebody here reads, of kinds that are never written back: those of this network, and what marks a Pod that a kubelet
 * runs without being told by the API. Others (what kubectl applied, checksums, configuration of others) can be longer than all the rest.
 */
function isRead(annotation: string): boolean {
  return /^([^/]+\.)?projectcalico\.org\//.test(annotation) || annotation === 'kubernetes.io/config.mirror';
}

const fieldsOf = new Map<KindName, KnownFields | undefined>();

/**
 * What a kind's schema knows of an object, in a copy, if everything else is dropped anyway; else the object itself. Done before validation,
 * which looks at every field: three quarters of a Pod are `managedFields` and others' business.
 */
export function slimmed(kind: KindName, raw: Record<string, unknown>): Record<string, unknown> {
  if (kinds[kind].unknownFields === 'keep') return raw;
  let known = fieldsOf.get(kind);
  if (known === undefined) {
    known = knownFields(kinds[kind].schema);
    fieldsOf.set(kind, known);
  }
  const slim = pruned(raw, known) as Record<string, unknown>;
  const metadata = slim['metadata'] as Record<string, unknown> | undefined;
  const annotations = metadata?.['annotations'];
  if (metadata !== undefined && typeof annotations === 'object' && annotations !== null) {
    const read = Object.entries(annotations).filter(([name]) => isRead(name));
    if (read.length === 0) delete metadata['annotations'];
    else metadata['annotations'] = Object.fromEntries(read);
  }
  return slim;
}

function pruned(value: unknown, known: KnownFields | undefined): unknown {
  if (known === undefined || typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => pruned(item, known));
  const copy: Record<string, unknown> = {};
  for (const [name, fields] of known.fields) {
    const member = (value as Record<string, unknown>)[name];
    if (member !== undefined) copy[name] = pruned(member, fields);
  }
  return copy;
}

/** Parts of Pods that are the same in all that a Deployment made, and texts that many have. */
const sharedParts: Partial<Record<KindName, { readonly trees: readonly Path[]; readonly texts: readonly Path[] }>> = {
  Pod: {
    trees: [
      ['metadata', 'labels'],
      ['spec', 'containers'],
      ['spec', 'initContainers'],
    ],
    texts: [
      ['metadata', 'namespace'],
      ['metadata', 'creationTimestamp'],
      ['spec', 'nodeName'],
      ['spec', 'serviceAccountName'],
    ],
  },
};
type Path = readonly ['metadata' | 'spec' | 'status', string];

/** So many different parts and texts are remembered; a cluster in which all differ gains nothing and loses no memory to speak of. */
const most = 10_000;

/** Gives out one copy of what many objects have. */
export class Sharing {
  readonly #known = new Map<string, unknown>();

  /** The object with its common parts shared, frozen as it was. */
  share<T extends AnyObject>(kind: KindName, object: T): T {
    const parts = sharedParts[kind];
    if (parts === undefined) return object;
    const copy = { ...object } as unknown as Record<string, Record<string, unknown>>;
    copy['metadata'] = { ...copy['metadata'] };
    copy['spec'] = { ...copy['spec'] };
    for (const [section, field] of parts.trees) this.#replace(copy[section], field, JSON.stringify);
    for (const [section, field] of parts.texts) this.#replace(copy[section], field, String);
    Object.freeze(copy['metadata']);
    Object.freeze(copy['spec']);
    return Object.freeze(copy) as unknown as T;
  }

  #replace(section: Record<string, unknown> | undefined, field: string, textOf: (value: unknown) => string): void {
    const value = section?.[field];
    if (section === undefined || value === undefined) return;
    const text = textOf(value);
    const known = this.#known.get(text);
    if (known !== undefined) {
      section[field] = known;
      return;
    }
    if (this.#known.size >= most) this.#known.clear();
    this.#known.set(text, value);
  }
}
