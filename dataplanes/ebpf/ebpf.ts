import { join } from 'node:path';
import type { Clock } from '#api/clock.ts';
import { messageOf } from '#api/errors.ts';
import type { Conntrack } from '#native/conntrack.ts';
import { Turns } from '#native/turns.ts';
import type { MonitorGroup, Netlink, NetlinkOp } from '#native/types.ts';
import type { ApplyReport, Counter, Dataplane, DeviceCounters, HostDeviceState } from '../contract.ts';
import type { Logger } from '../logger.ts';
import type { DataplaneConfig, DataplaneUpdate } from '../messages.ts';
import type { InForceView, PacketQuestion, PacketView, ServicesView } from '../observe.ts';
import type { RuleId } from '../policy.ts';
import { releaseBpffs } from './bpffs.ts';
import { readCounters } from './counters.ts';
import type { Monitor } from './device-events.ts';
import { DeviceFilters } from './device-filters.ts';
import { FlowEvents } from './events.ts';
import { FormerFlows } from './former-flows.ts';
import { HostEndpoints } from './hosts/host-endpoints.ts';
import type { LoadedDataplane } from './loaded-dataplane.ts';
import { LoadedFlows } from './loaded-flows.ts';
import { LoadedServices } from './loaded-services.ts';
import { Loading } from './loading.ts';
import { NodeDevices } from './node-devices.ts';
import { PacketPath } from './packet-path.ts';
import { removePins } from './pins.ts';
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

/**
 * Judges pods' packets by programs on their host devices' clsact. Until a device is announced its filters drop everything; after that they jump
 * to the programs of the agent in force, which know the pod's addresses, its policy, flows, services, and the ways to others.
 *
 * `apply` fills the maps; `activate` is what puts filters on devices and makes them jump here, and from then on `apply` also keeps them there.
 * What is said while an `apply` is under way waits for the next one: each brings one state into force, in which nothing is named that is gone.
 * Filters and what belongs to the node (announcements, counters, flows) outlive the agent, which finds them pinned; policy, slots, ways and
 * services are each agent's own, filled while the former agent's are still in force, and entered by two stores.
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
  readonly #stack: StackTables;
  readonly #hosts: HostEndpoints;
  readonly #path: PacketPath;
  readonly #devices: NodeDevices;
  readonly #formerFlows: FormerFlows;
  /** apply, activate, release and cleanup exclude each other, and what must find all flows begins between them. */
  readonly #turns = new Turns();
  /** It is let go: what is still asked for must not open everything anew. */
  #isClosed = false;
  /** What was said since the last apply began. */
  #inbox: DataplaneUpdate[] = [];
  #config: DataplaneConfig | undefined;
  /** The maps say everything that was announced by the beginning of the last apply. */
  #isFilled = false;
  /** Nor had the last apply trouble with devices, filters or netfilter, in which other programs could not be entered. */
  #isWhole = false;
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
    this.#devices = new NodeDevices({
      host: deps.host,
      openMonitor: deps.openMonitor,
      readSysctl,
      endpoints: this.#endpoints,
      links: this.#links,
      ways: this.#ways,
      filters: this.#filters,
      path: this.#path,
      onRead: () => this.#hosts.requestResync(),
      onDisturbed: () => this.#listener(),
      clock,
      log,
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
        outcome.failed.push({ object: 'BPF programs', reason: messageOf(error) });
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
      await this.#devices.compare(loaded, outcome);
      await this.#devices.lookForShaped(outcome);
      const failuresBefore = outcome.failed.length;
      await this.#path.look(loaded, outcome);
      loaded.pods.closeAbandoned(outcome);
      await this.#devices.forgetGone(loaded, outcome);
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
    this.#devices.requestRead();
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
        const reason = messageOf(error);
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
        this.#devices.requestRead();
        break;
      default:
        break;
    }
  }

  #devicesOf(loaded: LoadedDataplane): DeviceSide {
    return {
      attach: (link) => this.#path.attach(link, loaded),
      isShaped: (ifindex) => this.#devices.isShaped(ifindex) || this.#filters.hasOthers(ifindex),
    };
  }

  #nameOf(ifindex: number): string | undefined {
    return this.#deps.host.link(ifindex)?.name;
  }

  #configure(config: DataplaneConfig): void {
    this.#config = config;
    this.#loading.configure(config);
    this.#devices.configure(config);
    this.#stack.setConfig(config);
  }

  /** Loads or adopts the programs. When that fails and older ones are there, they stay in force. */
  async #load(): Promise<void> {
    const before = this.#loaded;
    if (!(await this.#loading.load())) return;
    if (before === undefined && this.#loaded !== undefined) this.#tell(this.#loaded);
    this.#devices.requestRead();
    this.#devices.follow();
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
    this.#devices.requestRead();
    this.#hosts.requestResync();
    for (const id of this.#endpoints.all) this.#endpoints.markDirty(id);
    this.#tell(next, former);
    this.flowEvents.move();
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

  async #release(): Promise<void> {
    this.flowEvents.end();
    await this.#path.release(this.#loaded);
  }

  async #letGo(): Promise<void> {
    this.flowEvents.end();
    this.#devices.unfollow();
    this.#policy.useListeners(undefined);
    this.#ways.useTable(undefined);
    await this.#hosts.letGo();
    await this.#filters[Symbol.asyncDispose]();
    await this.#loading.letGo();
    this.#path.forget();
    this.#isFilled = false;
  }
}
