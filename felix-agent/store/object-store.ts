import { systemClock, type Clock } from '#api/clock.ts';
import type { KindName } from '#api/kinds.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { policyKinds } from '../calc/convert/convert.ts';
import type { Log } from '../log.ts';
import { gatheredFailures } from './gathered-failures.ts';
import { Informer } from './informer.ts';
import { ReadFailures } from './read-failures.ts';

/** The kinds that the agent watches. */
export const watchedKinds = [
  'Node',
  'Namespace',
  'ServiceAccount',
  'Pod',
  'Service',
  'EndpointSlice',
  'WorkloadEndpoint',
  'HostEndpoint',
  'NetworkSet',
  'GlobalNetworkSet',
  'Profile',
  'Tier',
  ...policyKinds,
  'IPPool',
  'IPAMBlock',
  'IPReservation',
  'IPAMConfiguration',
  'FelixConfiguration',
  'ClusterInformation',
  'BGPConfiguration',
] as const satisfies readonly KindName[];
export type WatchedKind = (typeof watchedKinds)[number];

/** One informer per watched kind: the agent's view of the datastore. */
export class ObjectStore implements AsyncDisposable {
  readonly #informers: { readonly [K in WatchedKind]: Informer<K> };
  /** Derived kinds have informers that stay empty: what they are made of is watched. */
  readonly #watched: readonly WatchedKind[];
  readonly #readFailures: ReadFailures;

  constructor(datastore: Datastore, log: Log, clock: Clock = systemClock) {
    this.#readFailures = new ReadFailures(clock, log);
    this.#watched = watchedKinds.filter((kind) => !datastore.derived.has(kind));
    this.#informers = Object.fromEntries(
      watchedKinds.map((kind) => [kind, new Informer(datastore, kind, log, clock, this.#readFailures)]),
    ) as unknown as { readonly [K in WatchedKind]: Informer<K> };
  }

  of<K extends WatchedKind>(kind: K): Informer<K> {
    return this.#informers[kind];
  }

  start(): void {
    for (const kind of this.#watched) this.#informers[kind].start();
  }

  /** Resolves when every kind has been listed once. */
  async synced(): Promise<void> {
    await Promise.all(this.#watched.map((kind) => this.#informers[kind].synced()));
  }

  get hasSynced(): boolean {
    return this.#watched.every((kind) => this.#informers[kind].hasSynced);
  }

  /** Why something can't be read at present; what fails alike is one line. */
  failures(): readonly string[] {
    return gatheredFailures(
      this.#watched.flatMap((kind) => {
        const { failure } = this.#informers[kind];
        return failure === undefined ? [] : [{ kind, failure }];
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#watched.map((kind) => this.#informers[kind].stop()));
    this.#readFailures[Symbol.dispose]();
  }
}
