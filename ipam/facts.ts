import type { Datastore } from '#datastore/datastore.ts';
import { factsFrom, type IpamFacts } from './pools.ts';

/** Where a node's IPAM learns of pools, reservations, settings and its node's labels. */
export interface FactsSource {
  /** As last seen; undefined before the first listing. Synchronous: it is on the ADD's way. */
  current(): IpamFacts | undefined;
  /** As it is now in the datastore. */
  refresh(): Promise<IpamFacts>;
  /** Calls `listener` after each change of `current`. */
  onChange(listener: () => void): void;
}

/** Reads everything once. Throws `DatastoreError`. */
export async function readFacts(datastore: Datastore, nodeName: string): Promise<IpamFacts> {
  const [pools, reservations, configuration, node] = await Promise.all([
    datastore.list('IPPool'),
    datastore.list('IPReservation'),
    datastore.get('IPAMConfiguration', { name: 'default' }),
    datastore.get('Node', { name: nodeName }),
  ]);
  return factsFrom({ pools: pools.items, reservations: reservations.items, configuration, node });
}
