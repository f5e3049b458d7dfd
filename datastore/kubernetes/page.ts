import { parseJson } from '#api/sequence.ts';

/** A page of a listing. */
export interface Page<T> {
  readonly items: readonly T[];
  /** Undefined if it is no listing. */
  readonly resourceVersion: string | undefined;
  /** What asks for the next page. */
  readonly next: string | undefined;
}

interface Head {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly Record<string, unknown>[] | null;
}

const itemsStart = '"items":[';

/** With what an object of Kubernetes' own kinds begins, as its API server writes it, after another one. */
const nextItem = '},{"metadata":{';

/**
 * Reads a page, each object converted before the next is parsed: parsed as a whole, 500 Pods are more than fits into the young heap, and are
 * copied, kept until the next big collection, and the memory for them is not given back. Throws what `JSON.parse` throws.
 */
export function readPage<T>(text: string, convert: (raw: Record<string, unknown>) => T): Page<T> {
  const start = text.indexOf(itemsStart);
  const head = start < 0 ? undefined : headOf(text.slice(0, start));
  const items = head && itemsOf(text, start + itemsStart.length, convert);
  if (head !== undefined && items !== undefined) return pageOf(head, items);
  const whole = parseJson(text) as Head;
  return pageOf(whole, (whole.items ?? []).map(convert));
}

function pageOf<T>({ metadata }: Head, items: readonly T[]): Page<T> {
  return { items, resourceVersion: metadata?.resourceVersion, next: metadata?.continue || undefined };
}

/** What stands before the items, if the page's metadata is among that; custom resources have it behind. */
function headOf(text: string): Head | undefined {
  const head = parsed(`${text}"items":[]}`) as Head | undefined;
  return head?.metadata === undefined ? undefined : head;
}

/** Undefined if what is there isn't written as expected. */
function itemsOf<T>(text: string, start: number, convert: (raw: Record<string, unknown>) => T): T[] | undefined {
  const items: T[] = [];
  const whole = text.trimEnd();
  const end = whole.length - ']}'.length;
  if (!whole.endsWith(']}')) return undefined;
  if (start === end) return items;
  for (let from = start; ;) {
    // What looks like the end of an object may stand within it. But no part of an object's text is an object: what can be read is it.
    let to = text.indexOf(nextItem, from);
    let raw = parsed(text.slice(from, to < 0 ? end : to + 1));
    while (raw === undefined && to >= 0) {
      to = text.indexOf(nextItem, to + 1);
      raw = parsed(text.slice(from, to < 0 ? end : to + 1));
    }
    if (raw === undefined) return undefined;
    items.push(convert(raw));
    if (to < 0) return items;
    from = to + '},'.length;
  }
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    return parseJson(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
