/** The fields that a schema knows, for the generator and for the test that no field is without a row. */
import type * as z from 'zod/mini';

/**
 * Paths of all fields that hold a value: `spec.cidr`, `spec.ingress[].source.nets`. A list of values is one field, a list of objects is its
 * entries' fields, and a map of names is one field. `metadata`, `kind` and `apiVersion` of the object are left out: they are every kind's.
 */
export function fieldPaths(schema: z.core.$ZodType): readonly string[] {
  const shape = shapeOf(schema);
  if (shape === undefined) throw new TypeError('a kind is an object');
  return Object.entries(shape)
    .filter(([name]) => name !== 'metadata' && name !== 'kind' && name !== 'apiVersion')
    .flatMap(([name, member]) => below(name, member));
}

function below(path: string, schema: z.core.$ZodType): readonly string[] {
  const bare = unwrapped(schema);
  const shape = shapeOf(bare);
  if (shape !== undefined) {
    return Object.entries(shape).flatMap(([name, member]) => below(`${path}.${name}`, member));
  }
  const { def } = bare._zod;
  if (def.type !== 'array') return [path];
  return shapeOf(def.element) === undefined ? [path] : below(`${path}[]`, def.element);
}

function shapeOf(schema: z.core.$ZodType): Readonly<Record<string, z.core.$ZodType>> | undefined {
  const { def } = unwrapped(schema)._zod;
  return def.type === 'object' ? def.shape : undefined;
}

/** Without what says whether it may be absent. */
function unwrapped(schema: z.core.$ZodType): z.core.$ZodTypes {
  const known = schema as z.core.$ZodTypes;
  const { def } = known._zod;
  switch (def.type) {
    case 'optional':
    case 'default':
    case 'prefault':
    case 'nullable':
      return unwrapped(def.innerType);
    default:
      return known;
  }
}
