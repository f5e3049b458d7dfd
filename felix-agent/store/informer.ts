import { systemClock, type Clock } from '#api/clock.ts';
import type { KindMap, KindName } from '#api/kinds.ts';
import { keyText, type ObjectKey } from '#api/meta.ts';
import { Backoff } from '#datastore/backoff.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import { aborted } from '../aborted.ts';
import type { Log } from '../log.ts';
import { ReadFailures } from './read-failures.ts';

/** Told of every change: the object, or undefined when it is gone. */
export type InformerListener<K extends KindName> = (key: ObjectKey, object: KindMap[K] | undefined) => void;

/** First pause after a failed list or watch, and the longest one, in ms. */
const retryMs = { first: 200, longest: 10_000 };

/** A watch that lived so long, in ms, was a good one, whatever ended it. */
const steadyMs = 10_000;

/**
 * All objects of one kind, kept current: list, watch from there. A watch that ends (an API server ends each after some minutes, and all when it
 * restarts) is taken up from the last point; only one whose point is too old makes a new list, which is compared with what is known, so that
 * listeners see changes only. While the datastore is away, everything stays as it is.
 */
export class Informer<K extends KindName> {
  readonly kind: K;
  readonly #datastore: Datastore;
  readonly #clock: Clock;
  readonly #failures: ReadFailures;
  readonly #listeners: InformerListener<K>[] = [];
  readonly #objects = new Map<string, KindMap[K]>();
  readonly #stop = new AbortController();
  readonly #stopped = aborted(this.#stop.signal);
  readonly #synced = Promise.withResolvers<void>();
  #hasSynced = false;
  #failure: string | undefined;
  /** The point in the datastore's history up to which everything is known; undefined: list. */
  #point: string | undefined;
  #running: Promise<void> | undefined;

  /** `failures`: shared by all kinds of a datastore. */
  constructor(
    datastore: Datastore,
    kind: K,
    log: Log,
    clock: Clock = systemClock,
    failures: ReadFailures = new ReadFailures(clock, log),
  ) {
    this.#datastore = datastore;
    this.kind = kind;
    this.#clock = clock;
    this.#failures = failures;
  }

  onChange(listener: InformerListener<K>): void {
    this.#listeners.push(listener);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** Resolves when the first list has been handed to the listeners. */
  synced(): Promise<void> {
    return this.#synced.promise;
  }

  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** Why the datastore can't be read at present, if so. */
  get failure(): string | undefined {
    return this.#failure;
  }

  get(key: ObjectKey): KindMap[K] | undefined {
    return this.#objects.get(keyText(key));
  }

  all(): IterableIterator<KindMap[K]> {
    return this.#objects.values();
  }

  get size(): number {
    return this.#objects.size;
  }

  /** The object as soon as it is known and `isIt`; undefined when the signal aborts first. */
  waitFor(
    key: ObjectKey,
    signal: AbortSignal,
    isIt: (object: KindMap[K]) => boolean = () => true,
  ): Promise<KindMap[K] | undefined> {
    const present = this.get(key);
    if (present !== undefined && isIt(present)) return Promise.resolve(present);
    if (signal.aborted) return Promise.resolve(undefined);
    const wanted = keyText(key);
    return new Promise((resolve) => {
      const done = (object: KindMap[K] | undefined) => {
        const index = this.#listeners.indexOf(listener);
        if (index >= 0) this.#listeners.splice(index, 1);
        signal.removeEventListener('abort', onAbort);
        resolve(object);
      };
      const listener: InformerListener<K> = (changed, object) => {
        if (object !== undefined && keyText(changed) === wanted && isIt(object)) done(object);
      };
      const onAbort = () => done(undefined);
      this.#listeners.push(listener);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const backoff = new Backoff(retryMs.first, retryMs.longest);
    while (!signal.aborted) {
      const startedAt = this.#clock.now();
      let hasMoved = false;
      try {
        this.#point ??= await this.#list();
        for await (const event of this.#datastore.watch(this.kind, { resourceVersion: this.#point, signal })) {
          // A watch begins with a bookmark: then the datastore is there.
          this.#succeeded();
          if (event.resourceVersion !== this.#point) hasMoved = true;
          if (event.type !== 'bookmark') {
            this.#set(event.object.metadata, event.type === 'deleted' ? undefined : event.object);
          }
          this.#point = event.resourceVersion;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (isDatastoreError(error, 'expired')) this.#point = undefined;
        else this.#failed(error);
      }
      const wasSteady = hasMoved || this.#clock.now() - startedAt > steadyMs;
      if (wasSteady) backoff.reset();
      // What ends at once, or is too old at once, must not be asked for again and again without a pause.
      if (!wasSteady || this.#failure !== undefined) await this.#failures.pause(backoff.next(), signal);
    }
  }

  #failed(error: unknown): void {
    const why = error instanceof Error ? error.message : String(error);
    this.#failure = `can't read ${this.kind} objects: ${why}`;
    this.#failures.failed(this.kind, this.#failure);
  }

  #succeeded(): void {
    this.#failure = undefined;
    this.#failures.recovered(this.kind);
  }

  async #list(): Promise<string> {
    const list = this.#datastore.list(this.kind);
    const { items, resourceVersion } = await Promise.race([list, this.#stopped]);
    this.#succeeded();
    const present = new Set(items.map((item) => keyText(item.metadata)));
    for (const [text, object] of this.#objects) {
      if (!present.has(text)) this.#set(object.metadata, undefined);
    }
    for (const item of items) {
      const known = this.get(item.metadata);
      if (known === undefined || known.metadata.resourceVersion !== item.metadata.resourceVersion) {
        this.#set(item.metadata, item);
      }
    }
    if (!this.#hasSynced) {
      this.#hasSynced = true;
      this.#synced.resolve();
    }
    return resourceVersion;
  }

  #set(metadata: ObjectKey, object: KindMap[K] | undefined): void {
    const key: ObjectKey =
      metadata.namespace === undefined
        ? { name: metadata.name }
        : { namespace: metadata.namespace, name: metadata.name };
    // Of what could not be used, the end is told all the same.
    if (object === undefined && !this.#objects.delete(keyText(key))) return;
    if (object !== undefined) this.#objects.set(keyText(key), object);
    for (const listener of [...this.#listeners]) listener(key, object);
  }
}
