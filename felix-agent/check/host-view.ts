import { readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
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
  /** A path of this process without symbolic links (/lib is one in most images), as mount points are named. */
  readonly resolve: (path: string) => string;
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
      isPod: (env['KUBERNETES_SERVICE_HOST'] ?? '') !== '',
      mountPoints: parseMountPoints(readFileSync('/proc/self/mountinfo', 'utf8')),
      resolve: resolved,
    },
    root,
  );
}

/** Pure: see `findHostView`. */
export function hostView(facts: HostViewFacts, root?: string): HostView {
  const own = rootOf(facts);
  const base = root === undefined ? own : known(root);
  // What is mounted into a container was mounted from the host, on purpose.
  const isMounted = (path: string): boolean => {
    const place = facts.resolve(path);
    return facts.mountPoints.some((point) => point !== '/' && (place === point || place.startsWith(`${point}/`)));
  };
  return {
    locate: (path) => {
      if (root === undefined && isMounted(path)) return known(path);
      return base.known ? known(join(base.value, path)) : base;
    },
    isShared: (path) => (own.known && own.value === '/') || isMounted(path),
    // Process 1 of a pod with process numbers of its own is the pod's.
    processes: isAlone(facts)
      ? notKnown("the host's processes can't be seen from this container: give the pod hostPID")
      : known(true),
  };
}

const isAlone = ({ isPod, ownMounts, initMounts }: HostViewFacts): boolean =>
  isPod && initMounts !== undefined && ownMounts === initMounts;

/** Where there is no sign of a container these are the host's files, also for a user who may not look at process 1. */
function rootOf(facts: HostViewFacts): Known<string> {
  const { ownMounts, initMounts, isPod } = facts;
  if (isAlone(facts))
    return notKnown("the host's files can't be seen from this container: give the pod hostPID, or mount them");
  if (initMounts !== undefined && ownMounts !== initMounts) return known(INIT_ROOT);
  return initMounts === undefined && isPod
    ? notKnown("the host's files can't be seen from this container: it may not look into process 1 (privileged: true)")
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

/** What isn't there has no links: then those of the directories above it. */
function resolved(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path === '/' ? path : join(resolved(dirname(path)), basename(path));
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
