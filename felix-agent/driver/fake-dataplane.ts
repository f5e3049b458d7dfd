import type {
  ApplyFailure,
  ApplyReport,
  ApplyRequest,
  Dataplane,
  DeviceCounters,
  Counter,
} from '#dataplanes/contract.ts';
import type { DataplaneUpdate } from '#dataplanes/messages.ts';
import type { RuleId } from '#dataplanes/policy.ts';

/** A dataplane without a kernel, for tests of what stands above it: records what it is told, and fails on demand. */
export class FakeDataplane implements Dataplane {
  readonly kind: string;
  readonly capabilities = {
    countsDropsPerDevice: false,
    enforcesPolicy: true,
    closesUnknownDevices: true,
    translatesServices: false,
    translatesForNode: false,
  };
  readonly updates: DataplaneUpdate[] = [];
  /** `activate`, `release`, `cleanup`, ... in the order they came; shared between fakes to see both. */
  readonly events: string[];
  applies = 0;
  programsServices?: boolean;
  /** Of each apply, whether it was asked to try again what failed. */
  readonly retries: boolean[] = [];
  /** What every apply reports as failed until it is emptied. */
  failing: ApplyFailure[] = [];
  /** Missing kernel features. */
  missing: string[] = [];
  /** Held: an apply waits for it. */
  gate: Promise<void> = Promise.resolve();
  /** Thrown by `cleanup` that often. */
  cleanupFailures = 0;
  #disturbed: () => void = () => {};

  constructor(kind = 'fake', events: string[] = []) {
    this.kind = kind;
    this.events = events;
  }

  onUpdate(update: DataplaneUpdate): void {
    this.updates.push(update);
  }

  async apply({ retry }: ApplyRequest): Promise<ApplyReport> {
    this.applies++;
    this.retries.push(retry);
    await this.gate;
    return { programmed: [], removed: [], failed: [...this.failing], repaired: [] };
  }

  requestResync(): void {}

  onDisturbed(listener: () => void): void {
    this.#disturbed = listener;
  }

  disturb(): void {
    this.#disturbed();
  }

  async probe(): Promise<readonly string[]> {
    return this.missing;
  }

  podDeviceOps(ifaceName: string): ReturnType<Dataplane['podDeviceOps']> {
    return [{ op: 'link.set', link: ifaceName, alias: this.kind }];
  }

  async activate(): Promise<void> {
    this.events.push(`${this.kind} activate`);
  }

  async release(): Promise<void> {
    this.events.push(`${this.kind} release`);
  }

  async deviceCounters(): Promise<readonly DeviceCounters[]> {
    return [];
  }

  async ruleCounters(): Promise<ReadonlyMap<RuleId, Counter>> {
    return new Map();
  }

  async cleanup(): Promise<void> {
    this.events.push(`${this.kind} cleanup`);
    if (this.cleanupFailures-- > 0) throw new Error(`${this.kind} is busy`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.events.push(`${this.kind} dispose`);
  }
}
