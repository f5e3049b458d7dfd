import { loadAddon } from './addon.ts';
import type { NetnsRef, Sysctl, SysctlResult } from './types.ts';

interface NetnsAddon {
  writeSysctls(sysctls: readonly Sysctl[], ns?: NetnsRef): readonly SysctlResult[];
  netnsInode(ns?: NetnsRef): number;
}

/**
 * Gives sysctls their values in the namespace (absent: where the process is): each is read first and written only if it differs. One
 * native call, which enters the namespace and leaves it again; a failed one doesn't stop those after it. Throws only when the namespace
 * can't be entered.
 */
export function writeSysctls(sysctls: readonly Sysctl[], ns?: NetnsRef): readonly SysctlResult[] {
  return loadAddon<NetnsAddon>().writeSysctls(sysctls, ns);
}

/** The namespace's inode number: equal for two references if and only if they are the same living namespace. */
export function netnsInode(ns?: NetnsRef): number {
  return loadAddon<NetnsAddon>().netnsInode(ns);
}
