import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  type BpfMap,
  type BpfProgram,
  loadObject,
  mapDifferences,
  type ObjectSpec,
  openPinnedMap,
  openPinnedProgram,
} from '#native/bpf.ts';
import type { NetnsRef } from '#native/types.ts';
import { Jump, mapShapes, PodConfig } from './bpf-types.gen.ts';
import { flowPins, isFlowMap } from './flows/older-layout.ts';
import { readU32, u32Key } from './keys.ts';
import { copyElements, formerDirectories, pinAllOver, pinOver, removePins } from './pins.ts';
import { type MapEntries, type MapName, type Misfit } from './sizes.ts';
import { Underway } from './underway.ts';

/**
 * Changes with the shape or the meaning of what is pinned (`layouts.test.ts` notices shapes): maps of another layout are never used; flows are taken
 * over from them, and then they are removed.
 */
export const layoutVersion = 'v2';

/** Files in the directory of objects. */
export const objectFiles = {
  filters: 'attach.bpf.o',
  endpoint: 'endpoint.bpf.o',
  sweep: 'sweep.bpf.o',
  host: 'host.bpf.o',
  net: 'net.bpf.o',
  xdp: 'xdp.bpf.o',
  ask: 'ask.bpf.o',
} as const;

/** What the filters work with. */
const filterMaps = ['tortie_jump', 'tortie_devices', 'tortie_sources', 'tortie_counters'] as const;
const mapNames = Object.keys(mapShapes) as MapName[];
/** What is remembered of packets' ways: it belongs to the node, whichever agent and build is at work. */
const flowMaps = mapNames.filter((name) => isFlowMap(name) || name.startsWith('tortie_frag'));
/** What outlives agents, and so the builds that made it. */
export const pinnedMaps: readonly MapName[] = [...filterMaps, ...flowMaps];
const filterPrograms = ['tortie_from_pod', 'tortie_to_pod', 'tortie_from_net', 'tortie_to_net'] as const;

/** Where programs and maps come from and where they are kept. */
export interface ProgramPlace {
  /** On a bpf file system; ours alone. */
  readonly dir: string;
  /** The directory with the object files. */
  readonly objects: string;
  /** The node's network namespace, if it is not the process's: ifindexes are its. */
  readonly netns?: NetnsRef;
}

/** The programs that are on devices, and the maps that outlive agents: open handles. */
export interface Filters extends Disposable {
  readonly fromPod: BpfProgram;
  readonly toPod: BpfProgram;
  /** On uplinks and devices with a host endpoint. */
  readonly fromNet: BpfProgram;
  readonly toNet: BpfProgram;
  readonly jump: BpfMap;
  readonly devices: BpfMap;
  readonly sources: BpfMap;
  readonly counters: BpfMap;
  /** True if all this was there before, of this very build: nothing was loaded. */
  readonly adopted: boolean;
  /** Pins what isn't yet, in place of what was there; pins of other builds go. */
  readonly pin: () => void;
}

/** The maps that one agent's programs share. */
export interface EndpointMaps {
  /** An open one. */
  readonly map: (name: string) => BpfMap;
  readonly mapNames: ReadonlySet<string>;
}

/** What the filters jump to: one agent's own, with the maps that it fills. */
export interface EndpointPrograms extends EndpointMaps, Disposable {
  readonly podOut: BpfProgram;
  readonly podIn: BpfProgram;
  /** Pins maps of flows that aren't yet, all or none. Those whose place they take are kept beside them (`OlderFlows`). */
  readonly pin: () => void;
}

/** What endpoint programs are loaded with. */
export interface EndpointSettings {
  readonly config: PodConfig;
  readonly sizes: MapEntries;
  /** Whose maps they have, all of them: only the configuration is another. */
  readonly former?: EndpointPrograms;
  /** Called when the maps are there: what is loaded onto them from then on is verified while these programs are. */
  readonly beside?: (maps: EndpointMaps) => void;
}

/**
 * The sizes, as far as what is pinned fits into them: a map that would become too small for its content, or for that of one put aside whose flows it is to
 * take over, keeps that one's size. Maps that push out what is oldest have no such bound.
 */
export async function fittingSizes(
  { dir }: ProgramPlace,
  sizes: MapEntries,
): Promise<{ readonly sizes: MapEntries; readonly misfits: readonly Misfit[] }> {
  const misfits: Misfit[] = [];
  const kept: Partial<Record<MapName, number>> = {};
  const layout = join(dir, layoutVersion);
  const ofFlows = [...flowPins(layout)];
  for (const name of pinnedMaps) {
    const wanted = sizes[name] ?? mapShapes[name].maxEntries;
    if (/^tortie_(?:new|frag|jump)/.test(name)) continue;
    const paths = isFlowMap(name) ? ofFlows.filter((path) => basename(path) === name) : [join(layout, name)];
    let mostUsed = wanted;
    for (const path of paths) {
      using map = openPinnedMap(path);
      if (map === undefined || map.shape.maxEntries <= wanted) continue;
      const { count: used } = await map.dump();
      if (used <= wanted) continue;
      mostUsed = Math.max(mostUsed, used);
      kept[name] = Math.max(kept[name] ?? 0, map.shape.maxEntries);
    }
    if (mostUsed > wanted) misfits.push({ map: name, wanted, used: mostUsed });
  }
  return { sizes: { ...sizes, ...kept }, misfits };
}

/**
 * How many flows the largest of the pinned hashes holds; undefined: none is pinned. Those put aside and those of other layouts count, too: whoever was killed
 * half-way has left nothing else, and their flows are to find room.
 */
export function pinnedFlowEntries({ dir }: ProgramPlace): number | undefined {
  const entries = [...flowPins(dir)].filter((path) => basename(path).startsWith('tortie_flow')).map(entriesAt);
  return entries.length === 0 ? undefined : Math.max(...entries);
}

/** What can't be opened has no flows that could be taken over; who tries says why (`OlderFlows`). */
function entriesAt(path: string): number {
  try {
    using map = openPinnedMap(path);
    return map?.shape.maxEntries ?? 0;
  } catch {
    return 0;
  }
}

/**
 * Opens what an earlier agent pinned under `<dir>/v2`, or loads it; `pin` makes that what the next agent finds.
 *
 *     <dir>/v2/tortie_jump, tortie_devices, ...                     maps: they are kept whatever program uses them
 *     <dir>/v2/programs-<build>/tortie_from_pod, tortie_to_pod      one build: hash of the object file
 *
 * Maps are reused as they are; one of another size than wanted is replaced by a new one with the same content. Programs of the same
 * build that use these maps are adopted; otherwise new ones are loaded, and with their pins the directories of other builds go. Every state
 * that a crash can leave is one that the next call completes: filters on devices keep their own references meanwhile.
 *
 * Throws VerifierFailure or NetlinkFailure; `BPF_MAP_MISMATCH` when a pinned map has another shape, which is a new layout that wasn't
 * given a new version.
 */
export async function openFilters({ dir, objects, netns }: ProgramPlace, sizes: MapEntries): Promise<Filters> {
  const elf = await readFile(join(objects, objectFiles.filters));
  const layout = join(dir, layoutVersion);
  const build = createHash('sha256').update(elf).digest('hex').slice(0, 16);
  const buildDir = join(layout, `programs-${build}`);

  using handles = new DisposableStack();
  const pinned = openPinned(layout, filterMaps, handles);
  const wantedOf = (name: (typeof filterMaps)[number]): number => sizes[name] ?? mapShapes[name].maxEntries;
  const fits = (name: (typeof filterMaps)[number]): boolean => pinned.get(name)?.shape.maxEntries === wantedOf(name);

  const ready = filterMaps.every(fits) ? filterPrograms.map((name) => openPinnedProgram(join(buildDir, name))) : [];
  for (const program of ready) if (program !== undefined) handles.use(program);
  const [fromPod, toPod, fromNet, toNet] = ready;
  // A stale pin would have maps of its own that nobody fills.
  const needed = (['tortie_jump', 'tortie_devices', 'tortie_counters'] as const).map((name) => pinned.get(name)?.id);
  const usesOurs = ({ mapIds }: BpfProgram, ids: readonly (number | undefined)[]): boolean =>
    ids.every((id) => id !== undefined && mapIds.includes(id));
  if (fromPod !== undefined && toPod !== undefined && fromNet !== undefined && toNet !== undefined) {
    const arePods = usesOurs(fromPod, needed) && usesOurs(toPod, needed);
    if (arePods && usesOurs(fromNet, needed.slice(0, 1)) && usesOurs(toNet, needed.slice(0, 1))) {
      const map = (name: (typeof filterMaps)[number]): BpfMap => pinned.get(name) as BpfMap;
      const pin = (): void => removeOtherBuilds(layout, build);
      return filtersOf(handles.move(), { fromPod, toPod, fromNet, toNet, map, adopted: true, pin });
    }
  }

  using loading = new DisposableStack();
  const object = loading.use(
    await loadObject({
      name: 'tortie',
      elf,
      maps: Object.fromEntries(
        filterMaps.map((name) => [
          name,
          fits(name) ? { use: pinned.get(name) as BpfMap } : { maxEntries: wantedOf(name) },
        ]),
      ),
    }),
  );
  for (const name of filterMaps) {
    if (fits(name)) continue;
    const former = pinned.get(name);
    if (name === 'tortie_jump') {
      // The kernel empties a table of programs when nobody has it open or pinned, and filters of the build before jump by it until they are replaced.
      const held = openPinnedMap(join(layout, name), mapShapes[name]);
      if (held !== undefined) loading.use(held);
    } else if (former !== undefined) await copyElements(former, object.map(name), netns);
  }
  const replaced = filterMaps.filter((name) => !fits(name));
  return filtersOf(loading.move(), {
    fromPod: object.program('tortie_from_pod'),
    toPod: object.program('tortie_to_pod'),
    fromNet: object.program('tortie_from_net'),
    toNet: object.program('tortie_to_net'),
    map: (name) => object.map(name),
    adopted: false,
    pin: () => {
      mkdirSync(buildDir, { recursive: true });
      for (const name of replaced) pinOver(object.map(name), join(layout, name));
      for (const name of filterPrograms) pinOver(object.program(name), join(buildDir, name));
      removeOtherBuilds(layout, build);
    },
  });
}

/**
 * Loads the programs behind the filters. Maps of flows are adopted as the filters' are, but one of another size or shape is replaced by an empty one:
 * what it holds is carried over when these programs are entered (`OlderFlows`). All other maps are this agent's: empty, unless a `former`
 * load of the same agent has them already. Neither they nor the programs are pinned: `tortie_jump` holds the programs that are in force, these hold
 * their maps, and what was loaded and never entered goes with the process.
 *
 * The maps are made first, then the programs are loaded side by side: what takes the time is the verifier, which has one thread for each load.
 */
export async function loadEndpointPrograms(
  { dir, objects }: ProgramPlace,
  filters: Filters,
  { config, sizes, former, beside }: EndpointSettings,
): Promise<EndpointPrograms> {
  const layout = join(dir, layoutVersion);
  using handles = new DisposableStack();
  const pinned = new Map<MapName, BpfMap>();
  const wantedOf = (name: MapName): number => sizes[name] ?? mapShapes[name].maxEntries;
  if (former === undefined) {
    for (const name of flowMaps) {
      const map = openPinnedMap(join(layout, name));
      if (map !== undefined) pinned.set(name, handles.use(map));
    }
  }
  const fitting = (name: MapName): BpfMap | undefined => {
    const map = pinned.get(name);
    const fits = map?.shape.maxEntries === wantedOf(name) && mapDifferences(map.shape, mapShapes[name]).length === 0;
    return fits ? map : undefined;
  };
  const ofFilters: Partial<Record<MapName, BpfMap>> = {
    tortie_devices: filters.devices,
    tortie_sources: filters.sources,
    tortie_counters: filters.counters,
  };
  const names = mapNames.filter((name) => name !== 'tortie_jump');
  const wishOf = (name: MapName): { use: BpfMap } | { maxEntries: number } => {
    const use = ofFilters[name] ?? fitting(name);
    return use === undefined ? { maxEntries: wantedOf(name) } : { use };
  };
  using loading = new DisposableStack();
  const spec = {
    name: 'tortie',
    elf: await readFile(join(objects, objectFiles.endpoint)),
    config: { pod_config: PodConfig.encode(config) },
  };
  const madeMaps =
    former === undefined
      ? loading.use(
          await loadObject({
            ...spec,
            maps: Object.fromEntries(names.map((name) => [name, wishOf(name)])),
            programs: {},
          }),
        )
      : former;
  const maps: EndpointMaps = { map: (name) => madeMaps.map(name), mapNames: new Set<string>(names) };
  beside?.(maps);
  using out = new Underway(loadOnto(maps, spec, 'tortie_pod_out'));
  using into = new Underway(loadOnto(maps, spec, 'tortie_pod_in'));
  const podOut = loading.use(await out.take());
  const podIn = loading.use(await into.take());
  const made = former === undefined ? flowMaps.filter((name) => fitting(name) === undefined) : [];
  const replaced = made.filter((name) => isFlowMap(name) && pinned.has(name));
  const owned = loading.move();
  return {
    ...maps,
    podOut,
    podIn,
    pin: () => {
      mkdirSync(layout, { recursive: true });
      pinAllOver(layout, new Map(made.map((name) => [name, maps.map(name)])), replaced);
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** One program of an object onto maps that are there. */
async function loadOnto(
  { map, mapNames }: EndpointMaps,
  spec: Pick<ObjectSpec, 'name' | 'elf' | 'config'>,
  program: string,
): Promise<BpfProgram> {
  const object = await loadObject({
    ...spec,
    maps: Object.fromEntries([...mapNames].map((name) => [name, { use: map(name) }])),
    programs: { [program]: {} },
  });
  for (const name of mapNames) object.map(name)[Symbol.dispose](); // Handles of its own to the same maps.
  return object.program(program);
}

/** The two stores by which every device goes over to these programs, between two packets. */
export function enter({ jump }: Filters, { podOut, podIn }: EndpointPrograms): void {
  // First what judges all that comes to pods: no packet from a pod is answered by what is newer than it.
  jump.set(u32Key(Jump.podIn), u32Key(podIn.fd));
  jump.set(u32Key(Jump.podOut), u32Key(podOut.fd));
}

/** Whether the filters jump to these very programs. */
export function isEntered({ jump }: Filters, { podOut, podIn }: EndpointPrograms): boolean {
  return idAt(jump, Jump.podIn) === podIn.id && idAt(jump, Jump.podOut) === podOut.id;
}

/** Removes what builds of another layout have pinned, and what was put aside. What filters of theirs hold lives until they are replaced. */
export function removeOlder(dir: string): void {
  if (!existsSync(dir)) return;
  for (const name of readdirSync(dir)) if (name !== layoutVersion) removePins(join(dir, name));
  removePutAside(dir);
}

/** Removes what was put aside of this layout. All filters of it, also those of another size, jump to the programs that were entered last. */
export function removePutAside(dir: string): void {
  const layout = join(dir, layoutVersion);
  for (const name of readdirSync(layout)) if (formerDirectories.test(name)) removePins(join(layout, name));
}

/** A program array shows the ids of its programs. */
export function idAt(jump: BpfMap, place: Jump): number | undefined {
  const id = jump.get(u32Key(place));
  return id === undefined ? undefined : readU32(id);
}

function openPinned<Name extends MapName>(
  layout: string,
  names: readonly Name[],
  handles: DisposableStack,
): ReadonlyMap<Name, BpfMap> {
  const pinned = new Map<Name, BpfMap>();
  for (const name of names) {
    const map = openPinnedMap(join(layout, name), mapShapes[name]);
    if (map !== undefined) pinned.set(name, handles.use(map));
  }
  return pinned;
}

function filtersOf(
  handles: DisposableStack,
  parts: {
    fromPod: BpfProgram;
    toPod: BpfProgram;
    fromNet: BpfProgram;
    toNet: BpfProgram;
    map: (name: (typeof filterMaps)[number]) => BpfMap;
    adopted: boolean;
    pin: () => void;
  },
): Filters {
  const { map, ...programs } = parts;
  return {
    ...programs,
    jump: map('tortie_jump'),
    devices: map('tortie_devices'),
    sources: map('tortie_sources'),
    counters: map('tortie_counters'),
    [Symbol.dispose]: () => handles.dispose(),
  };
}

function removeOtherBuilds(layout: string, build: string): void {
  for (const name of readdirSync(layout)) {
    if (name.startsWith('programs-') && name !== `programs-${build}`) removePins(join(layout, name));
  }
}
