import type { Netlink } from '#native/types.ts';
import type { Logger } from '../logger.ts';
import { Announcements } from './announcements.ts';
import type { PodConfig } from './bpf-types.gen.ts';
import { NodeMaps } from './node-maps.ts';
import { PodCycle } from './pod-cycle.ts';
import type { PodEndpoints } from './pod-endpoints.ts';
import {
  enter,
  type EndpointPrograms,
  type Filters,
  isEntered,
  loadEndpointPrograms,
  openFilters,
  type ProgramPlace,
  removeOtherLayouts,
} from './programs.ts';

/** What it is loaded for. */
export interface LoadedDeps {
  readonly host: Netlink;
  readonly place: ProgramPlace;
  readonly endpoints: PodEndpoints;
  readonly log: Logger;
  /** Called when something is to be done that no message or event asks for. */
  readonly onDue: () => void;
}

/** Programs and maps while the agent has them open, and who fills them. */
export class LoadedDataplane implements AsyncDisposable {
  readonly #deps: LoadedDeps;
  readonly maps: NodeMaps;
  readonly #filters: Filters;
  #programs: EndpointPrograms;
  readonly #pods: PodCycle;
  /** The programs with which the maps were made belong to these. */
  #ownsPrograms = false;
  #settling: Promise<void> | undefined;
  #mustSettle = false;

  private constructor(deps: LoadedDeps, filters: Filters, programs: EndpointPrograms, maps: NodeMaps) {
    this.#deps = deps;
    this.#filters = filters;
    this.#programs = programs;
    this.maps = maps;
    this.#pods = this.#newCycle();
  }

  /** Throws as `openFilters` and `loadEndpointPrograms` do. */
  static async open(deps: LoadedDeps, config: PodConfig): Promise<LoadedDataplane> {
    using handles = new DisposableStack();
    const filters = handles.use(await openFilters(deps.place));
    const programs = handles.use(await loadEndpointPrograms(deps.place, filters, config));
    const maps = new NodeMaps(programs);
    handles.move();
    deps.log.info(filters.adopted ? 'adopted the pinned BPF filters' : 'loaded the BPF filters', {
      fromPod: filters.fromPod.id,
      toPod: filters.toPod.id,
    });
    return new LoadedDataplane(deps, filters, programs, maps);
  }

  get filters(): Filters {
    return this.#filters;
  }

  get pods(): PodCycle {
    return this.#pods;
  }

  /** Another configuration: other programs on the same maps. They are in force with the next `enter`. */
  async reload(config: PodConfig): Promise<void> {
    const programs = await loadEndpointPrograms(this.#deps.place, this.#filters, config, this.#programs);
    if (this.#ownsPrograms) this.#programs[Symbol.dispose]();
    this.#programs = programs;
    this.#ownsPrograms = true;
  }

  /** The filters jump to our programs from now on; true if they did not before. */
  enter(): boolean {
    if (isEntered(this.#filters, this.#programs)) return false;
    enter(this.#filters, this.#programs);
    return true;
  }

  /** What builds of other layouts pinned goes; nothing of them may be on a device any more. */
  removeOtherLayouts(): void {
    removeOtherLayouts(this.#deps.place.dir);
  }

  /** Frees in the background what flushes have replaced. Asked while it does, it does so once more. */
  settleSoon(): void {
    this.#mustSettle = true;
    this.#settling ??= this.#settle().finally(() => (this.#settling = undefined));
  }

  /** Nothing is pinned or taken off by this. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#mustSettle = false;
    await this.#settling;
    if (this.#ownsPrograms) this.#programs[Symbol.dispose]();
    this.maps[Symbol.dispose]();
    this.#filters[Symbol.dispose]();
  }

  /** Never rejects: the next flush asks for it again. */
  async #settle(): Promise<void> {
    while (this.#mustSettle) {
      this.#mustSettle = false;
      try {
        await this.maps.settle();
      } catch (error) {
        this.#deps.log.warn('what policy has replaced is not free yet', { reason: (error as Error).message });
        return;
      }
      if (this.#pods.noticeUnits()) this.#deps.onDue();
    }
  }

  #newCycle(): PodCycle {
    const { host, endpoints, place } = this.#deps;
    return new PodCycle(host, endpoints, new Announcements(this.#filters, place.netns), this.maps);
  }
}
