import { closeSync } from 'node:fs';
import { loadAddon } from './addon.ts';
import type { NetnsRef } from './types.ts';

/** A network namespace to try things in: it has no name, and is gone with this handle, however the process ends. */
export interface ScratchNetns extends Disposable {
  /** Also good for other processes while the handle is open. */
  readonly ref: NetnsRef & { readonly path: string };
}

interface ScratchAddon {
  makeNetns(): Promise<number>;
}

/** Makes an empty namespace with a loopback device that is down. Rejects with NetlinkFailure's fields: `EPERM` without CAP_SYS_ADMIN. */
export async function makeScratchNetns(): Promise<ScratchNetns> {
  const fd = await loadAddon<ScratchAddon>().makeNetns();
  return {
    ref: { path: `/proc/${process.pid}/fd/${fd}` },
    [Symbol.dispose]: () => closeSync(fd),
  };
}
