import { join } from 'node:path';
import type { Clock } from '#api/clock.ts';
import type { Conntrack } from '#native/conntrack.ts';
import { Turns } from '#native/turns.ts';
import type { MonitorGroup, Netlink, NetlinkEvent, NetlinkOp } from '#native/types.ts';
import type { ApplyReport, Counter, Dataplane, DeviceCounters, HostDeviceState } from '../contract.ts';
import type { Logger } from '../logger.ts';
import type { DataplaneConfig, DataplaneUpdate } from '../messages.ts';
import type { InForceView, PacketQuestion, PacketView, ServicesView } from '../observe.ts';
import type { RuleId } from '../policy.ts';
import { releaseBpffs } from './bpffs.ts';
import { readCounters } from './counters.ts';
import { DeviceEvents, type Monitor } from './device-events.ts';
import { DeviceFilters } from './device-filters.ts';
import { FlowEvents } from './events.ts';
import { FormerFlows } from './former-flows.ts';
import { HostEndpoints } from './hosts/host-endpoints.ts';
import type { LoadedDataplane } from './loaded-dataplane.ts';
import { LoadedFlows } from './loaded-flows.ts';
import { LoadedServices } from './loaded-services.ts';
import { Loading } from './loading.ts';
import { natPorts } from './nat-ports.ts';
import { PacketPath } from './packet-path.ts';
import { removePins } from './pins.ts';
import { ShapedDevices } from './shaped-devices.ts';
import { type DeviceSide, newOutcome, type Outcome } from './pod-cycle.ts';
import { PodEndpoints } from './pod-endpoints.ts';
import { PodLinks } from './pod-links.ts';
import { PolicyMessages } from './policy-messages.ts';
import { probeEbpf } from './probe.ts';
import { layoutVersion, type ProgramPlace } from './programs.ts';
import { StackTables, type StackTablesDeps } from './stack-tables.ts';
import { Ways } from './ways.ts';

/** What the eBPF dataplane works with; everything is of the node's own namespace. */
export interface EbpfDeps extends StackTablesDeps {
  readonly host: Netlink;
  /** What netfilter tracks: flows of pods that go by the node's stack. */
  readonly conntrack: Pick<Conntrack, 'deleteOf'>;
  /** Opens a monitor of these groups. */
  readonly openMonitor: (groups: readonly MonitorGroup[]) => Monitor;
  readonly place: ProgramPlace;
  /** This node's, as calc names it. */
  readonly nodeName: string;
  /** A sysctl of the node by its path below /proc/sys; undefined: there is none. */
  readonly readSysctl: (path: string) => string | undefined;
  /** Whether the kernel has tcx; absent: it is tried when a pod's device needs it. */
  readonly hasTcx?: boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What is followed of pods' devices, and of the node's addresses. */
const podGroups = ['link', 'addr4', 'addr6', 'tc'] as const satisfies readonly MonitorGroup[];

const wordsOf = (error: unknown): string => (error as Error).message;

/**
 * Judges pods' packets by programs on their host devices' clsact. Until a device is announced its filters drop everything; after that they jump
 * to the programs of the agent in force, which know the pod's addresses, its policy, flows, services, and the ways to others.
 *
 * `apply` fills the maps; `activate` is what puts filters on devices and makes them jump here, and from then on `apply` also keeps them there.
 * What is said while an `apply` is under way waits for the next one: each brings one state into force, in which nothing is named that is gone.
 * Filters and what belongs to the node (announcements, counters, flows) outlive the agent, which finds them pinned; policy, slots, ways and
 * services are each agent's own, filled while the former agent's are still in force, and entered by two stores. What exists is read
 * once, then events tell what others change; all is compared again on request, each routeRefreshInterval, and when events were lost.
 */
export class EbpfDataplane implements Dataplane {
  readonly kind = 'ebpf';
  readonly capabilities = {
    countsDropsPerDevice: true,
    enforcesPolicy: true,
    closesUnknownDevices: false,
    translatesServices: true,
    translatesForNode: true,
  };

  readonly programsServices = true;
  readonly flows = new LoadedFlows({
    loaded: () => this.#loaded,
    inTurn: (work) => this.#turns.run(work),
    onHandover: (handover) => this.#loading.setHandover(handover),
    onTold: () => this.#listener(),
  });

  readonly flowEvents = new FlowEvents(() => this.#loaded?.ring((ifindex) => this.#nameOf(ifindex)));
  readonly services: ServicesView = new LoadedServices(() => this.#loaded?.services);

  readonly #deps: EbpfDeps;
  readonly #loading: Loading;
  readonly #endpoints = new PodEndpoints();
  readonly #links: PodLinks;
  readonly #policy = new PolicyMessages();
  readonly #ways: Ways;
  readonly #filters: DeviceFilters;
  readonly #shaped: ShapedDevices;
  readonly #stack: StackTables;
  readonly #hosts: HostEndpoints;
  readonly #path: PacketPath;
  readonly #formerFlows: FormerFlows;
  /** apply, activate, release and cleanup exclude each other, and what must find all flows begins between them. */
  readonly #turns = new Turns();
  /** Ifindexes of devices that are gone. */
  readonly #gone = new Set<number>();
  /** It is let go: what is still asked for must not open everything anew. */
  #isClosed = false;
  /** What was said since the last apply began. */
  #inbox: DataplaneUpdate[] = [];
  #config: DataplaneConfig | undefined;
  #events: DeviceEvents | undefined;
  #timer: Disposable | undefined;
  /** The maps say everything that was announced by the beginning of the last apply. */
  #isFilled = false;
  /** Nor had the last apply trouble with devices, filters or netfilter, in which other programs could not be entered. */
  #isWhole = false;
  #mustRead = true;
  /** A setting of the node says them, which is read with everything else and not by each apply. */
  #mustReadPorts = true;
  #listener: () => void = () => {};

  constructor(deps: EbpfDeps) {
    this.#deps = deps;
    this.#links = new PodLinks(deps.host);
    this.#ways = new Ways(deps.nodeName);
    const { dir, netns } = deps.place;
    this.#filters = new DeviceFilters({
      host: deps.host,
      links: { dir: join(dir, layoutVersion, 'pods'), ...(netns && { netns }) },
      ...(deps.hasTcx === undefined ? {} : { hasTcx: deps.hasTcx }),
    });
    this.#shaped = new ShapedDevices(deps.host);
    this.#stack = new StackTables(deps, () => this.#listener());
    this.#hosts = new HostEndpoints(deps, () => this.#listener());
    const { place, readSysctl, clock, log } = deps;
    this.#loading = new Loading({
      place,
      readSysctl,
      clock,
      log,
      endpoints: this.#endpoints,
      links: this.#links,
      hostParts: async () => {
        // Tells what to load, and is looked at again when there are maps.
        if (this.#loaded === undefined) await this.#hosts.look(newOutcome());
        return this.#hosts.parts;
      },
      isWhole: () => this.#isWhole,
      onDue: () => this.#listener(),
    });
    this.#path = new PacketPath({
      host: deps.host,
      endpoints: this.#endpoints,
      filters: this.#filters,
      hosts: this.#hosts,
      stack: this.#stack,
      program: async (loaded) => {
        await loaded.pods.program(newOutcome(), this.#devicesOf(loaded));
      },
      log: deps.log,
    });
    this.#formerFlows = new FormerFlows({
      host: deps.host,
      conntrack: deps.conntrack,
      endpoints: this.#endpoints,
      loaded: () => this.#loaded,
      onDone: () => this.#listener(),
    });
  }

  /** What is in use. */
  get #loaded(): LoadedDataplane | undefined {
    return this.#loading.loaded;
  }

  onUpdate(update: DataplaneUpdate): void {
    this.#inbox.push(update);
  }

  probe(): Promise<readonly string[]> {
    const { dir, objects } = this.#deps.place;
    return probeEbpf(dir, objects);
  }

  podDeviceOps(ifaceName: string): readonly NetlinkOp[] {
    return this.#path.deviceOps(ifaceName, this.#loaded);
  }

  linkPodDevice(ifaceName: string): Promise<void> {
    return this.#turns.run(() => this.#path.link(ifaceName, this.#loaded));
  }

  apply({ retry }: { readonly retry: boolean } = { retry: true }): Promise<ApplyReport> {
    return this.#turns.run(async () => {
      const outcome = newOutcome();
      this.#takeIn(outcome);
      const config = this.#config;
      // Without configuration the programs can't be loaded; it is the first thing calc says.
      if (config === undefined || this.#isClosed) return { ...outcome, removed: [] };
      try {
        await this.#load();
      } catch (error) {
        outcome.failed.push({ object: 'BPF programs', reason: wordsOf(error) });
      }
      // Whoever tells flows reads the maps that would be closed.
      const misfit = this.flows.areTold
        ? undefined
        : await this.#loading.fitSizes(retry, (former, next) => this.#replace(former, next));
      if (misfit !== undefined) outcome.failed.push(misfit);
      const loaded = this.#loaded;
      if (loaded === undefined) {
        const reason = outcome.failed[0]?.reason ?? 'the BPF programs are not loaded';
        for (const endpoint of this.#endpoints.dirty)
          outcome.failed.push({ object: `endpoint ${endpoint}`, endpoint, reason });
        return { ...outcome, removed: [] };
      }
      await this.#compare(loaded, outcome);
      await this.#lookForShaped(outcome);
      const failuresBefore = outcome.failed.length;
      await this.#path.look(loaded, outcome);
      loaded.pods.closeAbandoned(outcome);
      await this.#forgetGone(loaded, outcome);
      // Once for the removal of what is gone, and for all that is announced.
      const isComplete = this.#endpoints.inSync;
      this.#formerFlows.begin();
      await this.#hosts.look(outcome);
      this.#stack.setHosts(this.#hosts.needs);
      // Before that an earlier agent's rules stand: which of them are needed isn't known yet.
      if (isComplete || this.#path.state === 'yes') await this.#applyStack(outcome);
      if (this.#path.state === 'yes') await this.#hosts.enforce(loaded, outcome);
      const isPathWell = outcome.failed.length === failuresBefore;
      const areHostsFilled = await this.#hosts.program(loaded, outcome);
      const isFlushed = await loaded.pods.program(outcome, this.#devicesOf(loaded));
      outcome.failed.push(...this.#hosts.failures);
      this.#isFilled = isComplete && isFlushed && areHostsFilled;
      outcome.failed.push(...(await loaded.flushServices(this.#deps.nodeName, retry)));
      await this.#path.keep(loaded, this.#isFilled, outcome);
      this.#isWhole = this.#isFilled && isPathWell && this.#path.state === 'yes';
      loaded.settleSoon(isComplete && this.#path.state === 'yes');
      if (isFlushed) await this.#formerFlows.forget(this.#path.state, outcome);
      const { pending } = this.#formerFlows;
      return { ...outcome, removed: this.#endpoints.takeRemoved((id) => !pending.has(id)) };
    });
  }

  activate(): Promise<void> {
    return this.#turns.run(async () => {
      const loaded = this.#loaded;
      if (loaded === undefined) throw new Error('the BPF programs are not loaded: nothing can be attached');
      await this.#path.activate(loaded, this.#isFilled);
    });
  }

  release(): Promise<void> {
    return this.#turns.run(() => this.#release());
  }

  async deviceCounters(): Promise<readonly DeviceCounters[]> {
    const loaded = this.#loaded;
    if (loaded === undefined) return [];
    const names = new Map((await this.#deps.host.links()).map(({ index, name }) => [index, name]));
    return await readCounters(loaded.filters.counters, (ifindex) => names.get(ifindex));
  }

  ruleCounters(): Promise<ReadonlyMap<RuleId, Counter>> {
    return Promise.resolve(this.#loaded?.maps.classifier.ruleCounters() ?? new Map<RuleId, Counter>());
  }

  get hostDevices(): readonly HostDeviceState[] {
    return this.#hosts.devices;
  }

  /** Nothing before packets come by us. */
  get notes(): readonly string[] {
    return this.#path.state === 'yes' ? this.#hosts.notes : [];
  }

  get mapWrites(): number {
    return this.#loaded?.maps.classifier.figures.writes ?? 0;
  }

  async inspect(question: PacketQuestion): Promise<PacketView | undefined> {
    return await this.#loaded?.inspect(question, {
      nameOf: (ifindex) => this.#nameOf(ifindex),
      ifindexOf: (name) => this.#endpoints.ifindex(name),
    });
  }

  get inForce(): InForceView | undefined {
    return this.#loaded?.inForce;
  }

  requestResync(): void {
    this.#mustRead = true;
    this.#stack.requestResync();
  }

  onDisturbed(listener: () => void): void {
    this.#listener = listener;
  }

  /** Rules, filters, then pins: a crash in between leaves what the next cleanup finds. */
  cleanup(): Promise<void> {
    return this.#turns.run(async () => {
      this.#takeIn(newOutcome());
      await this.#release();
      await this.#letGo();
      await this.#stack.cleanup();
      const { dir } = this.#deps.place;
      removePins(dir);
      releaseBpffs(dir);
    });
  }

  /** Closes handles only: what is pinned and attached stays. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#turns.run(async () => {
      this.#isClosed = true;
      await this.#letGo();
      this.#stack[Symbol.dispose]();
    });
  }

  /** In one turn: what belongs together is taken in together. What can't be understood is said, and keeps nothing else from being heard. */
  #takeIn(outcome: Outcome): void {
    const inbox = this.#inbox;
    this.#inbox = [];
    for (const update of inbox) {
      try {
        this.#record(update);
      } catch (error) {
        const reason = wordsOf(error);
        this.#deps.log.error('a message could not be taken in', { type: update.type, reason });
        outcome.failed.push({ object: `message ${update.type}`, reason });
      }
    }
  }

  #record(update: DataplaneUpdate): void {
    this.#endpoints.record(update);
    this.#policy.record(update);
    this.#ways.record(update);
    this.#hosts.record(update);
    this.#formerFlows.record(update);
    switch (update.type) {
      case 'configUpdate':
        this.#configure(update.config);
        break;
      case 'serviceRangesUpdate':
        this.#stack.setServiceRanges(update.cidrs);
        break;
      case 'inSync':
        this.#mustRead = true;
        break;
      default:
        break;
    }
  }

  #devicesOf(loaded: LoadedDataplane): DeviceSide {
    return {
      attach: (link) => this.#path.attach(link, loaded),
      isShaped: (ifindex) => this.#shaped.has(ifindex) || this.#filters.hasOthers(ifindex),
    };
  }

  #nameOf(ifindex: number): string | undefined {
    return this.#deps.host.link(ifindex)?.name;
  }

  #configure(config: DataplaneConfig): void {
    const before = this.#config;
    this.#config = config;
    this.#loading.configure(config);
    this.#mustReadPorts = true;
    this.#stack.setConfig(config);
    if (before?.routeRefreshIntervalMs !== config.routeRefreshIntervalMs) this.#mustRead = true; // The new interval counts from now.
  }

  /** Loads or adopts the programs. When that fails and older ones are there, they stay in force. */
  async #load(): Promise<void> {
    const before = this.#loaded;
    if (!(await this.#loading.load())) return;
    if (before === undefined && this.#loaded !== undefined) this.#tell(this.#loaded);
    this.#mustRead = true;
    const { openMonitor, clock, log } = this.#deps;
    // Before anything is read: what happens in between comes as an event.
    this.#events ??= new DeviceEvents(
      () => openMonitor(podGroups),
      (event) => this.#take(event),
      clock,
      log,
    );
  }

  /** These maps are to be filled from now on; `former`'s have been told what was said until now. */
  #tell({ maps, services }: LoadedDataplane, former?: LoadedDataplane): void {
    this.#policy.useListeners({ classifier: maps.classifier, services }, former?.said);
    this.#ways.useTable(maps.hops);
  }

  /** In one turn: nothing is said in between, and nobody enters what knows nothing yet. */
  #replace(former: LoadedDataplane, next: LoadedDataplane): void {
    this.#path.wait();
    this.#isFilled = false;
    this.#mustRead = true;
    this.#hosts.requestResync();
    for (const id of this.#endpoints.all) this.#endpoints.markDirty(id);
    this.#tell(next, former);
    this.flowEvents.move();
  }

  /** Compares maps, devices and filters with what is wanted, when it is time. What differs becomes dirty. */
  async #compare(loaded: LoadedDataplane, outcome: Outcome): Promise<void> {
    if (this.#mustRead) {
      this.#mustRead = false;
      this.#mustReadPorts = true;
      this.#links.clear();
      this.#hosts.requestResync();
      try {
        const { host } = this.#deps;
        const [links] = await Promise.all([host.links(), this.#ways.read(() => host.addresses())]);
        await loaded.pods.compare(links, outcome);
        loaded.suspectEntered();
        await this.#filters.forgetAllGone();
        this.#shaped.suspect();
        const devices = links.filter((link) => this.#path.mustHaveFilters(link));
        for (const { index } of devices) this.#filters.suspect(index);
        this.#filters.suspectOthers(devices);
      } catch (error) {
        this.#mustRead = true;
        outcome.failed.push({ object: 'BPF maps', reason: wordsOf(error) });
      }
      this.#timer?.[Symbol.dispose]();
      const refreshMs = this.#config?.routeRefreshIntervalMs ?? 0;
      if (refreshMs > 0) {
        this.#timer = this.#deps.clock.after(refreshMs, () => {
          this.#mustRead = true;
          this.#listener();
        });
      }
    }
    loaded.maps.setNode(this.#ways.node);
    if (!this.#mustReadPorts) return;
    this.#mustReadPorts = false;
    const config = this.#config;
    loaded.maps.setNatPorts(config === undefined ? undefined : natPorts(config, this.#deps.readSysctl));
  }

  /** Endpoints whose devices others have given qdiscs, or taken them from, become dirty. */
  async #lookForShaped(outcome: Outcome): Promise<void> {
    try {
      for (const ifindex of await this.#shaped.look()) {
        const id = this.#endpoints.ofIfindex(ifindex);
        if (id !== undefined) this.#endpoints.markDirty(id);
      }
    } catch (error) {
      outcome.failed.push({ object: 'qdiscs of pod devices', reason: wordsOf(error) });
    }
  }

  async #forgetGone(loaded: LoadedDataplane, outcome: Outcome): Promise<void> {
    const gone = [...this.#gone];
    this.#gone.clear(); // It may be used again, and gone again, meanwhile.
    for (const ifindex of gone) {
      try {
        loaded.pods.forget(ifindex);
        await this.#filters.forgetGone(ifindex);
      } catch (error) {
        this.#gone.add(ifindex);
        outcome.failed.push({ object: `BPF map entries of device #${ifindex}`, reason: wordsOf(error) });
      }
    }
  }

  async #applyStack(outcome: Outcome): Promise<void> {
    const { failed, repaired } = await this.#stack.apply();
    outcome.failed.push(...failed);
    // They need rules: what their programs only mark would come in.
    const [first] = failed;
    if (first !== undefined && this.#hosts.needs.notLocal)
      this.#hosts.fail(`${first.object}: ${first.reason}`, outcome);
    outcome.repaired.push(...repaired);
  }

  #take(event: NetlinkEvent): void {
    this.#links.follow(event);
    let matters = this.#ways.follow(event);
    switch (event.type) {
      case 'overrun':
        this.#mustRead = true;
        matters = true;
        break;
      case 'link.del':
        this.#gone.add(event.link.index);
        matters = true;
        break;
      case 'link.new': {
        // Another device under the name of one that an endpoint has.
        const id = this.#endpoints.ofDevice(event.link.name);
        if (id === undefined || this.#endpoints.ifindex(event.link.name) === event.link.index) break;
        this.#endpoints.markDirty(id);
        matters = true;
        break;
      }
      case 'qdisc.new':
      case 'qdisc.del':
        // Before its endpoint is known, too.
        this.#shaped.follow(event.qdisc);
        matters = this.#suspect(event.linkIndex) || matters;
        break;
      case 'filter.new':
      case 'filter.del':
        matters = this.#suspect(event.linkIndex) || matters;
        break;
      default:
        break;
    }
    if (matters) this.#listener();
  }

  /** True if the device is to be looked at: its filters may be others. */
  #suspect(ifindex: number): boolean {
    if (this.#path.state !== 'yes' || this.#endpoints.ofIfindex(ifindex) === undefined) return false;
    this.#filters.suspect(ifindex);
    return true;
  }

  async #release(): Promise<void> {
    this.flowEvents.end();
    await this.#path.release(this.#loaded);
  }

  async #letGo(): Promise<void> {
    this.flowEvents.end();
    this.#timer?.[Symbol.dispose]();
    this.#events?.[Symbol.dispose]();
    this.#events = undefined;
    this.#policy.useListeners(undefined);
    this.#ways.useTable(undefined);
    await this.#hosts.letGo();
    await this.#filters[Symbol.asyncDispose]();
    await this.#loading.letGo();
    this.#path.forget();
    this.#isFilled = false;
  }
}
