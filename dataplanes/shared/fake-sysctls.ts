import type { Sysctl, SysctlResult } from '#native/types.ts';
import type { SysctlPort } from './host-sysctls.ts';
import type { SysctlMemory } from './node-sysctls.ts';

/** Sysctls in memory, for tests: every one exists, with the value 0 unless set. */
export class FakeSysctls implements SysctlPort {
  readonly values = new Map<string, string>();
  /** Paths below these don't exist (no IPv6 in the kernel: `net/ipv6/`). */
  readonly absent: string[] = [];

  write(sysctls: readonly Sysctl[]): readonly SysctlResult[] {
    return sysctls.map(({ path, value }): SysctlResult => {
      if (this.read(path) === value) return { path, status: 'unchanged' };
      this.values.set(path, value);
      return { path, status: 'written' };
    });
  }

  read(path: string): string | undefined {
    return this.absent.some((prefix) => path.startsWith(prefix)) ? undefined : (this.values.get(path) ?? '0');
  }
}

/** What was remembered, in memory, for tests. */
export class FakeSysctlMemory implements SysctlMemory {
  readonly values = new Map<string, string>();
  /** Set: nothing can be remembered, for this reason. */
  failure: string | undefined;

  remember(path: string, valueBefore: string): void {
    if (this.failure !== undefined) throw new Error(this.failure);
    if (!this.values.has(path)) this.values.set(path, valueBefore);
  }

  all(): ReadonlyMap<string, string> {
    return new Map(this.values);
  }

  forget(): void {
    this.values.clear();
  }
}
