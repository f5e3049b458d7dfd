import { createHash } from 'node:crypto';
import { isCollection, LineCounter, parseAllDocuments, type Document } from 'yaml';
import { kindNameOf, kinds, kindsMeant, objectText, parseObject, type KindName } from '#api/kinds.ts';
import type { ObjectKey } from '#api/meta.ts';
import { closedPolicy } from '#api/policy/closed.ts';
import type { Directions } from '#api/policy/types-of.ts';
import type { DatastoreProblem } from '../datastore.ts';
import { readJsonDocuments } from './json-documents.ts';
import { keyOf, messageOf, withMetadata, type AnyObject } from '../stored-object.ts';

/** One place in a user's file that gives an object. */
export interface Claim {
  readonly kind: KindName;
  readonly key: ObjectKey;
  readonly file: string;
  /** `FILE document 2 (line 14)`. */
  readonly place: string;
  readonly content: Usable | Unusable;
}

/** What stands in a place and is in order. */
export interface Usable {
  readonly object: AnyObject;
}

/** What stands in a place and can't be used. */
export interface Unusable {
  readonly object: undefined;
  /** What is wrong, in words that name object and field. */
  readonly wrong: string;
  /** Of a policy: what denies in its stead if it has no good state to keep. */
  readonly replacement: Replacement | undefined;
}

/** Stands in for a policy that can't be used. */
export interface Replacement {
  readonly object: AnyObject;
  readonly denies: Directions;
}

/** What a user's file says. */
export interface UserFile {
  readonly claims: readonly Claim[];
  /** What is wrong beyond the claims: of which object can't be told. */
  readonly problems: readonly DatastoreProblem[];
  /** What was passed over: kinds that we don't read, fields that we don't know. */
  readonly remarks: readonly string[];
  /** False if something in it is so wrong that it can't be told which object it was to be. */
  readonly complete: boolean;
  /** The first document that is no YAML, and why; the rest of what is here is without it. */
  readonly broken: string | undefined;
}

/** Reads a file of YAML documents (JSON is YAML), Lists unpacked. Throws if an alias makes it endless; the message says where. */
export function parseUserFile(path: string, text: string): UserFile {
  const claims: Claim[] = [];
  const problems: DatastoreProblem[] = [];
  const remarks: string[] = [];
  let complete = true;
  const read = (place: string, raw: unknown): void => {
    try {
      const { kind, object, unknownFields } = parseObject(raw);
      claims.push({ kind, key: keyOf(kind, object), file: path, place, content: { object: stamped(kind, object) } });
      remarks.push(
        ...unknownFields.map(
          (field) => `${place}: ${objectText(kind, keyOf(kind, object))}: the field ${field} is unknown`,
        ),
      );
    } catch (error) {
      const { kind, apiVersion, name, namespace } = headOf(raw);
      const [meant, ...others] = kindsMeant(kind, apiVersion);
      if (kind !== undefined && meant === undefined) {
        remarks.push(`${place}: ${kind} of ${apiVersion ?? 'no apiVersion'} is no kind that we read`);
        return;
      }
      const wrong = `${place}: ${messageOf(error)}`;
      if (
        meant === undefined ||
        others.length > 0 ||
        name === undefined ||
        (kinds[meant].namespaced && namespace === null)
      ) {
        problems.push({ source: path, objects: [], message: wrong, effect: 'ignored' });
        complete = false;
        return;
      }
      const key = kinds[meant].namespaced ? { namespace: namespace ?? 'default', name } : { name };
      const replacement = kindNameOf(kind, apiVersion) === undefined ? undefined : replacementOf(meant, raw);
      claims.push({ kind: meant, key, file: path, place, content: { object: undefined, wrong, replacement } });
    }
  };
  const { placed, broken } = documentsOf(path, text);
  for (const { place, raw } of placed) read(place, raw);
  return { claims, problems, remarks, complete, broken };
}

/** An object in a file, and where it stands. */
interface Placed {
  readonly place: string;
  readonly raw: unknown;
}

/** What a text holds. */
interface Documents {
  /** Every object, with the members of Lists instead of the Lists. */
  readonly placed: readonly Placed[];
  /** The first document that is no YAML, and why. */
  readonly broken: string | undefined;
}

function documentsOf(path: string, text: string): Documents {
  const json = readJsonDocuments(text);
  if (json === undefined) return yamlDocumentsOf(path, text);
  // The line of a member of a List is the List's: where in a line of JSON a member begins, nobody tells.
  const placed = json.flatMap(({ raw, line }, index) =>
    placedIn(raw, () => `${path} document ${index + 1} (line ${line})`),
  );
  return { placed, broken: undefined };
}

/** What a document gives: itself, or its members if it is a List. `placeOf`: of the document, or of a member. */
function placedIn(raw: unknown, placeOf: (item: number | undefined) => string): readonly Placed[] {
  if (headOf(raw).kind !== 'List') return [{ place: placeOf(undefined), raw }];
  const { items } = raw as { items?: unknown };
  return (Array.isArray(items) ? (items as unknown[]) : []).map((member, item) => ({
    place: `${placeOf(item)}, item ${item + 1}`,
    raw: member,
  }));
}

function yamlDocumentsOf(path: string, text: string): Documents {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, merge: true });
  const placed: Placed[] = [];
  let broken: string | undefined;
  for (const [index, document] of (Array.isArray(documents) ? documents : []).entries()) {
    const [error] = document.errors;
    if (error !== undefined) {
      broken ??= `document ${index + 1}, line ${lines.linePos(error.pos[0]).line}: ${error.message}`;
      continue;
    }
    const place = (offset = 0): string => `${path} document ${index + 1} (line ${lines.linePos(offset).line})`;
    const raw = valueOf(document, `document ${index + 1}, line ${lines.linePos(document.range[0]).line}`);
    if (raw === null || raw === undefined) continue;
    const placeOf = (item?: number) => place(startOf(document, item === undefined ? [] : ['items', item]));
    for (const each of placedIn(raw, placeOf)) placed.push(each);
  }
  return { placed, broken };
}

/** What denies in the stead of a policy; undefined for what is none, or where nobody can tell what it is to deny. */
export function replacementOf(kind: KindName, raw: unknown): Replacement | undefined {
  const closed = closedPolicy(kind, raw);
  return closed && { denies: closed.denies, object: stamped(kind, closed.object) };
}

/** What a document says; an alias to nothing, or to so much that it would fill the memory, is found only here. */
function valueOf(document: Document.Parsed, place: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (cause) {
    throw new Error(`${place}: ${messageOf(cause)}`, { cause });
  }
}

/** Users' objects have no stored metadata: uid and resourceVersion are made from name and content, the same in every process. */
function stamped(kind: KindName, object: AnyObject): AnyObject {
  const bare = withMetadata(object, { resourceVersion: undefined });
  const resourceVersion = `file-${hash(JSON.stringify(bare)).slice(0, 16)}`;
  const hex = hash(objectText(kind, keyOf(kind, object)));
  const uid = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
  return withMetadata(object, { uid: object.metadata.uid ?? uid, resourceVersion });
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function startOf(document: Document.Parsed, path: readonly (string | number)[]): number | undefined {
  const node: unknown = path.length === 0 ? document.contents : document.getIn(path, true);
  return isCollection(node) ? node.range?.[0] : document.range[0];
}

interface Head {
  readonly kind: string | undefined;
  readonly apiVersion: string | undefined;
  readonly name: string | undefined;
  /** Null for one that is given and no text (`namespace: 7`): which object it is can't be told, and `default` would be another's. */
  readonly namespace: string | null | undefined;
}

/** As much of an object's identity as can be made out without its being valid. */
function headOf(raw: unknown): Head {
  const { kind, apiVersion, metadata } = record(raw);
  const { name, namespace } = record(metadata);
  const isNone = namespace === undefined || namespace === null;
  return {
    kind: text(kind),
    apiVersion: text(apiVersion),
    name: text(name),
    namespace: isNone ? undefined : (text(namespace) ?? null),
  };
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
