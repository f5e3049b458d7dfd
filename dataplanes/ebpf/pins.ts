import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, rmdirSync, unlinkSync } from 'node:fs';
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

/** Directories, within a layout's, of pins that others have taken the place of. */
export const formerDirectories = /^former-\d+$/;

/**
 * As `pinOver`, for maps of one directory by their names, all or none: what the kernel refuses leaves every pin as it was. The pins that `kept` names
 * move to a directory of their own (`former-<n>`), where they live until what is in them is carried over. Who is killed half-way leaves each map
 * of before at one of both places.
 */
export function pinAllOver(dir: string, maps: ReadonlyMap<string, BpfMap>, kept: readonly string[]): void {
  const next = (name: string): string => join(dir, `${name}-new`);
  // Of one that was killed half-way.
  for (const name of readdirSync(dir)) if (name.endsWith('-new')) unlinkSync(join(dir, name));
  using undo = new DisposableStack();
  for (const [name, map] of maps) {
    map.pin(next(name));
    undo.defer(() => rmSync(next(name), { force: true }));
  }
  if (kept.length > 0) {
    const aside = join(dir, nextFormer(dir));
    mkdirSync(aside);
    undo.defer(() => rmdirSync(aside));
    for (const name of kept) {
      renameSync(join(dir, name), join(aside, name));
      undo.defer(() => renameSync(join(aside, name), join(dir, name)));
    }
  }
  for (const name of maps.keys()) renameSync(next(name), join(dir, name));
  undo.move(); // Nothing is to be undone any more.
}

/** Behind all that are there. */
function nextFormer(dir: string): string {
  const numbers = readdirSync(dir)
    .filter((name) => formerDirectories.test(name))
    .map((name) => Number(name.slice('former-'.length)));
  return `former-${Math.max(0, ...numbers) + 1}`;
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
