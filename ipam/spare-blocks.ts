import { parseCidr } from '#api/cidr.ts';
import { hostAffinity } from '#api/names.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { addressesIn, reserveHandle } from './allocations.ts';
import type { BlockSpec } from './block.ts';
import { readBlock } from './block-store.ts';
import type { CachedBlocks } from './cached-blocks.ts';
import type { BlockClaims } from './claims.ts';
import type { Ledger } from './ledger.ts';
import type { WriteBehind } from './write-behind.ts';

/** What `SpareBlocks` works with. */
export interface SpareBlocksDeps {
  readonly nodeName: string;
  readonly datastore: Datastore;
  readonly claims: BlockClaims;
  readonly blocks: CachedBlocks;
  readonly ledger: Ledger;
  readonly writeBehind: WriteBehind;
  readonly reserveSize: number;
}

/** A node's blocks that it could do without. */
export class SpareBlocks {
  readonly #deps: SpareBlocksDeps;

  constructor(deps: SpareBlocksDeps) {
    this.#deps = deps;
  }

  /**
   * Blocks that no workload has an address in, except the last one of each family, as long as the others have twice the reserve free. Who
   * finds a block among them twice, with some time between, gives it up by `release`.
   */
  find(): readonly string[] {
    const { nodeName, blocks, ledger, reserveSize } = this.#deps;
    const inUse = new Set([...ledger.owned()].map(({ cidr }) => cidr));
    const own = blocks.collected().filter(({ affinity }) => affinity === hostAffinity(nodeName));
    return ([4, 6] as const).flatMap((family) => {
      const ofFamily = own.filter(({ cidr }) => parseCidr(cidr).family === family);
      const spare: BlockSpec[] = [];
      let free = ofFamily.reduce((sum, { unallocated }) => sum + unallocated.length, 0);
      for (const block of ofFamily) {
        const isUnused =
          !inUse.has(block.cidr) && addressesIn(block).every(({ handle }) => handle === reserveHandle(nodeName));
        const isEnough = free - block.unallocated.length >= 2 * reserveSize;
        if (isUnused && isEnough && spare.length < ofFamily.length - 1) {
          spare.push(block);
          free -= block.unallocated.length;
        }
      }
      return spare.map(({ cidr }) => cidr);
    });
  }

  /** Gives one up, the reserve's addresses in it first. False if somebody has taken an address there meanwhile. */
  async release(cidr: string): Promise<boolean> {
    const { datastore, claims, blocks, writeBehind } = this.#deps;
    writeBehind.reserve.setClosing(cidr, true);
    try {
      await writeBehind.flush();
      const block = await readBlock(datastore, cidr);
      const isReleased = block !== undefined && (await claims.release(block));
      await blocks.refresh(cidr);
      return isReleased;
    } finally {
      writeBehind.reserve.setClosing(cidr, false);
      writeBehind.request({ now: false });
    }
  }
}
