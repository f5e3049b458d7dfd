/** How an address is found: own blocks first, then a new block, then (if not strict) one address of another node's block. */
import {
  containsCidr,
  ipAt,
  networkOf,
  ordinalOf,
  parseCidr,
  parseIp,
  type Cidr,
  type Family,
  type Ip,
} from '#api/cidr.ts';
import { hostAffinity, hostOfAffinity } from '#api/names.ts';
import {
  allocationAt,
  allocationsOf,
  freeCount,
  releaseOrdinals,
  takeExact,
  takeFree,
  type Allocation,
  type BlockOwner,
  type BlockSpec,
  type Cooling,
  type Sequence,
} from './block.ts';
import type { BlockStore } from './block-store.ts';
import type { BlockClaims } from './claims.ts';
import type { Handles } from './handles.ts';
import { IpamError } from './ipam.ts';
import { poolOf, selectPools, servesNode, unreserved, type IpamFacts, type Pool, type PoolRequest } from './pools.ts';
import { maxTries } from './two-step-delete.ts';

/** An address that was given. */
export interface Assigned {
  /** Without a prefix length. */
  readonly address: string;
  /** Its block. */
  readonly cidr: string;
  readonly sequence: Sequence;
}

/** What the allocator works with. */
export interface AllocatorDeps {
  readonly nodeName: string;
  /** This node's blocks. */
  readonly own: BlockStore;
  /** Everyone's. */
  readonly direct: BlockStore;
  readonly claims: BlockClaims;
  readonly handles: Handles;
  readonly cooling: () => Cooling;
  /** Addresses (by block and ordinal) that are spoken for although the block says they are free. */
  readonly isHeld: (cidr: string, ordinal: number) => boolean;
}

/** Assigns and releases by compare-and-swap, each step awaited. */
export class Allocator {
  readonly #deps: AllocatorDeps;
  /** Claims under way, by the pools they are made from: who needs a block at the same time waits for the same one. */
  readonly #claiming = new Map<string, Promise<boolean>>();

  constructor(deps: AllocatorDeps) {
    this.#deps = deps;
  }

  /** One address of the family. Throws `IpamError` (`no-pool`, `pool-disabled`, `no-free-address`, `unavailable`) or `DatastoreError`. */
  async assign(family: Family, owner: BlockOwner, request: PoolRequest, facts: IpamFacts): Promise<Assigned> {
    const pools = selectPools(facts, family, request);
    const reasons: string[] = [];
    for (let tries = 0; tries < maxTries; tries++) {
      // What is known may be older than what other nodes gave back.
      const assigned =
        (await this.#fromOwnBlocks(pools, owner, facts, false)) ??
        (await this.#fromOwnBlocks(pools, owner, facts, true));
      if (assigned !== undefined) {
        return assigned;
      }
      const refusal = await this.#claimTogether(family, pools, facts);
      if (refusal !== undefined) {
        reasons.push(refusal);
        break;
      }
    }
    if (facts.settings.strictAffinity) {
      reasons.push('strictAffinity forbids addresses from blocks of other nodes');
    } else {
      const assigned = await this.#borrow(pools, owner, facts);
      if (assigned !== undefined) {
        return assigned;
      }
      reasons.push('no block of another node has a free address');
    }
    throw new IpamError(
      'no-free-address',
      `no free IPv${family} address for handle ${owner.handle} on node ${this.#deps.nodeName} in IPPool ${pools.map((pool) => `${pool.name} (${pool.cidr.text})`).join(', ')}: ${reasons.join('; ')}`,
    );
  }

  /** Exactly this address. Throws `IpamError` (`not-in-pool`, `pool-disabled`, `taken`, `no-free-address`, `unavailable`) or `DatastoreError`. */
  async assignExact(address: Ip, owner: BlockOwner, facts: IpamFacts): Promise<Assigned> {
    const { own, direct, claims, nodeName } = this.#deps;
    const cidr = networkOf(address, usablePool(address, facts).blockPrefix);
    const affinity = hostAffinity(nodeName);
    const ordinal = ordinalOf(cidr, address);
    for (let tries = 0; tries < maxTries; tries++) {
      const existing = await own.edit(cidr.text, (spec) => ({ result: spec.affinity }));
      if (existing === undefined) {
        const block = await claims.claim(cidr.text);
        if (block !== undefined) {
          own.claimed(block);
        }
        continue;
      }
      if (existing.result !== affinity && facts.settings.strictAffinity) {
        throw new IpamError(
          'no-free-address',
          `${address.text} lies in block ${cidr.text} of ${hostOfAffinity(existing.result) ?? 'no node'}, and strictAffinity forbids that node ${nodeName} uses it`,
        );
      }
      const taken = await this.#take(own, cidr, owner, (spec) => {
        const next = this.#deps.isHeld(cidr.text, ordinal) ? undefined : takeExact(spec, ordinal, owner);
        return next === undefined ? { spec, ordinal: undefined } : { spec: next, ordinal };
      });
      if (taken !== undefined) {
        return taken;
      }
      const holder = await direct.edit(cidr.text, (spec) => ({ result: allocationAt(spec, ordinal) }));
      if (holder?.result !== undefined || this.#deps.isHeld(cidr.text, ordinal)) {
        throw new IpamError('taken', `${address.text} is in use: ${holderText(holder?.result)}`);
      }
      await own.refresh(cidr.text); // Another node gave it back since the block was last read.
    }
    throw new IpamError(
      'unavailable',
      `block ${cidr.text} of ${address.text}: gave up after ${maxTries} conflicting writes by others`,
    );
  }

  /** Releases all that a handle has according to its IPAMHandle, and then that. An unknown handle has nothing. */
  async releaseHandle(handle: string): Promise<readonly string[]> {
    const { handles, direct, own } = this.#deps;
    const counts = await handles.counts(handle);
    if (counts === undefined) {
      return [];
    }
    const released = await Promise.all(
      Object.keys(counts).map(async (cidr) => {
        const addresses = await this.#releaseIn(direct, cidr, (allocation) => allocation.handle === handle);
        await own.refresh(cidr);
        return addresses;
      }),
    );
    await handles.drop(handle, Object.keys(counts));
    return released.flat();
  }

  /** Takes back what a request got before it failed as a whole. Rejects if that fails: the handle's release gets the rest. */
  async undo(assigned: readonly Assigned[], handle: string): Promise<void> {
    for (const { cidr, address, sequence } of assigned) {
      const ordinal = ordinalOf(parseCidr(cidr), parseIp(address));
      const isIt = (allocation: Allocation) =>
        allocation.ordinal === ordinal && allocation.handle === handle && allocation.sequence === sequence;
      await this.#releaseIn(this.#deps.own, cidr, isIt);
      await this.#deps.handles.add(handle, cidr, -1);
    }
  }

  /** What a handle has according to its IPAMHandle. */
  async addressesOf(handle: string): Promise<readonly string[]> {
    const counts = (await this.#deps.handles.counts(handle)) ?? {};
    const found = await Promise.all(
      Object.keys(counts).map(async (cidr) => {
        const outcome = await this.#deps.direct.edit(cidr, (spec) => ({ result: allocationsOf(spec) }));
        const block = parseCidr(cidr);
        return (outcome?.result ?? [])
          .filter((allocation) => allocation.handle === handle && allocation.releasedAt === undefined)
          .map((allocation) => ipAt(block, allocation.ordinal).text);
      }),
    );
    return found.flat();
  }

  async #fromOwnBlocks(
    pools: readonly Pool[],
    owner: BlockOwner,
    facts: IpamFacts,
    fresh: boolean,
  ): Promise<Assigned | undefined> {
    const blocks = await this.#deps.own.own({ fresh });
    for (const pool of pools) {
      for (const spec of blocks) {
        const cidr = parseCidr(spec.cidr);
        if (containsCidr(pool.cidr, cidr) && freeCount(spec, this.#allowed(cidr, facts)) > 0) {
          const assigned = await this.#takeNext(
            this.#deps.own,
            cidr,
            owner,
            facts,
            (affinity) => affinity === hostAffinity(this.#deps.nodeName),
          );
          if (assigned !== undefined) {
            return assigned;
          }
        }
      }
    }
    return undefined;
  }

  /** Undefined when there is a new block now; else why there is none. */
  async #claimTogether(family: Family, pools: readonly Pool[], facts: IpamFacts): Promise<string | undefined> {
    const { autoAllocateBlocks, maxBlocks } = facts.settings;
    if (!autoAllocateBlocks) {
      return `autoAllocateBlocks is off, and this node's blocks are full`;
    }
    const key = pools.map((pool) => pool.name).join(' ');
    let claiming = this.#claiming.get(key);
    if (claiming === undefined) {
      claiming = this.#claim(family, pools, facts).finally(() => this.#claiming.delete(key));
      this.#claiming.set(key, claiming);
    }
    return (await claiming)
      ? undefined
      : `every block is taken, or the node has ${maxBlocks} already (maxBlocksPerHost)`;
  }

  async #claim(family: Family, pools: readonly Pool[], facts: IpamFacts): Promise<boolean> {
    await this.releaseUnselected(facts);
    const affinities = await this.#deps.claims.ownAffinities();
    if (affinities.filter(({ spec }) => parseCidr(spec.cidr).family === family).length >= facts.settings.maxBlocks) {
      return false;
    }
    for (const pool of pools) {
      const block = await this.#deps.claims.claimAny(pool, (cidr) => {
        // A block that is wholly reserved would never give an address.
        const reservation = facts.reservations.find((range) => containsCidr(range, cidr));
        return reservation === undefined;
      });
      if (block !== undefined) {
        this.#deps.own.claimed(block);
        return true;
      }
    }
    return false;
  }

  /** Gives up this node's empty blocks that no pool justifies any more: the pool is gone or closed, or does not select this node. */
  async releaseUnselected(facts: IpamFacts): Promise<void> {
    const { claims } = this.#deps;
    const stale = (await claims.ownBlocks()).filter((block) => {
      const pool = poolOf(facts, parseCidr(block.spec.cidr));
      return pool === undefined || !servesNode(pool, facts);
    });
    await Promise.all(stale.map((block) => claims.release(block)));
  }

  async #borrow(pools: readonly Pool[], owner: BlockOwner, facts: IpamFacts): Promise<Assigned | undefined> {
    const { claims, direct, nodeName } = this.#deps;
    const blocks = await claims.allBlocks();
    for (const pool of pools) {
      for (const { spec } of blocks) {
        const cidr = parseCidr(spec.cidr);
        const isBorrowable = (affinity: string | undefined) =>
          affinity === undefined || (hostOfAffinity(affinity) !== undefined && hostOfAffinity(affinity) !== nodeName);
        if (
          containsCidr(pool.cidr, cidr) &&
          isBorrowable(spec.affinity) &&
          freeCount(spec, unreserved(facts, cidr)) > 0
        ) {
          const assigned = await this.#takeNext(direct, cidr, owner, facts, isBorrowable);
          if (assigned !== undefined) {
            return assigned;
          }
        }
      }
    }
    return undefined;
  }

  /** Handles are not touched. */
  async #releaseIn(
    store: BlockStore,
    cidr: string,
    chosen: (allocation: Allocation) => boolean,
  ): Promise<readonly string[]> {
    const block = parseCidr(cidr);
    const outcome = await store.edit(cidr, (spec) => {
      const ordinals = allocationsOf(spec)
        .filter((allocation) => allocation.releasedAt === undefined && chosen(allocation))
        .map((allocation) => allocation.ordinal);
      return { spec: releaseOrdinals(spec, ordinals, this.#deps.cooling()), result: ordinals };
    });
    return (outcome?.result ?? []).map((ordinal) => ipAt(block, ordinal).text);
  }

  #takeNext(
    store: BlockStore,
    cidr: Cidr,
    owner: BlockOwner,
    facts: IpamFacts,
    isRight: (affinity: string | undefined) => boolean,
  ): Promise<Assigned | undefined> {
    const allowed = this.#allowed(cidr, facts);
    return this.#take(store, cidr, owner, (spec) => {
      if (!isRight(spec.affinity)) {
        return { spec, ordinal: undefined };
      }
      const taken = takeFree(spec, owner, 1, allowed);
      return { spec: taken.spec, ordinal: taken.ordinals[0] };
    });
  }

  /** Counts up, writes the block, counts down if there was nothing. If the write's outcome is unknown, the count stays: too high is safe. */
  async #take(
    store: BlockStore,
    cidr: Cidr,
    owner: BlockOwner,
    choose: (spec: BlockSpec) => { readonly spec: BlockSpec; readonly ordinal: number | undefined },
  ): Promise<Assigned | undefined> {
    await this.#deps.handles.add(owner.handle, cidr.text, 1);
    const outcome = await store.edit(cidr.text, (before) => {
      const { spec, ordinal } = choose(before);
      if (ordinal === undefined) {
        return { result: undefined };
      }
      const sequence = allocationAt(spec, ordinal)?.sequence ?? 0;
      return { spec, result: { address: ipAt(cidr, ordinal).text, cidr: cidr.text, sequence } };
    });
    if (outcome?.result === undefined) {
      await this.#deps.handles.add(owner.handle, cidr.text, -1);
      return undefined;
    }
    return outcome.result;
  }

  #allowed(cidr: Cidr, facts: IpamFacts): (ordinal: number) => boolean {
    const free = unreserved(facts, cidr);
    return (ordinal) => free(ordinal) && !this.#deps.isHeld(cidr.text, ordinal);
  }
}

function usablePool(address: Ip, facts: IpamFacts): Pool {
  const pool = poolOf(facts, address);
  if (pool === undefined) {
    throw new IpamError(
      'not-in-pool',
      `${address.text} lies in no IPPool; ask for an address of a pool, or create one that holds it`,
    );
  }
  if (pool.closed !== undefined) {
    throw new IpamError('pool-disabled', `${address.text} lies in IPPool ${pool.name}, but ${pool.closed}`);
  }
  return pool;
}

function holderText(allocation: Allocation | undefined): string {
  if (allocation === undefined) {
    return 'it is about to be used or released on this node; try again';
  }
  if (allocation.releasedAt !== undefined) {
    return `it was released at ${allocation.releasedAt} and cools down (ipCooldownSeconds)`;
  }
  const { node, namespace, pod, use } = allocation.attributes as Partial<Record<string, string>>;
  const reserve =
    use === 'Reserve' ? ', which holds it ready for its next pod; use an IPReservation for static addresses' : '';
  const owner = pod === undefined ? '' : `, pod ${namespace}/${pod}`;
  return `by handle ${allocation.handle ?? '(none)'}${owner}${node === undefined ? '' : ` on node ${node}`}${reserve}`;
}
