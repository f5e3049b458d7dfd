import { randomInt } from 'node:crypto';
import type { Clock } from '#api/clock.ts';
import type { Family } from '#native/types.ts';
import type { FamilyFlowStats, FlowTableStats } from '../../flows.ts';
import type { Logger } from '../../logger.ts';
import { flowConstants } from '../bpf-types.gen.ts';
import type { FlowTimeouts } from './flow-timeouts.ts';
import type { SweepProgram, SweepResult } from './sweep-program.ts';

/** What the sweeper works with. */
export interface FlowSweeperDeps {
  readonly program: Pick<SweepProgram, 'sweep'>;
  /** Asked before each sweep: the settings, and sysctls of `auto`, may change. */
  readonly timeouts: () => FlowTimeouts;
  /** How many elements a family's hashes hold together. */
  readonly maxElements: Readonly<Record<Family, number>>;
  /** Called after each sweep that leaves a family's hashes nearly full. */
  readonly onNearlyFull: (stats: FamilyFlowStats, family: Family) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** From the end of a sweep to the next, in ms. */
export const sweepPauseMs = 10_000;

/** Where hashes are nearly full: a flow more may find its own one full. */
const nearlyFull = 0.9;

const families = [4, 6] as const;
const none = { tcp: 0, udp: 0, icmp: 0, other: 0, pointer: 0 };

/**
 * Expires flows: every 10 s each of the hashes, one after the other, so that one call is short and one thread of the pool is used. A hash that fails
 * is said and tried again with the next sweep; the others are swept all the same.
 */
export class FlowSweeper implements AsyncDisposable {
  readonly #deps: FlowSweeperDeps;
  #timer: Disposable | undefined;
  #running: Promise<void> = Promise.resolve();
  #stopped = false;
  #told: string | undefined;
  /** Pointers have their turn by it: from anywhere, so that agents that all end after a few rounds leave none out for ever. */
  #round = randomInt(2 ** 32);
  #stats: FlowTableStats;

  constructor(deps: FlowSweeperDeps) {
    this.#deps = deps;
    const empty = (family: Family): FamilyFlowStats => ({
      elements: 0,
      maxElements: deps.maxElements[family],
      pointers: 0,
      deleted: none,
    });
    this.#stats = { 4: empty(4), 6: empty(6), sweeps: 0, failures: 0, seconds: 0, longestCallSeconds: 0 };
  }

  get stats(): FlowTableStats {
    return this.#stats;
  }

  /** What was said of the maps that these take the place of stays, but for their size, until the first sweep. */
  goOnFrom(former: FlowTableStats): void {
    const { maxElements } = this.#deps;
    this.#stats = {
      ...former,
      4: { ...former[4], maxElements: maxElements[4] },
      6: { ...former[6], maxElements: maxElements[6] },
    };
  }

  /** The first sweep is 10 s from now. Once. */
  start(): void {
    if (this.#stopped) return;
    this.#timer = this.#deps.clock.after(sweepPauseMs, () => {
      this.#running = this.#sweep().finally(() => this.start());
    });
  }

  /** No call is under way, and none comes, when this is done. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    this.#timer?.[Symbol.dispose]();
    await this.#running;
  }

  /** Never rejects. */
  async #sweep(): Promise<void> {
    const start = performance.now();
    const counts = new Map<Family, SweepResult[]>();
    const failures: string[] = [];
    const round = this.#round;
    this.#round += 1;
    let longest = 0;
    for (const family of families) {
      for (let shard = 0; shard < flowConstants.flowShards; shard += 1) {
        if (this.#stopped) return;
        const from = performance.now();
        try {
          const result = await this.#deps.program.sweep(family, shard, this.#deps.timeouts(), round);
          counts.set(family, [...(counts.get(family) ?? []), result]);
        } catch (error) {
          failures.push(`IPv${family} flows, hash ${shard}: ${(error as Error).message}`);
        }
        longest = Math.max(longest, performance.now() - from);
      }
    }
    const { sweeps, failures: before } = this.#stats;
    const failure = failures[0];
    this.#stats = {
      4: after(this.#stats[4], counts.get(4)),
      6: after(this.#stats[6], counts.get(6)),
      sweeps: sweeps + 1,
      failures: before + failures.length,
      seconds: (performance.now() - start) / 1000,
      longestCallSeconds: longest / 1000,
      ...(failure !== undefined && { failure }),
    };
    this.#tell(failure);
    // Who sweeps other maps by now hears nothing of these.
    if (this.#stopped) return;
    for (const family of families) {
      const stats = this.#stats[family];
      if (stats.elements >= nearlyFull * stats.maxElements) this.#deps.onNearlyFull(stats, family);
    }
  }

  /** Each reason once, and once that it is over. */
  #tell(failure: string | undefined): void {
    if (failure === this.#told) return;
    if (failure === undefined) this.#deps.log.info('flows are forgotten again when their time is over');
    else
      this.#deps.log.error(
        `flows whose time is over can't be forgotten: ${failure}. It is tried again every 10 s; until then the table of flows only grows`,
      );
    this.#told = failure;
  }
}

/** A family's hashes that were swept, added to what was before; as it was when none was. */
function after(before: FamilyFlowStats, results: readonly SweepResult[] | undefined): FamilyFlowStats {
  if (results === undefined) return before;
  const sum = (field: keyof SweepResult): number => results.reduce((total, result) => total + result[field], 0);
  const { deleted } = before;
  const gone = {
    tcp: sum('deletedTcp'),
    udp: sum('deletedUdp'),
    icmp: sum('deletedIcmp'),
    other: sum('deletedOther'),
    pointer: sum('deletedPointers'),
  };
  return {
    ...before,
    elements: sum('visited') - Object.values(gone).reduce((total, count) => total + count, 0),
    pointers: sum('pointers') - gone.pointer,
    deleted: {
      tcp: deleted.tcp + gone.tcp,
      udp: deleted.udp + gone.udp,
      icmp: deleted.icmp + gone.icmp,
      other: deleted.other + gone.other,
      pointer: deleted.pointer + gone.pointer,
    },
  };
}
