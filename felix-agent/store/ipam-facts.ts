import type { Datastore } from '#datastore/datastore.ts';
import { readFacts, type FactsSource } from '#ipam/facts.ts';
import { factsFrom, type IpamFacts } from '#ipam/pools.ts';
import type { ObjectStore } from './object-store.ts';

/** What IPAM must know (pools, reservations, settings, this node's labels), from the informers that the agent has anyway. */
export class StoreFacts implements FactsSource {
  readonly #store: ObjectStore;
  readonly #datastore: Datastore;
  readonly #nodeName: string;
  readonly #listeners: (() => void)[] = [];
  #current: IpamFacts | undefined;

  constructor(store: ObjectStore, datastore: Datastore, nodeName: string) {
    this.#store = store;
    this.#datastore = datastore;
    this.#nodeName = nodeName;
    const changed = () => {
      this.#current = undefined;
      for (const listener of this.#listeners) listener();
    };
    store.of('IPPool').onChange(changed);
    store.of('IPReservation').onChange(changed);
    store.of('IPAMConfiguration').onChange(changed);
    store.of('Node').onChange(({ name }) => {
      if (name === nodeName) changed();
    });
  }

  /** Computed at the first call after a change: an ADD finds it ready. */
  current(): IpamFacts | undefined {
    if (!this.#store.hasSynced) return undefined;
    this.#current ??= factsFrom({
      pools: [...this.#store.of('IPPool').all()],
      reservations: [...this.#store.of('IPReservation').all()],
      configuration: this.#store.of('IPAMConfiguration').get({ name: 'default' }),
      node: this.#store.of('Node').get({ name: this.#nodeName }),
    });
    return this.#current;
  }

  refresh(): Promise<IpamFacts> {
    return readFacts(this.#datastore, this.#nodeName);
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }
}
