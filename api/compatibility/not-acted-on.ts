import { felixField, type FelixFieldName } from '../felix/felix-fields.ts';
import type { KindMap, KindName } from '../kinds.ts';
import { compatibility } from './compatibility.ts';
import type { FieldSupport } from './row.ts';

/** Rows of a kind that somebody may have to be warned of. */
const warned: ReadonlyMap<string, readonly (readonly [path: string, support: FieldSupport])[]> = new Map(
  Object.entries(compatibility).map(([kind, table]) => [
    kind,
    Object.entries(table).filter(([, { act }]) => act === 'no' || act === 'partly'),
  ]),
);

/**
 * Fields of a valid object that are set and that this version does not, or only partly, act on: paths as in the table, without indices
 * (`spec.ingress[].http.methods`), each once, in the table's order. What asks nothing is not set: false, 0, empty, what a default means.
 */
export function notActedOn<K extends KindName>(kind: K, object: KindMap[K]): readonly string[] {
  const rows = warned.get(kind) ?? [];
  return rows
    .filter(([path, support]) => valuesAt(object, path).some((value) => asks(kind, path, value, support)))
    .map(([path]) => path);
}

/** The values of all entries at a path of the table. */
function valuesAt(object: unknown, path: string): readonly unknown[] {
  let values: readonly unknown[] = [object];
  for (const step of path.split(/\.|(?=\[\])/)) {
    values = values.flatMap((value) => (step === '[]' ? (value as readonly unknown[]) : memberOf(value, step)));
    if (values.length === 0) break;
  }
  return values;
}

function memberOf(value: unknown, name: string): readonly unknown[] {
  const member = (value as Readonly<Record<string, unknown>>)[name];
  return member === undefined || member === null ? [] : [member];
}

function asks(kind: KindName, path: string, value: unknown, { harmless }: FieldSupport): boolean {
  return (
    !isZero(value) &&
    !harmless.some((known) => isSame(known, value)) &&
    !(kind === 'FelixConfiguration' && isDefault(path.slice('spec.'.length) as FelixFieldName, value))
  );
}

/** A setting that says what would be so without it. */
function isDefault(name: FelixFieldName, value: unknown): boolean {
  const { type, default: initial } = felixField(name);
  const read = type.read(value);
  return read !== undefined && isSame(read.value, initial);
}

/** What Go writes for what was left out. */
function isZero(value: unknown): boolean {
  return (
    value === false ||
    value === 0 ||
    value === '' ||
    (typeof value === 'object' && value !== null && Object.keys(value).length === 0)
  );
}

/** Plain data compares by its text. */
function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
