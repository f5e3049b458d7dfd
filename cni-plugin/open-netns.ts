import { cniCode, CniError, errorText } from './errors.ts';
import type { HeldNetns, Namespaces } from './namespaces.ts';

/** What the launcher says of the namespace: where it has it open, or `!` and why it hasn't. */
const told = /^(?<pid>\d+)\/(?<fd>\d+)\/(?<inode>\d+)$/;

/**
 * Opens the namespace that the runtime means by CNI_NETNS. An agent in a container has another mount namespace than the runtime: there the path
 * may be nothing, or another namespace. So the launcher, which the runtime runs, opens it and says its inode number, and that is what is taken: by the
 * launcher's descriptor below /proc, else by the path, if that leads to the same inode. `seen` is what the launcher said; from a caller that says
 * nothing (stand-alone, or an older launcher) the path is taken as it stands.
 *
 * Held open, it stays this namespace, whatever becomes of path and launcher. Throws code 3.
 */
export function openNetns(namespaces: Namespaces, netns: string, seen: string | undefined): HeldNetns {
  if (seen === undefined) return hold(namespaces, netns, netns);
  const { pid, fd, inode } = told.exec(seen)?.groups ?? {};
  if (inode === undefined) throw refused(netns, seen.replace(/^!/, ''));
  const reasons: string[] = [];
  for (const path of [`/proc/${pid}/fd/${fd}`, netns]) {
    try {
      const held = namespaces.hold(path);
      if (held.inode === Number(inode)) return held;
      held[Symbol.dispose]();
      reasons.push(`${path} is another namespace here`);
    } catch (error) {
      reasons.push(errorText(error));
    }
  }
  throw refused(
    netns,
    `${reasons.join('; ')}; an agent in a container must see the node's processes (hostPID) or its namespaces`,
  );
}

function hold(namespaces: Namespaces, path: string, netns: string): HeldNetns {
  try {
    return namespaces.hold(path);
  } catch (error) {
    throw refused(netns, errorText(error), error);
  }
}

function refused(netns: string, why: string, cause?: unknown): CniError {
  return new CniError(cniCode.unknownContainer, `can't open the container's network namespace ${netns}: ${why}`, {
    cause,
  });
}
