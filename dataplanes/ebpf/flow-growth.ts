import type { Clock } from '#api/clock.ts';
import type { Family } from '#native/types.ts';
import type { FamilyFlowStats } from '../flows.ts';
import type { Logger } from '../logger.ts';

/** How long flows don't grow after larger maps could not be had, in ms. */
const pauseMs = 3_600_000;

export interface FlowGrowthDeps {
  readonly clock: Pick<Clock, 'now'>;
  readonly log: Logger;
  /**
   * Whether all that was said is in the maps, and devices, filters and netfilter are as they should be: only then are larger ones, which have to be filled with
   * the same, entered.
   */
  readonly isWhole: () => boolean;
}

/** When flows that fill their maps get twice the size (bpfMapSizeConntrackScaling), and what is said of it. */
export class FlowGrowth {
  readonly #deps: FlowGrowthDeps;
  /** Which flows fill their maps, in words. */
  #nearlyFull: string | undefined;
  /** By the clock. */
  #from = 0;
  #isHeld = false;
  /** How often the size was to be doubled for flows that have no room in it, as it was logged. */
  #needed: number | undefined;

  constructor(deps: FlowGrowthDeps) {
    this.#deps = deps;
  }

  /** Whether it may be done now. That it may not because something failed is logged once. */
  mayBegin(): boolean {
    const { clock, log, isWhole } = this.#deps;
    if (clock.now() < this.#from) return false;
    const wasHeld = this.#isHeld;
    this.#isHeld = !isWhole();
    if (this.#isHeld && !wasHeld)
      log.warn(
        'flows fill their maps, and these get no larger while not all that was said could be put into the maps, on devices and into netfilter ("tortie status" says what failed)',
      );
    return !this.#isHeld;
  }

  /** The flows in use need the configured size doubled so often. Logged once: where loading fails, it is found again by each try. */
  need(doublings: number): void {
    if (doublings === this.#needed) return;
    this.#needed = doublings;
    this.#deps.log.warn(
      `the flows in use have no room in the size that is configured: their maps get ${2 ** doublings} times that (bpfMapSizeConntrackScaling)`,
    );
  }

  /** A sweep has left these hashes nearly full. */
  notice(family: Family, { elements, maxElements }: FamilyFlowStats): void {
    this.#nearlyFull = `IPv${family} flows take ${elements} of ${maxElements} places`;
  }

  /** What was noticed since; undefined: nothing. */
  take(): string | undefined {
    const nearlyFull = this.#nearlyFull;
    this.#nearlyFull = undefined;
    return nearlyFull;
  }

  /** It is done because of what was noticed. */
  begin(nearlyFull: string): void {
    this.#deps.log.warn(`${nearlyFull}: their maps get twice the size (bpfMapSizeConntrackScaling)`);
  }

  /** Larger maps can't be had: they are not tried for an hour. */
  fail(reason: string): void {
    const { clock, log } = this.#deps;
    this.#from = clock.now() + pauseMs;
    log.error(
      `the maps of flows can't get twice the size: ${reason}. They stay as they are, and it is tried again in an hour, or when bpfMapSizeConntrack, bpfMapSizePerCpuConntrack or bpfMapSizeConntrackScaling changes; flows that find no room are refused`,
    );
  }

  /** Other settings: what failed before is tried again, and what was needed said again. */
  beginAnew(): void {
    this.#from = 0;
    this.#needed = undefined;
  }
}
