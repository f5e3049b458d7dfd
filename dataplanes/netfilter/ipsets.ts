import type { Clock } from '#api/clock.ts';
import type { Ipset, IpsetChange, IpsetContents } from '#native/ipset.ts';
import type { Logger } from '../logger.ts';
import { chunks, parts } from './member-parts.ts';
import { SetContents, type SetSpec } from './set-contents.ts';
import { NAME_PREFIX, temporaryName } from './set-names.ts';

export type { SetSpec };
export { netMembers, setName, temporaryName } from './set-names.ts';

/** What the driver needs of the addon's ipset socket. */
export type SetKernel = Pick<
  Ipset,
  'list' | 'summaries' | 'contents' | 'create' | 'createAll' | 'update' | 'swap' | 'destroy'
>;

/** A set, or a member of it, that could not be made what it should be. It stays dirty. */
export interface SetFailure {
  readonly set: string;
  readonly member?: string;
  readonly reason: string;
}

/** What one step of a cycle did. */
export interface SetReport {
  readonly failed: readonly SetFailure[];
  readonly repaired: readonly string[];
}

/**
 * The driver of a group of ipsets: desired and actual members, differences written by netlink; one more pod is one member in one message
 * and no process. It owns the sets that it is told and, for removal, those of which `owns(name)` is true.
 *
 * A cycle is `read`, `begin`, `applyAdditions` (sets, members), then whatever refers to them, then `applyDeletions` (members) and
 * `applyRemovals` (sets): over all sets additions come first, so that what moves from one to another is never in neither. The kernel
 * refuses to destroy a set that a rule refers to. One whose maximum size changes is filled under a temporary name and swapped:
 * rules never see it empty. Until `allowRemoval` there are only additions.
 *
 * Everything is read before the first write, each refresh interval and on request: others may flush or destroy.
 */
export class Ipsets implements Disposable {
  readonly #kernel: SetKernel;
  readonly #owns: (name: string) => boolean;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #onDue: () => void;
  readonly #sets = new Map<string, SetContents>();
  #state: 'unread' | 'stale' | 'known' = 'unread';
  /** Somebody asked for a comparison. What is known holds until it: a cycle under way goes on with that. */
  #mustCompare = false;
  #mayRemove = false;
  /** Sets to make, to replace or to add members to. */
  readonly #toAdd = new Set<string>();
  /** Sets that have members too many. */
  readonly #toDelete = new Set<string>();
  /** Sets that nobody wants. */
  readonly #toRemove = new Set<string>();
  /** What `begin` found in these two. */
  readonly #dueDeletions = new Map<string, readonly string[]>();
  #dueRemovals: string[] = [];
  #refreshIntervalMs = 0;
  #timer: Disposable | undefined;

  constructor(
    kernel: SetKernel,
    owns: (name: string) => boolean,
    deps: { clock: Clock; log: Logger },
    onDue: () => void,
  ) {
    this.#kernel = kernel;
    this.#owns = owns;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#onDue = onDue;
  }

  /** How often to compare with the kernel; 0: only on request. Counts from now when it changes. */
  setRefreshInterval(ms: number): void {
    if (ms === this.#refreshIntervalMs) return;
    this.#refreshIntervalMs = ms;
    if (this.#state !== 'unread') this.#startTimer();
  }

  /** Wants this set; the members wanted so far stay. */
  setSet(spec: SetSpec): void {
    const { name } = spec;
    const set = this.#sets.get(name);
    this.#toAdd.add(name);
    if (set === undefined) {
      this.#sets.set(name, new SetContents(spec, true));
      return;
    }
    set.spec = spec;
    if (set.isWanted) return;
    set.wantAgain();
    this.#toRemove.delete(name);
    if (set.hasExtra) this.#toDelete.add(name);
  }

  /** The set is no longer wanted. */
  removeSet(name: string): void {
    const set = this.#sets.get(name);
    if (set === undefined || !set.isWanted) return;
    set.isWanted = false;
    this.#toAdd.delete(name);
    this.#toDelete.delete(name);
    this.#toRemove.add(name);
  }

  addMember(name: string, member: string): void {
    const set = this.#wanted(name);
    set.add(member);
    if (set.hasMissing) this.#toAdd.add(name);
  }

  removeMember(name: string, member: string): void {
    const set = this.#wanted(name);
    set.remove(member);
    if (set.hasExtra) this.#toDelete.add(name);
  }

  /** These are the set's members and no others. */
  setMembers(name: string, members: readonly string[]): void {
    const set = this.#wanted(name);
    set.replace(members);
    if (set.hasMissing) this.#toAdd.add(name);
    if (set.hasExtra) this.#toDelete.add(name);
  }

  /** From now on what is in the kernel and not wanted goes. */
  allowRemoval(): void {
    this.#mayRemove = true;
  }

  /** The next cycle reads what is there. */
  requestResync(): void {
    this.#mustCompare = true;
  }

  /** Reads what is there when it is time. None of the steps that follow does anything after a failure. */
  async read(): Promise<SetReport> {
    const repaired: string[] = [];
    try {
      if (this.#state !== 'known' || this.#mustCompare) await this.#read(repaired);
      return { failed: [], repaired };
    } catch (error) {
      return { failed: [{ set: 'all', reason: `listing the sets: ${words(error)}` }], repaired };
    }
  }

  /**
   * What is to be taken out in this cycle is what is too much now. Wishes that come while it runs may depend on rules that it doesn't write:
   * their additions may be early, their deletions not.
   */
  begin(): void {
    this.#dueDeletions.clear();
    for (const name of this.#toDelete) this.#dueDeletions.set(name, this.#sets.get(name)?.extra ?? []);
    this.#dueRemovals = [...this.#toRemove];
  }

  /** Makes sets and adds members; in proportion to what is dirty. Never throws: what failed is reported and stays dirty. */
  async applyAdditions(): Promise<SetReport> {
    const failed: SetFailure[] = [];
    if (this.#state === 'unread') return { failed, repaired: [] };
    const names = takeAll(this.#toAdd); // What is wished meanwhile is the next cycle's.
    await this.#createMissing(names, failed);
    for (const name of names) await this.#replaceIfOther(name, failed);
    const changes = names.flatMap((name): IpsetChange[] => {
      const set = this.#sets.get(name);
      if (set?.kernel === undefined || !set.isWanted || !set.hasMissing) return [];
      return [{ name, add: set.takeMissing(), del: [] }];
    });
    await this.#write(changes, 'addition', failed);
    return { failed, repaired: [] };
  }

  /** Takes out members that are too many, except from sets for which `hold` is true: theirs stay until the next cycle. */
  async applyDeletions(hold: (name: string) => boolean = () => false): Promise<SetReport> {
    const failed: SetFailure[] = [];
    if (!this.#mayRemove || this.#state !== 'known') return { failed, repaired: [] };
    const changes = [...this.#dueDeletions].flatMap(([name, due]): IpsetChange[] => {
      const set = this.#sets.get(name);
      if (set === undefined || !set.isWanted || hold(name)) return [];
      const del = set.takeExtra(due);
      if (!set.hasExtra) this.#toDelete.delete(name);
      return del.length === 0 ? [] : [{ name, add: [], del }];
    });
    this.#dueDeletions.clear();
    await this.#write(changes, 'deletion', failed);
    return { failed, repaired: [] };
  }

  /** Destroys sets that nobody wants any more. Call it when no table refers to them. */
  async applyRemovals(): Promise<SetReport> {
    const failed: SetFailure[] = [];
    if (!this.#mayRemove || this.#state !== 'known') return { failed, repaired: [] };
    for (const name of this.#dueRemovals.splice(0)) {
      if (!this.#toRemove.has(name)) continue; // Wanted again while others were destroyed.
      try {
        if (this.#sets.get(name)?.kernel !== undefined) await this.#destroy(name);
      } catch (error) {
        failed.push({ set: name, reason: words(error) });
        continue;
      }
      this.#toRemove.delete(name);
      const set = this.#sets.get(name);
      if (set?.isWanted === true) this.#vanished(name, set);
      else this.#sets.delete(name);
    }
    return { failed, repaired: [] };
  }

  /** Destroys every set that is ours, wanted or not. Nothing may refer to them any more. */
  async cleanup(): Promise<void> {
    this.#timer?.[Symbol.dispose]();
    for (const { name } of await this.#kernel.list()) if (this.#owns(name)) await this.#destroy(name);
    for (const [name, set] of this.#sets) {
      if (set.isWanted) this.#vanished(name, set);
      else this.#sets.delete(name);
    }
    this.#state = 'unread';
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
  }

  #wanted(name: string): SetContents {
    const set = this.#sets.get(name);
    if (set?.isWanted !== true) throw new TypeError(`ipset ${name} was not announced`);
    return set;
  }

  async #read(repaired: string[]): Promise<void> {
    const before = this.#state;
    this.#state = 'known';
    this.#mustCompare = false; // A request that comes meanwhile is the next cycle's.
    let listed: readonly { readonly name: string }[];
    try {
      listed = before === 'unread' ? await this.#readAll() : await this.#readChanged(repaired);
    } catch (error) {
      this.#state = before === 'unread' ? 'unread' : 'stale';
      throw error;
    }
    const present = new Set(listed.map(({ name }) => name));
    for (const [name, set] of this.#sets) {
      if (present.has(name)) continue;
      if (set.kernel !== undefined && set.isWanted) repaired.push(`ipset ${name} was missing`);
      if (set.isWanted) this.#vanished(name, set);
      else {
        this.#sets.delete(name);
        this.#toRemove.delete(name);
      }
    }
    this.#startTimer();
  }

  async #readAll(): Promise<readonly IpsetContents[]> {
    const listed = await this.#kernel.contents(NAME_PREFIX);
    for (const contents of listed) this.#adopt(contents);
    return listed;
  }

  /** Members are read only of sets whose digest isn't what it should be. */
  async #readChanged(repaired: string[]): Promise<readonly { readonly name: string }[]> {
    const listed = await this.#kernel.summaries(NAME_PREFIX);
    const same: { readonly name: string }[] = [];
    const changed: string[] = [];
    for (const { digest, ...info } of listed) {
      const { name } = info;
      const known = this.#sets.get(name);
      if (known?.isAsLeft(info, digest) !== true) {
        if (known !== undefined || this.#owns(name)) changed.push(name);
        continue;
      }
      same.push(info);
      if (known.isWanted && known.isOther) this.#toAdd.add(name);
    }
    if (changed.length === 0) return same;
    const contents = await this.#kernel.contents(changed); // Without those that are gone since.
    for (const set of contents) {
      const { lost, surplus } = this.#adopt(set);
      if (lost > 0) repaired.push(`ipset ${set.name}: ${lost} members were missing`);
      if (surplus > 0) repaired.push(`ipset ${set.name}: ${surplus} members too many`);
    }
    return [...same, ...contents];
  }

  /** Takes over what the kernel has of one of our sets. */
  #adopt(contents: IpsetContents): { readonly lost: number; readonly surplus: number } {
    const { name, type, family, maxelem = 0 } = contents;
    const known = this.#sets.get(name);
    if (known === undefined && !this.#owns(name)) return { lost: 0, surplus: 0 };
    const set = known ?? new SetContents({ name, type, family, maxelem } as SetSpec, false);
    this.#sets.set(name, set);
    const changes = set.compare(contents);
    if (!set.isWanted) this.#toRemove.add(name);
    else {
      if (set.hasMissing || set.isOther) this.#toAdd.add(name);
      if (set.hasExtra) this.#toDelete.add(name);
    }
    return changes;
  }

  /** The kernel doesn't have it (any more). */
  #vanished(name: string, set: SetContents): void {
    set.vanished();
    this.#toAdd.add(name);
    this.#toDelete.delete(name);
  }

  #startTimer(): void {
    this.#timer?.[Symbol.dispose]();
    if (this.#refreshIntervalMs <= 0) return;
    this.#timer = this.#clock.after(this.#refreshIntervalMs, () => {
      this.requestResync();
      this.#onDue();
    });
  }

  async #createMissing(names: readonly string[], failed: SetFailure[]): Promise<void> {
    const sets = names.flatMap((name) => {
      const set = this.#sets.get(name);
      return set?.isWanted === true && set.kernel === undefined ? [set] : [];
    });
    if (sets.length === 0) return;
    const specs = new Map(sets.map((set) => [set, set.spec])); // It may be wished otherwise meanwhile.
    const reasons = new Map<string, string>();
    try {
      for (const { set, error } of await this.#kernel.createAll([...specs.values()])) reasons.set(set, error.message);
    } catch (error) {
      for (const { name } of specs.values()) reasons.set(name, words(error));
    }
    for (const [set, spec] of specs) {
      const reason = reasons.get(spec.name);
      if (reason === undefined) set.made(spec);
      else this.#lost(spec.name, reason, failed);
    }
  }

  /** A set of another type, family or size. */
  async #replaceIfOther(name: string, failed: SetFailure[]): Promise<void> {
    const set = this.#sets.get(name);
    if (set === undefined || !set.isWanted || !set.isOther) return;
    try {
      if (set.isOtherKind) await this.#remake(set);
      else await this.#replace(set);
    } catch (error) {
      this.#lost(name, words(error), failed);
    }
  }

  /** The kernel swaps only sets of one type and family. One of another kind is a stranger's: `IPSET_ERR_BUSY` if rules refer to it. */
  async #remake(set: SetContents): Promise<void> {
    await this.#kernel.destroy(set.spec.name);
    set.vanished();
    const { spec } = set;
    await this.#kernel.create(spec);
    set.made(spec);
  }

  /** Filled beside the old one, then swapped. */
  async #replace(set: SetContents): Promise<void> {
    const { spec } = set;
    const temporary = { ...spec, name: temporaryName(spec.name) };
    if ((await this.#kernel.list()).some(({ name }) => name === temporary.name)) await this.#destroy(temporary.name);
    await this.#kernel.create(temporary);
    try {
      let count = 0;
      let first: string | undefined;
      for (const add of chunks(set.takeAll(!this.#mayRemove))) {
        for (const { member = '', error } of await this.#kernel.update([{ name: temporary.name, add, del: [] }])) {
          count += 1;
          first ??= `${member}: ${error.message}`;
        }
      }
      if (first !== undefined) throw new Error(`${count} members did not go into the new set, first ${first}`);
      await this.#kernel.swap(temporary.name, spec.name);
      set.made(spec);
      this.#log.info('replaced an ipset', { set: spec.name, maxelem: spec.maxelem });
    } finally {
      await this.#kernel.destroy(temporary.name);
    }
  }

  /** Writes the changes, a bounded number of members a call. What fails is noted as not done. */
  async #write(changes: readonly IpsetChange[], kind: 'addition' | 'deletion', failed: SetFailure[]): Promise<void> {
    for (const part of parts(changes)) {
      try {
        for (const { set, member, error } of await this.#kernel.update(part)) {
          if (member === undefined || kind === 'deletion') this.#lost(set, error.message, failed, member);
          else {
            failed.push({ set, member, reason: error.message });
            if (this.#sets.get(set)?.refused(member) === true) this.#toAdd.add(set);
          }
        }
      } catch (error) {
        for (const { name } of part) this.#lost(name, words(error), failed);
      }
    }
  }

  /** A failure after which nobody knows what the kernel has. */
  #lost(set: string, reason: string, failed: SetFailure[], member?: string): void {
    failed.push({ set, ...(member === undefined ? {} : { member }), reason });
    this.#state = 'stale';
    this.#toAdd.add(set);
  }

  /** One that is gone already is what was wanted. */
  async #destroy(name: string): Promise<void> {
    try {
      await this.#kernel.destroy(name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}

/** Empties the set and returns what was in it. */
function takeAll<T>(set: Set<T>): T[] {
  const all = [...set];
  set.clear();
  return all;
}

const words = (error: unknown): string => (error instanceof Error ? error.message : String(error));
