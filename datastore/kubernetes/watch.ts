import type { Readable } from 'node:stream';
import type { Clock } from '#api/clock.ts';
import { messageOf } from '#api/errors.ts';
import type { KindName } from '#api/kinds.ts';
import { parseJson } from '#api/sequence.ts';
import { Backoff } from '../backoff.ts';
import { DatastoreError } from '../errors.ts';
import { linesOf } from './lines.ts';
import { collectionPath } from './path.ts';
import type { Requests } from './requests.ts';
import { refusal, statusOf, type Attempt } from './status.ts';

/** An event as the API server sends it. */
export interface RawEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  /** Of a bookmark only its resourceVersion counts. */
  readonly object: unknown;
  /** The point behind it. */
  readonly resourceVersion: string;
}

/** The server is asked to end each watch after so many seconds, at random, as client-go does: so load moves to servers that came back. */
const timeoutSeconds = { least: 300, most: 600 };

/**
 * A server sends a bookmark about once a minute. Where nothing has come for this time, up to twice as long, in ms, the watch is taken up anew:
 * something on the way has forgotten it (a proxy, or with HTTP/1.1 anything), or the server sends no bookmarks and it costs one request.
 */
const quietMs = 120_000;

/** So many watches in a row that ended before anything came are no server's time limit any more. */
const emptyTries = 4;

/**
 * What happens to a kind's objects after a point. A server ends every watch after some minutes, and its connections end when it restarts: both
 * is resumed from the last point, once silently, without listing again. Begins with a bookmark each time the server has taken up the watch.
 * Ends when the signal aborts. Throws `expired` when the point is too old, `unavailable` when it can't be resumed.
 */
export async function* watchCollection(
  requests: Requests,
  clock: Clock,
  kind: KindName,
  from: string,
  signal: AbortSignal,
): AsyncGenerator<RawEvent, void, undefined> {
  const attempt: Attempt = { verb: 'watch', kind, subject: `${kind} objects` };
  const backoff = new Backoff(100, 2_000);
  let point = from;
  for (let empty = 0; !signal.aborted;) {
    let why = 'the server ended it';
    let isEmpty = true;
    const body = await opened(requests, attempt, point, signal);
    if (body === undefined) return;
    const quiet = new QuietLimit(body, clock);
    try {
      yield { type: 'BOOKMARK', object: undefined, resourceVersion: point };
      for await (const line of linesOf(body as AsyncIterable<Buffer>)) {
        quiet.heard();
        if (line === '') continue;
        const event = eventOf(attempt, line);
        point = event.resourceVersion;
        isEmpty = false;
        yield event;
      }
    } catch (error) {
      if (error instanceof DatastoreError) throw error;
      why = messageOf(error);
    } finally {
      quiet[Symbol.dispose]();
      body.destroy();
    }
    empty = isEmpty && !quiet.isOver ? empty + 1 : 0;
    if (empty >= emptyTries) {
      throw new DatastoreError(
        'unavailable',
        `watch ${kind} objects: it ended ${empty} times before anything came: ${why}`,
      );
    }
    if (empty > 0) await clock.sleep(backoff.next(), signal).catch(() => {});
    else backoff.reset();
  }
}

/** Ends a stream on which nothing comes for too long. */
class QuietLimit implements Disposable {
  readonly #body: Readable;
  readonly #clock: Clock;
  #timer: Disposable | undefined;
  #hasCome = false;
  isOver = false;

  constructor(body: Readable, clock: Clock) {
    this.#body = body;
    this.#clock = clock;
    this.#await();
  }

  heard(): void {
    this.#hasCome = true;
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
  }

  #await(): void {
    this.#hasCome = false;
    this.#timer = this.#clock.after(quietMs, () => {
      if (this.#hasCome) {
        this.#await();
        return;
      }
      this.isOver = true;
      this.#body.destroy(new Error(`nothing came for ${quietMs / 1000} s`));
    });
  }
}

async function opened(requests: Requests, attempt: Attempt, point: string, signal: AbortSignal) {
  const { least, most } = timeoutSeconds;
  const query = new URLSearchParams({
    watch: '1',
    allowWatchBookmarks: 'true',
    resourceVersion: point,
    timeoutSeconds: String(Math.round(least + Math.random() * (most - least))),
  });
  try {
    return await requests.open({
      ...attempt,
      method: 'GET',
      path: `${collectionPath(attempt.kind)}?${query.toString()}`,
      signal,
    });
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

/** Throws an ordinary error for what is no event: then the stream is broken, and is resumed. */
function eventOf(attempt: Attempt, line: string): RawEvent {
  const { type, object } = parseJson(line) as { readonly type?: unknown; readonly object?: unknown };
  if (type === 'ERROR') {
    const { code } = (object ?? {}) as { readonly code?: unknown };
    throw refusal(attempt, typeof code === 'number' ? code : 500, statusOf(object));
  }
  const { metadata } = (object ?? {}) as { readonly metadata?: { readonly resourceVersion?: unknown } };
  const resourceVersion = metadata?.resourceVersion;
  if (typeof resourceVersion !== 'string' || resourceVersion === '') {
    throw new Error('an event has no resourceVersion');
  }
  if (type !== 'ADDED' && type !== 'MODIFIED' && type !== 'DELETED' && type !== 'BOOKMARK') {
    throw new Error(`an event's type is ${JSON.stringify(type)}`);
  }
  return { type, object, resourceVersion };
}
