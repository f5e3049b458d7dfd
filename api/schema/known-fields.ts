/** Which fields schemas know, for whoever must not act on an object as if its other fields were not there. */
import type * as z from 'zod/mini';

/** The fields of an object, or of each object of a list. Undefined where anything may stand: plain values, and maps of free keys. */
export interface KnownFields {
  readonly fields: ReadonlyMap<string, KnownFields | undefined>;
}

/** What a schema says of fields, read once from it. */
export function knownFields(schema: z.core.$ZodType): KnownFields | undefined {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  switch (def.type) {
    case 'object':
      return { fields: new Map(Object.entries(def.shape).map(([name, member]) => [name, knownFields(member)])) };
    case 'array':
      return knownFields(def.element);
    case 'optional':
    case 'default':
    case 'prefault':
      return knownFields(def.innerType);
    default:
      return undefined;
  }
}

/** Paths of the fields in a value that are not among the known ones, in the form of `ports[0].portName`. */
export function unknownFields(value: unknown, known: KnownFields | undefined, path = ''): string[] {
  if (known === undefined || typeof value !== 'object' || value === null) {
    return [];
  }
  if (Array.isArray(value)) {
    return value.flatMap((item, index) => unknownFields(item, known, `${path}[${index}]`));
  }
  return Object.entries(value).flatMap(([name, member]) => {
    const at = path === '' ? name : `${path}.${name}`;
    return known.fields.has(name) ? unknownFields(member, known.fields.get(name), at) : [at];
  });
}
