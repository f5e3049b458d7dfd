/** How the tables of this folder say what becomes of a field. */

/** What this version does with a field of a valid object. `kept`: nothing, and that is all that is to be done; nobody is warned. */
export type Act = 'yes' | 'partly' | 'no' | 'kept';

/** One field's row. */
export interface FieldSupport {
  readonly act: Act;
  /** In a few words what is missing, or what becomes of it; empty for `yes`. */
  readonly note: string;
  /** Values that ask nothing of us although they are set, beside what every Go program reads as absent (false, 0, empty). */
  readonly harmless: readonly unknown[];
}

/** Rows by path: `spec.ingress[].action`. Every field that holds a value has one; lists and objects only by what is in them. */
export type FieldTable = Readonly<Record<string, FieldSupport>>;

export const yes: FieldSupport = { act: 'yes', note: '', harmless: [] };

/** Acted on, with something to know about it that loses nothing. */
export function yesBut(note: string): FieldSupport {
  return { act: 'yes', note, harmless: [] };
}

export function partly(note: string, ...harmless: readonly unknown[]): FieldSupport {
  return { act: 'partly', note, harmless };
}

export function no(note: string, ...harmless: readonly unknown[]): FieldSupport {
  return { act: 'no', note, harmless };
}

/** For what others need and we only carry: names, times, descriptions. */
export function kept(note: string): FieldSupport {
  return { act: 'kept', note, harmless: [] };
}

/** The same row for many fields. */
export function each(support: FieldSupport, ...paths: readonly string[]): FieldTable {
  return Object.fromEntries(paths.map((path) => [path, support]));
}

/** A table below a path. */
export function under(path: string, table: FieldTable): FieldTable {
  return Object.fromEntries(Object.entries(table).map(([field, support]) => [`${path}.${field}`, support]));
}
