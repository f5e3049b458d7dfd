import { createHash } from 'node:crypto';
import { isCollection, LineCounter, parseAllDocuments, type Document } from 'yaml';
import { isKindName, kinds, objectText, parseObject, type KindName } from '#api/kinds.ts';
import type { ObjectKey } from '#api/meta.ts';
import type { DatastoreProblem } from '../datastore.ts';
import { keyOf, messageOf, withMetadata, type AnyObject } from '../stored-object.ts';

/** One place in a user's file that gives an object. */
export interface Claim {
  readonly kind: KindName;
  readonly key: ObjectKey;
  readonly file: string;
  /** `FILE document 2 (line 14)`. */
  readonly place: string;
  /** Absent if what stands there can't be used. */
  readonly object: AnyObject | undefined;
}

/** What a user's file says. */
export interface UserFile {
  readonly claims: readonly Claim[];
  readonly problems: readonly DatastoreProblem[];
  /** What was passed over: kinds that we don't read, fields that we don't know. */
  readonly remarks: readonly string[];
  /** False if something in it is so wrong that it can't be told which object it was to be. */
  readonly complete: boolean;
}

/** Reads a file of YAML documents (JSON is YAML), Lists unpacked. Throws only if the text as a whole can't be read; the message says where. */
export function parseUserFile(path: string, text: string): UserFile {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, merge: true });
  const claims: Claim[] = [];
  const problems: DatastoreProblem[] = [];
  const remarks: string[] = [];
  let complete = true;
  const read = (place: string, raw: unknown): void => {
    try {
      const { kind, object, unknownFields } = parseObject(raw);
      claims.push({ kind, key: keyOf(kind, object), file: path, place, object: stamped(kind, object) });
      remarks.push(
        ...unknownFields.map(
          (field) => `${place}: ${objectText(kind, keyOf(kind, object))}: the field ${field} is unknown`,
        ),
      );
    } catch (error) {
      const head = headOf(raw);
      if (head.kind !== undefined && !isKindName(head.kind)) {
        remarks.push(`${place}: ${head.kind} of ${head.apiVersion ?? 'no apiVersion'} is no kind that we read`);
        return;
      }
      problems.push({
        source: path,
        objects: head.object === undefined ? [] : [head.object.text],
        message: `${place}: ${messageOf(error)}`,
      });
      if (head.object === undefined) {
        complete = false;
      } else {
        claims.push({ kind: head.object.kind, key: head.object.key, file: path, place, object: undefined });
      }
    }
  };
  for (const [index, document] of (Array.isArray(documents) ? documents : []).entries()) {
    const [error] = document.errors;
    if (error !== undefined) {
      throw new Error(`document ${index + 1}, line ${lines.linePos(error.pos[0]).line}: ${error.message}`);
    }
    const place = (offset = 0): string => `${path} document ${index + 1} (line ${lines.linePos(offset).line})`;
    const raw = valueOf(document, `document ${index + 1}, line ${lines.linePos(document.range[0]).line}`);
    if (headOf(raw).kind !== 'List') {
      if (raw !== null && raw !== undefined) {
        read(place(startOf(document, [])), raw);
      }
      continue;
    }
    const { items } = raw as { items?: unknown };
    for (const [item, member] of (Array.isArray(items) ? (items as unknown[]) : []).entries()) {
      read(`${place(startOf(document, ['items', item]))}, item ${item + 1}`, member);
    }
  }
  return { claims, problems, remarks, complete };
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
  readonly kind?: string;
  readonly apiVersion?: string;
  readonly object?: { readonly kind: KindName; readonly key: ObjectKey; readonly text: string };
}

/** As much of an object's identity as can be made out without its being valid. */
function headOf(raw: unknown): Head {
  const { kind, apiVersion, metadata } = record(raw);
  const { name, namespace } = record(metadata);
  if (typeof kind !== 'string') {
    return {};
  }
  const head = { kind, ...(typeof apiVersion === 'string' ? { apiVersion } : {}) };
  if (!isKindName(kind) || typeof name !== 'string') {
    return head;
  }
  const key = kinds[kind].namespaced
    ? { namespace: typeof namespace === 'string' ? namespace : 'default', name }
    : { name };
  return { ...head, object: { kind, key, text: objectText(kind, key) } };
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
