import { hostAffinity } from '#api/names.ts';
import { addressesIn, reserveAttributes, reserveHandle, type AddressAllocation } from './allocations.ts';
import { takeFree, type BlockOwner, type BlockSpec } from './block.ts';
import type { CachedBlocks } from './cached-blocks.ts';
import type { Handles } from './handles.ts';
import type { Ledger } from './ledger.ts';
import type { IpamFacts } from './pools.ts';
import { ReserveCount } from './reserve-count.ts';
import { planReserve, type ReservePlan } from './reserve-plan.ts';

/** What `ReserveWrites` works with. */
export interface ReserveWritesDeps {
  readonly nodeName: string;
  readonly blocks: CachedBlocks;
  readonly ledger: Ledger;
  readonly handles: Handles;
  /** Addresses that the reserve holds per family, at most. */
  readonly reserveSize: number;
}

/** How many addresses of a block the reserve lacks, and which may be taken for it; undefined: none. */
export type Refill = ReturnType<ReservePlan['refill']['get']>;

/** The reserve's part of a pass: what it takes and lets go of, and what its handle counts. */
export class ReserveWrites {
  /** Whose its addresses are in the blocks. */
  readonly owner: BlockOwner;
  readonly #deps: ReserveWritesDeps;
  readonly #count: ReserveCount;
  readonly #closing = new Set<string>();

  constructor(deps: ReserveWritesDeps) {
    this.#deps = deps;
    this.owner = { handle: reserveHandle(deps.nodeName), attributes: reserveAttributes(deps.nodeName) };
    this.#count = new ReserveCount(deps.handles, this.owner.handle);
  }

  /** Reads what its handle counts; before the first pass. */
  async start(): Promise<void> {
    await this.#count.read();
  }

  /** Somebody else has freed addresses of this node: what is known of the handle may be wrong. */
  doubt(): void {
    this.#count.doubt();
  }

  /** From now on (or no longer) it has nothing in this block. */
  setClosing(cidr: string, isClosing: boolean): void {
    if (isClosing) {
      this.#closing.add(cidr);
    } else {
      this.#closing.delete(cidr);
    }
  }

  /** Lets go of the surplus, and says what is lacking. */
  plan(facts: IpamFacts): ReservePlan['refill'] {
    const { blocks, ledger, reserveSize } = this.#deps;
    const own = blocks.collected().filter((spec) => this.#isOwn(spec) && !this.#closing.has(spec.cidr));
    const isHeld = (cidr: string, ordinal: number) => ledger.isHeld(cidr, ordinal);
    const plan = planReserve(facts, own, ledger.reserve(), isHeld, reserveSize);
    for (const allocation of plan.surplus) {
      ledger.returnToBlock(allocation);
    }
    return plan.refill;
  }

  /** The block with the refill; never more than the handle counts for it. */
  refill(spec: BlockSpec, refill: Refill): BlockSpec {
    if (refill === undefined || !this.#isOwn(spec)) {
      return spec;
    }
    const room = this.#count.of(spec.cidr) - this.#in(spec).length;
    return takeFree(spec, this.owner, Math.min(refill.count, Math.max(0, room)), refill.allowed).spec;
  }

  /** True if the block says that the address is the reserve's. */
  has(cidr: string, ordinal: number): boolean {
    return this.#inBlock(cidr).some((allocation) => allocation.ordinal === ordinal);
  }

  /** Counts up for what the pass may take. */
  async raise(refill: ReservePlan['refill']): Promise<void> {
    const needed: Record<string, number> = {};
    const decisions = this.#deps.ledger.decisions();
    const leaving = new Set(decisions.flatMap(({ state, address }) => (state === 'quarantined' ? [] : [address])));
    const cidrs = new Set([
      ...refill.keys(),
      ...decisions.flatMap(({ state, cidr }) => (state === 'quarantined' ? [cidr] : [])),
    ]);
    for (const cidr of cidrs) {
      const staying = this.#inBlock(cidr).filter(({ address }) => !leaving.has(address));
      const joining = decisions.filter(
        (decision) => decision.state === 'quarantined' && decision.cidr === cidr && !this.has(cidr, decision.ordinal),
      );
      needed[cidr] = staying.length + joining.length + (refill.get(cidr)?.count ?? 0);
    }
    await this.#count.atLeast(needed);
  }

  /** Counts down to what the blocks say. */
  async lower(): Promise<void> {
    const counts: Record<string, number> = {};
    for (const spec of this.#deps.blocks.specs()) {
      counts[spec.cidr] = this.#in(spec).length;
    }
    // In a block of someone else, what is left of a reserve is still to be released.
    for (const { state, cidr } of this.#deps.ledger.decisions()) {
      if (state === 'released' && counts[cidr] === undefined) {
        counts[cidr] = this.#count.of(cidr);
      }
    }
    await this.#count.write(counts);
  }

  #isOwn(spec: BlockSpec): boolean {
    return spec.affinity === hostAffinity(this.#deps.nodeName);
  }

  #in(spec: BlockSpec): readonly AddressAllocation[] {
    return addressesIn(spec).filter(({ handle }) => handle === this.owner.handle);
  }

  #inBlock(cidr: string): readonly AddressAllocation[] {
    return this.#deps.blocks.specs().flatMap((spec) => (spec.cidr === cidr ? this.#in(spec) : []));
  }
}
