import * as z from 'zod/mini';
import en from 'zod/v4/locales/en.js';
import type { ValidationIssue } from '../errors.ts';

z.config(en());

/** What came out of a schema: the value with defaults, or what is wrong; never throws. */
export type Outcome<T> =
  | { readonly ok: true; readonly value: T; readonly unknownFields: readonly string[] }
  | { readonly ok: false; readonly issues: readonly ValidationIssue[] };

/** What happens to fields that a schema does not know: kept and listed (our group), or dropped silently (slim core kinds). */
export type UnknownFields = 'keep' | 'drop';

/** Metadata that others own: carried along where objects are written back, and nothing to tell anyone about. */
const othersMetadata = new Set(['finalizers', 'ownerReferences', 'generateName', 'selfLink']);

/** Applies a schema to what came out of YAML or JSON. `null` counts as absent, as in Kubernetes. The result is frozen. */
export function applySchema<T>(schema: z.core.$ZodType<T>, raw: unknown, unknown: UnknownFields): Outcome<T> {
  const plain = withoutNulls(raw);
  if (plain === undefined) {
    return { ok: false, issues: [{ path: '', message: `must not be nested deeper than ${deepest} levels` }] };
  }
  const input = plain.value;
  const result = z.safeParse(schema, input);
  if (!result.success) {
    return { ok: false, issues: result.error.issues.map((issue) => toIssue(issue, input)) };
  }
  const unknownFields: string[] = [];
  if (unknown === 'keep') {
    carryUnknown(input, result.data, undefined, unknownFields);
  }
  return { ok: true, value: deepFreeze(result.data), unknownFields };
}

/** No kind comes near it. */
const deepest = 100;

/** Nesting that would end the stack of whoever walks through it; an anchor in YAML may even hold itself. */
class NestingError extends Error {}

/**
 * The value without object members that are null; the same object where there are none. Nulls in lists have a meaning and stay. Undefined for
 * what is nested deeper than any object of ours, endlessly included.
 */
export function withoutNulls(value: unknown): { readonly value: unknown } | undefined {
  try {
    return { value: cleaned(value, deepest) };
  } catch (error) {
    if (error instanceof NestingError) {
      return undefined;
    }
    throw error;
  }
}

function cleaned(value: unknown, levels: number): unknown {
  if (levels === 0) {
    throw new NestingError();
  }
  if (Array.isArray(value)) {
    let copy: unknown[] | undefined;
    for (const [index, item] of value.entries()) {
      const clean = cleaned(item, levels - 1);
      if (clean !== item) {
        copy ??= [...(value as unknown[])];
        copy[index] = clean;
      }
    }
    return copy ?? value;
  }
  if (!isRecord(value)) {
    return value;
  }
  let copy: Record<string, unknown> | undefined;
  for (const [key, member] of Object.entries(value)) {
    // Assigning to `__proto__` would not make a member; no kind has one.
    const clean = key === '__proto__' ? null : cleaned(member, levels - 1);
    if (clean === null) {
      copy ??= { ...value };
      delete copy[key];
    } else if (clean !== member) {
      copy ??= { ...value };
      copy[key] = clean;
    }
  }
  return copy ?? value;
}

/** Where a member stands. A path's text costs more than all the rest of looking at a member, and hardly any is needed. */
interface Place {
  readonly parent: Place | undefined;
  readonly key: string | number;
}

function textOf(place: Place): string {
  const path: (string | number)[] = [];
  for (let at: Place | undefined = place; at !== undefined; at = at.parent) path.push(at.key);
  return pathText(path.toReversed());
}

/** Puts what the schema did not know into the result, so that writing an object back loses nothing, and lists it. */
function carryUnknown(raw: unknown, parsed: unknown, place: Place | undefined, found: string[]): void {
  if (raw === parsed) {
    return;
  }
  if (Array.isArray(raw) && Array.isArray(parsed)) {
    for (const [index, item] of raw.entries()) {
      if (item !== parsed[index]) {
        carryUnknown(item, parsed[index], { parent: place, key: index }, found);
      }
    }
    return;
  }
  if (!isRecord(raw) || !isRecord(parsed)) {
    return;
  }
  const isMetadata = place?.key === 'metadata' && place.parent === undefined;
  for (const [key, member] of Object.entries(raw)) {
    if (Object.hasOwn(parsed, key)) {
      if (member !== parsed[key]) {
        carryUnknown(member, parsed[key], { parent: place, key }, found);
      }
    } else if (isMetadata && key === 'namespace') {
      // A kind without namespaces: were it kept, the object's key would have it.
      found.push('metadata.namespace');
    } else if (!isMetadata || key !== 'managedFields') {
      parsed[key] = structuredClone(member);
      if (!isMetadata || !othersMetadata.has(key)) {
        found.push(textOf({ parent: place, key }));
      }
    }
  }
}

function toIssue(issue: z.core.$ZodIssue, input: unknown): ValidationIssue {
  return { path: pathText(issue.path), message: messageOf(issue, valueAt(input, issue.path)) };
}

function messageOf(issue: z.core.$ZodIssue, value: unknown): string {
  const is = value === undefined ? '' : ` (is ${valueText(value)})`;
  switch (issue.code) {
    case 'invalid_type':
      return value === undefined ? 'is missing' : `must be ${typeNames[issue.expected] ?? issue.expected}${is}`;
    case 'invalid_value':
      return value === undefined
        ? 'is missing'
        : `must be ${issue.values.length === 1 ? '' : 'one of '}${issue.values.join(', ')}${is}`;
    case 'too_big':
      return `must ${boundText(issue.origin, 'most', issue.maximum)}${is}`;
    case 'too_small':
      return issue.minimum === 1 && issue.origin in countedTypes
        ? 'must not be empty'
        : `must ${boundText(issue.origin, 'least', issue.minimum)}${is}`;
    case 'invalid_key':
      return `the key ${issue.issues.map(({ message }) => message).join(', ')}`;
    case 'custom':
      return `${issue.message}${is}`;
    default:
      return value === undefined ? 'is missing' : `${issue.message}${is}`;
  }
}

/** What is counted of values that have a length. */
const countedTypes: Readonly<Record<string, string>> = { string: 'characters', array: 'entries' };

function boundText(origin: string, which: 'least' | 'most', bound: number | bigint): string {
  const counted = countedTypes[origin];
  return counted === undefined ? `be at ${which} ${bound}` : `have at ${which} ${bound} ${counted}`;
}

const typeNames: Readonly<Record<string, string>> = {
  string: 'text (in YAML: in quotes)',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
};

/** A value as messages show it: short, and never a whole object. */
function valueText(value: unknown): string {
  if (typeof value === 'string') {
    return value.length > 80 ? `${value.slice(0, 77)}...` : value === '' ? 'empty' : value;
  }
  if (Array.isArray(value)) {
    return value.every((item) => typeof item !== 'object') ? `[${value.join(', ')}]`.slice(0, 80) : 'a list';
  }
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of path) {
    if (typeof value !== 'object' || value === null) {
      return undefined;
    }
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

/** `spec.allowedUses[1]`, `metadata.labels["a.b/c"]`. */
function pathText(path: readonly PropertyKey[]): string {
  let text = '';
  for (const key of path) {
    if (typeof key === 'number') {
      text += `[${key}]`;
    } else if (/^[\w-]+$/.test(String(key))) {
      text += `${text === '' ? '' : '.'}${String(key)}`;
    } else {
      text += `[${JSON.stringify(String(key))}]`;
    }
  }
  return text;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const member of Object.values(value)) {
      deepFreeze(member);
    }
  }
  return value;
}
