import type { IpsetInfo, IpsetMemberFailure, IpsetSpec } from '#native/ipset.ts';
import type { NetlinkFailure } from '#native/types.ts';
import type { SetKernel } from './ipsets.ts';

/** The kernel's ipsets in memory, for tests. It refuses what the kernel refuses and records every call. */
export class FakeSets implements SetKernel {
  readonly sets = new Map<string, { spec: IpsetSpec; members: Set<string> }>();
  readonly calls: string[] = [];
  /** Sets that a rule refers to. */
  readonly referenced = new Set<string>();
  /** Members that are refused, with the kernel's words. */
  readonly refused = new Map<string, string>();

  list(): Promise<readonly IpsetInfo[]> {
    this.calls.push('list');
    return Promise.resolve([...this.sets.values()].map(({ spec }) => spec));
  }

  members(name: string): Promise<readonly string[]> {
    this.calls.push(`members ${name}`);
    return Promise.resolve([...(this.sets.get(name)?.members ?? [])]);
  }

  create(spec: IpsetSpec): Promise<void> {
    this.calls.push(`create ${spec.name}`);
    if (this.sets.has(spec.name)) return Promise.reject(failure('EEXIST', `create ${spec.name}`));
    this.sets.set(spec.name, { spec, members: new Set() });
    return Promise.resolve();
  }

  update(name: string, add: readonly string[], del: readonly string[]): Promise<readonly IpsetMemberFailure[]> {
    this.calls.push(
      `update ${name} ${[...add.map((member) => `+${member}`), ...del.map((member) => `-${member}`)].join(' ')}`,
    );
    const set = this.sets.get(name);
    if (set === undefined) return Promise.reject(failure('ENOENT', `update ${name}`));
    const failures: IpsetMemberFailure[] = [];
    for (const member of add) {
      const reason = this.refused.get(member);
      if (reason === undefined) set.members.add(member);
      else failures.push({ member, error: failure('EINVAL', reason) });
    }
    for (const member of del) set.members.delete(member);
    return Promise.resolve(failures);
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
}

const failure = (code: string, object: string): Error & NetlinkFailure =>
  Object.assign(new Error(`${object}: ${code}`), { code, errno: 0, syscall: 'sendmsg', object });
