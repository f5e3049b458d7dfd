import type { HandleCounts, Handles } from './handles.ts';

/** What the reserve's handle counts per block. Only this node writes it, so what was written last is known. */
export class ReserveCount {
  readonly #handles: Handles;
  readonly #handle: string;
  #counts: HandleCounts = {};
  #isSure = false;

  constructor(handles: Handles, handle: string) {
    this.#handles = handles;
    this.#handle = handle;
  }

  /** Reads what an earlier process left; before anything else. */
  async read(): Promise<void> {
    this.#counts = (await this.#handles.counts(this.#handle)) ?? {};
    this.#isSure = true;
  }

  /** Somebody else may have changed the handle: the next write does not rely on what was written last. */
  doubt(): void {
    this.#isSure = false;
  }

  /** How many addresses of the block it counts at least. */
  of(cidr: string): number {
    return this.#counts[cidr] ?? 0;
  }

  /** Raises counts that are lower. */
  async atLeast(needed: HandleCounts): Promise<void> {
    const counts: Record<string, number> = { ...this.#counts };
    for (const [cidr, count] of Object.entries(needed)) {
      counts[cidr] = Math.max(this.of(cidr), count);
    }
    await this.write(counts);
  }

  /** Replaces all counts, if they differ. */
  async write(wanted: HandleCounts): Promise<void> {
    const counts = Object.fromEntries(Object.entries(wanted).filter(([, count]) => count > 0));
    const cidrs = new Set([...Object.keys(counts), ...Object.keys(this.#counts)]);
    if (this.#isSure && [...cidrs].every((cidr) => counts[cidr] === this.#counts[cidr])) {
      return;
    }
    this.#isSure = false; // Should the write fail, nobody knows which count it left.
    await this.#handles.change(this.#handle, () => counts);
    this.#counts = counts;
    this.#isSure = true;
  }
}
