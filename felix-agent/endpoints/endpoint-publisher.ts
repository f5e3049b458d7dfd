import type { Clock } from '#api/clock.ts';
import { keyText } from '#api/meta.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import { aborted } from '../aborted.ts';
import type { Log } from '../log.ts';
import type { EndpointWriter } from './endpoint-writer.ts';

/** Pauses between tries of a write that is refused, and of all of them while the datastore is away, in ms. */
const retryMs = { first: 200, longest: 10_000 };
/** So many endpoints in a row that can't be written mean that the datastore is away, and not that it refuses these. */
const awayAfter = 3;

/** What is to be written of one endpoint; the newest one counts. */
interface Wish {
  readonly endpoint: LocalEndpoint;
  readonly present: boolean;
  /** How often it failed. */
  tries: number;
  /** False while it waits after a failure. */
  isDue: boolean;
  /** Why it failed. */
  failure: string | undefined;
  timer: Disposable | undefined;
}

/**
 * Keeps what the datastore says of this node's endpoints as the agent has them. Writes happen in the background, the last wish per endpoint wins, and
 * failures are tried again, each after its own pause: an ADD never waits for the datastore, and no endpoint for one whose write is refused (a right that is
 * missing in one namespace, an admission webhook). Only while nothing can be written all wait together.
 */
export class EndpointPublisher {
  readonly #writer: EndpointWriter;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #wishes = new Map<string, Wish>();
  readonly #stop = new AbortController();
  /** Endpoints whose writes failed for want of a datastore since the last success. */
  readonly #unwritten = new Set<string>();
  #pauses = 0;
  #wake = Promise.withResolvers<void>();
  #running: Promise<void> | undefined;

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
    return [...this.#wishes.values()].find(({ failure }) => failure !== undefined)?.failure;
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
    for (const { timer } of this.#wishes.values()) timer?.[Symbol.dispose]();
  }

  #wish(endpoint: LocalEndpoint, present: boolean): void {
    const key = keyText(endpoint.endpoint.metadata);
    this.#wishes.get(key)?.timer?.[Symbol.dispose]();
    this.#wishes.set(key, { endpoint, present, tries: 0, isDue: true, failure: undefined, timer: undefined });
    this.#wake.resolve();
    this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const stopped = aborted(signal).catch(() => {});
    while (this.#wishes.size > 0 && !signal.aborted) {
      this.#wake = Promise.withResolvers();
      if (await this.#writeDue()) await this.#clock.sleep(pauseMs(++this.#pauses), signal).catch(() => {});
      else if (this.#due().length === 0 && this.#wishes.size > 0) await Promise.race([this.#wake.promise, stopped]);
    }
    this.#running = undefined;
  }

  /** Those that may be tried now, the ones that never failed first. */
  #due(): readonly (readonly [string, Wish])[] {
    return [...this.#wishes].filter(([, { isDue }]) => isDue).toSorted(([, one], [, other]) => one.tries - other.tries);
  }

  /** One try for every wish that is due. True: the datastore is away, and the rest needn't be tried now. */
  async #writeDue(): Promise<boolean> {
    for (const [key, wish] of this.#due()) {
      if (this.#stop.signal.aborted) return false;
      if (this.#wishes.get(key) !== wish) continue; // A newer one is in its place.
      try {
        await (wish.present ? this.#writer.put(wish.endpoint) : this.#writer.remove(wish.endpoint));
        if (this.#wishes.get(key) === wish) this.#wishes.delete(key);
        this.#unwritten.clear();
        this.#pauses = 0;
      } catch (error) {
        this.#putOff(wish, error);
        if (isDatastoreError(error, 'unavailable') && this.#unwritten.add(key).size >= awayAfter) return true;
      }
    }
    return false;
  }

  #putOff(wish: Wish, error: unknown): void {
    const subject = this.#writer.subject(wish.endpoint);
    const pause = pauseMs(++wish.tries);
    wish.failure = `can't write ${subject}: ${error instanceof Error ? error.message : String(error)}`;
    wish.isDue = false;
    wish.timer = this.#clock.after(pause, () => {
      wish.isDue = true;
      this.#wake.resolve();
    });
    this.#log.warn({ object: subject, retryMs: pause, err: error }, 'datastore write failed');
  }
}

/** After the so-manieth failure. */
function pauseMs(failures: number): number {
  return Math.min(retryMs.first * 2 ** (failures - 1), retryMs.longest);
}
