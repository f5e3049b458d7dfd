import type { Clock } from '#api/clock.ts';
import type { KindMap, KindName } from '#api/kinds.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { readFacts, type FactsSource } from './facts.ts';
import { factsFrom, type IpamFacts } from './pools.ts';

type WatchedKind = 'IPPool' | 'IPReservation' | 'IPAMConfiguration' | 'Node';
const watchedKinds: readonly WatchedKind[] = ['IPPool', 'IPReservation', 'IPAMConfiguration', 'Node'];
const retryAfterMs = 1000;

/** Facts by watches of its own; the agent takes them from the informers that it has anyway. `start` before use. */
export class WatchedFacts implements FactsSource, AsyncDisposable {
  readonly #datastore: Datastore;
  readonly #nodeName: string;
  readonly #clock: Clock;
  readonly #onError: (error: unknown) => void;
  readonly #objects = new Map<WatchedKind, Map<string, KindMap[WatchedKind]>>();
  readonly #listeners: (() => void)[] = [];
  readonly #stop = new AbortController();
  #running: Promise<unknown> = Promise.resolve();
  #current: IpamFacts | undefined;

  /** `onError` hears of each broken listing or watch; it is begun again after a second. */
  constructor(datastore: Datastore, nodeName: string, clock: Clock, onError: (error: unknown) => void) {
    this.#datastore = datastore;
    this.#nodeName = nodeName;
    this.#clock = clock;
    this.#onError = onError;
  }

  /** Returns after the first listing of everything; rejects if that fails. */
  async start(): Promise<void> {
    const positions = await Promise.all(watchedKinds.map((kind) => this.#list(kind)));
    this.#changed();
    this.#running = Promise.all(watchedKinds.map((kind, index) => this.#follow(kind, positions[index])));
  }

  current(): IpamFacts | undefined {
    return this.#current;
  }

  refresh(): Promise<IpamFacts> {
    return readFacts(this.#datastore, this.#nodeName);
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #list(kind: WatchedKind): Promise<string> {
    const listing = await this.#datastore.list(kind);
    this.#objects.set(
      kind,
      new Map(
        listing.items
          .filter((object) => this.#isRelevant(kind, object))
          .map((object) => [object.metadata.name, object]),
      ),
    );
    return listing.resourceVersion;
  }

  async #follow(kind: WatchedKind, from: string | undefined): Promise<void> {
    let position = from;
    while (!this.#stop.signal.aborted) {
      try {
        if (position === undefined) {
          position = await this.#list(kind);
          this.#changed();
        }
        for await (const event of this.#datastore.watch(kind, {
          resourceVersion: position,
          signal: this.#stop.signal,
        })) {
          position = event.resourceVersion;
          if (event.type !== 'bookmark' && this.#isRelevant(kind, event.object)) {
            const objects = this.#objects.get(kind);
            if (event.type === 'deleted') {
              objects?.delete(event.object.metadata.name);
            } else {
              objects?.set(event.object.metadata.name, event.object);
            }
            this.#changed();
          }
        }
        if (!this.#stop.signal.aborted) {
          throw new Error(`the watch of ${kind} ended by itself`);
        }
      } catch (error) {
        position = undefined;
        if (!this.#stop.signal.aborted) {
          this.#onError(error);
          await this.#clock.sleep(retryAfterMs, this.#stop.signal).catch(() => {}); // Aborted: the loop's condition ends it.
        }
      }
    }
  }

  /** Other nodes' labels are nothing to us, and there may be thousands. */
  #isRelevant(kind: KindName, object: KindMap[WatchedKind]): boolean {
    return kind !== 'Node' || object.metadata.name === this.#nodeName;
  }

  #changed(): void {
    const of = <K extends WatchedKind>(kind: K) => (this.#objects.get(kind) ?? new Map()) as Map<string, KindMap[K]>;
    this.#current = factsFrom({
      pools: [...of('IPPool').values()],
      reservations: [...of('IPReservation').values()],
      configuration: of('IPAMConfiguration').get('default'),
      node: of('Node').get(this.#nodeName),
    });
    for (const listener of this.#listeners) {
      listener();
    }
  }
}
