import { ordinalOf, parseCidr, parseIp } from '#api/cidr.ts';
import { addressesIn, isWorkloadOf, reserveHandle, type AddressAllocation } from './allocations.ts';
import type { BlockOwner, BlockSpec } from './block.ts';
import type { CachedBlocks } from './cached-blocks.ts';
import type { Journal, JournalRecord } from './journal.ts';

/** A decision about one address that the datastore does not have yet. */
export type Decision = GiveDecision | ReleaseDecision | QuarantineDecision | DisputeDecision;

interface DecisionBase {
  readonly address: string;
  /** Its block, and its ordinal there. */
  readonly cidr: string;
  readonly ordinal: number;
}

/** The address is this owner's; the block still says what `from` does (undefined: it is free there). */
export interface GiveDecision extends DecisionBase {
  readonly state: 'given';
  readonly owner: BlockOwner;
  readonly from: { readonly handle: string | undefined; readonly sequence: string } | undefined;
  readonly record: JournalRecord | undefined;
}

/** The address is nobody's; the block still says the handle's, or the reserve's if the handle never got there. */
export interface ReleaseDecision extends DecisionBase {
  readonly state: 'released';
  readonly handle: string;
  /** Undefined: whichever allocation of the handle. */
  readonly sequence: string | undefined;
  readonly record: JournalRecord | undefined;
}

/** Something unknown on this node uses the address: the reserve's handle keeps it, and nobody gets it. */
export interface QuarantineDecision extends DecisionBase {
  readonly state: 'quarantined';
}

/** The owner uses the address here, but in the datastore it is someone else's. Nothing can be written; people must look. */
export interface DisputeDecision extends DecisionBase {
  readonly state: 'disputed';
  readonly owner: BlockOwner;
}

/** An address of a workload on this node. */
export interface Owned {
  readonly address: string;
  readonly cidr: string;
  readonly ordinal: number;
  readonly handle: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly sequence: string;
}

/**
 * What every address of this node is right now: the blocks as last written, and over them the decisions that are still to be written.
 * An address with a decision is out of the blocks' hands until the block has been written and says the same; so no address can be in
 * the reserve and with a pod, however late or often a write is repeated.
 */
export class Ledger {
  readonly #nodeName: string;
  readonly #blocks: CachedBlocks;
  readonly #journal: Journal;
  readonly #decisions = new Map<string, Decision>();
  readonly #held = new Map<string, Set<number>>();
  readonly #borrowed = new Map<string, AddressAllocation>();

  constructor(nodeName: string, blocks: CachedBlocks, journal: Journal) {
    this.#nodeName = nodeName;
    this.#blocks = blocks;
    this.#journal = journal;
  }

  /** True if a decision on the address is still to be written, or it is kept out: the block's word on it does not count. */
  isHeld(cidr: string, ordinal: number): boolean {
    return this.#held.get(cidr)?.has(ordinal) === true;
  }

  /** The decisions, in the order in which they were made. */
  decisions(): readonly Decision[] {
    return [...this.#decisions.values()];
  }

  /** True if it is still the newest for its address. */
  isCurrent(decision: Decision): boolean {
    return this.#decisions.get(decision.address) === decision;
  }

  /** The reserve's addresses that may be given. */
  reserve(): readonly AddressAllocation[] {
    const handle = reserveHandle(this.#nodeName);
    return this.#blocks
      .specs()
      .flatMap((spec) =>
        addressesIn(spec).filter(
          (allocation) => allocation.handle === handle && !this.#decisions.has(allocation.address),
        ),
      );
  }

  /** Every address of a workload on this node, given but not yet written ones too. */
  *owned(): Generator<Owned, void, undefined> {
    for (const stored of this.#stored()) {
      if (!this.#decisions.has(stored.address)) {
        yield {
          address: stored.address,
          cidr: stored.cidr,
          ordinal: stored.ordinal,
          handle: stored.handle ?? '',
          attributes: stored.attributes,
          sequence: String(stored.sequence),
        };
      }
    }
    for (const decision of this.#decisions.values()) {
      if (decision.state === 'given' || decision.state === 'disputed') {
        const { address, cidr, ordinal, owner } = decision;
        yield {
          address,
          cidr,
          ordinal,
          ...owner,
          sequence: (decision.state === 'given' ? decision.from?.sequence : undefined) ?? '',
        };
      }
    }
  }

  /** What a handle has. */
  ofHandle(handle: string): readonly Owned[] {
    return [...this.owned()].filter((owned) => owned.handle === handle);
  }

  /** How many addresses the handle has in a block, as far as they can be written there. */
  count(handle: string, cidr: string): number {
    const isWritable = ({ address }: Owned) => this.#decisions.get(address)?.state !== 'disputed';
    return this.ofHandle(handle).filter((owned) => owned.cidr === cidr && isWritable(owned)).length;
  }

  /** Gives addresses of the reserve to an owner, after they are in the journal. Throws the file system's error: then nothing is given. */
  give(reserved: readonly AddressAllocation[], owner: BlockOwner): void {
    const decisions = reserved.map(
      ({ address, cidr, ordinal, handle, sequence }): GiveDecision & { record: JournalRecord } => {
        const from = { handle, sequence: String(sequence) };
        const record = { type: 'give', address, sequence: from.sequence, ...owner } as const;
        return { state: 'given', address, cidr, ordinal, owner, from, record };
      },
    );
    this.#journal.append(decisions.map(({ record }) => record));
    for (const decision of decisions) {
      this.decide(decision);
    }
  }

  /**
   * Decides that addresses are free, after that is in the journal (if there is one to write). Throws the file system's error: then nothing
   * is decided.
   */
  release(owned: readonly Owned[], journal: Journal | undefined): void {
    const disputed = owned.filter(({ address }) => this.#decisions.get(address)?.state === 'disputed');
    const decisions = owned
      .filter((one) => !disputed.includes(one))
      .map(({ address, cidr, ordinal, handle, sequence }): ReleaseDecision & { record: JournalRecord } => {
        const record = { type: 'release', address, sequence, handle } as const;
        return {
          state: 'released',
          address,
          cidr,
          ordinal,
          handle,
          sequence: sequence === '' ? undefined : sequence,
          record,
        };
      });
    journal?.append(decisions.map(({ record }) => record));
    for (const decision of decisions) {
      this.decide(decision);
    }
    for (const { address } of disputed) {
      this.#remove(address); // It never was ours in the datastore.
    }
  }

  /** Lets go of an address of the reserve. There is no record: until it is written, it is the reserve's. */
  returnToBlock({ address, cidr, ordinal, sequence }: AddressAllocation): void {
    const handle = reserveHandle(this.#nodeName);
    this.decide({ state: 'released', address, cidr, ordinal, handle, sequence: String(sequence), record: undefined });
  }

  /** Nothing uses it any more: back to its block with it. */
  endQuarantine({ address, cidr, ordinal }: QuarantineDecision): void {
    const handle = reserveHandle(this.#nodeName);
    this.decide({ state: 'released', address, cidr, ordinal, handle, sequence: undefined, record: undefined });
  }

  /** Puts a decision in force. It comes last in order, whatever was decided on the address before. */
  decide(decision: Decision): void {
    this.#remove(decision.address);
    this.#decisions.set(decision.address, decision);
    const held = this.#held.get(decision.cidr) ?? new Set();
    this.#held.set(decision.cidr, held.add(decision.ordinal));
  }

  /** The datastore has it now (or it is void). */
  settle(decision: GiveDecision | ReleaseDecision | QuarantineDecision): void {
    if (this.isCurrent(decision)) {
      this.#remove(decision.address);
    }
    if (decision.state === 'released') {
      this.#borrowed.delete(decision.address);
    }
    if ('record' in decision && decision.record !== undefined) {
      this.#journal.forget(decision.record);
    }
  }

  /** This node's addresses in blocks that are not (or were not, when they were given). */
  borrowed(): readonly AddressAllocation[] {
    return [...this.#borrowed.values()];
  }

  /** Remembers an address of this node in a block that is not. */
  borrow(allocation: AddressAllocation): void {
    this.#borrowed.set(allocation.address, allocation);
  }

  /** It was given back at once. */
  endBorrowing(address: string): void {
    this.#borrowed.delete(address);
  }

  #remove(address: string): void {
    const decision = this.#decisions.get(address);
    if (decision !== undefined) {
      this.#decisions.delete(address);
      this.#held.get(decision.cidr)?.delete(decision.ordinal);
    }
  }

  #stored(): readonly AddressAllocation[] {
    const own = this.#blocks.specs();
    const isOwn = new Set(own.map((spec: BlockSpec) => spec.cidr));
    return [
      ...own.flatMap((spec) => addressesIn(spec)),
      // A block that became ours since speaks for itself.
      ...[...this.#borrowed.values()].filter(({ cidr }) => !isOwn.has(cidr)),
    ].filter((allocation) => isWorkloadOf(allocation, this.#nodeName));
  }
}

/** Where an address lies in its block. */
export function placeOf(
  address: string,
  cidr: string,
): { readonly address: string; readonly cidr: string; readonly ordinal: number } {
  return { address, cidr, ordinal: ordinalOf(parseCidr(cidr), parseIp(address)) };
}
