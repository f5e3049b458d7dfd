import { randomBytes } from 'node:crypto';
import type { KindMap, KindName } from '#api/kinds.ts';
import type { WatchEvent } from './datastore.ts';
import { DatastoreError } from './errors.ts';

type ObjectEvent<K extends KindName> = Exclude<WatchEvent<K>, { type: 'bookmark' }>;

/** The last events of one kind, in order, and the sequence number of the newest event that is no longer among them. */
interface Ring<K extends KindName = KindName> {
  readonly events: { readonly sequence: number; readonly event: ObjectEvent<K> }[];
  forgotten: number;
}

/**
 * What happened in a datastore, for its watchers: a bounded list of events for each kind, so that a busy kind does not push another's out.
 * A point in it is `<instance>-<sequence>`: a point of another process, or of an earlier run, is `expired` and never mistaken for one of ours.
 * A watcher has a cursor and no queue: one that is too slow is told `expired` instead of filling the memory.
 */
export class History {
  readonly #instance = randomBytes(6).toString('hex');
  readonly #limit: number;
  readonly #rings = new Map<KindName, Ring>();
  #sequence = 0;
  #closed = false;
  #changed = Promise.withResolvers<void>();

  /** `limit`: so many events of each kind are kept at least. */
  constructor(limit = 64) {
    this.#limit = limit;
  }

  /** Where the history ends now. */
  get position(): string {
    return this.#positionAt(this.#sequence);
  }

  /** Appends an event and wakes the watchers. */
  record<K extends KindName>(kind: K, type: ObjectEvent<K>['type'], object: KindMap[K]): void {
    const sequence = ++this.#sequence;
    const ring = this.#ring(kind);
    ring.events.push({ sequence, event: { type, object, resourceVersion: this.#positionAt(sequence) } });
    // Twice the limit, then half goes: dropping one at a time would move the whole list for every event.
    if (ring.events.length > 2 * this.#limit) {
      ring.forgotten = ring.events.splice(0, ring.events.length - this.#limit).at(-1)?.sequence ?? ring.forgotten;
    }
    this.#wake();
  }

  /** Forgets all events: whoever resumes from before now gets `expired`. */
  forget(): void {
    for (const ring of this.#rings.values()) {
      ring.events.length = 0;
      ring.forgotten = this.#sequence;
    }
    this.#wake();
  }

  /** Events after a position, as `Datastore.watch` says; ends silently by the signal or by `close`. */
  async *watch<K extends KindName>(
    kind: K,
    options: { readonly resourceVersion: string; readonly signal?: AbortSignal },
  ): AsyncGenerator<WatchEvent<K>, void, undefined> {
    const { signal } = options;
    const onAbort = (): void => this.#wake();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      let cursor = this.#parse(kind, options.resourceVersion);
      yield { type: 'bookmark', resourceVersion: options.resourceVersion };
      while (!this.#ended(signal)) {
        const changed = this.#changed.promise;
        for (const { sequence, event } of this.#after(kind, cursor)) {
          yield event;
          cursor = sequence;
          if (this.#ended(signal)) {
            return;
          }
        }
        await changed;
      }
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Ends all watches. */
  close(): void {
    this.#closed = true;
    this.#wake();
  }

  #ended(signal: AbortSignal | undefined): boolean {
    return this.#closed || signal?.aborted === true;
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  #ring<K extends KindName>(kind: K): Ring<K> {
    let ring = this.#rings.get(kind);
    if (ring === undefined) {
      ring = { events: [], forgotten: 0 };
      this.#rings.set(kind, ring);
    }
    return ring as unknown as Ring<K>;
  }

  #after<K extends KindName>(kind: K, cursor: number): Ring<K>['events'] {
    const { events, forgotten } = this.#ring(kind);
    if (cursor < forgotten) {
      throw expired(kind, this.#positionAt(cursor), 'its events are no longer kept');
    }
    return events.slice(events.findLastIndex(({ sequence }) => sequence <= cursor) + 1);
  }

  #positionAt(sequence: number): string {
    return `${this.#instance}-${sequence}`;
  }

  #parse(kind: KindName, position: string): number {
    const [instance, digits = ''] = position.split('-');
    const sequence = /^\d+$/.test(digits) ? Number(digits) : Number.NaN;
    if (instance !== this.#instance || !(sequence <= this.#sequence)) {
      throw expired(kind, position, 'it is no point in the history of this process');
    }
    return sequence;
  }
}

function expired(kind: KindName, position: string, why: string): DatastoreError {
  return new DatastoreError(
    'expired',
    `watch ${kind} from resourceVersion ${JSON.stringify(position)}: ${why}; list again`,
  );
}
