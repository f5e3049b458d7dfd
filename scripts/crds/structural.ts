/** From a zod schema to a structural schema, as a CustomResourceDefinition needs it. */
import * as z from 'zod/mini';
import { constraintOf } from './constraints.ts';
import type { CrdSchema } from './schema.ts';

/** What zod puts where a number has no limit: the greatest numbers that are exact in JavaScript. */
const unlimited = Number.MAX_SAFE_INTEGER;

/**
 * The structural schema of an object's kind, without rules between fields. Types, enumerations, limits and defaults are those of the zod
 * schema; what its own checks demand comes from `constraints.ts`. `metadata` is left to the API server, which checks it for every kind.
 */
export function structuralSchema(kind: z.core.$ZodType): CrdSchema {
  const whole = z.toJSONSchema(kind, {
    target: 'openapi-3.0',
    io: 'input',
    unrepresentable: 'any',
    override: ({ zodSchema, jsonSchema }) => {
      if (isBigUnion(zodSchema)) {
        Object.assign(jsonSchema, { type: 'integer', format: 'int64', minimum: 0, anyOf: undefined });
      }
      Object.assign(jsonSchema, constraintOf(zodSchema));
    },
  }) as CrdSchema;
  const root = cleaned(whole);
  return {
    ...root,
    properties: {
      ...root.properties,
      apiVersion: { type: 'string' },
      kind: { type: 'string' },
      metadata: { type: 'object' },
    },
    required: ['metadata', ...(root.required ?? []).filter((name) => name === 'spec')],
  };
}

/** Sequence numbers are a number or, beyond 2^53, a bigint; on the wire both are whole numbers. */
function isBigUnion(schema: z.core.$ZodType): boolean {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  return def.type === 'union' && def.options.some((option) => (option as z.core.$ZodTypes)._zod.def.type === 'bigint');
}

function cleaned({ ...schema }: CrdSchema): CrdSchema {
  if (schema.minimum === -unlimited) delete schema.minimum;
  if (schema.maximum === unlimited) delete schema.maximum;
  if (schema.type === 'integer' && schema.format === undefined && Math.max(schema.maximum ?? unlimited) > 0x7fffffff) {
    schema.format = 'int64';
  }
  if (schema.type === 'number' && schema.enum?.every((value) => Number.isInteger(value)) === true) {
    schema.type = 'integer';
  }
  if (schema.properties !== undefined) {
    schema.properties = Object.fromEntries(
      Object.entries(schema.properties).map(([name, member]) => [name, cleaned(member)]),
    );
    // `additionalProperties: false` says that zod drops the rest; in Kubernetes that is pruning, and not to be said.
    delete schema.additionalProperties;
  } else if (schema.additionalProperties !== undefined) {
    schema.additionalProperties = cleaned(schema.additionalProperties);
  }
  if (schema.items !== undefined) schema.items = cleaned(schema.items);
  if (schema.required?.length === 0) delete schema.required;
  if (isNothing(schema.default, schema)) delete schema.default;
  return schema.anyOf === undefined ? schema : choice(schema);
}

/**
 * True for a default that nobody can tell from absence: Go's programs read what is absent as false, 0, empty. Were it written into every
 * object, each would differ from what its author applied.
 */
function isNothing(value: unknown, schema: CrdSchema): boolean {
  if (Array.isArray(value)) return value.length === 0;
  if (typeof value === 'object' && value !== null && Object.keys(value).length === 0) {
    return !Object.values(schema.properties ?? {}).some((member) => member.default !== undefined);
  }
  return value === false || value === 0 || value === '';
}

/** The choices that a structural schema can offer: an integer or text, with the limits of both; or several kinds of text. */
function choice({ anyOf = [], ...rest }: CrdSchema): CrdSchema {
  if (anyOf.every(({ type }) => type === 'string')) {
    return { ...textChoice(anyOf), ...rest };
  }
  const [text = {}, number = {}] = [...anyOf].sort((a) => (a.type === 'string' ? -1 : 1)).map(cleaned);
  if (anyOf.length !== 2 || text.type !== 'string' || (number.type !== 'integer' && number.type !== 'number')) {
    throw new TypeError(`a definition can offer an integer or text, but not the choice ${JSON.stringify(anyOf)}`);
  }
  return {
    anyOf: [{ type: 'integer' }, { type: 'string' }],
    'x-kubernetes-int-or-string': true,
    ...withoutType(number),
    ...withoutType(text),
    ...rest,
  };
}

function withoutType({ ...schema }: CrdSchema): CrdSchema {
  delete schema.type;
  delete schema.format;
  return schema;
}

/** Fixed words, or text with a pattern or a rule. */
function textChoice(options: readonly CrdSchema[]): CrdSchema {
  const words = options.flatMap((option) => option.enum ?? []);
  const [free, ...others] = options.filter((option) => option.enum === undefined);
  if (free === undefined) return { type: 'string', enum: words };
  if (others.length > 0) throw new TypeError(`a definition can't join ${JSON.stringify(options)}`);
  const pattern =
    free.pattern === undefined
      ? {}
      : {
          pattern: `^(${words.map((word) => String(word).replaceAll(/\W/g, String.raw`\$&`)).join('|')})$|${free.pattern}`,
        };
  const rules = (free['x-kubernetes-validations'] ?? []).map((rule) => ({
    ...rule,
    rule: `self in ${JSON.stringify(words)} || (${rule.rule})`,
  }));
  return { ...free, ...pattern, ...(rules.length === 0 ? {} : { 'x-kubernetes-validations': rules }) };
}
