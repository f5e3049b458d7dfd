import type { Conntrack } from '#native/conntrack.ts';
import type { Netlink } from '#native/types.ts';
import type { FlowDeletion, FlowFilter } from '../flows.ts';
import type { DataplaneUpdate, EndpointId, IpText } from '../messages.ts';
import { ConntrackFlush } from '../shared/conntrack-flush.ts';
import type { PacketPath } from './packet-path.ts';
import type { Outcome } from './pod-cycle.ts';
import type { PodEndpoints } from './pod-endpoints.ts';

/** What is in use. */
export interface FormerFlowMaps {
  readonly flows: { delete(filter: FlowFilter): Promise<FlowDeletion> };
  readonly filters: { readonly adopted: boolean };
  /** Whether all flows are in its maps: none stand in former ones any more, from where they would be carried into these. */
  readonly hasAllFlows: boolean;
}

const notCarried = 'the BPF maps in use do not have the flows of the former ones yet; it is done when they have';

/** What flows are forgotten with. */
export interface FormerFlowsDeps {
  readonly host: Pick<Netlink, 'addresses'>;
  /** What netfilter tracks: flows of pods that go by the node's stack. */
  readonly conntrack: Pick<Conntrack, 'deleteOf'>;
  readonly endpoints: PodEndpoints;
  readonly loaded: () => FormerFlowMaps | undefined;
  /** Called when flows are forgotten that nobody has waited for. */
  readonly onDone: () => void;
}

/** Forgets flows of pods that are gone: they must not be those of the next one with the address. */
export class FormerFlows {
  readonly #deps: FormerFlowsDeps;
  readonly #flush: ConntrackFlush;
  /** What was in use when flows were to be forgotten last. */
  #maps: FormerFlowMaps | undefined;

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
    const maps = loaded();
    // While an earlier agent's programs judge on, flows of pods that go are to be forgotten, too.
    if (state === 'no' && maps?.filters.adopted !== true) this.#flush.skip();
    if (!endpoints.inSync) return;
    // What failed on other maps is done on these, now.
    if (maps !== this.#maps) this.#flush.takeFailure();
    this.#maps = maps;
    if (state === 'yes') await this.#flush.addUnheld(() => host.addresses());
    const { pending, isDue } = this.#flush;
    const waiting = [...pending].filter((id) => endpoints.endpoint(id) !== undefined);
    let reason = this.#flush.takeFailure();
    if (reason === undefined && isDue && maps?.hasAllFlows === false) {
      // Only who has such an address must hear of it.
      if (waiting.length > 0) reason = notCarried;
    } else if (reason === undefined && isDue) {
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

  /** Throws also where other maps have come into use, or are to get these flows yet: what isn't forgotten in those would stay. */
  async #delete(addresses: readonly IpText[]): Promise<void> {
    const { loaded, conntrack } = this.#deps;
    const maps = loaded();
    if (maps?.hasAllFlows === false) throw new Error(notCarried);
    const failed = (await maps?.flows.delete({ addresses }))?.failed ?? [];
    await conntrack.deleteOf(addresses);
    if (failed.length > 0) throw new Error(failed.join('; '));
    if (loaded() !== maps)
      throw new Error('other BPF maps have taken the place of those in which flows were forgotten');
  }
}
