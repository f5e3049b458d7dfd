import { familyOf, withoutPrefix } from '#api/cidr.ts';
import type { Neighbour, NeighOp, Netlink, OpResult } from '#native/types.ts';
import type { ApplyFailure } from '../contract.ts';
import type { EndpointId } from '../messages.ts';
import { HeardSince } from './heard-since.ts';
import type { KernelView } from './kernel-view.ts';
import { netsOf, type RouteWishes } from './route-wishes.ts';

/** Deleting what isn't there (any more, or its device) is success. */
const isGone = (result: OpResult): boolean =>
  !result.ok && (result.error.code === 'ENOENT' || result.error.code === 'ENODEV');

/** What is to be done for one endpoint. */
interface PlannedOps {
  readonly id: EndpointId;
  readonly ops: readonly NeighOp[];
}

/**
 * Keeps a permanent neighbour (pod address to pod MAC) on each pod's device, so that the node never asks the pod who it is and a pod
 * can't answer for another. Ours are the permanent ones on announced endpoints' devices; learnt ones are the kernel's.
 */
export class NeighbourSync {
  readonly #host: Netlink;
  readonly #view: KernelView;
  readonly #wishes: RouteWishes;
  readonly #isPods: (ifaceName: string) => boolean;
  readonly #dirty = new Set<EndpointId>();
  readonly #right = new Set<EndpointId>();
  /** Endpoints whose wish changed while a cycle runs: what it says of them is out of date. */
  readonly #changed = new Set<EndpointId>();
  /** Devices that have lost their endpoint; their permanent neighbours go. */
  readonly #abandoned = new Set<string>();
  readonly #heard = new HeardSince();
  #mayRemove = false;

  /** `isPods` tells a pod's device by its name. */
  constructor(host: Netlink, view: KernelView, wishes: RouteWishes, isPods: (ifaceName: string) => boolean) {
    this.#isPods = isPods;
    this.#host = host;
    this.#view = view;
    this.#wishes = wishes;
  }

  allowRemoval(): void {
    this.#mayRemove = true;
    this.lookAtAll();
  }

  wishChanged(id: EndpointId): void {
    this.#changed.add(id);
    this.startOver(id);
  }

  /** The endpoint's device is gone: what will be written on its successor repairs nothing. */
  startOver(id: EndpointId): void {
    this.#right.delete(id);
    this.#dirty.add(id);
  }

  /** The kernel's side of this endpoint changed. */
  lookAt(id: EndpointId): void {
    this.#dirty.add(id);
  }

  /** The endpoint of this device was removed; the device may still be there. */
  abandon(ifaceName: string): void {
    this.#abandoned.add(ifaceName);
  }

  lookAtAll(): void {
    for (const [id] of this.#wishes.endpoints()) this.#dirty.add(id);
    for (const { name } of this.#view.links()) if (this.#isPods(name)) this.#abandoned.add(name);
  }

  /** The permanent neighbours of this device changed. True if they are not as wanted: a cycle is due. */
  kernelChanged(ifaceName: string, { linkIndex, address }: Neighbour): boolean {
    this.#heard.hear(placeOf(linkIndex, address));
    const id = this.#wishes.idOf(ifaceName);
    if (id === undefined || this.#plan(id).length === 0) return false;
    this.#dirty.add(id);
    return true;
  }

  async apply(): Promise<{ failed: ApplyFailure[]; repaired: string[] }> {
    const failed: ApplyFailure[] = [];
    const repaired: string[] = [];
    const planned = this.#takeDirty();
    if (this.#mayRemove) await this.#leaveAbandoned(failed);
    try {
      await this.#heard.during(() => this.#send(planned, failed, repaired));
    } catch (error) {
      for (const { id } of planned) this.#dirty.add(id);
      throw error;
    }
    return { failed, repaired };
  }

  async #send(planned: readonly PlannedOps[], failed: ApplyFailure[], repaired: string[]): Promise<void> {
    const all = planned.flatMap(({ ops }) => ops);
    const results: readonly OpResult[] = all.length > 0 ? await this.#host.batch(all) : [];
    let at = 0;
    for (const { id, ops } of planned) {
      const failures: ApplyFailure[] = [];
      for (const op of ops) {
        const result = results[at] as OpResult;
        at += 1;
        if (result.ok || (op.op === 'neigh.del' && isGone(result))) this.#remember(op, result);
        else failures.push({ object: `neighbour ${op.address}`, endpoint: id, reason: result.error.message });
      }
      if (this.#changed.has(id)) continue;
      failed.push(...failures);
      if (failures.length > 0) this.#dirty.add(id);
      else if (this.#right.has(id)) repaired.push(...ops.map((op) => `neighbour ${op.address} had been changed`));
      else if (this.#wishes.endpoint(id) !== undefined) this.#right.add(id);
    }
  }

  /** What is to be done for the dirty endpoints; those without a device stay dirty, and what they'll get is nothing repaired. */
  #takeDirty(): PlannedOps[] {
    const ids = [...this.#dirty];
    this.#dirty.clear();
    this.#changed.clear();
    return ids.flatMap((id) => {
      const endpoint = this.#wishes.endpoint(id);
      if (endpoint === undefined) this.#right.delete(id);
      if (endpoint === undefined || this.#view.link(endpoint.ifaceName) !== undefined)
        return [{ id, ops: this.#plan(id) }];
      this.#right.delete(id);
      this.#dirty.add(id);
      return [];
    });
  }

  async #leaveAbandoned(failed: ApplyFailure[]): Promise<void> {
    const ops: (NeighOp & { readonly link: number })[] = [];
    for (const name of this.#abandoned) {
      const link = this.#wishes.idOf(name) === undefined ? this.#view.link(name) : undefined;
      if (link === undefined) continue;
      ops.push(
        ...this.#view
          .neighboursOf(link.index)
          .map(({ address }) => ({ op: 'neigh.del' as const, link: link.index, address })),
      );
    }
    this.#abandoned.clear();
    if (ops.length === 0) return;
    await this.#heard.during(async () => {
      const results = await this.#host.batch(ops);
      for (const [index, op] of ops.entries()) {
        const result = results[index] as OpResult;
        if (result.ok || isGone(result)) {
          this.#remember(op, result);
          continue;
        }
        failed.push({ object: `neighbour ${op.address}`, reason: result.error.message });
        const name = this.#view.linkByIndex(op.link)?.name;
        if (name !== undefined) this.#abandoned.add(name);
      }
    });
  }

  #plan(id: EndpointId): NeighOp[] {
    const endpoint = this.#wishes.endpoint(id);
    const link = endpoint === undefined ? undefined : this.#view.link(endpoint.ifaceName);
    // A removed endpoint's neighbours go with its device; a missing device is the route's failure to report.
    if (endpoint === undefined || link === undefined) return [];
    const wanted = new Set(netsOf(endpoint).map(withoutPrefix));
    const ops: NeighOp[] = [];
    for (const address of wanted) {
      if (this.#view.neighbour(link.index, address)?.mac === endpoint.mac) continue;
      ops.push({ op: 'neigh.replace', link: link.index, address, mac: endpoint.mac, state: 'permanent' });
    }
    if (this.#mayRemove) {
      for (const { linkIndex, address } of this.#view.neighboursOf(link.index)) {
        if (!wanted.has(address)) ops.push({ op: 'neigh.del', link: linkIndex, address });
      }
    }
    return ops;
  }

  #remember(op: NeighOp, result: OpResult): void {
    const linkIndex = op.link as number;
    // What somebody did right behind it may have been heard of before its answer.
    if (result.ok && this.#heard.has(placeOf(linkIndex, op.address))) return;
    if (op.op === 'neigh.del') this.#view.dropNeighbour(linkIndex, op.address);
    else {
      this.#view.putNeighbour({
        family: familyOf(op.address),
        linkIndex,
        address: op.address,
        state: 'permanent',
        proxy: false,
        ...(op.mac === undefined ? {} : { mac: op.mac }),
      });
    }
  }
}

function placeOf(linkIndex: number, address: string): string {
  return `${linkIndex} ${address}`;
}
