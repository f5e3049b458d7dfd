import { existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from './agent-lab.ts';

/** Where hierarchies of control groups are mounted: one of version 2, and those of version 1 where they are still in use. */
export function cgroupMounts(): readonly { readonly path: string; readonly version: 1 | 2 }[] {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return mounts.flatMap((line) => {
    const [, path = '', type] = /^(?:\S+ ){4}(\S+) .* - (cgroup2?) /.exec(line) ?? [];
    return type === undefined ? [] : [{ path, version: type === 'cgroup2' ? (2 as const) : (1 as const) }];
  });
}

/** Mount point of the version 2 hierarchy. */
export function cgroup2(): string {
  const mount = cgroupMounts().find(({ version }) => version === 2);
  if (mount === undefined) throw new Error('no cgroup2 file system is mounted on this machine');
  return mount.path;
}

/** Kills every process in the version 2 group of this name and below, then removes the groups of this name in all hierarchies. */
export async function removeCgroup(name: string): Promise<void> {
  const top = join(cgroup2(), name);
  if (existsSync(top)) {
    writeFileSync(join(top, 'cgroup.kill'), '1');
    const isEmpty = () => readFileSync(join(top, 'cgroup.events'), 'utf8').includes('populated 0');
    await eventually(isEmpty, () => `processes in ${top} outlive cgroup.kill`);
  }
  for (const mount of cgroupMounts()) removeGroups(join(mount.path, name));
}

/** Removes the version 1 groups of this name if nobody has a group below; they may be other programs', too. */
export function removeEmptyCgroup(name: string): void {
  for (const { path } of cgroupMounts().filter(({ version }) => version === 1)) {
    try {
      rmdirSync(join(path, name));
    } catch (error) {
      // EBUSY: there are groups or processes in it.
      if (!['ENOENT', 'EBUSY'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
}

/** Control groups go one by one, the innermost first, once they are empty. */
function removeGroups(path: string): void {
  if (!existsSync(path)) return;
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) removeGroups(join(path, entry.name));
  }
  rmdirSync(path);
}
