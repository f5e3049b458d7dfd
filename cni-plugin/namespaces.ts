import { openNetlinkWithSysctls } from '#native/netlink.ts';
import { netnsInode, writeSysctls } from '#native/netns.ts';
import type { Netlink, NetnsRef, Sysctl, SysctlResult } from '#native/types.ts';

/** Ways into network namespaces, as a seam: each call enters and leaves within itself. */
export interface Namespaces {
  /** A route socket in the namespace, opened during the visit that writes the sysctls. Throws when it can't be entered. */
  open(path: string, sysctls: readonly Sysctl[]): { readonly netlink: Netlink; readonly sysctls: readonly SysctlResult[] };
  /** Writes sysctls of the node's namespace. */
  writeHostSysctls(sysctls: readonly Sysctl[]): readonly SysctlResult[];
  /** Which namespace it is; undefined: the node's. Throws when the path is none. */
  inode(path?: string): number;
}

/** The kernel's. `host` is the node's namespace; absent: where the process is. */
export function kernelNamespaces(host?: NetnsRef): Namespaces {
  return {
    open: (path, sysctls) => openNetlinkWithSysctls({ path }, sysctls),
    writeHostSysctls: (sysctls) => writeSysctls(sysctls, host),
    inode: (path) => netnsInode(path === undefined ? host : { path }),
  };
}
