import type { MapSizeSettings } from '../messages.ts';
import { type flowConstants, mapShapes } from './bpf-types.gen.ts';

/** A map of the programs, by its name in C. */
export type MapName = keyof typeof mapShapes;

/** How many entries maps are made with; one that isn't named has as many as its definition says. */
export type MapEntries = Readonly<Partial<Record<MapName, number>>>;

/** Hashes that a family's answered flows are spread over. */
const shards: typeof flowConstants.flowShards = 4;
/** The least room for unanswered flows: below that the kernel evicts what each CPU holds in reserve. */
const leastFresh = 1024;
/** Nothing is doubled beyond it: flows of one family. */
const mostFlows = 4_194_304;
/** Source prefixes of one device, on average. */
const sourcesPerDevice = 4;

/** The setting that a map's size comes from; a map without one is as large as this build says. */
const settings: readonly (readonly [maps: RegExp, setting: string])[] = [
  [/^tortie_(flow|new)/, 'bpfMapSizeConntrack'],
  [/^tortie_front/, 'bpfMapSizeNATFrontend'],
  [/^tortie_back/, 'bpfMapSizeNATBackend'],
  [/^tortie_addr/, 'bpfMapSizeRoute'],
  [/^tortie_net/, 'bpfMapSizeIPSets'],
  [/^tortie_(devices|sources|counters|slots|pods)$/, 'bpfMapSizeIfState'],
];

/** The field of FelixConfiguration by which a map becomes larger; undefined: none does. */
export function sizeSetting(map: string): string | undefined {
  return settings.find(([maps]) => maps.test(map))?.[1];
}

/** As `sizeSetting`, in words for whoever reads that a map is full. */
export function settingOf(map: string): string {
  return sizeSetting(map) ?? 'of this build';
}

/** The flows of a family that the settings have room for. */
function flowsOf({ flows, flowsPerCpu }: MapSizeSettings, cpus: number): number {
  return flowsPerCpu > 0 ? flowsPerCpu * cpus : flows;
}

/** Whether flows that were doubled so often may be doubled once more. */
export function mayDouble(wanted: MapSizeSettings, cpus: number, doublings: number): boolean {
  return wanted.doubleFlows && flowsOf(wanted, cpus) * 2 ** (doublings + 1) <= mostFlows;
}

/** How often flows were doubled for maps that an earlier agent has left with `entries` in one of a family's hashes. */
export function doublingsFor(wanted: MapSizeSettings, cpus: number, entries: number): number {
  let doublings = 0;
  while (
    mayDouble(wanted, cpus, doublings) &&
    (mapEntries(wanted, cpus, doublings + 1).tortie_flow4a ?? Infinity) <= entries
  )
    doublings += 1;
  return doublings;
}

/** How often, `doublings` times at least, flows must be doubled until one of a family's hashes holds `used`; undefined: so often they may not be. */
export function doublingsToHold(
  wanted: MapSizeSettings,
  cpus: number,
  doublings: number,
  used: number,
): number | undefined {
  if ((mapEntries(wanted, cpus, doublings).tortie_flow4a ?? Infinity) >= used) return doublings;
  return mayDouble(wanted, cpus, doublings) ? doublingsToHold(wanted, cpus, doublings + 1, used) : undefined;
}

/** The maps' sizes as the settings have them. `cpus`: of this machine; `doublings`: how often flows got twice the size. */
export function mapEntries(wanted: MapSizeSettings, cpus: number, doublings = 0): MapEntries {
  const { frontends, backends, addresses, networks, devices } = wanted;
  const flows = flowsOf(wanted, cpus) * 2 ** doublings;
  const shard = Math.ceil(flows / shards);
  const fresh = Math.max(leastFresh, Math.ceil(flows / 8));
  return {
    tortie_flow4a: shard,
    tortie_flow4b: shard,
    tortie_flow4c: shard,
    tortie_flow4d: shard,
    tortie_flow6a: shard,
    tortie_flow6b: shard,
    tortie_flow6c: shard,
    tortie_flow6d: shard,
    tortie_new4: fresh,
    tortie_new6: fresh,
    tortie_front4: frontends,
    tortie_front6: frontends,
    tortie_back4: backends,
    tortie_back6: backends,
    tortie_addr4: addresses,
    tortie_addr6: addresses,
    // One entry stays free: see KernelMaps.
    tortie_net4: networks + 1,
    tortie_net6: networks + 1,
    tortie_devices: devices,
    tortie_counters: devices,
    tortie_slots: devices,
    tortie_sources: sourcesPerDevice * devices,
    // Slot 0 is nobody's, and all devices may get other slots at once: the former ones wait for a grace period.
    tortie_pods: 2 * devices + 1,
  };
}

/** Whether two sets of sizes are the same. */
export function areSameSizes(one: MapEntries, other: MapEntries): boolean {
  return (Object.keys(mapShapes) as MapName[]).every((name) => one[name] === other[name]);
}

/** A size that is too small for what is in the map. */
export interface Misfit {
  readonly map: string;
  readonly wanted: number;
  readonly used: number;
}

/** The error for sizes that were not taken: `BPF_MAP_SHRINK`; the sizes from before stay. */
export function shrinkError(misfits: readonly Misfit[]): Error {
  const words = misfits.map(
    ({ map, wanted, used }) => `${map} has ${used} entries in use and would get ${wanted} (${settingOf(map)})`,
  );
  return Object.assign(new Error(`the sizes of before stay: ${words.join('; ')}`), { code: 'BPF_MAP_SHRINK' });
}
