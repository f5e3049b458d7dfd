import type { Clock } from '#api/clock.ts';
import type { ClusterWrites } from '#datastore/cluster-writes.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import type { Netlink } from '#native/types.ts';
import { aborted } from '../aborted.ts';
import type { Log } from '../log.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { annotationChanges, mustReportNetwork } from './node-facts.ts';

/** First pause after a write that failed, and the longest one, in ms. */
const retryMs = { first: 500, longest: 30_000 };
/** How often the devices' addresses are compared with what was written, in ms: the subnet of an address may change, or come late. */
const recheckMs = 60_000;

/** What a `NodeReporter` works with. */
export interface NodeReporterParts {
  readonly nodeName: string;
  readonly cluster: Pick<ClusterWrites, 'annotateNode' | 'reportNetworkAvailable'>;
  readonly store: Pick<ObjectStore, 'of'>;
  readonly host: Pick<Netlink, 'addresses'>;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Keeps what this agent says on its own Node: Calico's address annotations, and, once pods can be wired, that the network is there. It follows
 * the Node's object (addresses that come late, change or go; a condition that somebody sets again; a Node deleted and added anew) and writes only what
 * differs.
 */
export class NodeReporter implements AsyncDisposable {
  readonly #parts: NodeReporterParts;
  readonly #stop = new AbortController();
  #wake = Promise.withResolvers<void>();
  #running: Promise<void> | undefined;
  #isNetworkThere = false;
  #failure: string | undefined;

  constructor(parts: NodeReporterParts) {
    this.#parts = parts;
  }

  /** Begins; the informers have synced. */
  start(): void {
    const { store, nodeName } = this.#parts;
    this.#running ??= this.#run();
    store.of('Node').onChange(({ name }, node) => {
      if (name === nodeName && node !== undefined) this.#wake.resolve();
    });
  }

  /** Pods can be wired from now on. */
  networkIsThere(): void {
    this.#isNetworkThere = true;
    this.#wake.resolve();
  }

  /** Why the Node is not as it should be, if so. */
  get failure(): string | undefined {
    return this.#failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#wake.resolve();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, log, nodeName } = this.#parts;
    const { signal } = this.#stop;
    const stopped = aborted(signal).catch(() => {}); // A datastore that hangs must not hold up a stop.
    let pauseMs = retryMs.first;
    while (!signal.aborted) {
      this.#wake = Promise.withResolvers();
      try {
        await Promise.race([this.#report(), stopped]);
        this.#failure = undefined;
        pauseMs = retryMs.first;
        const rest = new AbortController();
        const rested = clock.sleep(recheckMs, AbortSignal.any([signal, rest.signal])).catch(() => {});
        await Promise.race([this.#wake.promise, rested]);
        rest.abort();
      } catch (error) {
        this.#failure = `can't write Node ${nodeName}: ${error instanceof Error ? error.message : String(error)}`;
        log.warn({ node: nodeName, retryMs: pauseMs, err: error }, 'could not write what this agent says on its Node');
        await clock.sleep(pauseMs, signal).catch(() => {});
        pauseMs = Math.min(pauseMs * 2, retryMs.longest);
      }
    }
  }

  async #report(): Promise<void> {
    const { nodeName, cluster, store, host, log } = this.#parts;
    const node = store.of('Node').get({ name: nodeName });
    if (node === undefined) return; // Said in readiness; it is looked at when it comes.
    try {
      const changes = annotationChanges(
        node,
        (await host.addresses()).map(({ address }) => address),
      );
      if (Object.keys(changes).length > 0) {
        await cluster.annotateNode(nodeName, changes);
        log.info({ node: nodeName, annotations: changes }, "wrote the node's addresses");
      }
      if (this.#isNetworkThere && mustReportNetwork(node)) {
        await cluster.reportNetworkAvailable(nodeName, 'TortieIsUp', 'Tortie is running on this node');
        log.info({ node: nodeName }, 'the condition NetworkUnavailable is False now');
      }
    } catch (error) {
      if (!isDatastoreError(error, 'not-found')) throw error; // Deleted meanwhile: the watch will say so.
    }
  }
}
