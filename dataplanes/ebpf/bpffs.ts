import { existsSync, mkdirSync, readdirSync, readFileSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { mountBpffs, unmountBpffs } from '#native/bpf.ts';

/** `BPF_FS_MAGIC` of linux/magic.h. */
const BPF_FS_MAGIC = 0xcafe4a11;
/** What mountinfo shows as the source of a bpf file system that we mounted, so that cleanup knows it after a restart. */
const OUR_MOUNT = 'tortie';

/** True if the path exists and lies on a bpf file system. */
function isOnBpffs(path: string): boolean {
  // The magic is a signed word on some architectures.
  return existsSync(path) && statfsSync(path).type >>> 0 === BPF_FS_MAGIC;
}

/**
 * Makes sure that `dir` can hold pins: its parent must be on a bpf file system, and if it is not, one is mounted at the parent, which must be empty:
 * what is in there would be hidden (of `/nowhere` it would be everything). Returns why not, or undefined.
 */
export function prepareBpffs(dir: string): string | undefined {
  const parent = dirname(dir);
  try {
    if (isOnBpffs(parent)) return undefined;
    makeDir(parent);
    const [first] = readdirSync(parent);
    if (first !== undefined) {
      return `${parent} is on no bpf file system, and one mounted there would hide what is in it (${first}, ...): name a directory below a bpf file system, or below an empty directory (--bpffs)`;
    }
    mountBpffs(parent, OUR_MOUNT);
    return undefined;
  } catch (error) {
    return `no bpf file system at ${parent}, and none can be mounted there: ${(error as Error).message}`;
  }
}

/** Unmounts the bpf file system above `dir` if it was mounted by us and holds nothing any more. */
export function releaseBpffs(dir: string): void {
  const parent = dirname(dir);
  if (!isOnBpffs(parent) || mountSource(parent) !== OUR_MOUNT) return;
  try {
    unmountBpffs(parent);
  } catch (error) {
    // Somebody else has come to use it; it goes with the reboot.
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error;
  }
}

/** With its parents. Not by `recursive`: Node tries for ever in file systems where nobody can make directories (/proc says ENOENT). */
function makeDir(dir: string): void {
  if (existsSync(dir)) return;
  makeDir(dirname(dir));
  mkdirSync(dir);
}

/** The source of what is mounted exactly at the path (proc_pid_mountinfo(5)), the last one if several are; undefined if nothing is. */
function mountSource(path: string): string | undefined {
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').trimEnd().split('\n').reverse()) {
    const [before = '', after = ''] = line.split(' - ');
    // Blanks in paths are octal there.
    const point = before
      .split(' ')[4]
      ?.replaceAll(/\\(\d{3})/g, (_, digits: string) => String.fromCodePoint(Number.parseInt(digits, 8)));
    if (point === path) return after.split(' ')[1];
  }
  return undefined;
}
