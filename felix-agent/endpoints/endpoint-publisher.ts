import type { Clock } from '#api/clock.ts';
import { keyText } from '#api/meta.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import type { Log } from '../log.ts';
import type { EndpointWriter } from './endpoint-writer.ts';

/** Pauses between tries while the datastore refuses, in ms. */
const retryMs = { first: 200, longest: 10_000 };

/**
 * Keeps what the datastore says of this node's endpoints as the agent has them. Writes happen in the background, the last wish per endpoint wins, and
 * failures are tried again: an ADD never waits for the datastore, and no endpoint for one whose write is refused.
 */
export class EndpointPublisher {
  readonly #writer: EndpointWriter;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #wishes = new Map<string, { readonly endpoint: LocalEndpoint; readonly present: boolean }>();
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #failure: string | undefined;

  constructor(writer: EndpointWriter, clock: Clock, log: Log) {
    this.#writer = writer;
    this.#clock = clock;
    this.#log = log;
  }

  put(endpoint: LocalEndpoint): void {
    this.#wish(endpoint, true);
  }

  remove(endpoint: LocalEndpoint): void {
    this.#wish(endpoint, false);
  }

  /** Why something is not written at present, if so. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** How many endpoints wait to be written. */
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

  #wish(endpoint: LocalEndpoint, present: boolean): void {
    this.#wishes.set(keyText(endpoint.endpoint.metadata), { endpoint, present });
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
        await (wish.present ? this.#writer.put(wish.endpoint) : this.#writer.remove(wish.endpoint));
        if (this.#wishes.get(key) === wish) this.#wishes.delete(key);
      } catch (error) {
        const subject = this.#writer.subject(wish.endpoint);
        failure ??= `can't write ${subject}: ${error instanceof Error ? error.message : String(error)}`;
        this.#log.warn({ object: subject, retryMs: pauseMs, err: error }, 'datastore write failed');
        if (isDatastoreError(error, 'unavailable')) return failure;
      }
    }
    return failure;
  }
}
