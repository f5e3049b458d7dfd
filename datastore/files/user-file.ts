import { hash } from 'node:crypto';
import { isCollection, LineCounter, parseAllDocuments, type Document } from 'yaml';
import { messageOf } from '#api/errors.ts';
import { kindNameOf, kinds, kindsMeant, objectText, parseObject, type KindName } from '#api/kinds.ts';
import type { ObjectKey } from '#api/meta.ts';
import { closedPolicy } from '#api/policy/closed.ts';
import type { Directions } from '#api/policy/types-of.ts';
import type { DatastoreProblem } from '../datastore.ts';
import { readJsonDocuments } from './json-documents.ts';
import { keyOf, withMetadata, type AnyObject } from '../stored-object.ts';

/** One place in a user's file that gives an object. */
export interface Claim {
  readonly kind: KindName;
  readonly key: ObjectKey;
  readonly file: string;
  readonly place: Place;
  readonly content: Usable | Unusable;
}

/** Where in a file something stands. All count from 1; `item`: in the List that the document is. */
export interface Place {
  readonly document: number;
  readonly line: number;
  readonly item: number | undefined;
}

/** For messages: `FILE document 2 (line 14)`. Made when it is asked for, since there is one for every object of the cluster. */
export function placeText(file: string, { document, line, item }: Place): string {
  return `${file} document ${document} (line ${line})${item === undefined ? '' : `, item ${item}`}`;
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
  return parseJsonFile(path, text) ?? parseYamlFile(path, text);
}

/** Undefined unless the whole text is JSON. */
function parseJsonFile(path: string, text: string): UserFile | undefined {
  const reader = new Reader(path);
  let document = 0;
  for (const each of readJsonDocuments(text)) {
    if (each === undefined) return undefined;
    document++;
    // The line of a member of a List is the List's: where in a line of JSON a member begins, nobody tells.
    reader.readDocument(each.raw, (item) => ({ document, line: each.line, item }));
  }
  return reader;
}

function parseYamlFile(path: string, text: string): UserFile {
  const reader = new Reader(path);
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, merge: true });
  for (const [index, document] of (Array.isArray(documents) ? documents : []).entries()) {
    const [error] = document.errors;
    if (error !== undefined) {
      reader.broken ??= `document ${index + 1}, line ${lines.linePos(error.pos[0]).line}: ${error.message}`;
      continue;
    }
    const raw = valueOf(document, `document ${index + 1}, line ${lines.linePos(document.range[0]).line}`);
    if (raw === null || raw === undefined) continue;
    reader.readDocument(raw, (item) => {
      const start = startOf(document, item === undefined ? [] : ['items', item - 1]) ?? 0;
      return { document: index + 1, line: lines.linePos(start).line, item };
    });
  }
  return reader;
}

/** Collects what the documents of a file say. */
class Reader implements UserFile {
  readonly claims: Claim[] = [];
  readonly problems: DatastoreProblem[] = [];
  readonly remarks: string[] = [];
  complete = true;
  broken: string | undefined;
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  /** A document gives itself, or its members if it is a List. `placeOf`: of the document, or of a member. */
  readDocument(raw: unknown, placeOf: (item: number | undefined) => Place): void {
    if (headOf(raw).kind !== 'List') {
      this.#read(raw, placeOf(undefined));
      return;
    }
    const { items } = raw as { items?: unknown };
    for (const [index, member] of (Array.isArray(items) ? (items as unknown[]) : []).entries()) {
      this.#read(member, placeOf(index + 1));
    }
  }

  #read(raw: unknown, place: Place): void {
    const file = this.#file;
    try {
      const { kind, object, unknownFields } = parseObject(raw);
      const key = keyOf(kind, object);
      this.claims.push({ kind, key, file, place, content: { object: stamped(kind, object) } });
      for (const field of unknownFields) {
        this.remarks.push(`${placeText(file, place)}: ${objectText(kind, key)}: the field ${field} is unknown`);
      }
    } catch (error) {
      const { kind, apiVersion, name, namespace } = headOf(raw);
      const [meant, ...others] = kindsMeant(kind, apiVersion);
      if (kind !== undefined && meant === undefined) {
        const of = apiVersion ?? 'no apiVersion';
        this.remarks.push(`${placeText(file, place)}: ${kind} of ${of} is no kind that we read`);
        return;
      }
      const wrong = `${placeText(file, place)}: ${messageOf(error)}`;
      if (
        meant === undefined ||
        others.length > 0 ||
        name === undefined ||
        (kinds[meant].namespaced && namespace === null)
      ) {
        this.problems.push({ source: file, objects: [], message: wrong, effect: 'ignored' });
        this.complete = false;
        return;
      }
      const key = kinds[meant].namespaced ? { namespace: namespace ?? 'default', name } : { name };
      const replacement = kindNameOf(kind, apiVersion) === undefined ? undefined : replacementOf(meant, raw);
      this.claims.push({ kind: meant, key, file, place, content: { object: undefined, wrong, replacement } });
    }
  }
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
  const { uid, resourceVersion } = object.metadata;
  const bare = resourceVersion === undefined ? object : withMetadata(object, { resourceVersion: undefined });
  return withMetadata(object, {
    uid: uid ?? uidOf(objectText(kind, keyOf(kind, object))),
    resourceVersion: hash('sha256', JSON.stringify(bare)).replace(/^(.{16}).*$/, 'file-$1'),
  });
}

/** In the form of a UUID. (`replace` makes one string of it; put together by `+` or a template it is a chain of ten, for every object.) */
function uidOf(text: string): string {
  return hash('sha256', text).replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-8$3-8$4-$5');
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
