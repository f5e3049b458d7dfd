import { IpsetDigest } from '#native/ipset-digest.ts';
import type { IpsetContents, IpsetInfo, IpsetSpec } from '#native/ipset.ts';

/** What a set of ours is, besides its members. */
export interface SetSpec extends IpsetSpec {
  readonly maxelem: number;
}

/**
 * One set, whether we want it or the kernel has it: what it should hold and what the kernel's holds. The kernel's members are `wanted`
 * without `missing` and with `extra`: a set of 100,000 is in memory once, a change costs as much as it changes, and a digest tells
 * whether the kernel still has them. What is handed out to be written counts as written; `refused` takes it back.
 */
export class SetContents {
  spec: SetSpec;
  isWanted: boolean;
  readonly #wanted = new Set<string>();
  #missing = new Set<string>();
  #extra = new Set<string>();
  #kernel: IpsetInfo | undefined;
  /** Of the kernel's members. */
  #digest = new IpsetDigest();

  constructor(spec: SetSpec, isWanted: boolean) {
    this.spec = spec;
    this.isWanted = isWanted;
  }

  /** What the kernel has under this name. */
  get kernel(): IpsetInfo | undefined {
    return this.#kernel;
  }

  get hasMissing(): boolean {
    return this.#missing.size > 0;
  }

  get hasExtra(): boolean {
    return this.#extra.size > 0;
  }

  get extra(): readonly string[] {
    return [...this.#extra];
  }

  get wanted(): readonly string[] {
    return [...this.#wanted];
  }

  /** True if the kernel's has another type or family, which can't be swapped. */
  get isOtherKind(): boolean {
    return (
      this.#kernel !== undefined && (this.#kernel.type !== this.spec.type || this.#kernel.family !== this.spec.family)
    );
  }

  /** True if the kernel's can't be taken as it is. */
  get isOther(): boolean {
    return this.#kernel !== undefined && (this.isOtherKind || this.#kernel.maxelem !== this.spec.maxelem);
  }

  /** Wants a member. */
  add(member: string): void {
    if (this.#wanted.has(member)) return;
    this.#wanted.add(member);
    if (!this.#extra.delete(member)) this.#missing.add(member);
  }

  /** Doesn't want a member any more. */
  remove(member: string): void {
    if (this.#wanted.delete(member) && !this.#missing.delete(member)) this.#extra.add(member);
  }

  /** Wants these and no others. */
  replace(members: readonly string[]): void {
    if (this.#wanted.size > 0) {
      const next = new Set(members);
      for (const member of this.#wanted) if (!next.has(member)) this.remove(member);
    }
    for (const member of members) this.add(member);
  }

  /** Wanted again after it was not: still in the kernel with what it had, and nothing is wanted of that yet. */
  wantAgain(): void {
    this.isWanted = true;
    for (const member of this.#wanted) if (!this.#missing.has(member)) this.#extra.add(member);
    this.#wanted.clear();
    this.#missing.clear();
  }

  /** The members to add. */
  takeMissing(): readonly string[] {
    const missing = [...this.#missing];
    for (const member of missing) this.#digest.add(member);
    this.#missing = new Set();
    return missing;
  }

  /** Those of `due` that are to be taken out. */
  takeExtra(due: readonly string[]): readonly string[] {
    const extra = due.filter((member) => this.#extra.delete(member));
    for (const member of extra) this.#digest.remove(member);
    return extra;
  }

  /** The kernel did not take the member in. True if it is still wanted. */
  refused(member: string): boolean {
    this.#digest.remove(member);
    if (this.#extra.delete(member)) return false;
    this.#missing.add(member);
    return true;
  }

  /** The kernel doesn't have the set (any more). */
  vanished(): void {
    this.#kernel = undefined;
    this.#missing = new Set(this.#wanted);
    this.#extra = new Set();
    this.#digest = new IpsetDigest();
  }

  /** It was made in the kernel, empty, as it was wished when that began. */
  made(spec: SetSpec): void {
    this.#kernel = spec;
  }

  /** The members for a set that will replace the kernel's; from here on what is wished is a change to that one. */
  takeAll(withExtra: boolean): readonly string[] {
    if (!withExtra) this.#extra = new Set();
    const all = [...this.#wanted, ...this.#extra];
    this.#missing = new Set();
    this.#digest = IpsetDigest.of(all);
    return all;
  }

  /** True if the kernel's members are those that it should have by now, as their digest says. */
  isAsLeft(info: IpsetInfo, digest: string): boolean {
    if (this.#kernel === undefined || this.#digest.toString() !== digest) return false;
    this.#kernel = info;
    return true;
  }

  /** Takes over what the kernel has; how many members it should have had, and hasn't, and the other way round. */
  compare({ members, digest: _digest, ...info }: IpsetContents): { readonly lost: number; readonly surplus: number } {
    const extra = new Set<string>();
    for (const member of members) if (!this.isWanted || !this.#wanted.has(member)) extra.add(member);
    let missing = new Set<string>();
    if (members.length - extra.size < this.#wanted.size) {
      const present = new Set(members);
      missing = new Set([...this.#wanted].filter((member) => !present.has(member)));
    }
    const isNews = this.#kernel !== undefined && this.isWanted;
    const lost = isNews ? [...missing].filter((member) => !this.#missing.has(member)).length : 0;
    const surplus = isNews ? [...extra].filter((member) => !this.#extra.has(member)).length : 0;
    this.#kernel = info;
    this.#missing = missing;
    this.#extra = extra;
    this.#digest = IpsetDigest.of(members);
    return { lost, surplus };
  }
}
