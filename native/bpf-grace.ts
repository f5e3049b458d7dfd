import { bpfAddon } from './bpf-addon.ts';

/**
 * Resolves when every program that was running when this was called has ended (a grace period of RCU; some 10-20 ms), so that what programs
 * could reach no more before the call is free to be used again after it. Runs on a worker; calls may be under way together.
 * Doesn't wait for sleepable programs (those of type `syscall` among them): the kernel has another, unbounded grace period for them.
 */
export async function bpfGrace(): Promise<void> {
  await bpfAddon().bpfGrace();
}
