import type { Conntrack } from '#native/conntrack.ts';
import type { Netlink } from '#native/types.ts';
import type { DataplaneUpdate, EndpointId, IpText } from '../messages.ts';
import { ConntrackFlush } from '../shared/conntrack-flush.ts';
import type { LoadedDataplane } from './loaded-dataplane.ts';
import type { PacketPath } from './packet-path.ts';
import type { Outcome } from './pod-cycle.ts';
import type { PodEndpoints } from './pod-endpoints.ts';

/** What flows are forgotten with. */
export interface FormerFlowsDeps {
  readonly host: Pick<Netlink, 'addresses'>;
  /** What netfilter tracks: flows of pods that go by the node's stack. */
  readonly conntrack: Pick<Conntrack, 'deleteOf'>;
  readonly endpoints: PodEndpoints;
  /** What is in use. */
  readonly loaded: () => LoadedDataplane | undefined;
  /** Called when flows are forgotten that nobody has waited for. */
  readonly onDone: () => void;
}

/** Forgets flows of pods that are gone: they must not be those of the next one with the address. */
export class FormerFlows {
  readonly #deps: FormerFlowsDeps;
  readonly #flush: ConntrackFlush;

  constructor(deps: FormerFlowsDeps) {
    this.#deps = deps;
    this.#flush = new ConntrackFlush({ deleteOf: (addresses) => this.#delete(addresses) });
  }

  record(update: DataplaneUpdate): void {
    this.#flush.record(update);
  }

  /** From now on the maps are written by which no packet makes a new record of what is gone so far. */
  begin(): void {
    this.#flush.begin();
  }

  /** Endpoints, there or gone, that wait for flows to be forgotten. */
  get pending(): ReadonlySet<EndpointId> {
    return this.#flush.pending;
  }

  /**
   * When pods that are gone are out of the maps, so that no packet makes a new record. A walk through long tables takes time, so only an endpoint
   * that has such an address now waits for it. `state`: whether packets come by our programs.
   */
  async forget(state: PacketPath['state'], outcome: Outcome): Promise<void> {
    const { endpoints, host, loaded, onDone } = this.#deps;
    // While an earlier agent's programs judge on, flows of pods that go are to be forgotten, too.
    if (state === 'no' && loaded()?.filters.adopted !== true) this.#flush.skip();
    if (!endpoints.inSync) return;
    if (state === 'yes') await this.#flush.addUnheld(() => host.addresses());
    const { pending, isDue } = this.#flush;
    const waiting = [...pending].filter((id) => endpoints.endpoint(id) !== undefined);
    let reason = this.#flush.takeFailure();
    if (reason === undefined && isDue) {
      const ended = this.#flush.run();
      if (waiting.length > 0) {
        await ended;
        reason = this.#flush.takeFailure();
      } else void ended.then(onDone);
    }
    if (reason === undefined) return;
    outcome.failed.push({ object: 'flows of pods that are gone', reason });
    // Whoever has their addresses now isn't ready: packets of theirs would pass as its own.
    for (const endpoint of waiting)
      outcome.failed.push({
        object: `endpoint ${endpoint}`,
        endpoint,
        reason: `flows of the pod that had its address: ${reason}`,
      });
  }

  async #delete(addresses: readonly IpText[]): Promise<void> {
    const { loaded, conntrack } = this.#deps;
    const failed = (await loaded()?.flows.delete({ addresses }))?.failed ?? [];
    await conntrack.deleteOf(addresses);
    if (failed.length > 0) throw new Error(failed.join('; '));
  }
}
