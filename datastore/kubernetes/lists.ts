import { kinds, type KindName } from '#api/kinds.ts';
import { parseJson } from '#api/sequence.ts';
import { DatastoreError, isDatastoreError } from '../errors.ts';
import { parseWithoutManagedFields } from './managed-fields.ts';
import { readPage } from './page.ts';
import { collectionPath } from './path.ts';
import type { Requests } from './requests.ts';

/** What one request brings: 500 Pods are some MB of JSON, of which little is kept. */
const pageSize = 500;

/** A listing, each object as `convert` has made it, and the point in history that it shows. */
export interface Converted<T> {
  readonly items: readonly T[];
  readonly resourceVersion: string;
}

/**
 * All objects of a kind (of a namespace, if given), page by page: objects are converted as their page comes, so that what is not kept of
 * them is gone before the next. The server keeps a listing's point for some minutes only; if that is over in the midst (410), everything is
 * asked for anew, in one piece.
 */
export async function listCollection<T>(
  requests: Requests,
  kind: KindName,
  namespace: string | undefined,
  convert: (raw: Record<string, unknown>) => T,
): Promise<Converted<T>> {
  try {
    return await pages(requests, kind, namespace, convert, pageSize);
  } catch (error) {
    if (!isDatastoreError(error, 'expired')) throw error;
    return pages(requests, kind, namespace, convert, undefined);
  }
}

/** Throws `KindMissingError` if the API server does not serve the kind; brings nothing else. */
export async function probeCollection(requests: Requests, kind: KindName): Promise<void> {
  await pages(requests, kind, undefined, () => undefined, 1, 1);
}

async function pages<T>(
  requests: Requests,
  kind: KindName,
  namespace: string | undefined,
  convert: (raw: Record<string, unknown>) => T,
  limit: number | undefined,
  most = Number.POSITIVE_INFINITY,
): Promise<Converted<T>> {
  // Only kinds that are written back have numbers that must stay exact.
  const parse = kinds[kind].unknownFields === 'drop' ? parseWithoutManagedFields : parseJson;
  const subject = namespace === undefined ? `${kind} objects` : `${kind} objects of ${namespace}`;
  const items: T[] = [];
  let point: string | undefined;
  let next: string | undefined;
  for (let page = 1; ; page++) {
    const query = new URLSearchParams();
    if (limit !== undefined) query.set('limit', String(limit));
    if (next !== undefined) query.set('continue', next);
    const path = `${collectionPath(kind, namespace)}${query.size === 0 ? '' : `?${query.toString()}`}`;
    const call = { verb: 'list', kind, subject, method: 'GET', path } as const;
    const got = await requests.read(call, (body) => readPage(body, convert, parse));
    if (!got.resourceVersion) {
      throw new DatastoreError('unavailable', `list ${subject}: the answer is no listing: is this an API server?`);
    }
    for (const item of got.items) items.push(item);
    // All pages show one point. Were a later one newer, a watch from the first on would bring the difference, and lose nothing.
    point ??= got.resourceVersion;
    ({ next } = got);
    if (next === undefined || page >= most) return { items, resourceVersion: point };
  }
}
