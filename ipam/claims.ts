/**
 * Which node owns which block. Calico's protocol: a BlockAffinity `pending`, then the IPAMBlock (creating it is the lock: one node can),
 * then the affinity `confirmed`. Nothing but compare-and-swap and create-if-absent; any step may be the last of a crashed process.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '#api/clock.ts';
import { containsCidr, parseCidr, subnetAt, subnetCount, type Cidr } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import { blockAffinityName, blockName, hostAffinity, hostOfAffinity } from '#api/names.ts';
import { v3 } from '#api/v3/group.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import { collectCooled, isEmpty, newBlock } from './block.ts';
import type { CooldownSeconds, IPAMBlock } from './block-store.ts';
import { IpamError } from './ipam.ts';
import type { Pool } from './pools.ts';
import { deleteInTwoSteps, markDeleted, maxTries, removeMarked } from './two-step-delete.ts';

export type BlockAffinity = KindMap['BlockAffinity'];

/** Another node's empty block may be taken when its claim is older: a younger one is about to be used. Calico's value. */
const minReclaimAgeMs = 60_000;
/** In huge pools not every candidate can be looked at. */
const maxCandidates = 65_536;

/** One node's claims. */
export class BlockClaims {
  /** Whose. */
  readonly nodeName: string;
  readonly #datastore: Datastore;
  readonly #clock: Clock;
  readonly #cooldownSeconds: CooldownSeconds;

  constructor(datastore: Datastore, nodeName: string, clock: Clock, cooldownSeconds: CooldownSeconds) {
    this.#datastore = datastore;
    this.nodeName = nodeName;
    this.#clock = clock;
    this.#cooldownSeconds = cooldownSeconds;
  }

  /** This node's affinities in every state. */
  async ownAffinities(): Promise<readonly BlockAffinity[]> {
    const { items } = await this.#datastore.list('BlockAffinity');
    return items.filter(({ spec }) => spec.node === this.nodeName && spec.type === 'host' && !spec.deleted);
  }

  /** All blocks of the cluster that are not about to be deleted. */
  async allBlocks(): Promise<readonly IPAMBlock[]> {
    return (await this.#datastore.list('IPAMBlock')).items.filter((block) => !block.spec.deleted);
  }

  /**
   * This node's blocks, after finishing what a crash left half done: a block without a confirmed affinity gets one, an affinity without
   * block gets its block or, if another node has it by now, goes.
   */
  async ownBlocks(): Promise<readonly IPAMBlock[]> {
    const affinities = await this.ownAffinities();
    const blocks = await Promise.all(
      affinities.map(async (affinity) => {
        const block = affinity.spec.state === 'confirmed' ? await this.#get(affinity.spec.cidr) : undefined;
        return block !== undefined && this.isOwn(block) ? block : this.claim(affinity.spec.cidr);
      }),
    );
    return blocks.filter((block) => block !== undefined);
  }

  /** True if the block is this node's. */
  isOwn(block: IPAMBlock): boolean {
    return hostOfAffinity(block.spec.affinity) === this.nodeName;
  }

  /** Claims a block, or finishes a claim; undefined if another node has it. Throws `DatastoreError`; `IpamError` after too many conflicts. */
  async claim(cidr: string): Promise<IPAMBlock | undefined> {
    await this.#affinityAs(cidr, (state) => (state === 'confirmed' ? state : 'pending'), 'pending');
    const block = await this.#createOrGet(cidr);
    if (!this.isOwn(block)) {
      await this.#dropAffinity(this.nodeName, cidr);
      return undefined;
    }
    await this.#affinityAs(cidr, () => 'confirmed', 'confirmed');
    return block;
  }

  /** Claims any block of the pool that is free, else one that another node leaves empty; undefined when there is none. */
  async claimAny(pool: Pool, usable: (block: Cidr) => boolean): Promise<IPAMBlock | undefined> {
    const blocks = await this.allBlocks();
    const known = new Set(blocks.map((block) => block.spec.cidr));
    let tries = 0;
    for (const cidr of candidates(pool, this.nodeName)) {
      if (known.has(cidr.text) || !usable(cidr)) {
        continue;
      }
      const block = await this.claim(cidr.text);
      if (block !== undefined) {
        return block;
      }
      if (++tries >= maxTries) {
        throw new IpamError(
          'unavailable',
          `IPPool ${pool.name}: other nodes took ${maxTries} blocks in a row before this node could; try again`,
        );
      }
    }
    for (const block of blocks) {
      const cidr = parseCidr(block.spec.cidr);
      if (
        containsCidr(pool.cidr, cidr) &&
        cidr.prefix === pool.blockPrefix &&
        usable(cidr) &&
        (await this.#vacate(block))
      ) {
        const claimed = await this.claim(block.spec.cidr);
        if (claimed !== undefined) {
          return claimed;
        }
      }
    }
    return undefined;
  }

  /** Gives up a block of this node if it is empty; false if it is not (or just got a new address). */
  async release(block: IPAMBlock): Promise<boolean> {
    return this.isOwn(block) && this.#isEmptyNow(block) && this.#remove(block, this.nodeName);
  }

  /** Takes an empty block from who has had it for long without using it. */
  async #vacate(block: IPAMBlock): Promise<boolean> {
    const owner = hostOfAffinity(block.spec.affinity);
    const claimedAt = Date.parse(block.spec.affinityClaimTime ?? block.metadata.creationTimestamp ?? '');
    const isForeign = block.spec.affinity === undefined || (owner !== undefined && owner !== this.nodeName);
    // A claim without a readable time is from before there were such times.
    const isOld = !(this.#clock.now() - claimedAt < minReclaimAgeMs);
    return isForeign && isOld && this.#isEmptyNow(block) && this.#remove(block, owner);
  }

  /**
   * Deletes an empty block and its affinity. The block's mark comes first and decides: it fails if an address was taken since `block` was
   * read, and when it is there no one takes any more. What a crash leaves behind it (a mark, an affinity) the next claim clears away.
   */
  async #remove(block: IPAMBlock, owner: string | undefined): Promise<boolean> {
    let marked: IPAMBlock;
    try {
      marked = await markDeleted(this.#datastore, 'IPAMBlock', block);
    } catch (error) {
      if (isDatastoreError(error, 'conflict') || isDatastoreError(error, 'not-found')) {
        return false;
      }
      throw error;
    }
    if (owner !== undefined) {
      await this.#dropAffinity(owner, block.spec.cidr);
    }
    await removeMarked(this.#datastore, 'IPAMBlock', marked);
    return true;
  }

  #isEmptyNow(block: IPAMBlock): boolean {
    return isEmpty(collectCooled(block.spec, { now: this.#clock.now(), cooldownSeconds: this.#cooldownSeconds() }));
  }

  /** Brings this node's affinity to a state, creating it if it is missing. */
  async #affinityAs(
    cidr: string,
    next: (state: BlockAffinity['spec']['state']) => BlockAffinity['spec']['state'],
    created: BlockAffinity['spec']['state'],
  ): Promise<void> {
    const name = blockAffinityName(this.nodeName, cidr);
    for (let tries = 0; tries < maxTries; tries++) {
      const current = await this.#datastore.get('BlockAffinity', { name });
      try {
        if (current === undefined) {
          const spec = { state: created, node: this.nodeName, type: 'host' as const, cidr, deleted: false };
          await this.#datastore.create('BlockAffinity', {
            apiVersion: v3,
            kind: 'BlockAffinity',
            metadata: { name },
            spec,
          });
          return;
        }
        if (current.spec.deleted) {
          await removeMarked(this.#datastore, 'BlockAffinity', current);
          continue;
        }
        const state = next(current.spec.state);
        if (state !== current.spec.state) {
          await this.#datastore.update('BlockAffinity', { ...current, spec: { ...current.spec, state } });
        }
        return;
      } catch (error) {
        if (!['already-exists', 'conflict', 'not-found'].some((code) => isDatastoreError(error, code as 'conflict'))) {
          throw error;
        }
      }
    }
    throw new IpamError('unavailable', `BlockAffinity ${name}: gave up after ${maxTries} conflicting writes by others`);
  }

  async #dropAffinity(node: string, cidr: string): Promise<void> {
    for (let tries = 0; tries < maxTries; tries++) {
      const current = await this.#datastore.get('BlockAffinity', { name: blockAffinityName(node, cidr) });
      if (current === undefined || (await deleteInTwoSteps(this.#datastore, 'BlockAffinity', current))) {
        return;
      }
    }
    throw new IpamError(
      'unavailable',
      `BlockAffinity of ${cidr} to ${node}: gave up after ${maxTries} conflicting writes by others`,
    );
  }

  async #createOrGet(cidr: string): Promise<IPAMBlock> {
    const name = blockName(cidr);
    for (let tries = 0; tries < maxTries; tries++) {
      try {
        const spec = newBlock(cidr, hostAffinity(this.nodeName), this.#clock.now());
        return await this.#datastore.create('IPAMBlock', {
          apiVersion: v3,
          kind: 'IPAMBlock',
          metadata: { name },
          spec,
        });
      } catch (error) {
        if (!isDatastoreError(error, 'already-exists')) {
          throw error;
        }
      }
      const current = await this.#datastore.get('IPAMBlock', { name });
      if (current?.spec.deleted === true) {
        await removeMarked(this.#datastore, 'IPAMBlock', current);
      } else if (current !== undefined) {
        return current;
      }
    }
    throw new IpamError('unavailable', `IPAMBlock ${cidr}: gave up after ${maxTries} conflicting writes by others`);
  }

  async #get(cidr: string): Promise<IPAMBlock | undefined> {
    const block = await this.#datastore.get('IPAMBlock', { name: blockName(cidr) });
    return block?.spec.deleted === true ? undefined : block;
  }
}

/**
 * The pool's blocks in an order of this node's own, so that nodes seldom try the same one: a start and a stride from a hash. The number
 * of blocks is a power of two and the stride odd, so each comes once.
 */
export function* candidates(pool: Pool, nodeName: string): Generator<Cidr, void, undefined> {
  const count = subnetCount(pool.cidr, pool.blockPrefix);
  const hash = createHash('sha256').update(`${nodeName} ${pool.cidr.text}`).digest();
  const start = hash.readBigUInt64BE(0);
  const stride = hash.readBigUInt64BE(8) | 1n;
  for (let step = 0n; step < count && step < maxCandidates; step++) {
    yield subnetAt(pool.cidr, pool.blockPrefix, (start + step * stride) % count);
  }
}
