import { addressesIn, byHandle, isWorkloadOf } from './allocations.ts';
import type { CachedBlocks } from './cached-blocks.ts';
import type { BlockClaims } from './claims.ts';
import type { HandleTurns } from './handle-turns.ts';
import type { Ledger, Owned } from './ledger.ts';
import { asIpamError } from './requests.ts';

/** What `UnusedAddresses` works with. */
export interface UnusedAddressesDeps {
  readonly nodeName: string;
  readonly claims: BlockClaims;
  readonly blocks: CachedBlocks;
  readonly ledger: Ledger;
  readonly turns: HandleTurns;
  /** Runs an action when no other of the same handle does. */
  readonly exclusively: <T>(handle: string, action: () => Promise<T>) => Promise<T>;
  /** Decides that addresses are free, and returns them. */
  readonly release: (owned: readonly Owned[]) => Promise<readonly string[]>;
}

/** Releases what this node's workloads do not use any more, when somebody can tell: the runtime's GC, or the search for leaks. */
export class UnusedAddresses {
  readonly #deps: UnusedAddressesDeps;

  constructor(deps: UnusedAddressesDeps) {
    this.#deps = deps;
  }

  /** See `NodeIpam.gc`. */
  async gc(validHandles: ReadonlySet<string>, live: ReadonlySet<string>): Promise<readonly string[]> {
    const { ledger, exclusively, release } = this.#deps;
    try {
      await this.#findStrays(validHandles);
    } catch (error) {
      throw asIpamError(error);
    }
    const released: string[] = [];
    for (const [handle] of byHandle(ledger.owned())) {
      if (!validHandles.has(handle)) {
        await exclusively(handle, async () => {
          released.push(...(await release(ledger.ofHandle(handle).filter(({ address }) => !live.has(address)))));
        });
      }
    }
    for (const decision of ledger.decisions()) {
      if (decision.state === 'quarantined' && !live.has(decision.address)) {
        ledger.endQuarantine(decision);
        released.push(decision.address);
      }
    }
    return released;
  }

  /** See `NodeIpam.releaseLeaked`. */
  releaseLeaked(handle: string, leaked: readonly Owned[]): Promise<readonly string[]> {
    const { ledger, blocks, exclusively, release } = this.#deps;
    return exclusively(handle, async () => {
      const known = new Set(ledger.ofHandle(handle).map(({ address }) => address));
      for (const owned of leaked) {
        const { address, cidr, ordinal } = owned;
        if (!known.has(address) && !blocks.holds(cidr) && !ledger.isHeld(cidr, ordinal)) {
          ledger.borrow({ ...owned, sequence: BigInt(owned.sequence), releasedAt: undefined });
        }
      }
      const sequences = new Map(leaked.map(({ address, sequence }) => [address, sequence]));
      return release(ledger.ofHandle(handle).filter(({ address, sequence }) => sequences.get(address) === sequence));
    });
  }

  /** Remembers what the blocks give to handles that are not valid, and memory doesn't know: left by a write that came late, or by hand. */
  async #findStrays(validHandles: ReadonlySet<string>): Promise<void> {
    const { nodeName, claims, blocks, ledger, turns } = this.#deps;
    await blocks.own({ fresh: true });
    for (const { spec } of await claims.allBlocks()) {
      for (const allocation of blocks.holds(spec.cidr) ? [] : addressesIn(spec)) {
        const { handle, cidr, ordinal } = allocation;
        if (
          isWorkloadOf(allocation, nodeName) &&
          !validHandles.has(handle ?? '') &&
          !turns.isBusy(handle ?? '') &&
          !ledger.isHeld(cidr, ordinal)
        ) {
          ledger.borrow(allocation);
        }
      }
    }
  }
}
