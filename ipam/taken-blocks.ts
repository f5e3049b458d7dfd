import { containsCidr, parseCidr } from '#api/cidr.ts';
import { messageOf } from '#api/errors.ts';
import { blockName } from '#api/names.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { addressesIn, isWorkloadOf, missingIn, type AddressAllocation } from './allocations.ts';
import type { BlockSpec } from './block.ts';
import { readBlock, type IPAMBlock } from './block-store.ts';
import type { CachedBlocks } from './cached-blocks.ts';
import { challengeTo } from './challenge.ts';
import type { BlockClaims } from './claims.ts';
import type { FactsSource } from './facts.ts';
import type { Ledger } from './ledger.ts';
import type { WriteBehind } from './write-behind.ts';

/** What `TakenBlocks` works with. */
export interface TakenBlocksDeps {
  readonly nodeName: string;
  readonly datastore: Datastore;
  readonly facts: FactsSource;
  readonly claims: BlockClaims;
  readonly blocks: CachedBlocks;
  readonly ledger: Ledger;
  readonly writeBehind: WriteBehind;
  /** True for the handle of a container that is on this node. */
  readonly isInUse: (handle: string) => boolean;
  /** True while a request of that handle is under way. */
  readonly isBusy: (handle: string) => boolean;
  /** False while nothing may be decided: before the start has read everything, and after the end. */
  readonly isReady: () => boolean;
  readonly log: (level: 'warn' | 'error', message: string) => void;
}

/**
 * What a node does when others free what it has: the collector of deleted nodes, or people. It says in time that it is alive; and where that came too
 * late (it could not reach the datastore), it takes again what its containers use before somebody else gets it. What somebody else has by then is
 * said, and left.
 */
export class TakenBlocks {
  readonly #deps: TakenBlocksDeps;

  constructor(deps: TakenBlocksDeps) {
    this.#deps = deps;
  }

  /**
   * What a watch tells of any block of the cluster, by its object's name (undefined: it is gone). Moments late, so it is only a reason to
   * look.
   */
  notice(name: string, seen: IPAMBlock | undefined): void {
    const { nodeName, blocks, claims, writeBehind, isReady, log } = this.#deps;
    if (!isReady()) {
      return;
    }
    if (seen !== undefined && challengeTo(seen, nodeName) !== undefined) {
      writeBehind.answer(seen.spec.cidr);
    }
    const own = blocks.specs().find(({ cidr }) => blockName(cidr) === name);
    const isTaken = seen === undefined || seen.spec.deleted || !claims.isOwn(seen);
    const look =
      own === undefined
        ? this.#lookAtBorrowed(name, seen?.spec)
        : isTaken
          ? blocks.refresh(own.cidr)
          : blocks.seen(seen.spec);
    look.catch((error: unknown) => log('warn', `IPAMBlock ${name} can't be read: ${messageOf(error)}`));
  }

  /** One of this node's blocks is not as it was, and not by this node's doing (or by that of a request under way). */
  onTaken(before: BlockSpec, now: BlockSpec | undefined): void {
    const { writeBehind, isReady, isBusy } = this.#deps;
    if (isReady()) {
      // A release beside the queue is not somebody else's.
      const isOwnDoing = (handle = '') => now?.affinity === before.affinity && isBusy(handle);
      this.#takeAgain(
        before.cidr,
        addressesIn(before).filter(({ handle }) => !isOwnDoing(handle)),
        now,
      );
      writeBehind.reserve.doubt();
      writeBehind.request({ now: true });
    }
  }

  /** Claims a block that is gone, if its pool still has such blocks. False: there is none, this node's or another's. */
  async reclaim(cidr: string): Promise<boolean> {
    const { facts, claims, blocks } = this.#deps;
    const { pools } = facts.current() ?? (await facts.refresh());
    const range = parseCidr(cidr);
    if (!pools.some((pool) => containsCidr(pool.cidr, range) && pool.blockPrefix === range.prefix)) {
      return false;
    }
    const block = await claims.claim(cidr);
    if (block !== undefined) {
      blocks.claimed(block);
    }
    return true;
  }

  /** Addresses that this node has in a block of another one. */
  async #lookAtBorrowed(name: string, seen: BlockSpec | undefined): Promise<void> {
    const { blocks, ledger, datastore, writeBehind } = this.#deps;
    const borrowed = ledger.borrowed().filter(({ cidr }) => blockName(cidr) === name && !blocks.holds(cidr));
    const cidr = borrowed[0]?.cidr;
    if (cidr !== undefined && missingIn(seen, borrowed).length > 0) {
      // Not by what was seen: it may be from before the address was borrowed.
      this.#takeAgain(cidr, borrowed, (await readBlock(datastore, cidr))?.spec);
      writeBehind.request({ now: true });
    }
  }

  #takeAgain(cidr: string, had: readonly AddressAllocation[], now: BlockSpec | undefined): void {
    const { nodeName, ledger, isInUse, log } = this.#deps;
    const lost = missingIn(now, had).filter(
      (allocation) =>
        isWorkloadOf(allocation, nodeName) &&
        !ledger.isHeld(cidr, allocation.ordinal) &&
        isInUse(allocation.handle ?? ''),
    );
    for (const { address, ordinal, handle = '', attributes } of lost) {
      const owner = { handle, attributes };
      ledger.decide({ state: 'given', address, cidr, ordinal, owner, from: undefined, record: undefined });
    }
    if (lost.length > 0) {
      const addresses = lost.map(({ address }) => address).join(', ');
      log('warn', `somebody freed ${addresses} of block ${cidr}, in use on this node; taking what is still free again`);
    }
  }
}
