import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, rmdirSync, unlinkSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BpfMap, type BpfProgram, loadObject, openPinnedMap, openPinnedProgram } from '#native/bpf.ts';
import type { NetnsRef } from '#native/types.ts';
import { mapShapes, PodConfig } from './bpf-types.gen.ts';

/** Changes with the meaning of what is pinned: maps of another layout are never used, only removed or converted. */
export const layoutVersion = 'v1';

const mapNames = ['tortie_devices', 'tortie_sources', 'tortie_counters'] as const;
type MapName = (typeof mapNames)[number];
const podPrograms = ['tortie_from_pod', 'tortie_to_pod'] as const;

/** How many elements the maps hold. */
export interface MapSizes {
  /** Pod devices of this node. */
  readonly devices: number;
  /** Source prefixes of all of them together. */
  readonly sources: number;
}

/** Where programs and maps come from and where they are kept. */
export interface ProgramPlace {
  /** On a bpf file system; ours alone. */
  readonly dir: string;
  readonly elfPath: string;
  readonly sizes: MapSizes;
  /** The node's network namespace, if it is not the process's: ifindexes are its. */
  readonly netns?: NetnsRef;
}

/** What the pod programs work with: open handles, all of them pinned. */
export interface PodPrograms extends Disposable {
  readonly fromPod: BpfProgram;
  readonly toPod: BpfProgram;
  readonly devices: BpfMap;
  readonly sources: BpfMap;
  readonly counters: BpfMap;
  /** True if all this was there before, of this very build: nothing was loaded. */
  readonly adopted: boolean;
}

/**
 * Opens what an earlier agent pinned under `<dir>/v1`, or loads and pins it.
 *
 *     <dir>/v1/tortie_devices, tortie_sources, tortie_counters      maps: they are kept whatever program uses them
 *     <dir>/v1/programs-<build>/tortie_from_pod, tortie_to_pod      one build: hash of the object file and its configuration
 *
 * Maps are reused as they are; one of another size than wanted is replaced by a new one with the same content. Programs of the same
 * build that use these maps are adopted; otherwise new ones are loaded and pinned, and the directories of other builds go. Every state
 * that a crash can leave is one that the next call completes: filters on devices keep their own references meanwhile.
 *
 * Throws VerifierFailure or NetlinkFailure; `BPF_MAP_MISMATCH` when a pinned map has another shape, which is a new layout that wasn't
 * given a new version.
 */
export async function openPodPrograms(
  { dir, elfPath, sizes, netns }: ProgramPlace,
  config: PodConfig,
): Promise<PodPrograms> {
  const elf = await readFile(elfPath);
  const encoded = PodConfig.encode(config);
  const layout = join(dir, layoutVersion);
  const build = createHash('sha256').update(elf).update(encoded).digest('hex').slice(0, 16);
  const buildDir = join(layout, `programs-${build}`);
  mkdirSync(buildDir, { recursive: true });
  const wanted = { tortie_devices: sizes.devices, tortie_counters: sizes.devices, tortie_sources: sizes.sources };

  using handles = new DisposableStack();
  const pinned = new Map<MapName, BpfMap>();
  for (const name of mapNames) {
    const map = openPinnedMap(join(layout, name), mapShapes[name]);
    if (map !== undefined) pinned.set(name, handles.use(map));
  }
  const fits = (name: MapName): boolean => pinned.get(name)?.shape.maxEntries === wanted[name];

  const ready = mapNames.every(fits) ? podPrograms.map((name) => openPinnedProgram(join(buildDir, name))) : [];
  for (const program of ready) if (program !== undefined) handles.use(program);
  const [fromPod, toPod] = ready;
  const inUse = [...pinned.values()].map(({ id }) => id);
  // Every program uses devices and counters; a stale pin would have maps of its own that nobody fills.
  const usesOurs = (program: BpfProgram): boolean => program.mapIds.filter((id) => inUse.includes(id)).length >= 2;
  if (fromPod !== undefined && toPod !== undefined && usesOurs(fromPod) && usesOurs(toPod)) {
    removeOtherBuilds(layout, build);
    return owned(handles.move(), { fromPod, toPod, maps: pinned, adopted: true });
  }

  using loading = new DisposableStack();
  const object = loading.use(
    await loadObject({
      name: 'tortie',
      elf,
      maps: Object.fromEntries(
        mapNames.map((name) => [name, fits(name) ? { use: pinned.get(name) as BpfMap } : { maxEntries: wanted[name] }]),
      ),
      config: { pod_config: encoded },
    }),
  );
  for (const name of mapNames) {
    if (fits(name)) continue;
    const former = pinned.get(name);
    if (former !== undefined) await copyElements(former, object.map(name), netns);
    pinOver(object.map(name), join(layout, name));
  }
  for (const name of podPrograms) pinOver(object.program(name), join(buildDir, name));
  removeOtherBuilds(layout, build);
  return owned(loading.move(), {
    fromPod: object.program('tortie_from_pod'),
    toPod: object.program('tortie_to_pod'),
    maps: new Map(mapNames.map((name) => [name, object.map(name)])),
    adopted: false,
  });
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

function owned(
  handles: DisposableStack,
  parts: { fromPod: BpfProgram; toPod: BpfProgram; maps: ReadonlyMap<MapName, BpfMap>; adopted: boolean },
): PodPrograms {
  const map = (name: MapName): BpfMap => parts.maps.get(name) as BpfMap;
  return {
    fromPod: parts.fromPod,
    toPod: parts.toPod,
    devices: map('tortie_devices'),
    sources: map('tortie_sources'),
    counters: map('tortie_counters'),
    adopted: parts.adopted,
    [Symbol.dispose]: () => handles.dispose(),
  };
}

/** Into a map of another size. What doesn't fit stays out, and so its endpoint is closed until the map is large enough: the apply says so. */
async function copyElements(from: BpfMap, to: BpfMap, netns: NetnsRef | undefined): Promise<void> {
  for (const { key, value } of await from.entries()) {
    try {
      to.set(key, value, 'any', netns);
    } catch (error) {
      // Full, or a device that is gone by now.
      if (!['E2BIG', 'ENOSPC', 'EINVAL'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
}

/** Pins in place of what may be pinned there, so that at every moment one of both is. */
function pinOver(what: BpfMap | BpfProgram, path: string): void {
  const next = `${path}-new`;
  rmSync(next, { force: true });
  what.pin(next);
  renameSync(next, path);
}

function removeOtherBuilds(layout: string, build: string): void {
  for (const name of readdirSync(layout)) {
    if (name.startsWith('programs-') && name !== `programs-${build}`) removePins(join(layout, name));
  }
}
