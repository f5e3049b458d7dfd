import { cpus } from 'node:os';
import type { Clock } from '#api/clock.ts';
import type { Family } from '#native/types.ts';
import type { ApplyFailure } from '../contract.ts';
import type { Logger } from '../logger.ts';
import type { FamilyFlowStats } from '../flows.ts';
import type { DataplaneConfig, MapSizeSettings } from '../messages.ts';
import type { PodConfig } from './bpf-types.gen.ts';
import { prepareBpffs } from './bpffs.ts';
import { resolveTimeouts } from './flows/flow-timeouts.ts';
import type { HostPart } from './hosts/host-programs.ts';
import { LoadedDataplane } from './loaded-dataplane.ts';
import type { Handover } from './loaded-flows.ts';
import { packetMarks } from './marks.ts';
import type { PodEndpoints } from './pod-endpoints.ts';
import type { PodLinks } from './pod-links.ts';
import { fittingSizes, pinnedFlowEntries, type ProgramPlace } from './programs.ts';
import { areSameSizes, doublingsFor, type MapEntries, mapEntries, mayDouble, shrinkError } from './sizes.ts';

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
  /** False once the kernel has refused larger maps of flows. */
  #mayGrow = true;

  constructor(deps: LoadingDeps) {
    this.#deps = deps;
  }

  /** What is in use; undefined: nothing. */
  get loaded(): LoadedDataplane | undefined {
    return this.#loaded;
  }

  /** It counts from the next `load`. */
  configure(config: DataplaneConfig): void {
    const before = this.#wanted?.config;
    const areAnew = flowSettings.some((setting) => before?.mapSizes[setting] !== config.mapSizes[setting]);
    if (areAnew) this.#mayGrow = true;
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
      this.#adoptGrowth();
      this.#loaded = await this.#open();
    } else await this.#loaded.reload(podConfigOf(config));
    this.#mustLoad = false;
    return true;
  }

  /**
   * Where other sizes are wanted, everything is loaded anew beside what is in force; it is to be told all that was said, to be filled as after a restart,
   * and then entered. `replace` is called when it is there, in the turn in which it becomes what is in use. What can't be had leaves everything as it was.
   * `retry`: also what was refused before.
   */
  async fitSizes(
    retry: boolean,
    replace: (former: LoadedDataplane, next: LoadedDataplane) => void,
  ): Promise<ApplyFailure | undefined> {
    const former = this.#loaded;
    if (former === undefined || this.#mustLoad) return undefined;
    const { sizes: wanted } = this.#configured();
    const refused = this.#refused;
    this.#refused = undefined;
    // What is taken over goes into maps that are in use, what is handed over comes from these.
    if (former.hasSizes(wanted) || this.#handover !== undefined) return undefined;
    const wasRefused = refused !== undefined && areSameSizes(refused.wanted, wanted);
    const { place, log } = this.#deps;
    try {
      if (wasRefused && !retry) throw new Error(refused.reason);
      const misfits = [...former.misfitsOf(wanted), ...(await fittingSizes(place, wanted)).misfits];
      if (misfits.length > 0) throw shrinkError(misfits);
      const next = await this.#open();
      await former.settled();
      if (this.#isHandingOver()) {
        // It has begun meanwhile.
        await next[Symbol.asyncDispose]();
        return undefined;
      }
      this.#loaded = next;
      replace(former, next);
    } catch (error) {
      const reason = (error as Error).message;
      if (this.#takeBackGrowth(former, reason)) return undefined;
      this.#refused = { wanted, reason };
      return { object: 'sizes of the BPF maps', reason };
    }
    try {
      await former[Symbol.asyncDispose]();
    } catch (error) {
      log.warn('the BPF maps of before could not all be closed', { reason: (error as Error).message });
    }
    log.info('the BPF maps get other sizes');
    return undefined;
  }

  /** Closes handles: what is pinned and attached stays. The next `load` begins anew. */
  async letGo(): Promise<void> {
    await this.#loaded?.[Symbol.asyncDispose]();
    this.#loaded = undefined;
    this.#handover = undefined;
    this.#mustLoad = true;
  }

  /** An earlier agent's maps of flows may have grown: they stay as large as they are. */
  #adoptGrowth(): void {
    const { config, cpus: count } = this.#configured();
    const entries = pinnedFlowEntries(this.#deps.place);
    if (entries === undefined) return;
    this.#wanted = wantedOf(config, count, doublingsFor(config.mapSizes, count, entries));
  }

  /** Flows fill their maps: the next `fitSizes` gives these twice the size, if they may have it. */
  #grow({ elements, maxElements }: FamilyFlowStats, family: Family): void {
    const { config, cpus: count, doublings, sizes } = this.#configured();
    // Other sizes are due already, or were refused.
    if (!this.#mayGrow || this.#loaded?.hasSizes(sizes) !== true || !mayDouble(config.mapSizes, count, doublings))
      return;
    this.#wanted = wantedOf(config, count, doublings + 1);
    this.#deps.log.warn(
      `IPv${family} flows take ${elements} of ${maxElements} places: their maps get twice the size (bpfMapSizeConntrackScaling)`,
    );
    this.#deps.onDue();
  }

  /** Whether all that was wanted was twice the flows, and isn't any more. */
  #takeBackGrowth(former: LoadedDataplane, reason: string): boolean {
    const { config, cpus: count, doublings } = this.#configured();
    const before = wantedOf(config, count, doublings - 1);
    if (doublings === 0 || !former.hasSizes(before.sizes)) return false;
    this.#wanted = before;
    this.#mayGrow = false;
    this.#deps.log.error(
      `the maps of flows can't get twice the size: ${reason}. They stay as they are until bpfMapSizeConntrack changes or the agent starts again; flows that find no room are refused`,
    );
    return true;
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
    return await LoadedDataplane.open(
      {
        place,
        endpoints,
        links,
        timeouts,
        clock,
        log,
        onDue,
        onNearlyFull: (stats, family) => this.#grow(stats, family),
      },
      { config: podConfigOf(config), sizes, parts },
    );
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
