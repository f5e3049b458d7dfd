import { containsCidr, parseCidr } from '#api/cidr.ts';
import type { AddressAllocation } from './allocations.ts';
import { freeCount, type BlockSpec } from './block.ts';
import { openPools, unreserved, type IpamFacts } from './pools.ts';

/** At most this part of what is free in the node's blocks: small blocks and full pools are for pods. */
const reserveShare = 1 / 4;

/** What is to become of the warm reserve. */
export interface ReservePlan {
  /** By block: how many addresses to add, of those that are allowed. */
  readonly refill: ReadonlyMap<string, { readonly count: number; readonly allowed: (ordinal: number) => boolean }>;
  /** Addresses to let go of: no pool justifies them any more, a reservation covers them, or they are too many. */
  readonly surplus: readonly AddressAllocation[];
}

/**
 * Plans the reserve of one node: per family `min(size, a quarter of what its blocks have free)`. It lives in the blocks that the node
 * has anyway; no block is ever claimed for it. Pure.
 */
export function planReserve(
  facts: IpamFacts,
  blocks: readonly BlockSpec[],
  reserve: readonly AddressAllocation[],
  isHeld: (cidr: string, ordinal: number) => boolean,
  size: number,
): ReservePlan {
  const pools = openPools(facts);
  const open = blocks
    .map((spec) => ({ spec, cidr: parseCidr(spec.cidr) }))
    .filter(({ cidr }) => pools.some((pool) => containsCidr(pool.cidr, cidr)));
  const refill = new Map<string, { count: number; allowed: (ordinal: number) => boolean }>();
  const kept = new Set<AddressAllocation>();
  for (const family of [4, 6] as const) {
    const candidates = open
      .filter(({ cidr }) => cidr.family === family)
      .map(({ spec, cidr }) => {
        const isFree = unreserved(facts, cidr);
        const allowed = (ordinal: number) => isFree(ordinal) && !isHeld(spec.cidr, ordinal);
        const held = reserve.filter((allocation) => allocation.cidr === spec.cidr && isFree(allocation.ordinal));
        return { cidr: spec.cidr, allowed, held, free: freeCount(spec, allowed) };
      });
    const usable = candidates.flatMap(({ held }) => held);
    const total = candidates.reduce((sum, { free }) => sum + free, usable.length);
    const target = Math.min(size, Math.floor(total * reserveShare));
    for (const allocation of usable.slice(0, target)) {
      kept.add(allocation);
    }
    let missing = target - usable.length;
    for (const { cidr, allowed, free } of candidates) {
      const count = Math.min(missing, free);
      if (count > 0) {
        refill.set(cidr, { count, allowed });
        missing -= count;
      }
    }
  }
  return { refill, surplus: reserve.filter((allocation) => !kept.has(allocation)) };
}
