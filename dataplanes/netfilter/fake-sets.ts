import { IpsetDigest } from '#native/ipset-digest.ts';
import type { IpsetChange, IpsetContents, IpsetFailure, IpsetInfo, IpsetSpec, IpsetSummary } from '#native/ipset.ts';
import type { NetlinkFailure } from '#native/types.ts';
import type { SetKernel } from './ipsets.ts';

/** The kernel's ipsets in memory, for tests. It refuses what the kernel refuses and records every call. */
export class FakeSets implements SetKernel {
  readonly sets = new Map<string, { spec: IpsetSpec; members: Set<string> }>();
  readonly calls: string[] = [];
  /** Sets that a rule refers to. */
  readonly referenced = new Set<string>();
  /** Members, and sets by name, that are refused, with the kernel's words. */
  readonly refused = new Map<string, string>();

  list(): Promise<readonly IpsetInfo[]> {
    this.calls.push('list');
    return Promise.resolve([...this.sets.values()].map(({ spec }) => spec));
  }

  summaries(prefix: string): Promise<readonly IpsetSummary[]> {
    this.calls.push(`summaries ${prefix}`);
    return Promise.resolve(this.#named(prefix).map(({ members: _members, ...summary }) => summary));
  }

  contents(which: string | readonly string[]): Promise<readonly IpsetContents[]> {
    this.calls.push(`contents ${String(which)}`);
    if (typeof which === 'string') return Promise.resolve(this.#named(which));
    return Promise.resolve(this.#named('').filter(({ name }) => which.includes(name)));
  }

  async create(spec: IpsetSpec): Promise<void> {
    const [first] = await this.createAll([spec]);
    if (first !== undefined) throw first.error;
  }

  createAll(specs: readonly IpsetSpec[]): Promise<readonly IpsetFailure[]> {
    const failures: IpsetFailure[] = [];
    for (const spec of specs) {
      this.calls.push(`create ${spec.name}`);
      const reason = this.refused.get(spec.name);
      if (reason !== undefined) failures.push({ set: spec.name, error: failure('ENOMEM', reason) });
      else if (this.sets.has(spec.name))
        failures.push({ set: spec.name, error: failure('EEXIST', `create ${spec.name}`) });
      else this.sets.set(spec.name, { spec, members: new Set() });
    }
    return Promise.resolve(failures);
  }

  update(changes: readonly IpsetChange[]): Promise<readonly IpsetFailure[]> {
    return Promise.resolve(changes.flatMap((change) => this.#change(change)));
  }

  swap(a: string, b: string): Promise<void> {
    this.calls.push(`swap ${a} ${b}`);
    const [left, right] = [this.sets.get(a), this.sets.get(b)];
    if (left === undefined || right === undefined) return Promise.reject(failure('ENOENT', `swap ${a} ${b}`));
    this.sets.set(a, { ...right, spec: { ...right.spec, name: a } });
    this.sets.set(b, { ...left, spec: { ...left.spec, name: b } });
    return Promise.resolve();
  }

  destroy(name: string): Promise<void> {
    this.calls.push(`destroy ${name}`);
    if (this.referenced.has(name)) return Promise.reject(failure('IPSET_ERR_BUSY', `destroy ${name}`));
    if (!this.sets.delete(name)) return Promise.reject(failure('ENOENT', `destroy ${name}`));
    return Promise.resolve();
  }

  #named(prefix: string): IpsetContents[] {
    const sets = [...this.sets.values()].filter(({ spec }) => spec.name.startsWith(prefix));
    return sets.map(({ spec, members }) => ({
      ...spec,
      members: [...members],
      digest: IpsetDigest.of(members).toString(),
    }));
  }

  #change({ name, add, del }: IpsetChange): IpsetFailure[] {
    this.calls.push(
      `update ${name} ${[...add.map((member) => `+${member}`), ...del.map((member) => `-${member}`)].join(' ')}`,
    );
    const set = this.sets.get(name);
    if (set === undefined) return [{ set: name, error: failure('ENOENT', `update ${name}`) }];
    const failures: IpsetFailure[] = [];
    for (const member of del) set.members.delete(member);
    for (const member of add) {
      const reason = this.refused.get(member);
      if (reason === undefined) set.members.add(member);
      else failures.push({ set: name, member, error: failure('EINVAL', reason) });
    }
    return failures;
  }
}

const failure = (code: string, object: string): Error & NetlinkFailure =>
  Object.assign(new Error(`${object}: ${code}`), { code, errno: 0, syscall: 'sendmsg', object });
