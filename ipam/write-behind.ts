import type { Clock } from '#api/clock.ts';
import { hostAffinity } from '#api/names.ts';
import { addressesIn, reserveAttributes, reserveHandle } from './allocations.ts';
import {
  allocationAt,
  handOver,
  releaseOrdinals,
  takeExact,
  takeFree,
  touch,
  type BlockSpec,
  type Cooling,
} from './block.ts';
import type { CachedBlocks } from './cached-blocks.ts';
import type { FactsSource } from './facts.ts';
import type { HandleCounts, Handles } from './handles.ts';
import type { Decision, GiveDecision, Ledger, QuarantineDecision, ReleaseDecision } from './ledger.ts';
import type { IpamFacts } from './pools.ts';
import { Passes } from './passes.ts';
import { messageOf } from './requests.ts';
import { ReserveCount } from './reserve-count.ts';
import { planReserve, type ReservePlan } from './reserve-plan.ts';

export interface WriteBehindDeps {
  readonly nodeName: string;
  readonly clock: Clock;
  readonly facts: FactsSource;
  readonly blocks: CachedBlocks;
  readonly ledger: Ledger;
  readonly handles: Handles;
  readonly cooling: () => Cooling;
  /** Addresses that the reserve holds per family, at most. */
  readonly reserveSize: number;
  /** True while a request of that handle is under way: its counts are not to be lowered. */
  readonly isBusy: (handle: string) => boolean;
  /** Claims a block that is gone, if its pool still has such blocks. False: there is none, this node's or another's. */
  readonly reclaim: (cidr: string) => Promise<boolean>;
  /** Gives up this node's empty blocks that no pool justifies any more. */
  readonly tidy: (facts: IpamFacts) => Promise<void>;
  /** A handle whose counts were unsure has been compared with the blocks. */
  readonly onSure: (handle: string) => void;
  readonly log: (level: 'warn' | 'error', message: string) => void;
}

type Writable = GiveDecision | ReleaseDecision | QuarantineDecision;

/**
 * Brings decisions to the datastore, in passes: one write per block with all its releases, hand-overs and the reserve's refill; handles
 * are counted up before and down after. What fails stays for the next pass, which comes after a growing delay.
 */
export class WriteBehind {
  readonly #deps: WriteBehindDeps;
  readonly #reserve: { readonly handle: string; readonly attributes: Readonly<Record<string, string>> };
  readonly #count: ReserveCount;
  readonly #unsure = new Set<string>();
  readonly #passes: Passes;
  readonly #challenged = new Set<string>();
  readonly #closing = new Set<string>();
  #isToTidy = true;
  #isStopped = false;

  constructor(deps: WriteBehindDeps) {
    this.#deps = deps;
    this.#reserve = { handle: reserveHandle(deps.nodeName), attributes: reserveAttributes(deps.nodeName) };
    this.#count = new ReserveCount(deps.handles, this.#reserve.handle);
    this.#passes = new Passes(
      deps.clock,
      () => this.#pass(),
      (failures, retryAfterMs) =>
        deps.log(
          'warn',
          `writing addresses failed, next try in ${retryAfterMs} ms: ${failures.map(messageOf).join('; ')}`,
        ),
    );
  }

  /** Reads what the reserve's handle counts; before the first pass. */
  async start(): Promise<void> {
    await this.#count.read();
  }

  /** A handle's counts may be too high: the next pass compares them with the blocks. */
  compareCounts(handle: string): void {
    this.#unsure.add(handle);
  }

  /** True if the handle's counts may be too high. */
  isUnsure(handle: string): boolean {
    return this.#unsure.has(handle);
  }

  /** Pools changed: the next pass also gives up blocks that no pool justifies any more. */
  tidy(): void {
    this.#isToTidy = true;
  }

  /** Writes to this block, and so says that this node is alive: at once, because a pass under way may take long; the passes try again. */
  answer(cidr: string): void {
    this.#challenged.add(cidr);
    this.#answer(cidr).catch(() => {}); // The pass that comes meets the same failure, if it lasts.
    this.request({ now: true });
  }

  /** Somebody else has freed addresses of this node: what is known of the reserve's handle may be wrong. */
  onTaken(): void {
    this.#count.doubt();
  }

  /** From now on (or no longer) the reserve has nothing in this block. */
  setClosing(cidr: string, isClosing: boolean): void {
    if (isClosing) {
      this.#closing.add(cidr);
    } else {
      this.#closing.delete(cidr);
    }
  }

  /** Asks for a pass soon; `now`: without waiting for more to write. */
  request(options: { readonly now: boolean }): void {
    this.#passes.request(options);
  }

  /** Writes everything that is decided by now. Rejects with the first failure; the rest is tried all the same. */
  flush(): Promise<void> {
    return this.#passes.flush();
  }

  /** No more passes, and no more refill, except by `flush`. */
  stop(): void {
    this.#isStopped = true;
    this.#passes.stop();
  }

  /** Returns what failed. */
  async #pass(): Promise<readonly unknown[]> {
    const failures: unknown[] = [];
    const attempt = async (action: () => Promise<void>): Promise<void> => {
      try {
        await action();
      } catch (error) {
        failures.push(error);
      }
    };
    await Promise.all([...this.#challenged].map((cidr) => attempt(() => this.#answer(cidr))));
    const current = this.#isStopped ? undefined : this.#deps.facts.current();
    const refill = current === undefined ? new Map() : this.#plan(current);
    await attempt(() => this.#raiseReserve(refill));
    const decisions = this.#deps.ledger.decisions().filter((decision) => this.#isToWrite(decision));
    const uncounted = new Set<string>();
    await Promise.all(
      [...blocksByHandle(decisions.filter(({ state }) => state === 'given'))].map(([handle, cidrs]) =>
        attempt(() => this.#raise(handle, cidrs, uncounted)),
      ),
    );
    const byCidr = new Map<string, Writable[]>([...refill.keys()].map((cidr) => [cidr, []]));
    for (const decision of decisions) {
      // A block may not know an owner whose handle does not count it.
      if (decision.state !== 'given' || !uncounted.has(decision.owner.handle)) {
        byCidr.set(decision.cidr, [...(byCidr.get(decision.cidr) ?? []), decision]);
      }
    }
    const released: ReleaseDecision[] = [];
    await Promise.all(
      [...byCidr].map(([cidr, ofBlock]) =>
        attempt(async () => void released.push(...(await this.#write(cidr, ofBlock, refill.get(cidr))))),
      ),
    );
    await Promise.all(
      [...blocksByHandle(released)].map(([handle, cidrs]) => attempt(() => this.#lower(handle, cidrs, released))),
    );
    if (failures.length === 0 && !this.#deps.blocks.isUnsure()) {
      await attempt(() => this.#lowerReserve());
    }
    if (this.#isToTidy && current !== undefined) {
      await attempt(async () => {
        await this.#deps.tidy(current);
        this.#isToTidy = false;
      });
    }
    for (const handle of this.#unsure) {
      if (!this.#deps.isBusy(handle)) {
        await attempt(() => this.#compareCounts(handle));
      }
    }
    return failures;
  }

  /** Lets go of the reserve's surplus, and says what it lacks. */
  #plan(facts: IpamFacts): ReservePlan['refill'] {
    const { blocks, ledger, reserveSize } = this.#deps;
    const own = blocks.collected().filter((spec) => this.#isOwn(spec) && !this.#closing.has(spec.cidr));
    const isHeld = (cidr: string, ordinal: number) => ledger.isHeld(cidr, ordinal);
    const plan = planReserve(facts, own, ledger.reserve(), isHeld, reserveSize);
    for (const allocation of plan.surplus) {
      ledger.returnToBlock(allocation);
    }
    return plan.refill;
  }

  #isToWrite(decision: Decision): decision is Writable {
    switch (decision.state) {
      case 'disputed':
        return false;
      case 'quarantined':
        // The block needs to be written only if it does not say so yet.
        return !this.#reserveIn(decision.cidr).has(decision.ordinal);
      case 'given':
      case 'released':
        return true;
    }
  }

  async #answer(cidr: string): Promise<void> {
    await this.#deps.blocks.edit(cidr, (spec) => ({ spec: touch(spec), result: undefined }));
    this.#challenged.delete(cidr);
  }

  /** Writes a block; returns the releases that it has got. */
  async #write(cidr: string, decisions: readonly Writable[], refill: RefillOf): Promise<readonly ReleaseDecision[]> {
    const { ledger, blocks, reclaim } = this.#deps;
    const edit = (before: BlockSpec) => {
      let spec = before;
      const lost: Decision[] = [];
      for (const decision of decisions) {
        const next = ledger.isCurrent(decision) ? this.#apply(spec, decision) : spec;
        if (next === undefined) {
          lost.push(decision);
        }
        spec = next ?? spec;
      }
      return { spec: this.#refill(spec, refill), result: { lost, spec } };
    };
    let outcome = await blocks.edit(cidr, edit);
    const isInUse = decisions.some((decision) => decision.state !== 'released' && ledger.isCurrent(decision));
    if (outcome === undefined && isInUse && (await reclaim(cidr))) {
      outcome = await blocks.edit(cidr, edit);
    }
    for (const decision of decisions) {
      if (decision.state === 'given') {
        const isLost = outcome === undefined || outcome.result.lost.includes(decision);
        this.#afterGive(decision, isLost ? undefined : outcome?.result.spec);
      }
    }
    return decisions.filter((decision) => decision.state === 'released');
  }

  /** `written`: the block that has it now; undefined if there is none, or the address is someone else's. */
  #afterGive(decision: GiveDecision, written: BlockSpec | undefined): void {
    const { ledger, blocks, log } = this.#deps;
    const isCurrent = ledger.isCurrent(decision);
    const { address, cidr, ordinal, owner } = decision;
    ledger.settle(decision);
    if (written === undefined && isCurrent) {
      log(
        'error',
        `${address} is used by handle ${owner.handle} on this node, but block ${cidr} is gone or says it is someone else's`,
      );
      ledger.decide({ state: 'disputed', address, cidr, ordinal, owner });
    }
    const sequence = written === undefined ? undefined : allocationAt(written, ordinal)?.sequence;
    if (sequence !== undefined && isCurrent && !blocks.holds(cidr)) {
      ledger.borrow({ address, cidr, ordinal, ...owner, sequence, releasedAt: undefined });
    }
  }

  /** Counts a handle's new addresses before their blocks are written. */
  async #raise(handle: string, cidrs: ReadonlySet<string>, uncounted: Set<string>): Promise<void> {
    const { handles, ledger } = this.#deps;
    const raised = (counts: HandleCounts) =>
      Object.fromEntries([...cidrs].map((cidr) => [cidr, Math.max(counts[cidr] ?? 0, ledger.count(handle, cidr))]));
    uncounted.add(handle);
    await handles.change(handle, (counts) => ({ ...counts, ...raised(counts) }), { expectNew: true });
    uncounted.delete(handle);
  }

  /** Counts down what the blocks have let go of; with that the releases are done. */
  async #lower(handle: string, cidrs: ReadonlySet<string>, released: readonly ReleaseDecision[]): Promise<void> {
    const { handles, ledger, isBusy } = this.#deps;
    if (isBusy(handle)) {
      this.#unsure.add(handle);
    } else if (handle !== this.#reserve.handle) {
      const lowered = (counts: HandleCounts) =>
        Object.fromEntries([...cidrs].map((cidr) => [cidr, Math.min(counts[cidr] ?? 0, ledger.count(handle, cidr))]));
      await handles.change(handle, (counts) => ({ ...counts, ...lowered(counts) }));
    }
    for (const decision of released) {
      if (decision.handle === handle) {
        ledger.settle(decision);
      }
    }
  }

  /** The spec with the decision carried out; undefined if the address turns out to be someone else's. */
  #apply(spec: BlockSpec, decision: Writable): BlockSpec | undefined {
    const { ordinal } = decision;
    const stored = allocationAt(spec, ordinal);
    switch (decision.state) {
      case 'given': {
        const { from, owner } = decision;
        if (stored === undefined) {
          return takeExact(spec, ordinal, owner); // Also where somebody freed it meanwhile: it is in use here, and nobody's there.
        }
        if (stored.handle === owner.handle && stored.releasedAt === undefined) {
          return spec;
        }
        const isExpected =
          from !== undefined && stored.handle === from.handle && String(stored.sequence) === from.sequence;
        return isExpected ? handOver(spec, ordinal, owner) : undefined;
      }
      case 'released': {
        const isSame = decision.sequence === undefined || String(stored?.sequence) === decision.sequence;
        if (!isSame || (stored?.handle !== this.#reserve.handle && stored?.handle !== decision.handle)) {
          return spec;
        }
        const cooling = this.#deps.cooling();
        // What nobody has used needs no cooling down.
        return releaseOrdinals(
          spec,
          [ordinal],
          decision.handle === this.#reserve.handle ? { ...cooling, cooldownSeconds: 0 } : cooling,
        );
      }
      case 'quarantined':
        return takeExact(spec, ordinal, this.#reserve) ?? spec;
    }
  }

  /** Never more than the reserve's handle counts for the block. */
  #refill(spec: BlockSpec, refill: RefillOf): BlockSpec {
    if (refill === undefined || !this.#isOwn(spec)) {
      return spec;
    }
    const room = this.#count.of(spec.cidr) - this.#reserveOf(spec).length;
    return takeFree(spec, this.#reserve, Math.min(refill.count, Math.max(0, room)), refill.allowed).spec;
  }

  /** Counts up for what the pass may take. */
  async #raiseReserve(refill: ReservePlan['refill']): Promise<void> {
    const needed: Record<string, number> = {};
    const { ledger } = this.#deps;
    const leaving = new Set(
      ledger.decisions().flatMap(({ state, address }) => (state === 'quarantined' ? [] : [address])),
    );
    const cidrs = new Set([
      ...refill.keys(),
      ...ledger.decisions().flatMap(({ state, cidr }) => (state === 'quarantined' ? [cidr] : [])),
    ]);
    for (const cidr of cidrs) {
      const staying = addressesUnder(this.#deps.blocks.specs(), cidr, this.#reserve.handle).filter(
        ({ address }) => !leaving.has(address),
      );
      const joining = ledger
        .decisions()
        .filter((decision) => decision.state === 'quarantined' && decision.cidr === cidr && this.#isToWrite(decision));
      needed[cidr] = staying.length + joining.length + (refill.get(cidr)?.count ?? 0);
    }
    await this.#count.atLeast(needed);
  }

  /** Counts down to what the blocks say. */
  async #lowerReserve(): Promise<void> {
    const counts: Record<string, number> = {};
    for (const spec of this.#deps.blocks.specs()) {
      counts[spec.cidr] = this.#reserveOf(spec).length;
    }
    // In a block of someone else, what is left of a reserve is still to be released.
    for (const { state, cidr } of this.#deps.ledger.decisions()) {
      if (state === 'released' && counts[cidr] === undefined) {
        counts[cidr] = this.#count.of(cidr);
      }
    }
    await this.#count.write(counts);
  }

  async #compareCounts(handle: string): Promise<void> {
    const { handles, blocks, ledger } = this.#deps;
    const counts = (await handles.counts(handle)) ?? {};
    const found: Record<string, number> = {};
    for (const cidr of Object.keys(counts)) {
      const outcome = await blocks.edit(cidr, (spec) => ({ result: addressesUnder([spec], cidr, handle).length }));
      found[cidr] = Math.max(outcome?.result ?? 0, ledger.count(handle, cidr));
    }
    await handles.change(handle, (now) => ({ ...now, ...found }));
    this.#unsure.delete(handle);
    this.#deps.onSure(handle);
  }

  #isOwn(spec: BlockSpec): boolean {
    return spec.affinity === hostAffinity(this.#deps.nodeName);
  }

  #reserveOf(spec: BlockSpec): readonly { readonly ordinal: number }[] {
    return addressesUnder([spec], spec.cidr, this.#reserve.handle);
  }

  #reserveIn(cidr: string): ReadonlySet<number> {
    return new Set(addressesUnder(this.#deps.blocks.specs(), cidr, this.#reserve.handle).map(({ ordinal }) => ordinal));
  }
}

type RefillOf = ReturnType<ReservePlan['refill']['get']>;

function addressesUnder(specs: readonly BlockSpec[], cidr: string, handle: string): ReturnType<typeof addressesIn> {
  return specs
    .filter((spec) => spec.cidr === cidr)
    .flatMap((spec) => addressesIn(spec).filter((allocation) => allocation.handle === handle));
}

/** For each handle the blocks concerned. */
function blocksByHandle(decisions: readonly Decision[]): ReadonlyMap<string, ReadonlySet<string>> {
  const result = new Map<string, Set<string>>();
  for (const decision of decisions) {
    const handle = 'owner' in decision ? decision.owner.handle : 'handle' in decision ? decision.handle : undefined;
    if (handle !== undefined) {
      result.set(handle, (result.get(handle) ?? new Set()).add(decision.cidr));
    }
  }
  return result;
}
