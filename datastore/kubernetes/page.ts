import { StringDecoder } from 'node:string_decoder';
import { parseJson } from '#api/sequence.ts';

/** A page of a listing. */
export interface Page<T> {
  readonly items: readonly T[];
  /** Undefined if it is no listing. */
  readonly resourceVersion: string | undefined;
  /** What asks for the next page. */
  readonly next: string | undefined;
}

interface Frame {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly Record<string, unknown>[] | null;
}

const itemsStart = '"items":[';

/**
 * Reads a page as it comes, each object parsed and converted on its own: so neither text nor objects of a page are ever in memory as a whole, and
 * what is not kept of an object dies young. Text of some MB would go to the old heap at once, and objects that wait for a whole page after it.
 * Throws what `JSON.parse` throws, also where the text ends too early. `parse`: `JSON.parse` does for kinds without numbers that it would round.
 */
export async function readPage<T>(
  chunks: AsyncIterable<Buffer>,
  convert: (raw: Record<string, unknown>) => T,
  parse: (text: string) => unknown = parseJson,
): Promise<Page<T>> {
  const items: T[] = [];
  const decoder = new StringDecoder('utf8');
  /** Up to where the items begin; undefined: not there yet. */
  let before: string | undefined;
  /** What has come and isn't read, from an item's beginning on. */
  let rest = '';
  /** How an item ends and the next begins: each begins as the first one does, `{"metadata":` or `{"apiVersion":`. */
  let seam: string | undefined;
  let searched = 0;
  for await (const chunk of chunks) {
    rest += decoder.write(chunk);
    if (before === undefined) {
      const start = rest.indexOf(itemsStart);
      if (start < 0) continue;
      before = rest.slice(0, start + itemsStart.length);
      rest = rest.slice(before.length);
    }
    if (seam === undefined) {
      const colon = rest.indexOf(':');
      if (colon < 0) continue;
      seam = `},${rest.slice(0, colon + 1)}`;
    }
    for (let end = rest.indexOf(seam, searched); end >= 0; end = rest.indexOf(seam, searched)) {
      // What looks like the end of an object may stand within it. But no beginning of an object's text is an object: what can be read is it.
      const raw = parsed(rest.slice(0, end + 1), parse);
      if (raw === undefined) {
        searched = end + 1;
      } else {
        items.push(convert(raw));
        rest = rest.slice(end + '},'.length);
        searched = 0;
      }
    }
    searched = Math.max(searched, rest.length - seam.length + 1, 0);
  }
  // With the last item, or all that were not written as expected.
  const { metadata, items: last } = parse((before ?? '') + rest + decoder.end()) as Frame;
  for (const raw of last ?? []) items.push(convert(raw));
  // One object has a resourceVersion as well: without items it must not be taken for a listing of nothing.
  const resourceVersion = last === undefined ? undefined : metadata?.resourceVersion;
  return { items, resourceVersion, next: metadata?.continue || undefined };
}

function parsed(text: string, parse: (text: string) => unknown): Record<string, unknown> | undefined {
  try {
    return parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
