/**
 * Frees what a node had that is gone from the cluster. In two phases with time between, because its agent may live after all: the node's
 * name is written to its blocks (`challenge.ts`), and only where it still stands later is anything freed. Every write is compare-and-swap
 * against the block that carries the name: an agent that answers, at any moment, makes it fail. Any step may be a process's last; the next
 * one asks again.
 */
import type { Clock } from '#api/clock.ts';
import { blockAffinityName, blockName, hostAffinity, hostOfAffinity } from '#api/names.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import { addressesIn, reserveHandle, type AddressAllocation } from './allocations.ts';
import { collectCooled, isEmpty, releaseOrdinals, type BlockSpec, type Cooling } from './block.ts';
import { readBlock, type CooldownSeconds, type IPAMBlock } from './block-store.ts';
import { challengeTo, withChallenge, withoutChallenge } from './challenge.ts';
import type { BlockAffinity } from './claims.ts';
import { handleObjectName, Handles } from './handles.ts';
import { IpamError } from './ipam.ts';
import { deleteInTwoSteps, markDeleted, maxTries, removeMarked } from './two-step-delete.ts';

/** What it works with. */
export interface DepartedNodeDeps {
  readonly datastore: Datastore;
  readonly clock: Clock;
  readonly cooldownSeconds: CooldownSeconds;
}

/** What became of one block: the addresses that were freed and how many are kept, or `answered`: the node's agent is alive, and nothing was done. */
export type BlockOutcome = { readonly freed: readonly string[]; readonly kept: number } | 'answered';

/** An address that the node has: its own reserve's and tunnels' too. */
export function isOfNode({ attributes }: AddressAllocation, nodeName: string): boolean {
  return attributes['node'] === nodeName;
}

/** The names of all nodes that a block belongs to or has addresses of. */
export function nodesIn({ spec }: IPAMBlock): ReadonlySet<string> {
  const owner = hostOfAffinity(spec.affinity);
  // From the attributes, not the allocations: each of them is used, and they are few.
  const users = spec.attributes.flatMap(({ secondary }) => secondary?.['node'] ?? []);
  return new Set(owner === undefined ? users : [owner, ...users]);
}

/** One node that is gone. Throws `DatastoreError`; `IpamError` after too many conflicts. */
export class DepartedNode {
  readonly name: string;
  readonly #deps: DepartedNodeDeps;
  readonly #handles: Handles;
  readonly #nonce: string;

  /** `nonce`: something that no one else asks with. */
  constructor(deps: DepartedNodeDeps, name: string, nonce: string) {
    this.#deps = deps;
    this.name = name;
    this.#handles = new Handles(deps.datastore);
    this.#nonce = nonce;
  }

  /** Asks in this block whether the node's agent is alive. */
  async challenge(cidr: string): Promise<void> {
    await this.#change(cidr, (block) => withChallenge(block, this.name, this.#nonce));
  }

  /** Takes the question back. */
  async withdraw(cidr: string): Promise<void> {
    await this.#change(cidr, (block) => (this.#isAsked(block) ? withoutChallenge(block, this.name) : undefined));
  }

  /** True if the question in this block has been answered (or replaced by another collector's). */
  async hasAnswered(cidr: string): Promise<boolean> {
    const block = await readBlock(this.#deps.datastore, cidr);
    return block !== undefined && !this.#isAsked(block);
  }

  /**
   * Frees what the node has in this block, except what `keep` returns (a pod lives there that must keep its address). It is asked about the very
   * version that is written then: what was taken there in the last moment is looked at too. A block of the node goes with its affinity; if it is not empty
   * then, it is nobody's from now on; if something is kept, it stays the node's.
   */
  async collect(
    cidr: string,
    keep: (mine: readonly AddressAllocation[]) => Promise<ReadonlySet<string>>,
  ): Promise<BlockOutcome> {
    let affinity: BlockAffinity | undefined;
    for (let tries = 0; tries < maxTries; tries++) {
      const block = await readBlock(this.#deps.datastore, cidr);
      if (block === undefined) {
        return { freed: [], kept: 0 };
      }
      if (!this.#isAsked(block)) {
        await this.#affinityStaying(affinity);
        return 'answered';
      }
      const mine = addressesIn(block.spec).filter((allocation) => isOfNode(allocation, this.name));
      const kept = await keep(mine);
      const freed = mine.filter(({ address }) => !kept.has(address));
      const isLeaving = block.spec.affinity === hostAffinity(this.name) && freed.length === mine.length;
      // Before the block: a node that claims it again at this moment makes the affinity `pending`, and so the deletion below fails.
      if (isLeaving) {
        affinity = await this.#affinityLeaving(cidr);
      } else {
        await this.#affinityStaying(affinity); // Of a try before this one.
        affinity = undefined;
      }
      const spec = this.#without(block.spec, freed, isLeaving);
      const next = { ...withoutChallenge(block, this.name), spec };
      try {
        const written = await this.#deps.datastore.update('IPAMBlock', next);
        if (affinity !== undefined) {
          await deleteInTwoSteps(this.#deps.datastore, 'BlockAffinity', affinity);
        }
        if (written.spec.deleted) {
          await removeMarked(this.#deps.datastore, 'IPAMBlock', written);
        }
      } catch (error) {
        if (isDatastoreError(error, 'conflict') || isDatastoreError(error, 'not-found')) {
          continue;
        }
        throw error;
      }
      await this.#countDown(freed);
      return { freed: freed.map(({ address }) => address), kept: mine.length - freed.length };
    }
    throw tooManyConflicts(`IPAMBlock ${cidr}`);
  }

  /** Deletes the handle of the node's reserve, if no block has anything under it any more. */
  async dropReserve(): Promise<void> {
    const { datastore } = this.#deps;
    const handle = await datastore.get('IPAMHandle', { name: handleObjectName(reserveHandle(this.name)) });
    if (handle === undefined) {
      return;
    }
    const blocks = await Promise.all(Object.keys(handle.spec.block).map((cidr) => readBlock(datastore, cidr)));
    const isUsed = blocks.some((block) =>
      block?.spec.attributes.some(({ handle_id: id }) => id === handle.spec.handleID),
    );
    if (!isUsed) {
      await deleteInTwoSteps(datastore, 'IPAMHandle', handle);
    }
  }

  #isAsked(block: IPAMBlock): boolean {
    return challengeTo(block, this.name) === this.#nonce;
  }

  #cooling(): Cooling {
    return { now: this.#deps.clock.now(), cooldownSeconds: this.#deps.cooldownSeconds() };
  }

  #without(spec: BlockSpec, freed: readonly AddressAllocation[], isLeaving: boolean): BlockSpec {
    const reserve = reserveHandle(this.name);
    const ordinals = (isReserve: boolean) =>
      freed.filter(({ handle }) => (handle === reserve) === isReserve).map(({ ordinal }) => ordinal);
    const cooling = this.#cooling();
    // What nobody has used needs no cooling down.
    const unreserved = releaseOrdinals(spec, ordinals(true), { ...cooling, cooldownSeconds: 0 });
    const rest = collectCooled(releaseOrdinals(unreserved, ordinals(false), cooling), cooling);
    if (!isLeaving) {
      return rest;
    }
    const { affinity: _, affinityClaimTime: __, ...nobodys } = rest;
    return isEmpty(rest) ? { ...rest, deleted: true } : nobodys;
  }

  async #affinityLeaving(cidr: string): Promise<BlockAffinity | undefined> {
    const { datastore } = this.#deps;
    for (let tries = 0; tries < maxTries; tries++) {
      const affinity = await datastore.get('BlockAffinity', { name: blockAffinityName(this.name, cidr) });
      if (affinity === undefined || affinity.spec.state === 'pendingDeletion') {
        return affinity;
      }
      try {
        return await datastore.update('BlockAffinity', {
          ...affinity,
          spec: { ...affinity.spec, state: 'pendingDeletion' },
        });
      } catch (error) {
        if (!isDatastoreError(error, 'conflict') && !isDatastoreError(error, 'not-found')) {
          throw error;
        }
      }
    }
    throw tooManyConflicts(`BlockAffinity of ${cidr} to ${this.name}`);
  }

  /** The node's agent answered in between. Who has changed it since knows better. */
  async #affinityStaying(affinity: BlockAffinity | undefined): Promise<void> {
    if (affinity === undefined) {
      return;
    }
    try {
      await this.#deps.datastore.update('BlockAffinity', {
        ...affinity,
        spec: { ...affinity.spec, state: 'confirmed' },
      });
    } catch (error) {
      if (!isDatastoreError(error, 'conflict') && !isDatastoreError(error, 'not-found')) {
        throw error;
      }
    }
  }

  async #countDown(freed: readonly AddressAllocation[]): Promise<void> {
    const counts = new Map<string, { readonly cidr: string; readonly handle: string; count: number }>();
    for (const { cidr, handle } of freed) {
      if (handle !== undefined && handle !== reserveHandle(this.name)) {
        const entry = counts.get(handle) ?? { cidr, handle, count: 0 };
        entry.count += 1;
        counts.set(handle, entry);
      }
    }
    for (const { handle, cidr, count } of counts.values()) {
      await this.#handles.add(handle, cidr, -count);
    }
  }

  /** Writes what `next` makes of the block; nothing if there is none, or if it makes nothing of it. */
  async #change(cidr: string, next: (block: IPAMBlock) => IPAMBlock | undefined): Promise<void> {
    for (let tries = 0; tries < maxTries; tries++) {
      const block = await readBlock(this.#deps.datastore, cidr);
      const changed = block && next(block);
      if (changed === undefined) {
        return;
      }
      try {
        await this.#deps.datastore.update('IPAMBlock', changed);
        return;
      } catch (error) {
        if (!isDatastoreError(error, 'conflict') && !isDatastoreError(error, 'not-found')) {
          throw error;
        }
      }
    }
    throw tooManyConflicts(`IPAMBlock ${cidr}`);
  }
}

/**
 * Deletes a block that is nobody's and empty, or that a crash left marked as deleted: exactly as it was seen, or not at all. False if it is neither,
 * or has changed since.
 */
export async function deleteLeftBlock(deps: DepartedNodeDeps, block: IPAMBlock): Promise<boolean> {
  if (!isLeft(block, { now: deps.clock.now(), cooldownSeconds: deps.cooldownSeconds() })) {
    return false;
  }
  try {
    await removeMarked(deps.datastore, 'IPAMBlock', await markDeleted(deps.datastore, 'IPAMBlock', block));
    return true;
  } catch (error) {
    if (isDatastoreError(error, 'conflict') || isDatastoreError(error, 'not-found')) {
      return false;
    }
    throw error;
  }
}

/** True for a block that `deleteLeftBlock` would delete. */
export function isLeft({ spec }: IPAMBlock, cooling: Cooling): boolean {
  return spec.deleted || (spec.affinity === undefined && isEmpty(collectCooled(spec, cooling)));
}

/**
 * Deletes a gone node's affinity that has no block of its own (any more). False if it has one, or has changed since it was read. It is marked before the
 * block is looked at: should the node claim the block again at this moment, it writes the affinity, and the deletion fails.
 */
export async function deleteLeftAffinity(datastore: Datastore, affinity: BlockAffinity): Promise<boolean> {
  const { cidr, node, state } = affinity.spec;
  const isHeld = async (): Promise<boolean> => {
    const block = await datastore.get('IPAMBlock', { name: blockName(cidr) });
    return block !== undefined && !block.spec.deleted && block.spec.affinity === hostAffinity(node);
  };
  if (await isHeld()) {
    return false;
  }
  try {
    const leaving =
      state === 'pendingDeletion' || affinity.spec.deleted
        ? affinity
        : await datastore.update('BlockAffinity', {
            ...affinity,
            spec: { ...affinity.spec, state: 'pendingDeletion' },
          });
    if (!(await isHeld())) {
      return await deleteInTwoSteps(datastore, 'BlockAffinity', leaving);
    }
    await datastore.update('BlockAffinity', { ...leaving, spec: { ...leaving.spec, state: 'confirmed' } });
    return false;
  } catch (error) {
    if (isDatastoreError(error, 'conflict') || isDatastoreError(error, 'not-found')) {
      return false;
    }
    throw error;
  }
}

function tooManyConflicts(object: string): IpamError {
  return new IpamError('unavailable', `${object}: gave up after ${maxTries} conflicting writes by others`);
}
