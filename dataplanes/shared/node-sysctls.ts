import type { Family, Sysctl } from '#native/types.ts';
import type { ApplyFailure } from '../contract.ts';
import { acceptRaSysctls, forwardingSysctls, summarise, type SysctlPort } from './host-sysctls.ts';
import type { KernelView } from './kernel-view.ts';

/** What sysctls of the node were before Tortie changed them. It outlives the agent, so that a cleanup years later can put them back. */
export interface SysctlMemory {
  /** Durable when it returns; the first value of a path stays. Throws when it can't be kept. */
  remember(path: string, valueBefore: string): void;
  /** Path to value, in the order of remembering. */
  all(): ReadonlyMap<string, string>;
  /** Everything has been put back. */
  forget(): void;
}

/**
 * The sysctls that make the node a router: forwarding, and accept_ra where the node lives by router advertisements. A value is remembered
 * before it is changed; one that already was as needed is nobody's to restore.
 */
export class NodeSysctls {
  readonly #port: SysctlPort;
  readonly #memory: SysctlMemory;
  /** They were right once: if one isn't now, somebody else changed it. */
  #settled = false;

  constructor(port: SysctlPort, memory: SysctlMemory) {
    this.#port = port;
    this.#memory = memory;
  }

  /** Gives them their values; what can't be remembered is not changed. */
  apply(families: readonly Family[], view: KernelView): { failed: ApplyFailure[]; repaired: string[] } {
    const nameOf = (index: number): string | undefined => view.linkByIndex(index)?.name;
    // Before forwarding: the kernel drops routes from advertisements of devices that don't accept them when it starts to forward.
    const acceptRa = families.includes(6) ? acceptRaSysctls(this.#port, view.routes(), nameOf) : [];
    const failed: ApplyFailure[] = [];
    const wanted = [...acceptRa, ...forwardingSysctls(families)].filter((sysctl) => this.#isRemembered(sysctl, failed));
    const outcome = summarise(this.#port.write(wanted));
    failed.push(...outcome.failed);
    const repaired = this.#settled ? outcome.written.map((name) => `sysctl ${name} had been changed`) : [];
    this.#settled ||= failed.length === 0;
    return { failed, repaired };
  }

  /**
   * Puts back what was before Tortie, last change first, and forgets it. What has another value than ours by now is somebody else's and
   * stays. If one can't be written nothing is forgotten, and the next call tries again.
   */
  restore(): ApplyFailure[] {
    const values: Sysctl[] = [];
    let remembered: ReadonlyMap<string, string>;
    try {
      remembered = this.#memory.all();
    } catch (error) {
      return [{ object: 'sysctls of the node', reason: (error as Error).message }];
    }
    if (remembered.size === 0) return [];
    for (const [path, value] of [...remembered].toReversed()) {
      if (this.#port.read(path) === ourValue(path)) values.push({ path, value });
    }
    const { failed } = summarise(this.#port.write(values));
    if (failed.length === 0) this.#memory.forget();
    this.#settled = false;
    return failed;
  }

  /** True when it may be written: it is as wanted already, or its present value is safe. */
  #isRemembered({ path, value }: Sysctl, failed: ApplyFailure[]): boolean {
    const before = this.#port.read(path);
    if (before === undefined || before === value) return true;
    try {
      this.#memory.remember(path, before);
      return true;
    } catch (error) {
      failed.push({
        object: `sysctl ${path.replaceAll('/', '.')}`,
        reason: `it stays ${before}, because that could not be remembered for a later cleanup: ${(error as Error).message}`,
      });
      return false;
    }
  }
}

/** What Tortie gives a sysctl of the node. */
const ourValue = (path: string): string => (path.endsWith('/accept_ra') ? '2' : '1');
