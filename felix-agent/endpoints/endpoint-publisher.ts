import type { Clock } from '#api/clock.ts';
import type { KindMap } from '#api/kinds.ts';
import { keyText } from '#api/meta.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import type { Log } from '../log.ts';

type WorkloadEndpoint = KindMap['WorkloadEndpoint'];

/** Pauses between tries while the datastore refuses, in ms. */
const retryMs = { first: 200, longest: 10_000 };

/**
 * Keeps the datastore's WorkloadEndpoint objects of this node as the agent has them. Writes happen in the background, the last wish
 * per object wins, and failures are tried again: an ADD never waits for the datastore, and no object for one that is refused.
 */
export class EndpointPublisher {
  readonly #datastore: Datastore;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #wishes = new Map<string, { readonly endpoint: WorkloadEndpoint; readonly present: boolean }>();
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #failure: string | undefined;

  constructor(datastore: Datastore, clock: Clock, log: Log) {
    this.#datastore = datastore;
    this.#clock = clock;
    this.#log = log;
  }

  put(endpoint: WorkloadEndpoint): void {
    this.#wish(endpoint, true);
  }

  remove(endpoint: WorkloadEndpoint): void {
    this.#wish(endpoint, false);
  }

  /** Why objects are not written at present, if so. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** How many objects wait to be written. */
  get backlog(): number {
    return this.#wishes.size;
  }

  /** Waits until everything is written, or until `signal` aborts, whatever the datastore does; then writes no more. */
  async close(signal: AbortSignal): Promise<void> {
    const outOfPatience = Promise.withResolvers<void>();
    const giveUp = () => outOfPatience.resolve();
    signal.addEventListener('abort', giveUp, { once: true });
    if (signal.aborted) giveUp();
    await Promise.race([this.#running, outOfPatience.promise]);
    signal.removeEventListener('abort', giveUp);
    this.#stop.abort();
  }

  #wish(endpoint: WorkloadEndpoint, present: boolean): void {
    this.#wishes.set(keyText(endpoint.metadata), { endpoint, present });
    this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    let pauseMs = retryMs.first;
    while (this.#wishes.size > 0 && !this.#stop.signal.aborted) {
      this.#failure = await this.#writeAll(pauseMs);
      if (this.#failure === undefined) {
        pauseMs = retryMs.first;
        continue;
      }
      await this.#clock.sleep(pauseMs, this.#stop.signal).catch(() => {});
      pauseMs = Math.min(pauseMs * 2, retryMs.longest);
    }
    this.#running = undefined;
  }

  /** One try for every wish of the moment; the first failure. When the datastore is away the others needn't be tried. */
  async #writeAll(pauseMs: number): Promise<string | undefined> {
    let failure: string | undefined;
    for (const [key, wish] of [...this.#wishes]) {
      if (this.#stop.signal.aborted) return failure;
      try {
        await this.#write(wish.endpoint, wish.present);
        if (this.#wishes.get(key) === wish) this.#wishes.delete(key);
      } catch (error) {
        failure ??= `can't write WorkloadEndpoint ${key}: ${error instanceof Error ? error.message : String(error)}`;
        this.#log.warn({ object: `WorkloadEndpoint ${key}`, retryMs: pauseMs, err: error }, 'datastore write failed');
        if (isDatastoreError(error, 'unavailable')) return failure;
      }
    }
    return failure;
  }

  async #write(endpoint: WorkloadEndpoint, present: boolean): Promise<void> {
    const stored = await this.#datastore.get('WorkloadEndpoint', endpoint.metadata);
    if (!present) {
      // A newer sandbox's object stays: it isn't the one that was asked to go.
      if (stored === undefined || stored.spec.containerID !== endpoint.spec.containerID) return;
      await this.#datastore
        .delete('WorkloadEndpoint', endpoint.metadata, { resourceVersion: stored.metadata.resourceVersion })
        .catch((error: unknown) => {
          if (!isDatastoreError(error, 'not-found')) throw error;
        });
    } else if (stored === undefined) {
      await this.#datastore.create('WorkloadEndpoint', endpoint);
    } else if (JSON.stringify(stored.spec) !== JSON.stringify(endpoint.spec)) {
      const { resourceVersion, uid, creationTimestamp } = stored.metadata;
      await this.#datastore.update('WorkloadEndpoint', {
        ...endpoint,
        metadata: { ...endpoint.metadata, resourceVersion, uid, creationTimestamp },
      });
    }
  }
}
