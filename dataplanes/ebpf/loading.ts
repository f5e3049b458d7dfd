import { cpus } from 'node:os';
import type { Clock } from '#api/clock.ts';
import type { Family } from '#native/types.ts';
import type { ApplyFailure } from '../contract.ts';
import type { Logger } from '../logger.ts';
import type { FamilyFlowStats } from '../flows.ts';
import type { DataplaneConfig, MapSizeSettings } from '../messages.ts';
import type { PodConfig } from './bpf-types.gen.ts';
import { prepareBpffs } from './bpffs.ts';
import { FlowGrowth } from './flow-growth.ts';
import { resolveTimeouts } from './flows/flow-timeouts.ts';
import type { HostPart } from './hosts/host-programs.ts';
import { LoadedDataplane } from './loaded-dataplane.ts';
import type { Handover } from './loaded-flows.ts';
import { packetMarks } from './marks.ts';
import type { PodEndpoints } from './pod-endpoints.ts';
import type { PodLinks } from './pod-links.ts';
import { fittingSizes, pinnedFlowEntries, type ProgramPlace } from './programs.ts';
import {
  areSameSizes,
  doublingsFor,
  doublingsToHold,
  type MapEntries,
  mapEntries,
  mayDouble,
  type Misfit,
  shrinkError,
} from './sizes.ts';

/** What programs and maps are loaded for. */
export interface LoadingDeps {
  readonly place: ProgramPlace;
  readonly endpoints: PodEndpoints;
  readonly links: PodLinks;
  readonly readSysctl: (path: string) => string | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  /** Looks which programs of uplinks and host endpoints will be entered, before anything is loaded. */
  readonly hostParts: () => Promise<readonly HostPart[]>;
  /** As of `FlowGrowth`. */
  readonly isWhole: () => boolean;
  /** Called when something is to be done that no message or event asks for. */
  readonly onDue: () => void;
}

/** What programs are loaded with. */
const loadSettings = [
  'ipv6Support',
  'markMask',
  'allowIpipFromWorkloads',
  'allowVxlanFromWorkloads',
  'vxlanPort',
] as const satisfies readonly (keyof DataplaneConfig)[];

/** What is configured, and what sizes come from it. */
interface Wanted {
  readonly config: DataplaneConfig;
  readonly cpus: number;
  /** How often the flows' maps got twice the size. */
  readonly doublings: number;
  readonly sizes: MapEntries;
}

function wantedOf(config: DataplaneConfig, cpus: number, doublings: number): Wanted {
  return { config, cpus, doublings, sizes: mapEntries(config.mapSizes, cpus, doublings) };
}

/** Settings that begin anew with how often flows are doubled. */
const flowSettings = ['flows', 'flowsPerCpu', 'doubleFlows'] as const satisfies readonly (keyof MapSizeSettings)[];

/** Called in the turn in which `next` becomes what is in use. */
type Replace = (former: LoadedDataplane, next: LoadedDataplane) => void;

/** The programs and maps in use: loads or adopts them, loads programs anew for other settings, and everything for other sizes. */
export class Loading {
  readonly #deps: LoadingDeps;
  /** Counting the processors, for the sizes, reads /proc, longer the more there are: not for each apply. */
  #wanted: Wanted | undefined;
  #loaded: LoadedDataplane | undefined;
  #mustLoad = true;
  /** Sizes that could not be had, and why: they are tried again with all that failed. */
  #refused: { readonly wanted: MapEntries; readonly reason: string } | undefined;
  /** Flows are being taken over into the maps in use, or handed over out of them. */
  #handover: Handover | undefined;
  readonly #growth: FlowGrowth;

  constructor(deps: LoadingDeps) {
    this.#deps = deps;
    this.#growth = new FlowGrowth(deps);
  }

  /** What is in use; undefined: nothing. */
  get loaded(): LoadedDataplane | undefined {
    return this.#loaded;
  }

  /** It counts from the next `load`. */
  configure(config: DataplaneConfig): void {
    const before = this.#wanted?.config;
    const areAnew = flowSettings.some((setting) => before?.mapSizes[setting] !== config.mapSizes[setting]);
    if (areAnew) this.#growth.beginAnew();
    this.#wanted = wantedOf(config, cpus().length, areAnew ? 0 : (this.#wanted?.doublings ?? 0));
    if (loadSettings.some((setting) => before?.[setting] !== config[setting])) this.#mustLoad = true;
  }

  /** Sizes wait as long as flows are taken over or handed over. */
  setHandover(handover: Handover | undefined): void {
    this.#handover = handover;
    this.#loaded?.maps.setHandover(handover);
    if (handover === undefined) this.#deps.onDue();
  }

  /**
   * Loads or adopts the programs as they were configured; false: they are. Throws what keeps them from being loaded; those that were in use stay, and the
   * next call tries again.
   */
  async load(): Promise<boolean> {
    if (!this.#mustLoad) return false;
    const { config } = this.#configured();
    const unusable = prepareBpffs(this.#deps.place.dir);
    if (unusable !== undefined) throw new Error(unusable);
    if (this.#loaded === undefined) {
      await this.#adoptGrowth();
      await using opened = new AsyncDisposableStack();
      const loaded = opened.use(await this.#open());
      loaded.pin();
      opened.move();
      this.#loaded = loaded;
    } else await this.#loaded.reload(podConfigOf(config));
    this.#mustLoad = false;
    return true;
  }

  /**
   * Where other sizes are wanted, or flows fill their maps, everything is loaded anew beside what is in force; it is to be told all that was said, to be
   * filled as after a restart, and then entered. `replace` is called when it is there. What can't be had leaves everything as it was. `retry`: also what was
   * refused before.
   */
  async fitSizes(retry: boolean, replace: Replace): Promise<ApplyFailure | undefined> {
    const former = this.#loaded;
    if (former === undefined || this.#mustLoad) return undefined;
    const refused = this.#refused;
    this.#refused = undefined;
    const nearlyFull = this.#growth.take();
    // What is taken over goes into maps that are in use, what is handed over comes from these.
    if (this.#handover !== undefined) return undefined;
    const { sizes } = this.#configured();
    if (former.hasSizes(sizes)) {
      if (nearlyFull !== undefined && this.#mayGrow(former)) await this.#grow(former, nearlyFull, replace);
      return undefined;
    }
    let reason = refused !== undefined && areSameSizes(refused.wanted, sizes) ? refused.reason : undefined;
    if (reason === undefined || retry) {
      try {
        const misfits = [...former.misfitsOf(sizes), ...(await this.#misfits())];
        if (misfits.length > 0) throw shrinkError(misfits);
        if (!former.hasSizes(this.#configured().sizes)) await this.#change(former, replace);
        return undefined;
      } catch (error) {
        reason = (error as Error).message;
      }
    }
    const { config, cpus: count, doublings, sizes: wanted } = this.#configured();
    this.#refused = { wanted, reason };
    const more = mayDouble(config.mapSizes, count, doublings)
      ? ". Until these sizes can be had or are taken back, flows' maps don't grow either (bpfMapSizeConntrackScaling)"
      : '';
    return { object: 'sizes of the BPF maps', reason: `${reason}${more}` };
  }

  /** Closes handles: what is pinned and attached stays. The next `load` begins anew. */
  async letGo(): Promise<void> {
    await this.#loaded?.[Symbol.asyncDispose]();
    this.#loaded = undefined;
    this.#handover = undefined;
    this.#mustLoad = true;
  }

  /** An earlier agent's maps of flows may have grown: they stay as large as they are, or as what is in them needs. */
  async #adoptGrowth(): Promise<void> {
    const { config, cpus: count } = this.#configured();
    const entries = pinnedFlowEntries(this.#deps.place);
    if (entries === undefined) return;
    this.#wanted = wantedOf(config, count, doublingsFor(config.mapSizes, count, entries));
    await this.#misfits();
  }

  /** Which pinned maps have no room in the sizes that are wanted. Flows get twice theirs until they have, if they may. */
  async #misfits(): Promise<readonly Misfit[]> {
    const { config, cpus: count, doublings, sizes } = this.#configured();
    const { misfits } = await fittingSizes(this.#deps.place, sizes);
    const flows = misfits.filter(({ map }) => map.startsWith('tortie_flow'));
    const most = Math.max(0, ...flows.map(({ used }) => used));
    const times = doublingsToHold(config.mapSizes, count, doublings, most);
    if (times === undefined || times === doublings) return misfits;
    this.#wanted = wantedOf(config, count, times);
    this.#growth.need(times);
    return misfits.filter((each) => !flows.includes(each));
  }

  /** Flows fill the maps of `loaded`: the next `fitSizes` gives them twice the size, if they may have it. */
  #notice(stats: FamilyFlowStats, family: Family, loaded: LoadedDataplane): void {
    if (loaded !== this.#loaded || !this.#mayGrow(loaded)) return;
    this.#growth.notice(family, stats);
    this.#deps.onDue();
  }

  #mayGrow(loaded: LoadedDataplane): boolean {
    const { config, cpus: count, doublings, sizes } = this.#configured();
    // Other sizes come first, and nothing does while they are refused.
    return loaded.hasSizes(sizes) && mayDouble(config.mapSizes, count, doublings) && this.#growth.mayBegin();
  }

  async #grow(former: LoadedDataplane, nearlyFull: string, replace: Replace): Promise<void> {
    const before = this.#configured();
    this.#growth.begin(nearlyFull);
    this.#wanted = wantedOf(before.config, before.cpus, before.doublings + 1);
    try {
      await this.#change(former, replace);
    } catch (error) {
      this.#growth.fail((error as Error).message);
    }
    if (this.#loaded === former) this.#wanted = before;
  }

  /** Everything in the sizes that are wanted takes the place of `former`; not if a switch has begun to take flows over or to hand them over meanwhile. */
  async #change(former: LoadedDataplane, replace: Replace): Promise<void> {
    const { log } = this.#deps;
    await using opened = new AsyncDisposableStack();
    const next = opened.use(await this.#open());
    await former.settled();
    // Before anything is pinned: it would put aside maps that are in use.
    if (this.#isHandingOver()) return;
    next.pin(former);
    opened.move();
    this.#loaded = next;
    replace(former, next);
    try {
      await former[Symbol.asyncDispose]();
    } catch (error) {
      log.warn('the BPF maps of before could not all be closed', { reason: (error as Error).message });
    }
    log.info('the BPF maps get other sizes');
  }

  #configured(): Wanted {
    if (this.#wanted === undefined) throw new Error('there is no configuration yet');
    return this.#wanted;
  }

  #isHandingOver(): boolean {
    return this.#handover !== undefined;
  }

  async #open(): Promise<LoadedDataplane> {
    const { place, log, clock, endpoints, links, readSysctl, hostParts, onDue } = this.#deps;
    const { config, sizes } = this.#configured();
    const timeouts = () => resolveTimeouts(this.#configured().config.flowTimeouts, readSysctl);
    const parts = await hostParts();
    const loaded: LoadedDataplane = await LoadedDataplane.open(
      {
        place,
        endpoints,
        links,
        timeouts,
        clock,
        log,
        onDue,
        onNearlyFull: (stats, family) => this.#notice(stats, family, loaded),
      },
      { config: podConfigOf(config), sizes, parts },
    );
    return loaded;
  }
}

/** What programs are told when they are loaded. */
function podConfigOf(config: DataplaneConfig): PodConfig {
  const marks = packetMarks(config);
  return {
    ipv6Enabled: config.ipv6Support ? 1 : 0,
    ipipDenied: config.allowIpipFromWorkloads ? 0 : 1,
    vxlanDenied: config.allowVxlanFromWorkloads ? 0 : config.vxlanPort,
    markSeen: marks.seen,
    markHost: marks.host,
    markNotLocal: marks.notLocal,
    markUntracked: marks.untracked,
    markPreAccepted: marks.preAccepted,
  };
}
