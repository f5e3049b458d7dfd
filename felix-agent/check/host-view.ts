import { readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { known, notKnown, type Known } from './result.ts';

/** Where this process finds the host's files: it may be in a container that shares the host's network, and has a file system of its own. */
export interface HostView {
  /** The path by which to read what the host has at `path`. */
  locate(path: string): Known<string>;
  /** True if what this process has at `path` itself is the host's. */
  isShared(path: string): boolean;
  /** Whether /proc shows the host's processes; if not, why. */
  readonly processes: Known<true>;
}

/** What a view is made of. */
export interface HostViewFacts {
  /** Links of /proc: which mount namespace a process is in; undefined when that can't be read. */
  readonly ownMounts: string | undefined;
  readonly initMounts: string | undefined;
  /** A pod of Kubernetes: what is process 1 there may be the pod's own. */
  readonly isPod: boolean;
  /** Where something is mounted, for this process. */
  readonly mountPoints: readonly string[];
}

/** Process 1 of the host, as everybody sees it who shares the host's process numbers. */
const INIT_ROOT = '/proc/1/root';

/** The view from where this process is; `root`: where the host's files are, if it is told. */
export function findHostView(env: NodeJS.ProcessEnv, root?: string): HostView {
  return hostView(
    {
      ownMounts: linkOf('/proc/self/ns/mnt'),
      initMounts: linkOf('/proc/1/ns/mnt'),
      // Kubelet gives it to every container.
      isPod: env['KUBERNETES_SERVICE_HOST'] !== undefined,
      mountPoints: parseMountPoints(readFileSync('/proc/self/mountinfo', 'utf8')),
    },
    root,
  );
}

/** Pure: see `findHostView`. */
export function hostView(facts: HostViewFacts, root?: string): HostView {
  const base = root === undefined ? rootOf(facts) : known(root);
  // What is mounted into a container was mounted from the host, on purpose.
  const isMounted = (path: string): boolean =>
    facts.mountPoints.some((point) => point !== '/' && (path === point || path.startsWith(`${point}/`)));
  return {
    locate: (path) => {
      if (root === undefined && isMounted(path)) return known(path);
      return base.known ? known(join(base.value, path)) : base;
    },
    isShared: (path) => (base.known && base.value === '/') || isMounted(path),
    processes:
      facts.isPod && facts.ownMounts === facts.initMounts
        ? notKnown("the host's processes can't be seen from this container: give the pod hostPID")
        : known(true),
  };
}

function rootOf({ ownMounts, initMounts, isPod }: HostViewFacts): Known<string> {
  if (initMounts === undefined || ownMounts === undefined)
    return notKnown("can't tell whether these are the host's files: /proc/1/ns/mnt can't be read (run it as root)");
  if (ownMounts !== initMounts) return known(INIT_ROOT);
  return isPod
    ? notKnown("the host's files can't be seen from this container: give the pod hostPID, or mount them")
    : known('/');
}

/** The points of proc_pid_mountinfo(5); blanks in them are octal there. */
export function parseMountPoints(mountinfo: string): readonly string[] {
  return mountinfo
    .trimEnd()
    .split('\n')
    .map((line) =>
      (line.split(' ')[4] ?? '').replaceAll(/\\(\d{3})/g, (_, digits: string) =>
        String.fromCodePoint(Number.parseInt(digits, 8)),
      ),
    );
}

/** Where file systems of a type are mounted, first come first. */
export function mountsOfType(mountinfo: string, type: string): readonly string[] {
  return parseMountPoints(
    mountinfo
      .trimEnd()
      .split('\n')
      .filter((line) => line.split(' - ')[1]?.split(' ')[0] === type)
      .join('\n'),
  ).filter((point) => point !== '');
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
