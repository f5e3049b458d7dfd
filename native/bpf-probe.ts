import { bpfAddon } from './bpf-addon.ts';
import type { MapShape } from './bpf-map.ts';
import type { NetnsRef } from './types.ts';

/** A device is tried in this namespace, or in a new one. */
interface DeviceProbe {
  readonly netns?: NetnsRef;
}

/**
 * What can be asked. Types of maps, programs, attachments and helpers are the kernel's numbers (linux/bpf.h).
 * - `map`: a map of this shape (of one entry, or so many) can be made.
 * - `program`: a program of this type can be loaded, with its type of attachment where it needs one.
 * - `helper`: a program of this type may call it.
 * - `cgroup`: programs can be attached to this control group (nothing is attached: the list is read).
 * - `sockDestroy`: an iterator over the sockets of this protocol may destroy them (bpf_sock_destroy).
 * - `xdp`: the driver of the device with this ifindex runs XDP programs, by its own word; `unknown` before Linux 6.3, where only attaching
 *   would tell. `netns`: the device's namespace, absent: where the process is.
 * - `clsact`: clsact takes BPF filters. `tcx`: tcx takes links. `liveFrames`: XDP programs run with frames that are sent on. `link`: a device
 *   of this kind can be made.
 */
export type ProbeRequest =
  | { readonly map: Omit<MapShape, 'name' | 'maxEntries'> & { readonly entries?: number } }
  | { readonly program: number; readonly attachType?: number; readonly sleepable?: boolean }
  | { readonly helper: number; readonly program: number }
  | { readonly cgroup: string; readonly attachType: number }
  | { readonly sockDestroy: 'tcp' | 'udp' }
  | (DeviceProbe & { readonly xdp: number })
  | (DeviceProbe & { readonly clsact: true })
  | (DeviceProbe & { readonly tcx: true })
  | (DeviceProbe & { readonly liveFrames: true })
  | (DeviceProbe & { readonly link: 'veth' | 'vxlan' });

/** `unknown`: trying failed for another reason (rights, memory), given in `reason`; ask again, don't remember it. */
export type ProbeAnswer = { readonly answer: 'yes' } | { readonly answer: 'no' | 'unknown'; readonly reason: string };

/** Asks the running kernel by trying, on a worker; nothing stays. What needs a device is tried in a network namespace of its own. */
export async function probeBpf(what: ProbeRequest): Promise<ProbeAnswer> {
  const { answer, reason } = await bpfAddon().bpfProbe(what);
  return answer === 'yes' ? { answer } : { answer, reason };
}
