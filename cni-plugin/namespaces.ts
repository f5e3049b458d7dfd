import { LinkRemover } from '#native/link-remover.ts';
import { openNetlinkWithSysctls } from '#native/netlink.ts';
import { netnsInode, writeSysctls } from '#native/netns.ts';
import type { Netlink, NetnsRef, Sysctl, SysctlResult } from '#native/types.ts';

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
  /** Which namespace it is; undefined: the node's. Throws when the path is none. */
  inode(path?: string): number;
}

/** The kernel's. `host` is the node's namespace; absent: where the process is. */
export function kernelNamespaces(host?: NetnsRef): Namespaces {
  let remover: LinkRemover | undefined;
  return {
    open: (path, sysctls) => openNetlinkWithSysctls({ path }, sysctls),
    writeHostSysctls: (sysctls) => writeSysctls(sysctls, host),
    removeHostLink: (index) => (remover ??= LinkRemover.open(host)).remove(index),
    inode: (path) => netnsInode(path === undefined ? host : { path }),
    [Symbol.dispose]: () => remover?.[Symbol.dispose](),
  };
}
