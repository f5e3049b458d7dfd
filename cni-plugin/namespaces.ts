import { closeSync, constants, openSync } from 'node:fs';
import { LinkRemover } from '#native/link-remover.ts';
import { openNetlinkWithSysctls } from '#native/netlink.ts';
import { netnsInode, writeSysctls } from '#native/netns.ts';
import type { Netlink, NetnsRef, Sysctl, SysctlResult } from '#native/types.ts';

/** A namespace that is held open: the path stays this namespace until it is disposed of. */
export interface HeldNetns extends Disposable {
  /** For this process only. */
  readonly path: string;
  /** Equal for two if and only if they are the same living namespace. */
  readonly inode: number;
}

/** What is done to namespaces besides the requests on the host's socket, as a seam. Each call enters and leaves within itself. */
export interface Namespaces extends Disposable {
  /** A route socket in the namespace, opened during the visit that writes the sysctls. Throws when it can't be entered. */
  open(
    path: string,
    sysctls: readonly Sysctl[],
  ): { readonly netlink: Netlink; readonly sysctls: readonly SysctlResult[] };
  /** Writes sysctls of the node's namespace. */
  writeHostSysctls(sysctls: readonly Sysctl[]): readonly SysctlResult[];
  /** Deletes a device of the node, and with it the pod's end, routes and neighbours; one that is gone is success. Deletions that come together go together. */
  removeHostLink(index: number): Promise<void>;
  /** Opens a namespace by a path of this process. Throws when the path is none. */
  hold(path: string): HeldNetns;
  /** Of the node's own. */
  hostInode(): number;
}

/** The kernel's. `host` is the node's namespace; absent: where the process is. */
export function kernelNamespaces(host?: NetnsRef): Namespaces {
  let remover: LinkRemover | undefined;
  return {
    open: (path, sysctls) => openNetlinkWithSysctls({ path }, sysctls),
    writeHostSysctls: (sysctls) => writeSysctls(sysctls, host),
    removeHostLink: (index) => (remover ??= LinkRemover.open(host)).remove(index),
    hold,
    hostInode: () => netnsInode(host),
    [Symbol.dispose]: () => remover?.[Symbol.dispose](),
  };
}

function hold(path: string): HeldNetns {
  // O_NONBLOCK: a FIFO given by mistake must not hang the process.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const held = `/proc/self/fd/${fd}`;
  try {
    return { path: held, inode: netnsInode({ path: held }), [Symbol.dispose]: () => closeSync(fd) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
