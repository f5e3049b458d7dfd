import { messageOf } from '#api/errors.ts';
import type { Allocator, Assigned } from './allocator.ts';
import type { BlockOwner } from './block.ts';
import type { CachedBlocks } from './cached-blocks.ts';
import type { FactsSource } from './facts.ts';
import { IpamError, type Assignment } from './ipam.ts';
import type { Journal } from './journal.ts';
import { placeOf, type Ledger, type Owned } from './ledger.ts';
import type { IpamFacts } from './pools.ts';
import { afterUndo, asIpamError, assignmentOf } from './requests.ts';
import { Slots } from './slots.ts';
import type { WriteBehind } from './write-behind.ts';

/**
 * So many requests at a time: were a whole burst to try for the few addresses that a block has left, each would count its handle up and down again for
 * every block. Who waits mostly finds the reserve refilled.
 */
const requestsAtOnce = 16;

/** One part of a request: what was assigned by an awaited write, or the address that the reserve gave. */
export type Step = () => Promise<Assigned | string>;

interface AwaitedRequestsDeps {
  readonly facts: FactsSource;
  readonly allocator: Allocator;
  readonly blocks: CachedBlocks;
  readonly ledger: Ledger;
  readonly journal: Journal;
  readonly writeBehind: WriteBehind;
  readonly release: (owned: readonly Owned[]) => Promise<unknown>;
  readonly log: (level: 'warn' | 'error', message: string) => void;
}

/** Requests that the reserve can't serve: each step waits for the datastore, and all succeed or none. One at a time for a handle. */
export class AwaitedRequests {
  readonly #deps: AwaitedRequestsDeps;

  readonly #slots = new Slots(requestsAtOnce);

  constructor(deps: AwaitedRequestsDeps) {
    this.#deps = deps;
  }

  /**
   * Carries out the steps. What is known of the pools may be a moment old: when they refuse, they are read and tried once more. Throws
   * `IpamError`.
   */
  run(owner: BlockOwner, steps: (facts: IpamFacts) => readonly Step[]): Promise<Assignment> {
    return this.#slots.run(() => this.#run(owner, steps));
  }

  async #run(owner: BlockOwner, steps: (facts: IpamFacts) => readonly Step[]): Promise<Assignment> {
    const { facts, ledger, writeBehind } = this.#deps;
    this.#beginIntent(owner.handle);
    let isSure = true;
    try {
      if (ledger.decisions().some(({ state }) => state === 'released')) {
        await writeBehind.flush().catch(() => {}); // It is logged; the request may not need what is being freed.
      }
      const known = facts.current();
      try {
        return await this.#allOrNothing(owner, steps(known ?? (await facts.refresh())));
      } catch (error) {
        if (known === undefined || !isRefusedByPools(error)) {
          throw error;
        }
      }
      return await this.#allOrNothing(owner, steps(await facts.refresh()));
    } catch (error) {
      const failure = asIpamError(error);
      isSure = failure.code !== 'unavailable';
      throw failure;
    } finally {
      if (isSure) {
        this.forgetIntent(owner.handle);
      } else {
        writeBehind.compareCounts(owner.handle);
      }
      writeBehind.request({ now: false });
    }
  }

  /** The handle's count is known to be right. */
  forgetIntent(handle: string): void {
    for (const record of this.#deps.journal.records()) {
      if (record.type === 'intent' && record.handle === handle) {
        this.#deps.journal.forget(record);
      }
    }
  }

  async #allOrNothing(owner: BlockOwner, steps: readonly Step[]): Promise<Assignment> {
    const done: (Assigned | string)[] = [];
    try {
      for (const step of steps) {
        const result = await step();
        done.push(result);
        if (typeof result !== 'string' && !this.#deps.blocks.holds(result.cidr)) {
          const { address, cidr, sequence } = result;
          this.#deps.ledger.borrow({ ...placeOf(address, cidr), ...owner, sequence, releasedAt: undefined });
        }
      }
    } catch (error) {
      throw await afterUndo(error, this.#undo(owner.handle, done));
    }
    return assignmentOf(done.map((result) => (typeof result === 'string' ? result : result.address)));
  }

  async #undo(handle: string, done: readonly (Assigned | string)[]): Promise<void> {
    const { allocator, ledger, release } = this.#deps;
    const assigned = done.filter((result) => typeof result !== 'string');
    await allocator.undo(assigned, handle);
    for (const { address } of assigned) {
      ledger.endBorrowing(address);
    }
    const given = done.filter((result) => typeof result === 'string');
    await release(ledger.ofHandle(handle).filter(({ address }) => given.includes(address)));
  }

  #beginIntent(handle: string): void {
    try {
      this.#deps.journal.append([{ type: 'intent', handle }]);
    } catch (error) {
      // Without it a crash now may leave an IPAMHandle without addresses: untidy, not unsafe.
      this.#deps.log('warn', `the journal can't be written: ${messageOf(error)}`);
    }
  }
}

function isRefusedByPools(error: unknown): boolean {
  return error instanceof IpamError && ['no-pool', 'pool-disabled', 'not-in-pool'].includes(error.code);
}
