import type { Clock } from '#api/clock.ts';
import { parseIp, type Family } from '#api/cidr.ts';
import { messageOf } from '#api/errors.ts';
import { hostAffinity } from '#api/names.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { byHandle, type NodeAllocations } from './allocations.ts';
import { Allocator, type Assigned } from './allocator.ts';
import { AwaitedRequests } from './awaited-requests.ts';
import type { BlockOwner } from './block.ts';
import { DirectBlocks, type IPAMBlock } from './block-store.ts';
import { CachedBlocks } from './cached-blocks.ts';
import { BlockClaims } from './claims.ts';
import type { FactsSource } from './facts.ts';
import { HandleTurns } from './handle-turns.ts';
import { Handles } from './handles.ts';
import { IpamError, type AssignIpsRequest, type Assignment, type AutoAssignRequest, type Ipam } from './ipam.ts';
import { Journal } from './journal.ts';
import { Ledger, type Owned } from './ledger.ts';
import type { IpamFacts } from './pools.ts';
import { reconcile, type NodeFacts } from './reconcile-node.ts';
import { asIpamError, assignmentOf, ownerOf, parseRequested, poolRequest, wantedFamilies } from './requests.ts';
import { ReserveGifts } from './reserve-gifts.ts';
import { SpareBlocks } from './spare-blocks.ts';
import { TakenBlocks } from './taken-blocks.ts';
import { UnusedAddresses } from './unused-addresses.ts';
import { WriteBehind } from './write-behind.ts';

/** How many addresses per family are kept ready. */
export const defaultReserveSize = 8;

/** What a node's IPAM needs. */
export interface NodeIpamOptions {
  readonly datastore: Datastore;
  readonly nodeName: string;
  readonly clock: Clock;
  readonly facts: FactsSource;
  /** The journal's file, in the state dir. One process at a time: whoever makes a NodeIpam holds the state dir's lock. */
  readonly journalPath: string;
  /** Addresses per family in the warm reserve; 0 turns it off. */
  readonly reserveSize?: number;
  /**
   * True for the handle of a container that is on this node: should somebody else free its address, it is taken again before others get it. Absent: every
   * handle that has one is.
   */
  readonly isInUse?: (handle: string) => boolean;
  readonly log: (level: 'warn' | 'error', message: string) => void;
}

/**
 * The agent's IPAM. It alone changes its node's blocks (others may borrow single addresses or take an empty block, which compare-and-swap
 * shows), so it keeps them in memory, answers from a warm reserve without waiting for the datastore, and writes afterwards what it
 * decided. Every decision is in the journal before anybody hears of it. Not for one handle at a time from two sides: calls for the same
 * handle are carried out one after the other.
 */
export class NodeIpam implements Ipam, AsyncDisposable {
  readonly #options: NodeIpamOptions;
  readonly #claims: BlockClaims;
  readonly #blocks: CachedBlocks;
  readonly #journal: Journal;
  readonly #ledger: Ledger;
  readonly #allocator: Allocator;
  readonly #writeBehind: WriteBehind;
  readonly #awaitedRequests: AwaitedRequests;
  readonly #taken: TakenBlocks;
  readonly #spare: SpareBlocks;
  readonly #gifts: ReserveGifts;
  readonly #unused: UnusedAddresses;
  readonly #turns = new HandleTurns();
  #state: 'new' | 'ready' | 'closed' = 'new';

  /** Opens the journal; throws the file system's error. */
  constructor(options: NodeIpamOptions) {
    const { datastore, nodeName, clock, facts, log } = options;
    this.#options = options;
    const reserveSize = options.reserveSize ?? defaultReserveSize;
    const cooldownSeconds = () => facts.current()?.settings.cooldownSeconds ?? 0;
    const cooling = () => ({ now: clock.now(), cooldownSeconds: cooldownSeconds() });
    const handles = new Handles(datastore);
    this.#claims = new BlockClaims(datastore, nodeName, clock, cooldownSeconds);
    const direct = new DirectBlocks(datastore, this.#claims, clock, cooldownSeconds);
    this.#blocks = new CachedBlocks(datastore, this.#claims, direct, cooling, (before, now) =>
      this.#taken.onTaken(before, now),
    );
    this.#journal = new Journal(options.journalPath, log);
    this.#ledger = new Ledger(nodeName, this.#blocks, this.#journal);
    this.#allocator = new Allocator({
      nodeName,
      own: this.#blocks,
      direct,
      claims: this.#claims,
      handles,
      cooling,
      isHeld: (cidr, ordinal) => this.#ledger.isHeld(cidr, ordinal),
    });
    this.#writeBehind = new WriteBehind({
      nodeName,
      clock,
      facts,
      blocks: this.#blocks,
      ledger: this.#ledger,
      handles,
      cooling,
      reserveSize,
      isBusy: (handle) => this.#turns.isBusy(handle),
      exclusively: (handle, action) => this.#turns.run(handle, action),
      reclaim: (cidr) => this.#taken.reclaim(cidr),
      tidy: (current) => this.#allocator.releaseUnselected(current),
      onSure: (handle) => this.#awaitedRequests.forgetIntent(handle),
      log,
    });
    const parts = {
      nodeName,
      datastore,
      facts,
      claims: this.#claims,
      blocks: this.#blocks,
      ledger: this.#ledger,
      writeBehind: this.#writeBehind,
    };
    this.#taken = new TakenBlocks({
      ...parts,
      isInUse: options.isInUse ?? (() => true),
      isBusy: (handle) => this.#turns.isBusy(handle),
      isReady: () => this.#state === 'ready',
      log,
    });
    this.#spare = new SpareBlocks({ ...parts, reserveSize });
    this.#gifts = new ReserveGifts({ ...parts, reserveSize, journalPath: options.journalPath, log });
    this.#unused = new UnusedAddresses({
      ...parts,
      turns: this.#turns,
      exclusively: (handle, action) => this.#exclusively(handle, action),
      release: (owned) => this.#release(owned),
    });
    this.#awaitedRequests = new AwaitedRequests({
      facts,
      allocator: this.#allocator,
      blocks: this.#blocks,
      ledger: this.#ledger,
      journal: this.#journal,
      writeBehind: this.#writeBehind,
      release: (owned) => this.#release(owned),
      log,
    });
    facts.onChange(() => {
      if (this.#state === 'ready') {
        this.#writeBehind.tidy();
        this.#writeBehind.request({ now: true });
      }
    });
  }

  /**
   * Compares blocks, journal and node, and decides what every address is; after that, requests are served. Throws `IpamError`
   * `unavailable` when the datastore can't be read: call it again. What it decided is written in the background.
   */
  async start(facts: NodeFacts): Promise<void> {
    try {
      await reconcile(
        {
          nodeName: this.#options.nodeName,
          claims: this.#claims,
          blocks: this.#blocks,
          journal: this.#journal,
          ledger: this.#ledger,
          assignExact: async (address, owner) => {
            const current = this.#options.facts.current() ?? (await this.#options.facts.refresh());
            return this.#allocator.assignExact(parseIp(address), owner, current);
          },
          compareCounts: (handle) => this.#writeBehind.compareCounts(handle),
          log: this.#options.log,
        },
        facts,
      );
      await this.#writeBehind.reserve.start();
    } catch (error) {
      throw asIpamError(error);
    }
    this.#state = 'ready';
    this.#writeBehind.request({ now: true });
  }

  async autoAssign(request: AutoAssignRequest): Promise<Assignment> {
    this.#assertReady();
    const owner = ownerOf(request, this.#options.nodeName);
    const families = wantedFamilies(request);
    if (!this.#turns.isBusy(owner.handle)) {
      const addresses = this.#gifts.take(families, request, owner);
      if (addresses !== undefined) {
        return assignmentOf(addresses);
      }
    }
    return this.#awaited(owner, (facts) =>
      families.map((family) => async () => {
        const [address] = this.#gifts.take([family], request, owner) ?? [];
        return address ?? this.#assignOne(family, request, owner, facts);
      }),
    );
  }

  async assignIps(request: AssignIpsRequest): Promise<Assignment> {
    this.#assertReady();
    const owner = ownerOf(request, this.#options.nodeName);
    const addresses = parseRequested(request.addresses);
    return this.#awaited(owner, (facts) =>
      addresses.map((ip) => async () => {
        const reserved = this.#gifts.takeExact(ip, owner, facts);
        return reserved ?? this.#allocator.assignExact(ip, owner, facts);
      }),
    );
  }

  async releaseHandle(handle: string): Promise<readonly string[]> {
    this.#assertReady();
    return this.#exclusively(handle, async () => {
      const owned = this.#ledger.ofHandle(handle);
      const released = await this.#release(owned);
      const isKnown =
        owned.length > 0 ||
        this.#ledger.decisions().some((decision) => decision.state === 'released' && decision.handle === handle);
      if (isKnown && !this.#writeBehind.isUnsure(handle)) {
        return released;
      }
      // Not of this process's making, or of unknown outcome: only the datastore can tell.
      try {
        return [...new Set([...released, ...(await this.#allocator.releaseHandle(handle))])];
      } catch (error) {
        throw asIpamError(error);
      }
    });
  }

  async addressesOf(handle: string): Promise<readonly string[]> {
    this.#assertReady();
    return this.#ledger.ofHandle(handle).map(({ address }) => address);
  }

  async allocations(): Promise<NodeAllocations> {
    this.#assertReady();
    return byHandle(this.#ledger.owned());
  }

  /** Every address of this node's workloads, given but not yet written ones too. Before the start nothing is known. */
  owned(): readonly Owned[] {
    return [...this.#ledger.owned()];
  }

  /** The CIDRs of this node's own blocks. Before the start nothing is known. */
  ownBlocks(): readonly string[] {
    const affinity = hostAffinity(this.#options.nodeName);
    return this.#blocks.specs().flatMap((spec) => (spec.affinity === affinity ? [spec.cidr] : []));
  }

  /** True while a request of that handle is under way. */
  isBusy(handle: string): boolean {
    return this.#turns.isBusy(handle);
  }

  /**
   * Releases these allocations of one handle, each only if it is still the same (its sequence), whether memory knew it or not (an address in another
   * node's block that was found there). Returns the addresses released.
   */
  async releaseLeaked(handle: string, leaked: readonly Owned[]): Promise<readonly string[]> {
    this.#assertReady();
    return this.#unused.releaseLeaked(handle, leaked);
  }

  /**
   * What a watch tells of any block of the cluster, by its object's name (undefined: it is gone): a question whether this node is alive is
   * answered, and what others freed is taken again if it is in use here.
   */
  noticeBlock(name: string, seen: IPAMBlock | undefined): void {
    this.#taken.notice(name, seen);
  }

  /** This node's blocks that it could do without; see `SpareBlocks`. */
  spareBlocks(): readonly string[] {
    this.#assertReady();
    return this.#spare.find();
  }

  /** Gives up one of them. False if it is in use by now. Throws `IpamError` `unavailable` when the datastore can't be written. */
  async releaseSpare(cidr: string): Promise<boolean> {
    this.#assertReady();
    try {
      return await this.#spare.release(cidr);
    } catch (error) {
      throw asIpamError(error);
    }
  }

  unavailableReason(): string | undefined {
    if (this.#state !== 'ready') {
      return this.#state === 'new'
        ? 'addresses have not been compared with the datastore yet'
        : 'IPAM is shutting down';
    }
    const facts = this.#options.facts.current();
    return facts === undefined || facts.pools.some((pool) => pool.closed === undefined)
      ? undefined
      : 'there is no IPPool that gives addresses; create one, or enable one';
  }

  /**
   * Releases all that this node's workloads have under other handles than the valid ones, and what was quarantined; what is still `live`
   * (an address on a link or route of this node) is left alone. No ADD may be under way whose handle is not among the valid ones. Returns
   * the addresses released. Throws `IpamError` `unavailable` when the blocks can't be read.
   */
  async gc(validHandles: ReadonlySet<string>, live: ReadonlySet<string>): Promise<readonly string[]> {
    this.#assertReady();
    const released = await this.#unused.gc(validHandles, live);
    this.#writeBehind.request({ now: true });
    return released;
  }

  /** Writes all that is decided to the datastore. Rejects with an `IpamError` when that fails; it is tried again in the background. */
  async flush(): Promise<void> {
    try {
      await this.#writeBehind.flush();
    } catch (error) {
      throw asIpamError(error);
    }
  }

  /** Clean shutdown: returns the reserve and writes what is decided. Rejects when that fails; the journal keeps it for the next start. */
  async close(): Promise<void> {
    if (this.#state === 'closed') {
      return;
    }
    const wasReady = this.#state === 'ready';
    this.#state = 'closed';
    this.#writeBehind.stop();
    await this.#turns.idle();
    try {
      if (wasReady) {
        for (const allocation of this.#ledger.reserve()) {
          this.#ledger.returnToBlock(allocation);
        }
        await this.flush();
      }
    } finally {
      this.#journal[Symbol.dispose]();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #assertReady(): void {
    if (this.#state !== 'ready') {
      throw new IpamError('unavailable', `IPAM of node ${this.#options.nodeName}: ${this.unavailableReason() ?? ''}`);
    }
  }

  /** From the datastore, and as a last resort from this node's own reserve. */
  async #assignOne(
    family: Family,
    request: AutoAssignRequest,
    owner: BlockOwner,
    facts: IpamFacts,
  ): Promise<Assigned | string> {
    const pools = poolRequest(request, family);
    try {
      return await this.#allocator.assign(family, owner, pools, facts);
    } catch (error) {
      const isLast = error instanceof IpamError && error.code === 'no-free-address';
      const reserved = isLast ? this.#gifts.takeLast(family, pools, owner, facts) : undefined;
      if (reserved === undefined) {
        throw error;
      }
      return reserved;
    }
  }

  #awaited(
    owner: BlockOwner,
    steps: (facts: IpamFacts) => readonly (() => Promise<Assigned | string>)[],
  ): Promise<Assignment> {
    return this.#exclusively(owner.handle, () => this.#awaitedRequests.run(owner, steps));
  }

  /** Decides that addresses are free, and returns them. Without a journal it waits for the datastore. */
  async #release(owned: readonly Owned[]): Promise<readonly string[]> {
    if (owned.length > 0) {
      try {
        this.#ledger.release(owned, this.#journal);
        this.#writeBehind.request({ now: false });
      } catch (error) {
        this.#options.log(
          'error',
          `journal ${this.#options.journalPath}: ${messageOf(error)}; the release waits for the datastore`,
        );
        this.#ledger.release(owned, undefined);
        await this.flush();
      }
    }
    return owned.map(({ address }) => address);
  }

  async #exclusively<T>(handle: string, action: () => Promise<T>): Promise<T> {
    try {
      return await this.#turns.run(handle, action);
    } finally {
      if (this.#writeBehind.isUnsure(handle)) {
        this.#writeBehind.request({ now: false }); // A pass had to leave it alone.
      }
    }
  }
}
