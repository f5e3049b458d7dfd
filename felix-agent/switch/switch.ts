import { withoutPrefix } from '#api/cidr.ts';
import type { Clock } from '#api/clock.ts';
import type { Dataplane, DataplaneFactory } from '#dataplanes/contract.ts';
import type { NetlinkOp } from '#native/types.ts';
import type { Driver } from '../driver/driver.ts';
import type { Log } from '../log.ts';
import type { ActiveFile } from './active-file.ts';
import { FlowTakeOver } from './flow-take-over.ts';

/** What status and readiness say about the dataplanes. */
export interface SwitchStatus {
  readonly active: string | undefined;
  readonly wanted: string;
  /** Why the wanted one isn't the active one. */
  readonly reasons: readonly string[];
}

/** Pause before a switch that failed is tried again, in ms. */
const retryMs = 30_000;

/**
 * Puts the wanted dataplane into the packets' path, at start and whenever the wish changes. Order of a switch from A to B: B is told
 * everything and applied; only when nothing failed, B takes over the flows of this node's pods and enters the path (`activate`), then A leaves
 * it (`release`) and is removed (`cleanup`): at no moment is there none. Whatever fails before `activate` leaves A as it was; flows that can't be
 * carried over don't stop the switch.
 */
export class DataplaneSwitch implements AsyncDisposable {
  readonly #factories: ReadonlyMap<string, DataplaneFactory>;
  readonly #driver: Driver;
  readonly #file: ActiveFile;
  readonly #clock: Clock;
  readonly #log: Log;
  /** In the path, and perhaps the one that is about to be. */
  readonly #present: Dataplane[] = [];
  #active: Dataplane | undefined;
  #wanted = '';
  #reasons: readonly string[] = [];
  #work: Promise<void> = Promise.resolve();
  #retry: Disposable | undefined;
  #sweep: Disposable | undefined;
  #closed = false;
  /** The kind that `lookAhead` has tried, and whether it can run here. */
  #tried: { readonly kind: string; readonly canRun: Promise<boolean> } | undefined;

  constructor(factories: readonly DataplaneFactory[], driver: Driver, file: ActiveFile, clock: Clock, log: Log) {
    this.#factories = new Map(factories.map((factory) => [factory.kind, factory]));
    this.#driver = driver;
    this.#file = file;
    this.#clock = clock;
    this.#log = log;
  }

  status(): SwitchStatus {
    return { active: this.#active?.kind, wanted: this.#wanted, reasons: this.#reasons };
  }

  get active(): Dataplane | undefined {
    return this.#active;
  }

  /** What a new pod device needs: while a switch is under way, of both dataplanes. */
  podDeviceOps(ifaceName: string): readonly NetlinkOp[] {
    return this.#present.flatMap((dataplane) => dataplane.podDeviceOps(ifaceName));
  }

  /** The same on a device that is there, where a plugin after ours will put the qdisc `ingress`. */
  async linkPodDevice(ifaceName: string): Promise<void> {
    for (const dataplane of [...this.#present]) await dataplane.linkPodDevice?.(ifaceName);
  }

  /**
   * Tries the dataplane that an earlier agent left in the path, which `start` enters first, while the datastore is still being read. Only a yes is
   * used: what is refused now may have come until then, and is tried again.
   */
  lookAhead(): void {
    const kind = this.#file.read();
    const factory = kind === undefined ? undefined : this.#factories.get(kind);
    if (kind === undefined || factory === undefined) return;
    this.#tried = { kind, canRun: this.#canRun(factory) };
  }

  /** First takes over the dataplane that an earlier agent left in the path, then goes to the wanted one; resolves when that is done or refused. */
  async start(wanted: string): Promise<void> {
    const earlier = this.#file.read();
    if (earlier !== undefined && earlier !== wanted && this.#factories.has(earlier)) {
      this.#wanted = earlier;
      await this.#enqueue(() => this.#goTo(earlier));
    }
    await this.want(wanted);
    await this.#enqueue(() => this.#sweepOthers());
  }

  /** Resolves when the switch is done or refused (then `status` says why, and it is tried again later). */
  async want(kind: string): Promise<void> {
    this.#wanted = kind;
    await this.#enqueue(() => this.#goTo(kind));
  }

  /** Lets go of the dataplanes; what they programmed stays in the kernel. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.#work;
    await this.#tried?.canRun;
    this.#retry?.[Symbol.dispose]();
    this.#sweep?.[Symbol.dispose]();
    for (const dataplane of this.#present.splice(0)) {
      await this.#driver.remove(dataplane);
      await this.#letGo(dataplane);
    }
  }

  #enqueue(step: () => Promise<void>): Promise<void> {
    this.#work = this.#work.then(async () => {
      if (!this.#closed) await step();
    });
    return this.#work;
  }

  async #goTo(kind: string): Promise<void> {
    if (this.#wanted !== kind) return; // A later wish is queued.
    this.#retry?.[Symbol.dispose]();
    if (this.#active?.kind === kind) {
      this.#reasons = [];
      return;
    }
    const factory = this.#factories.get(kind);
    if (factory === undefined) {
      this.#refuse(kind, [`there is no dataplane called ${kind}; known: ${[...this.#factories.keys()].join(', ')}`]);
      return;
    }
    let next: Dataplane | undefined;
    try {
      next = factory.create();
      const missing = (await this.#isKnownToRun(kind)) ? [] : await next.probe();
      if (missing.length > 0) {
        this.#refuse(kind, missing);
        await this.#letGo(next);
        return;
      }
      await this.#enter(next);
    } catch (error) {
      this.#log.error({ dataplane: kind, err: error }, 'switching dataplanes failed');
      this.#refuse(kind, [error instanceof Error ? error.message : String(error)]);
      if (next !== undefined && this.#active !== next) await this.#drop(next);
    }
  }

  /** What `lookAhead` found, once. */
  async #isKnownToRun(kind: string): Promise<boolean> {
    const tried = this.#tried;
    this.#tried = undefined;
    return tried?.kind === kind && (await tried.canRun);
  }

  async #canRun(factory: DataplaneFactory): Promise<boolean> {
    try {
      const dataplane = factory.create();
      try {
        return (await dataplane.probe()).length === 0;
      } finally {
        await this.#letGo(dataplane);
      }
    } catch {
      return false; // The next one throws again, to somebody who says it.
    }
  }

  async #enter(next: Dataplane): Promise<void> {
    const previous = this.#active;
    this.#log.info({ from: previous?.kind, to: next.kind }, 'dataplane: programming');
    this.#present.push(next);
    this.#driver.add(next);
    await this.#driver.settled();
    const failures = this.#driver.failuresOf(next);
    // On a node that has no dataplane yet, one that works in part is better than none: its failures are retried and reported.
    if (failures.length > 0 && previous !== undefined) {
      this.#refuse(
        next.kind,
        failures.map(({ object, reason }) => `${object}: ${reason}`),
      );
      await this.#drop(next);
      return;
    }
    await using takeOver = new FlowTakeOver(previous?.flows, next.flows, () => this.#pods(), this.#log);
    await takeOver.begin();
    await next.activate();
    this.#active = next;
    this.#reasons = [];
    this.#log.info({ dataplane: next.kind }, 'dataplane: active');
    this.#remember(next.kind);
    if (previous !== undefined) {
      await takeOver.beforeRelease();
      // What it doesn't let go of now, its cleanup removes, which is tried until it succeeds.
      await previous
        .release()
        .catch((error: unknown) => this.#log.warn({ dataplane: previous.kind, err: error }, 'did not leave the path'));
      await this.#drop(previous);
    }
  }

  /** The addresses of this node's pods. */
  #pods(): ReadonlySet<string> {
    const nets = [...this.#driver.desired.endpoints()].flatMap(([, { ipv4Nets, ipv6Nets }]) => [
      ...ipv4Nets,
      ...ipv6Nets,
    ]);
    return new Set(nets.map((net) => withoutPrefix(net)));
  }

  /** There is no way back from here: a file that can't be written only makes the next start take a detour. */
  #remember(kind: string): void {
    try {
      this.#file.write(kind);
    } catch (error) {
      this.#log.error({ dataplane: kind, err: error }, 'could not write which dataplane is active into the state dir');
    }
  }

  /** Takes a dataplane out of the loop and off the node. */
  async #drop(dataplane: Dataplane): Promise<void> {
    const index = this.#present.indexOf(dataplane);
    if (index >= 0) this.#present.splice(index, 1);
    await this.#driver.remove(dataplane);
    await this.#cleanUp(dataplane);
  }

  /** Removes every trace of a dataplane that is not in the path; what can't be removed now is tried again later. */
  async #cleanUp(dataplane: Dataplane): Promise<void> {
    try {
      await dataplane.cleanup();
    } catch (error) {
      this.#sweepLater(dataplane.kind, error);
    }
    await this.#letGo(dataplane);
  }

  #sweepLater(kind: string, error: unknown): void {
    this.#log.warn({ dataplane: kind, retryMs, err: error }, 'could not remove all traces of a dataplane');
    this.#sweep?.[Symbol.dispose]();
    this.#sweep = this.#clock.after(retryMs, () => void this.#enqueue(() => this.#sweepOthers()));
  }

  async #letGo(dataplane: Dataplane): Promise<void> {
    try {
      await dataplane[Symbol.asyncDispose]();
    } catch (error) {
      this.#log.warn({ dataplane: dataplane.kind, err: error }, 'could not close a dataplane');
    }
  }

  /** What a crash in the middle of a switch left of the dataplanes that are not active. */
  async #sweepOthers(): Promise<void> {
    for (const [kind, factory] of this.#factories) {
      if (kind === this.#active?.kind || this.#active === undefined) continue;
      let dataplane: Dataplane;
      try {
        dataplane = factory.create();
      } catch (error) {
        this.#sweepLater(kind, error);
        continue;
      }
      await this.#cleanUp(dataplane);
    }
  }

  #refuse(kind: string, reasons: readonly string[]): void {
    this.#reasons = reasons.map((reason) => `${kind}: ${reason}`);
    this.#log.error({ dataplane: kind, active: this.#active?.kind, reasons }, 'the wanted dataplane cannot be used');
    this.#retry = this.#clock.after(retryMs, () => {
      if (this.#wanted === kind) void this.#enqueue(() => this.#goTo(kind));
    });
  }
}
