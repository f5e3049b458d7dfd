import type { Clock } from '#api/clock.ts';
import { messageOf } from '#api/errors.ts';
import { addressesIn } from './allocations.ts';
import { allocationAt, handOver, releaseOrdinals, takeExact, touch, type BlockSpec, type Cooling } from './block.ts';
import type { FactsSource } from './facts.ts';
import type { HandleCounts } from './handles.ts';
import type { Decision, GiveDecision, QuarantineDecision, ReleaseDecision } from './ledger.ts';
import type { IpamFacts } from './pools.ts';
import { Passes } from './passes.ts';
import type { ReservePlan } from './reserve-plan.ts';
import { ReserveWrites, type Refill, type ReserveWritesDeps } from './reserve-writes.ts';

export interface WriteBehindDeps extends ReserveWritesDeps {
  readonly clock: Clock;
  readonly facts: FactsSource;
  readonly cooling: () => Cooling;
  /** True while a request of that handle is under way: its counts are not to be lowered. */
  readonly isBusy: (handle: string) => boolean;
  /** Requests of that handle wait meanwhile: what they count up must not be taken for too much. Only for one that isn't busy. */
  readonly exclusively: <T>(handle: string, action: () => Promise<T>) => Promise<T>;
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
  /** The reserve's part of the passes. */
  readonly reserve: ReserveWrites;
  readonly #deps: WriteBehindDeps;
  readonly #unsure = new Set<string>();
  readonly #passes: Passes;
  /** Blocks whose question could not be answered yet. */
  readonly #challenged = new Set<string>();
  readonly #answering = new Set<Promise<void>>();
  #isToTidy = true;
  #isStopped = false;

  constructor(deps: WriteBehindDeps) {
    this.#deps = deps;
    this.reserve = new ReserveWrites(deps);
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
    const answered = this.#answer(cidr)
      .catch(() => this.request({ now: true }))
      .finally(() => this.#answering.delete(answered));
    this.#answering.add(answered);
  }

  /** Asks for a pass soon; `now`: without waiting for more to write. */
  request(options: { readonly now: boolean }): void {
    this.#passes.request(options);
  }

  /** Writes everything that is decided by now. Rejects with the first failure; the rest is tried all the same. */
  async flush(): Promise<void> {
    await Promise.all(this.#answering);
    await this.#passes.flush();
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
    const refill: ReservePlan['refill'] = current === undefined ? new Map() : this.reserve.plan(current);
    await attempt(() => this.reserve.raise(refill));
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
      await attempt(() => this.reserve.lower());
    }
    if (this.#isToTidy && current !== undefined) {
      await attempt(async () => {
        this.#isToTidy = false; // Pools that change meanwhile are the next pass's.
        try {
          await this.#deps.tidy(current);
        } catch (error) {
          this.#isToTidy = true;
          throw error;
        }
      });
    }
    for (const handle of this.#unsure) {
      if (!this.#deps.isBusy(handle)) {
        await attempt(() => this.#deps.exclusively(handle, () => this.#compareCounts(handle)));
      }
    }
    return failures;
  }

  #isToWrite(decision: Decision): decision is Writable {
    switch (decision.state) {
      case 'disputed':
        return false;
      case 'quarantined':
        // The block needs to be written only if it does not say so yet.
        return !this.reserve.has(decision.cidr, decision.ordinal);
      case 'given':
      case 'released':
        return true;
    }
  }

  async #answer(cidr: string): Promise<void> {
    this.#challenged.delete(cidr); // Who asks once more meanwhile is answered once more.
    try {
      await this.#deps.blocks.edit(cidr, (spec) => ({ spec: touch(spec), result: undefined }));
    } catch (error) {
      this.#challenged.add(cidr);
      throw error;
    }
  }

  /** Writes a block; returns the releases that it has got. */
  async #write(cidr: string, decisions: readonly Writable[], refill: Refill): Promise<readonly ReleaseDecision[]> {
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
      return { spec: this.reserve.refill(spec, refill), result: { lost, spec } };
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
    } else if (handle !== this.reserve.owner.handle) {
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
        if (!isSame || (stored?.handle !== this.reserve.owner.handle && stored?.handle !== decision.handle)) {
          return spec;
        }
        const cooling = this.#deps.cooling();
        // What nobody has used needs no cooling down.
        return releaseOrdinals(
          spec,
          [ordinal],
          decision.handle === this.reserve.owner.handle ? { ...cooling, cooldownSeconds: 0 } : cooling,
        );
      }
      case 'quarantined':
        return takeExact(spec, ordinal, this.reserve.owner) ?? spec;
    }
  }

  async #compareCounts(handle: string): Promise<void> {
    const { handles, blocks, ledger } = this.#deps;
    const counts = (await handles.counts(handle)) ?? {};
    const found: Record<string, number> = {};
    for (const cidr of Object.keys(counts)) {
      const outcome = await blocks.edit(cidr, (spec) => ({
        result: addressesIn(spec).filter((one) => one.handle === handle).length,
      }));
      found[cidr] = Math.max(outcome?.result ?? 0, ledger.count(handle, cidr));
    }
    await handles.change(handle, (now) => ({ ...now, ...found }));
    this.#unsure.delete(handle);
    this.#deps.onSure(handle);
  }
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
