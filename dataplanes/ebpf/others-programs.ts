import { tcxPrograms, type TcxPrograms } from '#native/bpf.ts';
import type { NetnsRef } from '#native/types.ts';

/** Asks which of these devices have tcx programs. */
export type TcxQuery = (ifindexes: readonly number[], netns?: NetnsRef) => Promise<readonly TcxPrograms[]>;

/**
 * Devices on which programs or filters of others stand at tc: what redirects past the stack would pass by those. Filters are told by who dumps them
 * anyway, tcx programs, of which no event tells, are asked for many devices at once.
 */
export class OthersPrograms {
  readonly #query: TcxQuery;
  readonly #netns: NetnsRef | undefined;
  readonly #byFilter = new Set<number>();
  readonly #byTcx = new Set<number>();
  readonly #unasked = new Set<number>();
  readonly #changed = new Set<number>();

  constructor(netns: NetnsRef | undefined, query: TcxQuery = tcxPrograms) {
    this.#netns = netns;
    this.#query = query;
  }

  /** The device has filters of others, or has none. */
  noteFilters(ifindex: number, hasSome: boolean): void {
    if (this.#byFilter.has(ifindex) === hasSome) return;
    this.#note(this.#byFilter, ifindex, hasSome);
    // Who has done this may have done the other, too.
    this.#unasked.add(ifindex);
  }

  /** The next `ask` asks for the device's tcx programs. */
  suspect(ifindex: number): void {
    this.#unasked.add(ifindex);
  }

  /** Asks where there is reason to; `ours` are ids of programs of ours. Throws what the kernel says; then it asks again. */
  async ask(ours: ReadonlySet<number>): Promise<void> {
    if (this.#unasked.size === 0) return;
    const asked = [...this.#unasked];
    this.#unasked.clear();
    try {
      const found = await this.#query(asked, this.#netns);
      const others = new Set(found.filter((each) => arePassedBy(each, ours)).map(({ ifindex }) => ifindex));
      for (const ifindex of asked) this.#note(this.#byTcx, ifindex, others.has(ifindex));
    } catch (error) {
      for (const ifindex of asked) this.#unasked.add(ifindex);
      throw error;
    }
  }

  /** Others have something on the device, as far as known. */
  has(ifindex: number): boolean {
    return this.#byFilter.has(ifindex) || this.#byTcx.has(ifindex);
  }

  /** There is something to ask, or something has changed that nobody has taken. */
  get hasNews(): boolean {
    return this.#unasked.size + this.#changed.size > 0;
  }

  /** Devices for which the answer may have changed since the last call. */
  takeChanged(): readonly number[] {
    const changed = [...this.#changed];
    this.#changed.clear();
    return changed;
  }

  /** The device is gone. */
  forget(ifindex: number): void {
    for (const each of [this.#byFilter, this.#byTcx, this.#unasked, this.#changed]) each.delete(ifindex);
  }

  #note(where: Set<number>, ifindex: number, hasSome: boolean): void {
    const before = this.has(ifindex);
    if (hasSome) where.add(ifindex);
    else where.delete(ifindex);
    if (this.has(ifindex) !== before) this.#changed.add(ifindex);
  }
}

/** At ingress those that run before ours see everything: before filters all do. */
function arePassedBy({ ingress, egress }: TcxPrograms, ours: ReadonlySet<number>): boolean {
  return hasOthersBehind(ingress, ours) || egress.some((id) => !ours.has(id));
}

/** Whether programs of others run behind ours, which is one of these if any is. */
export function hasOthersBehind(ids: readonly number[], ours: ReadonlySet<number>): boolean {
  const first = ids.findIndex((id) => ours.has(id));
  return first !== -1 && ids.slice(first).some((id) => !ours.has(id));
}
