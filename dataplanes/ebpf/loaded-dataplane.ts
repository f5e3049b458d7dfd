import { join } from 'node:path';
import type { Clock } from '#api/clock.ts';
import { bpfGrace, type BpfProgram, openBpfRing } from '#native/bpf.ts';
import type { ApplyFailure } from '../contract.ts';
import type { Logger } from '../logger.ts';
import type { InForceView, PacketQuestion, PacketView } from '../observe.ts';
import { Announcements } from './announcements.ts';
import type { PodConfig } from './bpf-types.gen.ts';
import type { FlowRing } from './events.ts';
import { AskProgram, type ExplainNames } from './explain.ts';
import type { ClassifierUpdate } from './classifier/classifier.ts';
import { type FamilyFlowMaps, flowMapsOf } from './flows/flow-maps.ts';
import { FlowSweeper, type FlowSweeperDeps } from './flows/flow-sweeper.ts';
import { FlowTable } from './flows/flow-table.ts';
import type { FlowTimeouts } from './flows/flow-timeouts.ts';
import { forgetStaleDatagrams } from './flows/stale-datagrams.ts';
import { type CarryReport, OlderFlows } from './flows/older-layout.ts';
import { loadSweep, type SweepProgram } from './flows/sweep-program.ts';
import { type HostPart, HostPrograms } from './hosts/host-programs.ts';
import { NodeMaps } from './node-maps.ts';
import { PodCycle } from './pod-cycle.ts';
import type { PodEndpoints } from './pod-endpoints.ts';
import type { PodLinks } from './pod-links.ts';
import {
  enter,
  type EndpointMaps,
  type EndpointPrograms,
  type Filters,
  fittingSizes,
  isEntered,
  layoutVersion,
  loadEndpointPrograms,
  objectFiles,
  openFilters,
  type ProgramPlace,
  removeOlder,
  removePutAside,
} from './programs.ts';
import { ServiceTable, type ServiceUpdate } from './services/service-table.ts';
import { areSameSizes, type MapEntries, type MapName, type Misfit, settingOf } from './sizes.ts';
import { Underway } from './underway.ts';

/** What it is loaded for. */
export interface LoadedDeps {
  readonly place: ProgramPlace;
  readonly endpoints: PodEndpoints;
  readonly links: PodLinks;
  /** How long flows are remembered, now. */
  readonly timeouts: () => FlowTimeouts;
  readonly clock: Clock;
  readonly log: Logger;
  /** Called when something is to be done that no message or event asks for. */
  readonly onDue: () => void;
  /** As FlowSweeper's. */
  readonly onNearlyFull: FlowSweeperDeps['onNearlyFull'];
}

/** What programs and maps are made for. */
export interface LoadSettings {
  readonly config: PodConfig;
  readonly sizes: MapEntries;
  /** Which programs of uplinks and host endpoints will be entered, as far as it is known: they are loaded while the others are. */
  readonly parts: readonly HostPart[];
}

/** Programs and maps while the agent has them open, and who fills them. */
export class LoadedDataplane implements AsyncDisposable {
  readonly #deps: LoadedDeps;
  readonly maps: NodeMaps;
  readonly services: ServiceTable;
  readonly flows: FlowTable;
  /** The maps' sizes; what had no room in the size that was wanted has kept its own. */
  readonly sizes: MapEntries;
  /** What is carried over; none before `pin`. */
  #older: OlderFlows | undefined;
  readonly #sweeper: FlowSweeper;
  readonly #handles: DisposableStack;
  readonly #filters: Filters;
  readonly #hosts: HostPrograms;
  #programs: EndpointPrograms;
  #config: PodConfig;
  readonly #pods: PodCycle;
  /** The programs with which the maps were made belong to these. */
  #ownsPrograms = false;
  /** Loaded when somebody asks. */
  #ask: Promise<AskProgram> | undefined;
  #settling: Promise<void> | undefined;
  #mustSettle = false;
  #areServicesKnown = false;
  /** What was asked of `hasSizes` last. */
  #sizesAsked: { readonly wanted: MapEntries; readonly areThey: boolean } | undefined;
  #isSweeping = false;
  /** All that the older maps have stands in ours. */
  #isCarried = false;
  /** What the filters jump to may not be these programs. */
  #mustEnter = true;
  /** What of Services is done otherwise, as it was logged. */
  #saidLimits: ReadonlySet<string> = new Set();

  private constructor(
    deps: LoadedDeps,
    parts: Pick<LoadedDataplane, 'filters' | 'maps' | 'services' | 'flows' | 'sizes'> & {
      readonly programs: EndpointPrograms;
      readonly config: PodConfig;
      readonly sweeper: FlowSweeper;
      readonly hosts: HostPrograms;
    },
    handles: DisposableStack,
  ) {
    this.#deps = deps;
    this.#filters = parts.filters;
    this.#programs = parts.programs;
    this.#config = parts.config;
    this.maps = parts.maps;
    this.services = parts.services;
    this.flows = parts.flows;
    this.sizes = parts.sizes;
    this.#sweeper = parts.sweeper;
    this.#handles = handles;
    this.#hosts = parts.hosts;
    const { links, endpoints, place } = deps;
    this.#pods = new PodCycle(links, endpoints, new Announcements(this.#filters, place.netns), this.maps);
  }

  /** Throws as `openFilters` and `loadEndpointPrograms` do. Nothing that is pinned changes before `pin`. */
  static async open(
    deps: LoadedDeps,
    { config, sizes: wanted, parts: hostParts }: LoadSettings,
  ): Promise<LoadedDataplane> {
    const { place, timeouts, clock, log, onNearlyFull } = deps;
    using handles = new DisposableStack();
    const { sizes } = await fittingSizes(place, wanted);
    const filters = handles.use(await openFilters(place, sizes));
    const hosts = handles.use(new HostPrograms(place.objects, filters));
    using loading = new DisposableStack();
    const sweeps: Underway<SweepProgram>[] = [];
    const beside = (made: EndpointMaps): void => {
      for (const part of hostParts) hosts.prepare(part, made, config);
      const elf = join(place.objects, objectFiles.sweep);
      sweeps.push(loading.use(new Underway(loadSweep(flowMapsOf(made.map), elf))));
    };
    const programs = handles.use(await loadEndpointPrograms(place, filters, { config, sizes, beside }));
    const flowMaps = flowMapsOf(programs.map);
    const [sweep] = await Promise.all(sweeps.map((each) => each.take()));
    if (sweep === undefined) throw new Error('the sweep is loaded once the maps are there');
    handles.use(sweep);
    const maps = handles.use(new NodeMaps(programs));
    const services = handles.use(new ServiceTable(programs.map, settingOf));
    const maxElements = capacityOf(flowMaps);
    const sweeper = new FlowSweeper({ program: sweep, timeouts, maxElements, onNearlyFull, clock, log });
    log.info(filters.adopted ? 'adopted the pinned BPF filters' : 'loaded the BPF filters', {
      fromPod: filters.fromPod.id,
      toPod: filters.toPod.id,
    });
    const flows = new FlowTable(flowMaps, timeouts, () => sweeper.stats);
    const parts = { filters, programs, config, maps, services, flows, sweeper, sizes, hosts };
    return new LoadedDataplane(deps, parts, handles.move());
  }

  /**
   * These are what the next agent finds; what they take the place of is kept beside them until it is carried over. Once, before they are entered.
   * `former`: what is in use until then, whose figures of flows stay.
   */
  pin(former?: LoadedDataplane): void {
    this.#filters.pin();
    this.#programs.pin();
    this.#older = this.#handles.use(OlderFlows.find(this.#deps.place.dir, layoutVersion));
    if (former !== undefined) this.#sweeper.goOnFrom(former.#sweeper.stats);
  }

  get filters(): Filters {
    return this.#filters;
  }

  get pods(): PodCycle {
    return this.#pods;
  }

  /** Whether the maps have these sizes. Asked at each apply, mostly of the same ones. */
  hasSizes(wanted: MapEntries): boolean {
    if (this.#sizesAsked?.wanted !== wanted) this.#sizesAsked = { wanted, areThey: areSameSizes(this.sizes, wanted) };
    return this.#sizesAsked.areThey;
  }

  /** What the maps that packets meet would be too small for, were they made anew with these sizes. */
  misfitsOf(wanted: MapEntries): readonly Misfit[] {
    return this.inForce.tables.flatMap(({ table, used, size }) => {
      const entries = wanted[table as MapName];
      // What of a map can't be used, can't be used of any.
      const spare = (this.sizes[table as MapName] ?? size) - size;
      return entries === undefined || entries - spare >= used ? [] : [{ map: table, wanted: entries, used }];
    });
  }

  /** Nothing is freed in the background any more when this resolves, until somebody asks for it. */
  async settled(): Promise<void> {
    this.#mustSettle = false;
    await this.#settling;
  }

  /** All that was said of policy and Services, to be said to another before anybody says more. */
  get said(): readonly (ClassifierUpdate | ServiceUpdate)[] {
    return [...this.maps.classifier.said(), ...this.services.said()];
  }

  /** Another configuration: other programs on the same maps. They are in force with the next `enter`. */
  async reload(config: PodConfig): Promise<void> {
    const programs = await loadEndpointPrograms(this.#deps.place, this.#filters, {
      config,
      sizes: this.sizes,
      former: this.#programs,
      beside: (maps) => {
        for (const part of this.#hosts.parts) this.#hosts.prepare(part, maps, config);
      },
    });
    if (this.#ownsPrograms) this.#programs[Symbol.dispose]();
    this.#programs = programs;
    this.#config = config;
    this.#ownsPrograms = true;
    this.#mustEnter = true;
  }

  /** Uplinks (`net`) or devices with a host endpoint (`host`) jump to our programs of the configuration in force. Throws as `loadObject` does. */
  async enterHosts(part: HostPart): Promise<void> {
    await this.#hosts.enter(part, this.#programs, this.#config);
  }

  /** Whether somebody's programs are there. */
  hasHosts(part: HostPart): boolean {
    return this.#hosts.has(part);
  }

  /** No device jumps there any more. */
  leaveHosts(part: HostPart): void {
    this.#hosts.leave(part);
  }

  /** What meets frames before the stack where a host endpoint has untracked policy. Throws as `loadObject` does. */
  async xdpProgram(): Promise<BpfProgram> {
    return await this.#hosts.xdp(this.#programs, this.#config);
  }

  /** The filters jump to our programs from now on; true if they did not before. */
  enter(): boolean {
    if (!this.#isSweeping) this.#sweeper.start();
    this.#isSweeping = true;
    const wasEntered = isEntered(this.#filters, this.#programs);
    if (!wasEntered) enter(this.#filters, this.#programs);
    this.#mustEnter = false;
    return !wasEntered;
  }

  /** As `enter`, if the programs are others since, or `suspectEntered` was called. */
  stayEntered(): boolean {
    return this.#mustEnter && this.enter();
  }

  /** Somebody may have changed what the filters jump to. */
  suspectEntered(): void {
    this.#mustEnter = true;
  }

  /** Brings what was said of Services into force; what of them is not. `nodeName`: this node's; `retry`: what failed before is tried, too. */
  async flushServices(nodeName: string, retry: boolean): Promise<readonly ApplyFailure[]> {
    await this.services.flush(nodeName, { retry });
    const said = new Set<string>();
    for (const { object, reason } of this.services.unsupported) {
      said.add(`${object}: ${reason}`);
      if (!this.#saidLimits.has(`${object}: ${reason}`)) this.#deps.log.warn(`${object}: ${reason}`);
    }
    this.#saidLimits = said;
    return this.services.failed;
  }

  /** Where programs tell of flows. */
  ring(nameOf: FlowRing['nameOf']): FlowRing {
    const { maps } = this;
    const events = this.#programs.map('tortie_events');
    return {
      open: () => openBpfRing(events),
      setEvents: (isOn) => maps.setEvents(isOn),
      get lost() {
        return maps.eventsLost;
      },
      ruleOf: (word) => maps.classifier.ruleOf(word),
      nameOf,
    };
  }

  /** What the maps that packets meet say of one. Throws as `loadObject` does. */
  async inspect(question: PacketQuestion, names: Omit<ExplainNames, 'ruleOf'>): Promise<PacketView> {
    const loading = (this.#ask ??= AskProgram.load(this.#deps.place.objects, this.#programs));
    let ask: AskProgram;
    try {
      ask = await loading;
    } catch (error) {
      if (this.#ask === loading) this.#ask = undefined;
      throw error;
    }
    return ask.look(question, { ...names, ruleOf: (word) => this.maps.classifier.ruleOf(word) });
  }

  /** What is in force, and how full the tables are that this agent fills. */
  get inForce(): InForceView {
    const { classifier, slots, hops } = this.maps;
    const failed = new Map<string, number>();
    for (const { failure = 'unknown' } of classifier.failed) failed.set(failure, (failed.get(failure) ?? 0) + 1);
    return {
      tables: [
        ...classifier.fill.map(({ map, used, size }) => ({ table: map, used, size })),
        { table: 'tortie_pods', used: slots.used, size: slots.size },
        { table: 'tortie_hops', used: hops.used, size: hops.size },
        ...this.services.fill,
      ],
      units: classifier.figures.units,
      failedUnits: [...failed].map(([reason, units]) => ({ reason, units })),
    };
  }

  /** Whether all flows are in these maps: a flow that is deleted here now stands nowhere else, from where it would be carried. */
  get hasAllFlows(): boolean {
    return this.#older === undefined || this.#older.isEmpty || this.#isCarried;
  }

  /**
   * Takes over the flows of maps that these programs don't have: once before they are entered, and once when nothing works on those maps any more, after
   * which those of this layout go. Throws what the maps say.
   */
  async carryFlows(when: 'before' | 'after'): Promise<void> {
    if (this.#older === undefined || this.#older.isEmpty) return;
    this.#isCarried = false;
    // Programs that are still at work on a packet.
    if (when === 'after') await bpfGrace();
    const report = await this.#older.carry(flowMapsOf(this.#programs.map));
    this.#logCarried(report, when);
    if (when === 'before') return;
    this.#isCarried = true;
    // Whoever found it later would bring back flows that are forgotten by then.
    const { dir } = this.#deps.place;
    removePutAside(dir);
    this.#older.forget(join(dir, layoutVersion));
  }

  /** What was put aside, and what builds of other layouts pinned, goes; nothing of them may be on a device any more. */
  removeOlder(): void {
    removeOlder(this.#deps.place.dir);
    this.#older?.[Symbol.dispose]();
  }

  /**
   * Frees in the background what flushes have replaced. Asked while it does, it does so once more. `areServicesKnown`: all Services have been said and
   * these programs are the ones in force, so flows of datagrams that lead to nobody any more are forgotten, too.
   */
  settleSoon(areServicesKnown: boolean): void {
    this.#mustSettle = true;
    this.#areServicesKnown = areServicesKnown;
    this.#settling ??= this.#settle().finally(() => {
      this.#settling = undefined;
      // Asked for between its last look and now.
      if (this.#mustSettle) this.settleSoon(this.#areServicesKnown);
    });
  }

  /** Nothing is pinned or taken off by this. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#mustSettle = false;
    await this.#settling;
    await this.#sweeper[Symbol.asyncDispose]();
    (await this.#ask?.catch(() => undefined))?.[Symbol.dispose]();
    if (this.#ownsPrograms) this.#programs[Symbol.dispose]();
    this.#handles.dispose();
  }

  #logCarried({ carried, full, unreadable, reasons }: CarryReport, when: 'before' | 'after'): void {
    const { log } = this.#deps;
    const counts = { when, carried, full, unreadable };
    if (full + unreadable + reasons.length === 0) log.info('took over the flows of former maps', counts);
    else log.warn('not all flows of former maps could be taken over', { ...counts, reasons: reasons.join('; ') });
  }

  /** Never rejects: the next flush asks for it again. */
  async #settle(): Promise<void> {
    while (this.#mustSettle) {
      this.#mustSettle = false;
      try {
        await this.maps.settle();
        await this.services.settle();
        if (this.#areServicesKnown) {
          const { services, flows } = this;
          await forgetStaleDatagrams({ services, flows, grace: bpfGrace, log: this.#deps.log });
        }
      } catch (error) {
        this.#deps.log.warn('what policy has replaced is not free yet', { reason: (error as Error).message });
        return;
      }
      if (this.#pods.noticeUnits()) this.#deps.onDue();
    }
  }
}

function capacityOf(maps: readonly FamilyFlowMaps[]): Record<4 | 6, number> {
  const of = (wanted: 4 | 6): number =>
    maps
      .filter(({ family }) => family === wanted)
      .flatMap(({ shards }) => shards)
      .reduce((sum, { shape }) => sum + shape.maxEntries, 0);
  return { 4: of(4), 6: of(6) };
}
