import type { Clock } from '#api/clock.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { Allocator, type Assigned } from './allocator.ts';
import { nodeAllocations, type NodeAllocations } from './allocations.ts';
import type { BlockOwner } from './block.ts';
import { DirectBlocks } from './block-store.ts';
import { BlockClaims } from './claims.ts';
import { readFacts } from './facts.ts';
import { Handles } from './handles.ts';
import type { AssignIpsRequest, Assignment, AutoAssignRequest, Ipam } from './ipam.ts';
import type { IpamFacts } from './pools.ts';
import {
  afterUndo,
  asIpamError,
  assignmentOf,
  ownerOf,
  parseRequested,
  poolRequest,
  wantedFamilies,
} from './requests.ts';

/** IPAM without an agent (stand-alone CNI): nothing is remembered, every step is a compare-and-swap against the datastore. */
export class DirectIpam implements Ipam {
  readonly #datastore: Datastore;
  readonly #nodeName: string;
  readonly #claims: BlockClaims;
  readonly #allocator: Allocator;
  #cooldownSeconds = 0;

  constructor(datastore: Datastore, nodeName: string, clock: Clock) {
    this.#datastore = datastore;
    this.#nodeName = nodeName;
    const cooldownSeconds = () => this.#cooldownSeconds;
    this.#claims = new BlockClaims(datastore, nodeName, clock, cooldownSeconds);
    const blocks = new DirectBlocks(datastore, this.#claims, clock, cooldownSeconds);
    this.#allocator = new Allocator({
      nodeName,
      own: blocks,
      direct: blocks,
      claims: this.#claims,
      handles: new Handles(datastore),
      cooling: () => ({ now: clock.now(), cooldownSeconds: this.#cooldownSeconds }),
      isHeld: () => false,
    });
  }

  autoAssign(request: AutoAssignRequest): Promise<Assignment> {
    return this.#translating(async () => {
      const facts = await this.#facts();
      const owner = ownerOf(request, this.#nodeName);
      return this.#allOrNothing(
        wantedFamilies(request).map(
          (family) => () => this.#allocator.assign(family, owner, poolRequest(request, family), facts),
        ),
        owner,
      );
    });
  }

  assignIps(request: AssignIpsRequest): Promise<Assignment> {
    return this.#translating(async () => {
      const addresses = parseRequested(request.addresses);
      const facts = await this.#facts();
      const owner = ownerOf(request, this.#nodeName);
      return this.#allOrNothing(
        addresses.map((address) => () => this.#allocator.assignExact(address, owner, facts)),
        owner,
      );
    });
  }

  releaseHandle(handle: string): Promise<readonly string[]> {
    return this.#translating(async () => {
      await this.#facts();
      return this.#allocator.releaseHandle(handle);
    });
  }

  addressesOf(handle: string): Promise<readonly string[]> {
    return this.#translating(() => this.#allocator.addressesOf(handle));
  }

  allocations(): Promise<NodeAllocations> {
    return this.#translating(async () => nodeAllocations(await this.#claims.allBlocks(), this.#nodeName));
  }

  unavailableReason(): string | undefined {
    return undefined; // Nothing is known before it is tried; each call says what is wrong.
  }

  async #facts(): Promise<IpamFacts> {
    const facts = await readFacts(this.#datastore, this.#nodeName);
    this.#cooldownSeconds = facts.settings.cooldownSeconds;
    return facts;
  }

  /** One after the other, IPv4 first: both count on one handle. */
  async #allOrNothing(steps: readonly (() => Promise<Assigned>)[], owner: BlockOwner): Promise<Assignment> {
    const assigned: Assigned[] = [];
    try {
      for (const step of steps) {
        assigned.push(await step());
      }
    } catch (error) {
      throw await afterUndo(error, this.#allocator.undo(assigned, owner.handle));
    }
    return assignmentOf(assigned.map(({ address }) => address));
  }

  async #translating<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      throw asIpamError(error);
    }
  }
}
