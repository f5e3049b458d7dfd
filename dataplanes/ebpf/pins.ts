import { existsSync, readdirSync, renameSync, rmSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { BpfMap, BpfProgram } from '#native/bpf.ts';
import type { NetnsRef } from '#native/types.ts';

/** BPF_MAP_TYPE_DEVMAP_HASH of linux/bpf.h. */
const DEVMAP_HASH = 25;

/** Pins in place of what may be pinned there, so that at every moment one of both is. */
export function pinOver(what: BpfMap | BpfProgram, path: string): void {
  const next = `${path}-new`;
  rmSync(next, { force: true });
  what.pin(next);
  renameSync(next, path);
}

/** Removes all pins below `dir`, and `dir`. What filters on devices hold lives until they go. */
export function removePins(dir: string): void {
  if (!existsSync(dir)) return;
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    if (entry.isDirectory()) removePins(join(dir, entry.name));
    else unlinkSync(join(dir, entry.name));
  }
  rmdirSync(dir);
}

/** Into a map of another size. What doesn't fit stays out: what it was about is as if it had never been said. */
export async function copyElements(from: BpfMap, to: BpfMap, netns: NetnsRef | undefined): Promise<void> {
  const elements = await from.entries();
  try {
    if (to.shape.type !== DEVMAP_HASH) return await to.setMany(elements);
  } catch (error) {
    if (!isFull(error)) throw error;
  }
  if (to.shape.type !== DEVMAP_HASH) return undefined;
  for (const { key, value } of elements) {
    try {
      to.set(key, value, 'any', netns);
    } catch (error) {
      // A device that is gone by now is EINVAL.
      if (!isFull(error) && codeOf(error) !== 'EINVAL') throw error;
    }
  }
  return undefined;
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';
const isFull = (error: unknown): boolean => ['E2BIG', 'ENOSPC'].includes(codeOf(error));
