import type { Clock } from '#api/clock.ts';
import type { Ipset, IpsetChange, IpsetContents, IpsetInfo, IpsetSpec } from '#native/ipset.ts';
import type { Family } from '#native/types.ts';
import type { Logger } from '../logger.ts';

/** What a set of ours is, besides its members. */
export interface SetSpec extends IpsetSpec {
  readonly maxelem: number;
}

/** What the driver needs of the addon's ipset socket. */
export type SetKernel = Pick<Ipset, 'list' | 'contents' | 'create' | 'createAll' | 'update' | 'swap' | 'destroy'>;

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

/** The kernel's limit for a set's name, without the final zero (IPSET_MAXNAMELEN). */
const MAX_NAME_LENGTH = 31;
/** Every set of ours begins with this. */
const NAME_PREFIX = 'cali';
/** Members a call: the main thread reads them in about 5 ms. */
const MEMBERS_PER_CALL = 20_000;

/** The kernel's name of our set `id`: `cali40` or `cali60` and the id, which has at most 24 bytes (so that its temporary name fits, too). */
export function setName(family: Family, id: string): string {
  const name = `${NAME_PREFIX}${family}0${id}`;
  if (temporaryName(name).length > MAX_NAME_LENGTH) throw new TypeError(`${id} is too long for the name of an ipset`);
  return name;
}

/** The name under which a set is filled that will replace `name`. */
export const temporaryName = (name: string): string => `${name.slice(0, 5)}t-${name.slice(6)}`;

/** A net as the kernel lists it: without the prefix length of a single address. A /0, which hash:net can't hold, is two halves. */
export function netMembers(cidr: string): readonly string[] {
  if (cidr === '0.0.0.0/0') return ['0.0.0.0/1', '128.0.0.0/1'];
  if (cidr === '::/0') return ['::/1', '8000::/1'];
  const whole = cidr.includes(':') ? '/128' : '/32';
  return [cidr.endsWith(whole) ? cidr.slice(0, -whole.length) : cidr];
}

/**
 * One set, whether we want it or the kernel has it. The kernel's members are `wanted` without `missing` and with `extra`: a set of
 * 100,000 is in memory once, and a change costs as much as it changes.
 */
interface SetState {
  spec: SetSpec;
  isWanted: boolean;
  /** What the kernel has under this name. */
  kernel: IpsetInfo | undefined;
  readonly wanted: Set<string>;
  missing: Set<string>;
  extra: Set<string>;
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
  readonly #sets = new Map<string, SetState>();
  #state: 'unread' | 'stale' | 'known' = 'unread';
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
    const state = this.#sets.get(name);
    this.#toAdd.add(name);
    if (state === undefined) {
      this.#sets.set(name, newState(spec, true));
      return;
    }
    state.spec = spec;
    if (state.isWanted) return;
    // It is still in the kernel with what it had.
    for (const member of state.wanted) if (!state.missing.has(member)) state.extra.add(member);
    state.wanted.clear();
    state.missing.clear();
    state.isWanted = true;
    this.#toRemove.delete(name);
    if (state.extra.size > 0) this.#toDelete.add(name);
  }

  /** The set is no longer wanted. */
  removeSet(name: string): void {
    const state = this.#sets.get(name);
    if (state === undefined || !state.isWanted) return;
    state.isWanted = false;
    this.#toAdd.delete(name);
    this.#toDelete.delete(name);
    this.#toRemove.add(name);
  }

  addMember(name: string, member: string): void {
    const state = this.#wantedState(name);
    if (state.wanted.has(member)) return;
    state.wanted.add(member);
    if (state.extra.delete(member)) return;
    state.missing.add(member);
    this.#toAdd.add(name);
  }

  removeMember(name: string, member: string): void {
    const state = this.#wantedState(name);
    if (!state.wanted.delete(member) || state.missing.delete(member)) return;
    state.extra.add(member);
    this.#toDelete.add(name);
  }

  /** These are the set's members and no others. */
  setMembers(name: string, members: readonly string[]): void {
    const { wanted } = this.#wantedState(name);
    if (wanted.size > 0) {
      const next = new Set(members);
      for (const member of wanted) if (!next.has(member)) this.removeMember(name, member);
    }
    for (const member of members) this.addMember(name, member);
  }

  /** From now on what is in the kernel and not wanted goes. */
  allowRemoval(): void {
    this.#mayRemove = true;
  }

  /** The next cycle reads what is there. */
  requestResync(): void {
    if (this.#state === 'known') this.#state = 'stale';
  }

  /** Reads what is there when it is time. None of the steps that follow does anything after a failure. */
  async read(): Promise<SetReport> {
    const repaired: string[] = [];
    try {
      if (this.#state !== 'known') await this.#read(repaired);
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
    for (const name of this.#toDelete) this.#dueDeletions.set(name, [...(this.#sets.get(name)?.extra ?? [])]);
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
      const state = this.#sets.get(name);
      if (state?.kernel === undefined || !state.isWanted || state.missing.size === 0) return [];
      const add = [...state.missing];
      state.missing = new Set();
      return [{ name, add, del: [] }];
    });
    await this.#write(changes, 'addition', failed);
    return { failed, repaired: [] };
  }

  /** Takes out members that are too many, except from sets for which `hold` is true: theirs stay until the next cycle. */
  async applyDeletions(hold: (name: string) => boolean = () => false): Promise<SetReport> {
    const failed: SetFailure[] = [];
    if (!this.#mayRemove || this.#state !== 'known') return { failed, repaired: [] };
    const changes = [...this.#dueDeletions].flatMap(([name, due]): IpsetChange[] => {
      const state = this.#sets.get(name);
      if (state === undefined || !state.isWanted || hold(name)) return [];
      const del = due.filter((member) => state.extra.delete(member));
      if (state.extra.size === 0) this.#toDelete.delete(name);
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
      const state = this.#sets.get(name);
      if (state?.isWanted === true) this.#vanished(name, state);
      else this.#sets.delete(name);
    }
    return { failed, repaired: [] };
  }

  /** Destroys every set that is ours, wanted or not. Nothing may refer to them any more. */
  async cleanup(): Promise<void> {
    this.#timer?.[Symbol.dispose]();
    for (const { name } of await this.#kernel.list()) if (this.#owns(name)) await this.#destroy(name);
    for (const [name, state] of this.#sets) {
      if (state.isWanted) this.#vanished(name, state);
      else this.#sets.delete(name);
    }
    this.#state = 'unread';
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
  }

  #wantedState(name: string): SetState {
    const state = this.#sets.get(name);
    if (state?.isWanted !== true) throw new TypeError(`ipset ${name} was not announced`);
    return state;
  }

  async #read(repaired: string[]): Promise<void> {
    const before = this.#state;
    this.#state = 'known'; // A request to read that comes meanwhile is the next cycle's.
    let listed: readonly IpsetContents[];
    try {
      listed = await this.#kernel.contents(NAME_PREFIX);
    } catch (error) {
      this.#state = before;
      throw error;
    }
    const mayTell = before !== 'unread';
    const present = new Set<string>();
    for (const { members, ...info } of listed) {
      const known = this.#sets.get(info.name);
      if (known === undefined && !this.#owns(info.name)) continue;
      present.add(info.name);
      const state = known ?? newState({ ...info, maxelem: info.maxelem ?? 0 } as SetSpec, false);
      this.#sets.set(info.name, state);
      this.#compare(state, info, members, mayTell ? repaired : []);
    }
    for (const [name, state] of this.#sets) {
      if (present.has(name)) continue;
      if (state.kernel !== undefined && state.isWanted && mayTell) repaired.push(`ipset ${name} was missing`);
      if (state.isWanted) this.#vanished(name, state);
      else {
        this.#sets.delete(name);
        this.#toRemove.delete(name);
      }
    }
    this.#startTimer();
  }

  /** Takes over what the kernel has; says how it differs from what it should have had. */
  #compare(state: SetState, info: IpsetInfo, members: readonly string[], repaired: string[]): void {
    const { name } = info;
    const { wanted } = state;
    const extra = new Set<string>();
    for (const member of members) if (!state.isWanted || !wanted.has(member)) extra.add(member);
    let missing = new Set<string>();
    if (members.length - extra.size < wanted.size) {
      const present = new Set(members);
      missing = new Set([...wanted].filter((member) => !present.has(member)));
    }
    if (state.kernel !== undefined && state.isWanted) {
      const lost = [...missing].filter((member) => !state.missing.has(member)).length;
      const surplus = [...extra].filter((member) => !state.extra.has(member)).length;
      if (lost > 0) repaired.push(`ipset ${name}: ${lost} members were missing`);
      if (surplus > 0) repaired.push(`ipset ${name}: ${surplus} members too many`);
    }
    state.kernel = info;
    state.missing = missing;
    state.extra = extra;
    if (!state.isWanted) {
      this.#toRemove.add(name);
      return;
    }
    if (missing.size > 0 || isOther(state)) this.#toAdd.add(name);
    if (extra.size > 0) this.#toDelete.add(name);
  }

  /** The kernel doesn't have it (any more). */
  #vanished(name: string, state: SetState): void {
    state.kernel = undefined;
    state.missing = new Set(state.wanted);
    state.extra = new Set();
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
    const specs = names.flatMap((name) => {
      const state = this.#sets.get(name);
      return state?.isWanted === true && state.kernel === undefined ? [state.spec] : [];
    });
    if (specs.length === 0) return;
    const reasons = new Map<string, string>();
    try {
      for (const { set, error } of await this.#kernel.createAll(specs)) reasons.set(set, error.message);
    } catch (error) {
      for (const { name } of specs) reasons.set(name, words(error));
    }
    for (const spec of specs) {
      const state = this.#sets.get(spec.name);
      const reason = reasons.get(spec.name);
      if (reason !== undefined) {
        failed.push({ set: spec.name, reason });
        this.#toAdd.add(spec.name);
        this.#state = 'stale';
      } else if (state !== undefined) {
        state.kernel = spec;
      }
    }
  }

  /** A set of another type, family or size. */
  async #replaceIfOther(name: string, failed: SetFailure[]): Promise<void> {
    const state = this.#sets.get(name);
    if (state === undefined || !state.isWanted || !isOther(state)) return;
    try {
      if (isSameKind(state)) await this.#replace(state);
      else await this.#remake(state);
    } catch (error) {
      failed.push({ set: name, reason: words(error) });
      this.#toAdd.add(name);
      this.#state = 'stale';
    }
  }

  /** The kernel swaps only sets of one type and family. One of another kind is a stranger's: `IPSET_ERR_BUSY` if rules refer to it. */
  async #remake(state: SetState): Promise<void> {
    await this.#kernel.destroy(state.spec.name);
    [state.kernel, state.missing, state.extra] = [undefined, new Set(state.wanted), new Set()];
    await this.#kernel.create(state.spec);
    state.kernel = state.spec;
  }

  /** Filled beside the old one, then swapped. */
  async #replace(state: SetState): Promise<void> {
    const { spec } = state;
    const temporary = { ...spec, name: temporaryName(spec.name) };
    if ((await this.#kernel.list()).some((set) => set.name === temporary.name))
      await this.#kernel.destroy(temporary.name);
    await this.#kernel.create(temporary);
    try {
      const extra = new Set(this.#mayRemove ? [] : state.extra);
      const members = [...state.wanted, ...extra];
      // From here on what is wished is a change to the new set.
      [state.missing, state.extra] = [new Set(), extra];
      const failures: SetFailure[] = [];
      for (const add of chunks(members)) {
        for (const { member, error } of await this.#kernel.update([{ name: temporary.name, add, del: [] }]))
          failures.push({ set: spec.name, ...(member === undefined ? {} : { member }), reason: error.message });
      }
      const [first] = failures;
      if (first !== undefined)
        throw new Error(
          `${failures.length} members did not go into the new set, first ${first.member ?? ''}: ${first.reason}`,
        );
      await this.#kernel.swap(temporary.name, spec.name);
      state.kernel = spec;
      this.#log.info('replaced an ipset', { set: spec.name, type: spec.type, maxelem: spec.maxelem });
    } finally {
      await this.#kernel.destroy(temporary.name);
    }
  }

  /** Writes the changes, a bounded number of members a call. What fails is noted as not done. */
  async #write(changes: readonly IpsetChange[], kind: 'addition' | 'deletion', failed: SetFailure[]): Promise<void> {
    for (const part of parts(changes)) {
      try {
        for (const { set, member, error } of await this.#kernel.update(part)) {
          failed.push({ set, ...(member === undefined ? {} : { member }), reason: error.message });
          if (member !== undefined && kind === 'addition') this.#refused(set, member);
          else this.#lost(set);
        }
      } catch (error) {
        for (const { name } of part) {
          failed.push({ set: name, reason: words(error) });
          this.#lost(name);
        }
      }
    }
  }

  /** Nobody knows what the kernel has now. */
  #lost(name: string): void {
    this.#state = 'stale';
    this.#toAdd.add(name);
  }

  /** The kernel did not take the member in. */
  #refused(name: string, member: string): void {
    const state = this.#sets.get(name);
    if (state === undefined || state.extra.delete(member)) return;
    state.missing.add(member);
    this.#toAdd.add(name);
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

const newState = (spec: SetSpec, isWanted: boolean): SetState => ({
  spec,
  isWanted,
  kernel: undefined,
  wanted: new Set(),
  missing: new Set(),
  extra: new Set(),
});

const isSameKind = ({ spec, kernel }: SetState): boolean => kernel?.type === spec.type && kernel.family === spec.family;

/** The kernel has a set of this name that can't be taken as it is. */
const isOther = (state: SetState): boolean =>
  state.kernel !== undefined && (!isSameKind(state) || state.kernel.maxelem !== state.spec.maxelem);

/** At most so many members each. */
function chunks(members: readonly string[]): string[][] {
  const count = Math.ceil(members.length / MEMBERS_PER_CALL);
  return Array.from({ length: count }, (_, n) => members.slice(n * MEMBERS_PER_CALL, (n + 1) * MEMBERS_PER_CALL));
}

/** The changes in as few calls as have a bounded number of members each. */
function parts(changes: readonly IpsetChange[]): IpsetChange[][] {
  const all: IpsetChange[][] = [];
  let room = 0;
  for (const { name, add, del } of changes) {
    for (const part of [
      ...chunks(del).map((some) => ({ name, add: [], del: some })),
      ...chunks(add).map((some) => ({ name, add: some, del: [] })),
    ]) {
      const size = part.add.length + part.del.length;
      if (size > room) {
        all.push([]);
        room = MEMBERS_PER_CALL;
      }
      all.at(-1)?.push(part);
      room -= size;
    }
  }
  return all;
}

/** Empties the set and returns what was in it. */
function takeAll<T>(set: Set<T>): T[] {
  const all = [...set];
  set.clear();
  return all;
}

const words = (error: unknown): string => (error instanceof Error ? error.message : String(error));
