import type { Clock } from '#api/clock.ts';
import type { Ipset, IpsetInfo, IpsetSpec } from '#native/ipset.ts';
import type { Family } from '#native/types.ts';
import type { Logger } from '../logger.ts';

/** What a set of ours is, besides its members. */
export interface SetSpec extends IpsetSpec {
  readonly maxelem: number;
}

/** What the driver needs of the addon's ipset socket. */
export type SetKernel = Pick<Ipset, 'list' | 'members' | 'create' | 'update' | 'swap' | 'destroy'>;

/** A set, or a member of it, that could not be made what it should be. It stays dirty. */
export interface SetFailure {
  readonly set: string;
  readonly member?: string;
  readonly reason: string;
}

/** What one cycle did. */
export interface SetReport {
  readonly failed: readonly SetFailure[];
  readonly repaired: readonly string[];
}

/** The kernel's limit for a set's name, without the final zero (IPSET_MAXNAMELEN). */
const MAX_NAME_LENGTH = 31;

/** The kernel's name of our set `id`: `cali40` or `cali60` and the id, cut to what the kernel takes. */
export const setName = (family: Family, id: string): string => `cali${family}0${id}`.slice(0, MAX_NAME_LENGTH);

/** The name under which a set is filled that will replace `name`. */
export const temporaryName = (name: string): string =>
  `${name.slice(0, 5)}t-${name.slice(6)}`.slice(0, MAX_NAME_LENGTH);

/** A net as the kernel lists it: without the prefix length of a single address. A /0, which hash:net can't hold, is two halves. */
export function netMembers(cidr: string): readonly string[] {
  if (cidr === '0.0.0.0/0') return ['0.0.0.0/1', '128.0.0.0/1'];
  if (cidr === '::/0') return ['::/1', '8000::/1'];
  return [cidr.includes(':') ? cidr.replace(/\/128$/, '') : cidr.replace(/\/32$/, '')];
}

/** A member that the kernel refused. */
interface Refusal {
  readonly member: string;
  readonly reason: string;
}

interface Wanted {
  spec: SetSpec;
  readonly members: Set<string>;
  /** Members whose wish changed since they were last written. */
  readonly dirty: Set<string>;
}

interface Actual {
  readonly spec: IpsetInfo;
  readonly members: Set<string>;
}

/**
 * The driver of a group of ipsets: desired and actual members, differences written by netlink; one more pod is one member in one message
 * and no process. It owns the sets that it is told and, for removal, those of which `owns(name)` is true.
 *
 * Everything is listed before the first write, each refresh interval and on request: others may flush or destroy. The kernel refuses to
 * destroy a set that a rule refers to, so sets go last (`applyRemovals`, after the tables), and one whose maximum size changes is
 * filled under a temporary name and swapped: rules never see it empty. Until `allowRemoval` members are only added.
 */
export class Ipsets implements Disposable {
  readonly #kernel: SetKernel;
  readonly #owns: (name: string) => boolean;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #onDue: () => void;
  readonly #wanted = new Map<string, Wanted>();
  #actual = new Map<string, Actual>();
  #state: 'unread' | 'stale' | 'known' = 'unread';
  #mayRemove = false;
  /** Sets to look at in the next cycle. */
  readonly #dirtySets = new Set<string>();
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

  /** Wants this set; its members stay as they are wanted. */
  setSet(spec: SetSpec): void {
    const wanted = this.#wanted.get(spec.name);
    if (wanted === undefined) this.#wanted.set(spec.name, { spec, members: new Set(), dirty: new Set() });
    else wanted.spec = spec;
    this.#dirtySets.add(spec.name);
  }

  /** The set is no longer wanted. */
  removeSet(name: string): void {
    this.#wanted.delete(name);
  }

  addMember(name: string, member: string): void {
    this.#change(name, member, true);
  }

  removeMember(name: string, member: string): void {
    this.#change(name, member, false);
  }

  /** From now on what is in the kernel and not wanted goes. */
  allowRemoval(): void {
    if (this.#mayRemove) return;
    this.#mayRemove = true;
    for (const [name, { members }] of this.#actual) {
      const wanted = this.#wanted.get(name);
      if (wanted === undefined) continue;
      for (const member of members) if (!wanted.members.has(member)) wanted.dirty.add(member);
      this.#dirtySets.add(name);
    }
  }

  /** The next cycle lists what is there. */
  requestResync(): void {
    if (this.#state === 'known') this.#state = 'stale';
  }

  /** Makes sets and members; in proportion to what is dirty. Never throws: what failed is reported and stays dirty. */
  async applyUpdates(): Promise<SetReport> {
    const failed: SetFailure[] = [];
    const repaired: string[] = [];
    try {
      if (this.#state !== 'known') await this.#read(repaired);
    } catch (error) {
      return { failed: [{ set: 'all', reason: `listing the sets: ${words(error)}` }], repaired };
    }
    for (const name of this.#wanted.keys()) {
      if (!this.#dirtySets.delete(name)) continue; // Before the work: what is wished meanwhile is the next cycle's.
      try {
        const failures = await this.#applySet(name);
        failed.push(...failures.map((failure) => Object.assign({ set: name }, failure)));
        if (failures.length > 0) this.#dirtySets.add(name);
      } catch (error) {
        failed.push({ set: name, reason: words(error) });
        this.#state = 'stale';
      }
    }
    return { failed, repaired };
  }

  /** Destroys sets that nobody wants any more. Call it when no table refers to them. */
  async applyRemovals(): Promise<SetReport> {
    const failed: SetFailure[] = [];
    if (!this.#mayRemove || this.#state !== 'known') return { failed, repaired: [] };
    for (const name of [...this.#actual.keys()].filter((name) => !this.#wanted.has(name))) {
      try {
        await this.#destroy(name);
      } catch (error) {
        failed.push({ set: name, reason: words(error) });
      }
    }
    return { failed, repaired: [] };
  }

  /** Destroys every set that is ours, wanted or not. Nothing may refer to them any more. */
  async cleanup(): Promise<void> {
    this.#timer?.[Symbol.dispose]();
    for (const { name } of await this.#kernel.list()) if (this.#owns(name)) await this.#kernel.destroy(name);
    this.#actual.clear();
    this.#state = 'unread';
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
  }

  #change(name: string, member: string, wish: boolean): void {
    const wanted = this.#wanted.get(name);
    if (wanted === undefined) throw new TypeError(`ipset ${name} was not announced`);
    if (wanted.members.has(member) === wish) return;
    if (wish) wanted.members.add(member);
    else wanted.members.delete(member);
    wanted.dirty.add(member);
    this.#dirtySets.add(name);
  }

  async #read(repaired: string[]): Promise<void> {
    const state = this.#state;
    const before = state === 'unread' ? undefined : this.#actual;
    const actual = new Map<string, Actual>();
    this.#state = 'known'; // A request to read that comes meanwhile is the next cycle's.
    try {
      for (const spec of await this.#kernel.list()) {
        if (!this.#owns(spec.name) && !this.#wanted.has(spec.name)) continue;
        actual.set(spec.name, { spec, members: new Set(await this.#kernel.members(spec.name)) });
      }
    } catch (error) {
      this.#state = state;
      throw error;
    }
    for (const [name, old] of before ?? []) {
      const now = actual.get(name);
      if (now === undefined) repaired.push(`ipset ${name} was missing`);
      else repaired.push(...describeChange(name, old.members, now.members));
    }
    this.#actual = actual;
    for (const [name, wanted] of this.#wanted) {
      this.#dirtySets.add(name);
      for (const member of wanted.members) wanted.dirty.add(member);
      for (const member of actual.get(name)?.members ?? []) if (!wanted.members.has(member)) wanted.dirty.add(member);
    }
    this.#startTimer();
  }

  #startTimer(): void {
    this.#timer?.[Symbol.dispose]();
    if (this.#refreshIntervalMs <= 0) return;
    this.#timer = this.#clock.after(this.#refreshIntervalMs, () => {
      this.requestResync();
      this.#onDue();
    });
  }

  async #applySet(name: string): Promise<readonly Refusal[]> {
    const wanted = this.#wanted.get(name) as Wanted;
    const actual = this.#actual.get(name);
    if (actual === undefined) {
      await this.#kernel.create(wanted.spec);
      this.#actual.set(name, { spec: wanted.spec, members: new Set() });
      for (const member of wanted.members) wanted.dirty.add(member);
    } else if (actual.spec.type !== wanted.spec.type || actual.spec.maxelem !== wanted.spec.maxelem) {
      await this.#replace(wanted, actual);
    }
    const { members } = this.#actual.get(name) as Actual;
    const add = [...wanted.dirty].filter((member) => wanted.members.has(member) && !members.has(member));
    const del = this.#mayRemove
      ? [...wanted.dirty].filter((member) => !wanted.members.has(member) && members.has(member))
      : [];
    wanted.dirty.clear();
    const failures = add.length + del.length > 0 ? await this.#update(name, add, del) : [];
    const refused = new Set(failures.map(({ member }) => member));
    for (const member of add) if (!refused.has(member)) members.add(member);
    for (const member of del) if (!refused.has(member)) members.delete(member);
    for (const member of refused) wanted.dirty.add(member);
    return failures;
  }

  /** A set of another size: filled beside the old one, then swapped. */
  async #replace(wanted: Wanted, actual: Actual): Promise<void> {
    const { name } = wanted.spec;
    const temporary = { ...wanted.spec, name: temporaryName(name) };
    if ((await this.#kernel.list()).some((set) => set.name === temporary.name))
      await this.#kernel.destroy(temporary.name);
    await this.#kernel.create(temporary);
    try {
      const members = new Set(this.#mayRemove ? wanted.members : [...wanted.members, ...actual.members]);
      const failures = await this.#update(temporary.name, [...members], []);
      const [first] = failures;
      if (first !== undefined)
        throw new Error(
          `${failures.length} members did not go into the new set, first ${first.member}: ${first.reason}`,
        );
      await this.#kernel.swap(temporary.name, name);
      this.#actual.set(name, { spec: { ...temporary, name }, members });
      this.#log.info('replaced an ipset', { set: name, maxelem: wanted.spec.maxelem });
    } finally {
      await this.#kernel.destroy(temporary.name);
    }
  }

  async #update(name: string, add: readonly string[], del: readonly string[]): Promise<readonly Refusal[]> {
    const failures = await this.#kernel.update(name, add, del);
    return failures.map(({ member, error }) => ({ member, reason: error.message }));
  }

  async #destroy(name: string): Promise<void> {
    await this.#kernel.destroy(name);
    this.#actual.delete(name);
  }
}

const words = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function describeChange(name: string, before: ReadonlySet<string>, now: ReadonlySet<string>): string[] {
  const missing = [...before].filter((member) => !now.has(member)).length;
  const extra = [...now].filter((member) => !before.has(member)).length;
  return [
    ...(missing > 0 ? [`ipset ${name}: ${missing} members were missing`] : []),
    ...(extra > 0 ? [`ipset ${name}: ${extra} members too many`] : []),
  ];
}
