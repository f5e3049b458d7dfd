import { bpfAddon } from './bpf-addon.ts';

/** Mounts a new bpf file system, readable by root alone; `source` is the name that mountinfo shows for it. */
export function mountBpffs(path: string, source: string): void {
  bpfAddon().bpfMount(path, source);
}

/** Unmounts it: `EBUSY` while it is in use. Pins in it go with the last mount of it. */
export function unmountBpffs(path: string): void {
  bpfAddon().bpfUnmount(path);
}
