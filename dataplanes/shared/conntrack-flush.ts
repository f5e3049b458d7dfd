import { withoutPrefix } from '#api/cidr.ts';
import type { Address } from '#native/types.ts';
import type { DataplaneUpdate, EndpointId, IpText, WorkloadEndpointInfo } from '../messages.ts';
import { LocalBlocks } from './local-blocks.ts';

/** Forgets all flows of which an end is one of the addresses. */
export interface FlowRemover {
  deleteOf(addresses: readonly IpText[]): Promise<unknown>;
}

/** The endpoint that an address belongs or last belonged to; another device or MAC is another pod. */
interface Holder {
  /** Undefined: not known. */
  readonly endpoint: EndpointId | undefined;
  readonly pod: string;
}

const nobody: Holder = { endpoint: undefined, pod: '' };

/**
 * Connections of a pod that is gone must not be those of the next one with its address. An address is flushed from connection tracking when
 * its pod goes, or when another pod has it; not when the same pod (same device, same MAC) is taken away and announced again.
 * A walk through a long table takes time, so only who needs the address waits for it.
 */
export class ConntrackFlush {
  readonly #conntrack: FlowRemover;
  readonly #holders = new Map<IpText, Holder>();
  readonly #byEndpoint = new Map<EndpointId, readonly IpText[]>();
  /** Addresses to flush, and who had them. */
  readonly #due = new Map<IpText, Holder>();
  /** What of it is out of the sets. */
  #ready: ReadonlyMap<IpText, Holder> = new Map();
  #running: Promise<void> = Promise.resolve();
  #failure: string | undefined;
  readonly #blocks = new LocalBlocks();
  #haveUnheld = false;

  constructor(conntrack: FlowRemover) {
    this.#conntrack = conntrack;
  }

  /** Follows endpoints, and which addresses are this node's; other updates are passed over. */
  record(update: DataplaneUpdate): void {
    if (update.type === 'workloadEndpointUpdate') this.#set(update.id, update.endpoint);
    else if (update.type === 'workloadEndpointRemove') this.#remove(update.id);
    else this.#blocks.record(update);
  }

  /**
   * Those of this node's addresses that are nobody's may have been a pod's that went while no agent ran, or while another dataplane was in force: once
   * until `skip`, all of them are due, from the next cycle on. To be called when all endpoints have been said and the dataplane is in the path.
   * Whoever gets one of them meanwhile waits as if its former pod were known. `ownOf`: addresses of the node's devices, which aren't pods'.
   */
  async addUnheld(ownOf: () => Promise<readonly Pick<Address, 'address'>[]>): Promise<void> {
    if (this.#haveUnheld) return;
    try {
      const own = new Set((await ownOf()).map(({ address }) => withoutPrefix(address)));
      for (const address of this.#blocks.addresses(own))
        if (!this.#holders.has(address)) this.#due.set(address, nobody);
      this.#haveUnheld = true;
    } catch (error) {
      this.#failure = (error as Error).message;
    }
  }

  /** Endpoints of which an address is not flushed yet: those that had it, and those that have it now. */
  get pending(): ReadonlySet<EndpointId> {
    const pending = new Set<EndpointId>();
    for (const [address, { endpoint }] of this.#due) {
      if (endpoint !== undefined) pending.add(endpoint);
      const holder = this.#holders.get(address);
      if (holder?.endpoint !== undefined) pending.add(holder.endpoint);
    }
    return pending;
  }

  /** True while something is due, be it of no endpoint that is known. */
  get isDue(): boolean {
    return this.#due.size > 0;
  }

  /** Forgets what is due: connections aren't tracked for pods while the dataplane isn't in their path. */
  skip(): void {
    for (const address of this.#due.keys()) this.#done(address);
    this.#haveUnheld = false;
  }

  /** A cycle begins: what is due now is out of the sets at its end, so that no packet makes a new entry. What comes later is the next one's. */
  begin(): void {
    this.#ready = new Map(this.#due);
  }

  /** Why the last deletion failed; it stays due. Forgotten by this. */
  takeFailure(): string | undefined {
    const failure = this.#failure;
    this.#failure = undefined;
    return failure;
  }

  /** Deletes what was due when this cycle began, after deletions that are under way, be the next cycle begun by then. Never rejects. */
  run(): Promise<void> {
    const ready = this.#ready;
    this.#running = this.#running.then(() => this.#delete(ready));
    return this.#running;
  }

  /** Announces or replaces an endpoint. */
  #set(id: EndpointId, endpoint: WorkloadEndpointInfo): void {
    const pod = `${endpoint.ifaceName} ${endpoint.mac}`;
    const addresses = [...endpoint.ipv4Nets, ...endpoint.ipv6Nets].map(withoutPrefix);
    const before = this.#byEndpoint.get(id) ?? [];
    this.#byEndpoint.set(id, addresses);
    for (const address of addresses) {
      const holder = this.#holders.get(address);
      this.#holders.set(address, { endpoint: id, pod });
      if (holder !== undefined && holder.pod !== pod) this.#due.set(address, holder);
      // It has come back before anybody else had its address.
      else if (this.#due.get(address)?.pod === pod) this.#due.delete(address);
    }
    for (const address of before) if (!addresses.includes(address)) this.#leave(id, address);
  }

  #remove(id: EndpointId): void {
    for (const address of this.#byEndpoint.get(id) ?? []) this.#leave(id, address);
    this.#byEndpoint.delete(id);
  }

  async #delete(ready: ReadonlyMap<IpText, Holder>): Promise<void> {
    const due = [...ready].filter(([address, holder]) => this.#due.get(address) === holder);
    if (due.length === 0) return;
    try {
      await this.#conntrack.deleteOf(due.map(([address]) => address));
      for (const [address, holder] of due) if (this.#due.get(address) === holder) this.#done(address);
      // What an earlier one left, this one did, too.
      this.#failure = undefined;
    } catch (error) {
      this.#failure = (error as Error).message;
    }
  }

  #leave(id: EndpointId, address: IpText): void {
    const holder = this.#holders.get(address);
    if (holder?.endpoint === id) this.#due.set(address, holder);
  }

  #done(address: IpText): void {
    this.#due.delete(address);
    const holder = this.#holders.get(address);
    if (holder?.endpoint !== undefined && this.#byEndpoint.get(holder.endpoint)?.includes(address) !== true)
      this.#holders.delete(address);
  }
}
