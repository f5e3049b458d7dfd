import type { Link, Netlink } from '#native/types.ts';
import type { AttachedState } from './filters.ts';
import { attach, detach, podFilters, readAttached } from './filters.ts';
import type { Filters } from './programs.ts';

/** What came of attaching to many devices. */
export interface AttachReport {
  /** Devices that had none of our filters, and have them now. */
  readonly entered: readonly Link[];
  /** Some device had filters of ours before. */
  readonly stayed: boolean;
  readonly failures: readonly { readonly link: Link; readonly reason: string }[];
}

/** What came of a look at one device. */
export type FilterCheck =
  | { readonly outcome: 'as they were' | 'replaced' | 'repaired' | 'gone' }
  | { readonly outcome: 'failed'; readonly reason: string };

/** Our filters on the devices of the node. */
export class DeviceFilters {
  readonly #host: Netlink;
  /** Ifindexes of devices whose filters are to be looked at. */
  readonly #suspects = new Set<number>();

  constructor(host: Netlink) {
    this.#host = host;
  }

  suspect(ifindex: number): void {
    this.#suspects.add(ifindex);
  }

  get suspects(): readonly number[] {
    return [...this.#suspects];
  }

  /** Looks at a device's filters and puts them right. What fails stays a suspect. */
  async check(ifindex: number, filters: Filters): Promise<FilterCheck> {
    try {
      const { attached } = await this.#put(ifindex, filters);
      this.#suspects.delete(ifindex);
      return { outcome: attached === 'yes' ? 'as they were' : attached === 'no' ? 'repaired' : 'replaced' };
    } catch (error) {
      if (isGone(error)) {
        this.#suspects.delete(ifindex);
        return { outcome: 'gone' };
      }
      this.#suspects.add(ifindex);
      return { outcome: 'failed', reason: (error as Error).message };
    }
  }

  /** True if one of the devices has filters of ours, of whatever build. */
  async isOnAny(links: readonly Link[], filters: Filters): Promise<boolean> {
    for (const { index } of links) {
      try {
        if ((await readAttached(this.#host, index, podFilters(filters))).attached !== 'no') return true;
      } catch (error) {
        if (!isGone(error)) throw error;
      }
    }
    return false;
  }

  /** Puts the filters on all of these, and replaces older ones. */
  async attachAll(links: readonly Link[], filters: Filters): Promise<AttachReport> {
    const entered: Link[] = [];
    const failures: { link: Link; reason: string }[] = [];
    let stayed = false;
    for (const link of links) {
      try {
        const state = await readAttached(this.#host, link.index, podFilters(filters));
        stayed ||= state.attached !== 'no';
        if (state.attached === 'no') entered.push(link);
        if (state.attached !== 'yes') await attach(this.#host, link.index, podFilters(filters), state);
      } catch (error) {
        if (!isGone(error)) failures.push({ link, reason: (error as Error).message });
      }
    }
    return { entered, stayed, failures };
  }

  /** Takes them off these devices. Throws when they don't go from all. */
  async detachAll(links: readonly Link[]): Promise<void> {
    const failures: string[] = [];
    for (const link of links) {
      try {
        await detach(this.#host, link.index);
      } catch (error) {
        failures.push(`${link.name}: ${(error as Error).message}`);
      }
    }
    if (failures.length > 0) throw new Error(`filters could not be removed: ${failures.join('; ')}`);
  }

  async #put(ifindex: number, filters: Filters): Promise<AttachedState> {
    const state = await readAttached(this.#host, ifindex, podFilters(filters));
    if (state.attached !== 'yes') await attach(this.#host, ifindex, podFilters(filters), state);
    return state;
  }
}

const isGone = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENODEV';
