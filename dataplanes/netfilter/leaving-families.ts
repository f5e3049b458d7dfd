import type { Family } from '#native/types.ts';
import type { ApplyFailure } from '../contract.ts';

/** Families that were switched off and may still have something of ours: what can't be removed is tried again by the next cycle, and keeps nothing else from being done. */
export class LeavingFamilies {
  readonly #families = new Set<Family>();

  /** Others are on now than before. */
  change(before: readonly Family[], now: readonly Family[]): void {
    for (const family of before) this.#families.add(family);
    for (const family of now) this.#families.delete(family);
  }

  /** What has left and isn't gone. */
  get all(): readonly Family[] {
    return [...this.#families];
  }

  /** Tries to remove what each has. Returns what could not be, as `what` of the family. */
  async remove(what: string, remove: (family: Family) => Promise<void>): Promise<readonly ApplyFailure[]> {
    const failed: ApplyFailure[] = [];
    for (const family of this.all) {
      try {
        await remove(family);
        this.#families.delete(family);
      } catch (error) {
        failed.push({ object: `${what} of IPv${family}, which is off`, reason: (error as Error).message });
      }
    }
    return failed;
  }
}
