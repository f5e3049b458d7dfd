import type { Clock } from '#api/clock.ts';
import type { ApplyFailure, ApplyReport, ApplyRequest, Programmer } from '#dataplanes/contract.ts';
import type { DataplaneUpdate, EndpointId } from '#dataplanes/messages.ts';
import type { PolicyView } from '../explain/policy-view.ts';
import type { Log } from '../log.ts';
import { ApplyTurns } from './apply-turns.ts';
import { DesiredState } from './desired-state.ts';
import { EndpointWaiters } from './endpoint-waiters.ts';

/** What one cycle came to. */
export interface CycleReport {
  readonly durationMs: number;
  /** Objects that could not be programmed. */
  readonly failed: number;
  /** Things that somebody else had changed. */
  readonly repaired: number;
}

/**
 * The loop between calc and the kernel. Updates are handed to every programmer at once (`onUpdate` only records); one cycle runs at a time,
 * in which those are applied that have news or whose pause is over, and whatever came meanwhile goes into the next. What failed stays
 * dirty in its programmer and is tried again with growing pauses, whatever news comes; what someone else changed makes the programmer
 * ask for an apply itself.
 */
export class Driver implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #programmers = new Map<Programmer, ApplyTurns>();
  readonly #desired = new DesiredState();
  /** By object, why it failed, as it was logged last. */
  #said: ReadonlyMap<string, string> = new Map();
  readonly #waiters = new EndpointWaiters();
  readonly #onCycle: ((cycle: CycleReport) => void)[] = [];
  readonly #onPush: ((updates: readonly DataplaneUpdate[]) => void)[] = [];
  /** Endpoints of which something was said since the cycle began: what it did of them may be of before. */
  readonly #saidMeanwhile = new Set<EndpointId>();
  #wanted = false;
  /** How many cycles have begun. */
  #begun = 0;
  #cycle: Promise<void> | undefined;
  #cycleBegan: number | undefined;
  #stopped = false;

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Told after every cycle, for health, status and metrics. */
  onCycle(listener: (cycle: CycleReport) => void): void {
    this.#onCycle.push(listener);
  }

  /** Told of all updates, for metrics. */
  onPush(listener: (updates: readonly DataplaneUpdate[]) => void): void {
    this.#onPush.push(listener);
  }

  /** What has been pushed so far, to be read. */
  get desired(): PolicyView & { readonly setCount: number } {
    return this.#desired;
  }

  /** Takes a programmer in: it is told everything that is known, and is applied with the others from now on. */
  add(programmer: Programmer): void {
    this.#programmers.set(programmer, new ApplyTurns(this.#clock, () => this.#request()));
    programmer.onDisturbed(() => {
      if (this.#programmers.has(programmer)) this.#requestAll();
    });
    for (const update of this.#desired.replay()) programmer.onUpdate(update);
    this.#requestAll();
  }

  /** Lets a programmer go; it is not applied any more when this returns. */
  async remove(programmer: Programmer): Promise<void> {
    this.#programmers.get(programmer)?.[Symbol.dispose]();
    this.#programmers.delete(programmer);
    await this.#cycle;
  }

  push(updates: readonly DataplaneUpdate[]): void {
    if (updates.length === 0) return;
    for (const listener of this.#onPush) listener(updates);
    for (const update of updates) {
      this.#desired.record(update);
      if (update.type === 'workloadEndpointUpdate' || update.type === 'workloadEndpointRemove') {
        this.#saidMeanwhile.add(update.id);
      }
      for (const programmer of this.#programmers.keys()) programmer.onUpdate(update);
    }
    const isOfServices = updates.every(({ type }) => type === 'serviceUpdate' || type === 'serviceRemove');
    const concerned = [...this.#programmers].filter(
      ([{ programsServices }]) => !isOfServices || programsServices === true,
    );
    for (const [, turns] of concerned) turns.want({ retry: false });
    if (!isOfServices || concerned.length > 0) this.#request();
  }

  /** Resolves when the endpoint, as last pushed, is in the kernel; rejects with the last reason when the signal aborts first. */
  programmed(id: EndpointId, signal: AbortSignal): Promise<void> {
    return this.#waiters.wait(id, signal, () => this.#endpointFailure(id));
  }

  /** Resolves after a whole cycle that began after this call, or when the driver stops; what can't be programmed is in `failures`. */
  async settled(): Promise<void> {
    this.#requestAll();
    const before = this.#begun;
    while (this.#begun === before && this.#cycle !== undefined) await this.#cycle;
  }

  /** How long the cycle under way has taken so far, in ms; 0 when there is none. One that doesn't end lets no ADD succeed. */
  get cycleMs(): number {
    return this.#cycleBegan === undefined ? 0 : this.#clock.now() - this.#cycleBegan;
  }

  /** Everything that could not be programmed at the last try. */
  failures(): readonly ApplyFailure[] {
    return [...this.#programmers.values()].flatMap(({ failures }) => failures);
  }

  /** What one programmer could not program at the last try. */
  failuresOf(programmer: Programmer): readonly ApplyFailure[] {
    return this.#programmers.get(programmer)?.failures ?? [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    this.#stopTurns();
    await this.#cycle;
    this.#stopTurns();
  }

  #stopTurns(): void {
    for (const turns of this.#programmers.values()) turns[Symbol.dispose]();
  }

  #endpointFailure(id: EndpointId): string | undefined {
    return this.failures().find((failure) => failure.endpoint === id)?.reason;
  }

  /** A cycle in which all are applied, and try again what failed. */
  #requestAll(): void {
    for (const turns of this.#programmers.values()) turns.want({ retry: true });
    this.#request();
  }

  /** A cycle for those that want one. */
  #request(): void {
    this.#wanted = true;
    if (this.#stopped || this.#cycle !== undefined) return;
    this.#cycleBegan = this.#clock.now();
    this.#cycle = this.#run().finally(() => {
      this.#cycle = undefined;
      this.#cycleBegan = undefined;
      if (this.#wanted && !this.#stopped) this.#request();
    });
  }

  async #run(): Promise<void> {
    // Two turns of the event loop, so that updates which arrive together are applied together: who asks for this cycle at once (an ADD, a pod's
    // labels) may stand in the midst of a change of many objects, whose rest comes with the turn that follows.
    for (let turn = 0; turn < 2; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
    this.#wanted = false;
    this.#begun++;
    this.#saidMeanwhile.clear();
    const waiting = this.#waiters.begin();
    const began = performance.now();
    const reports = await Promise.all(
      // The dataplane, which comes after the host network, goes first: packets wait for what it does.
      [...this.#programmers].reverse().flatMap(([programmer, turns]) => {
        const request = turns.take();
        return request === undefined ? [] : this.#apply(programmer, turns, request);
      }),
    );
    this.#logReports(reports);
    this.#waiters.settle(waiting, (id) => !this.#saidMeanwhile.has(id) && this.#endpointFailure(id) === undefined);
    const cycle = {
      durationMs: performance.now() - began,
      failed: this.failures().length,
      repaired: reports.reduce((sum, { repaired }) => sum + repaired.length, 0),
    };
    for (const listener of this.#onCycle) listener(cycle);
  }

  async #apply(programmer: Programmer, turns: ApplyTurns, request: ApplyRequest): Promise<ApplyReport> {
    const report = await this.#reportOf(programmer, request);
    // One that was let go meanwhile has no more turns.
    if (this.#programmers.get(programmer) === turns) turns.done(request, report.failed);
    return report;
  }

  async #reportOf(programmer: Programmer, request: ApplyRequest): Promise<ApplyReport> {
    try {
      return await programmer.apply(request);
    } catch (error) {
      // The contract says it never throws: a defect, but one programmer's defect must not stop the others.
      this.#log.error({ err: error }, 'apply threw');
      const reason = error instanceof Error ? error.message : String(error);
      const endpoints = [...this.#desired.endpoints()].map(([endpoint]) => ({
        object: `endpoint ${endpoint}`,
        endpoint,
        reason,
      }));
      return { programmed: [], removed: [], failed: [{ object: 'dataplane', reason }, ...endpoints], repaired: [] };
    }
  }

  /** A failure is said when it comes, when its reason changes and when it is gone; not again at each try. */
  #logReports(reports: readonly ApplyReport[]): void {
    for (const what of reports.flatMap(({ repaired }) => repaired))
      this.#log.warn(`repaired what someone else changed: ${what}`);
    const failing = new Map(this.failures().map(({ object, reason }) => [object, reason]));
    for (const [object, reason] of failing)
      if (this.#said.get(object) !== reason) this.#log.warn({ object }, `could not program: ${reason}`);
    for (const object of this.#said.keys())
      if (!failing.has(object))
        this.#log.info({ object }, 'could not be programmed before, and is not failing any more');
    this.#said = failing;
  }
}
