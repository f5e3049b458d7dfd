import type { Clock } from '#api/clock.ts';
import { Turns } from '#native/turns.ts';
import type { Link, Netlink, NetlinkEvent, NetlinkOp } from '#native/types.ts';
import type { Counter, ApplyFailure, ApplyReport, Dataplane, DeviceCounters } from '../contract.ts';
import type { Logger } from '../logger.ts';
import type { DataplaneUpdate, EndpointId } from '../messages.ts';
import type { RuleId } from '../policy.ts';
import { Announcements } from './announcements.ts';
import { prepareBpffs, releaseBpffs } from './bpffs.ts';
import { readCounters } from './counters.ts';
import { DeviceEvents, type Monitor } from './device-events.ts';
import { attach, detach, newDeviceOps, readAttached } from './filters.ts';
import { PodEndpoints } from './pod-endpoints.ts';
import { probeEbpf } from './probe.ts';
import { openPodPrograms, type PodPrograms, type ProgramPlace, removePins } from './programs.ts';

/** What the eBPF dataplane works with; everything is of the node's own namespace. */
export interface EbpfDeps {
  readonly host: Netlink;
  /** Opens a monitor of the groups `link` and `tc`. */
  readonly openMonitor: () => Monitor;
  readonly place: ProgramPlace;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What an apply did, while it is under way. */
interface Outcome {
  readonly programmed: EndpointId[];
  readonly failed: ApplyFailure[];
  readonly repaired: string[];
}

const wordsOf = (error: unknown): string => (error as Error).message;

/**
 * Judges pods' packets by programs on their host devices' clsact. Until a device is announced its programs drop everything; after that
 * what the pod sends must come from its addresses.
 *
 * `apply` fills the maps; `activate` is what puts filters on devices, and from then on `apply` also keeps them there. Programs, maps and
 * filters outlive the agent: a new one finds them pinned, adopts what is of its build, and replaces the rest in place. What exists is
 * read once, then events tell what others change; all is compared again on request, each routeRefreshInterval, and when events were lost.
 */
export class EbpfDataplane implements Dataplane {
  readonly kind = 'ebpf';
  readonly capabilities = { countsDropsPerDevice: true, enforcesPolicy: false, closesUnknownDevices: false };

  readonly #deps: EbpfDeps;
  readonly #endpoints = new PodEndpoints();
  /** apply, activate, release and cleanup exclude each other. */
  readonly #turns = new Turns();
  /** Ifindexes of devices whose filters are to be looked at. */
  readonly #suspects = new Set<number>();
  /** Ifindexes of devices that are gone. */
  readonly #gone = new Set<number>();
  #ipv6Enabled: boolean | undefined;
  #refreshMs = 0;
  #programs: PodPrograms | undefined;
  #announcements: Announcements | undefined;
  #events: DeviceEvents | undefined;
  #timer: Disposable | undefined;
  #isActive = false;
  #mustLoad = true;
  #mustRead = true;
  #listener: () => void = () => {};

  constructor(deps: EbpfDeps) {
    this.#deps = deps;
  }

  onUpdate(update: DataplaneUpdate): void {
    if (update.type === 'serviceUpdate' || update.type === 'serviceRemove') return; // Still kube-proxy's.
    this.#endpoints.record(update);
    if (update.type === 'inSync') this.#mustRead = true;
    if (update.type !== 'configUpdate') return;
    if (this.#refreshMs !== update.config.routeRefreshIntervalMs) this.#mustRead = true; // The new interval counts from now.
    this.#refreshMs = update.config.routeRefreshIntervalMs;
    if (this.#ipv6Enabled === update.config.ipv6Support) return;
    this.#ipv6Enabled = update.config.ipv6Support;
    this.#mustLoad = true;
  }

  probe(): Promise<readonly string[]> {
    const { dir, elfPath } = this.#deps.place;
    return probeEbpf(dir, elfPath);
  }

  podDeviceOps(ifaceName: string): readonly NetlinkOp[] {
    return this.#isActive && this.#programs !== undefined ? newDeviceOps(ifaceName, this.#programs) : [];
  }

  apply(): Promise<ApplyReport> {
    return this.#turns.run(async () => {
      const outcome: Outcome = { programmed: [], failed: [], repaired: [] };
      // Without configuration the programs can't be loaded; it is the first thing calc says.
      if (this.#ipv6Enabled === undefined) return { ...outcome, removed: [] };
      try {
        await this.#load(this.#ipv6Enabled);
      } catch (error) {
        outcome.failed.push({ object: 'BPF programs', reason: wordsOf(error) });
      }
      const { programs, announcements } = this.#loaded();
      if (programs === undefined || announcements === undefined) {
        const reason = outcome.failed[0]?.reason ?? 'the BPF programs are not loaded';
        for (const endpoint of this.#endpoints.dirty)
          outcome.failed.push({ object: `endpoint ${endpoint}`, endpoint, reason });
        return { ...outcome, removed: [] };
      }
      try {
        await this.#compare(announcements, outcome);
      } catch (error) {
        this.#mustRead = true;
        outcome.failed.push({ object: 'BPF maps', reason: wordsOf(error) });
      }
      this.#closeAbandoned(announcements, outcome);
      this.#sweepGone(announcements, outcome);
      for (const id of this.#endpoints.dirty) await this.#program(id, programs, announcements, outcome);
      if (this.#isActive) await this.#checkSuspects(programs, outcome);
      outcome.failed.push(...this.#endpoints.unenforced());
      return { ...outcome, removed: this.#endpoints.takeRemoved() };
    });
  }

  activate(): Promise<void> {
    return this.#turns.run(async () => {
      const programs = this.#programs;
      if (programs === undefined) throw new Error('the BPF programs are not loaded: nothing can be attached');
      // From here on a new device gets its filters in the batch that makes it; those that exist get them now.
      this.#isActive = true;
      const devices = (await this.#deps.host.links()).filter((link) => this.#mustHaveFilters(link));
      const entered: Link[] = [];
      const failures: string[] = [];
      let stayed = false;
      for (const link of devices) {
        try {
          const state = await readAttached(this.#deps.host, link.index, programs);
          stayed ||= state.attached !== 'no';
          if (state.attached === 'yes') continue;
          if (state.attached === 'no') entered.push(link);
          await attach(this.#deps.host, link.index, programs, state);
        } catch (error) {
          if (isGone(error)) continue;
          failures.push(`${link.name}: ${wordsOf(error)}`);
          const id = this.#endpoints.ofDevice(link.name);
          if (id !== undefined) this.#endpoints.markDirty(id);
        }
      }
      if (failures.length === 0) return;
      if (stayed) {
        // We were in the path already: what is attached keeps its pods safe. The rest is reported, and tried again, by apply.
        this.#deps.log.error('some devices have no filters', { failures });
        return;
      }
      this.#isActive = false;
      for (const link of entered) await detach(this.#deps.host, link.index);
      throw new Error(`filters could not be attached: ${failures.join('; ')}`);
    });
  }

  release(): Promise<void> {
    return this.#turns.run(() => this.#release());
  }

  async deviceCounters(): Promise<readonly DeviceCounters[]> {
    const { programs } = this.#loaded();
    if (programs === undefined) return [];
    const names = new Map((await this.#deps.host.links()).map(({ index, name }) => [index, name]));
    return await readCounters(programs.counters, (ifindex) => names.get(ifindex));
  }

  /** It has no rules: an endpoint that a policy selects gets nothing through. */
  ruleCounters(): Promise<ReadonlyMap<RuleId, Counter>> {
    return Promise.resolve(new Map());
  }

  requestResync(): void {
    this.#mustRead = true;
  }

  onDisturbed(listener: () => void): void {
    this.#listener = listener;
  }

  /** Filters, then pins: a crash in between leaves what the next cleanup finds. */
  cleanup(): Promise<void> {
    return this.#turns.run(async () => {
      await this.#release();
      this.#letGo();
      const { dir } = this.#deps.place;
      removePins(dir);
      releaseBpffs(dir);
    });
  }

  /** Closes handles only: what is pinned and attached stays. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#turns.run(() => {
      this.#letGo();
      return Promise.resolve();
    });
  }

  #loaded(): { programs: PodPrograms | undefined; announcements: Announcements | undefined } {
    return { programs: this.#programs, announcements: this.#announcements };
  }

  /** Loads or adopts the programs. When that fails and older ones are there, they stay in force. */
  async #load(ipv6Enabled: boolean): Promise<void> {
    if (!this.#mustLoad) return;
    const { place, log, openMonitor, clock } = this.#deps;
    const unusable = prepareBpffs(place.dir);
    if (unusable !== undefined) throw new Error(unusable);
    const programs = await openPodPrograms(place, { ipv6Enabled: ipv6Enabled ? 1 : 0, markSeen: 0, markHost: 0 });
    log.info(programs.adopted ? 'adopted the pinned BPF programs' : 'loaded the BPF programs', {
      fromPod: programs.fromPod.id,
      toPod: programs.toPod.id,
    });
    this.#programs?.[Symbol.dispose]();
    this.#programs = programs;
    this.#announcements = new Announcements(programs, place.netns);
    this.#mustLoad = false;
    this.#mustRead = true;
    // Before anything is read: what happens in between comes as an event.
    this.#events ??= new DeviceEvents(openMonitor, (event) => this.#take(event), clock, log);
  }

  /** Compares maps, devices and filters with what is wanted, when it is time. What differs becomes dirty. */
  async #compare(announcements: Announcements, outcome: Outcome): Promise<void> {
    if (!this.#mustRead) return;
    this.#mustRead = false;
    await announcements.read();
    const links = await this.#deps.host.links();
    const indexes = new Map(links.map((link) => [link.name, link.index]));
    for (const id of this.#endpoints.all) {
      const name = this.#endpoints.device(id) ?? '';
      const index = indexes.get(name);
      if (index !== undefined && this.#isAsWanted(id, index, announcements)) {
        if (!this.#endpoints.isDirty(id)) this.#endpoints.opened(id, index);
        continue;
      }
      if (!this.#endpoints.isDirty(id) && index !== undefined && index === this.#endpoints.ifindex(name)) {
        outcome.repaired.push(`BPF map entries of endpoint ${id} (${name})`);
      }
      this.#endpoints.markDirty(id);
    }
    this.#sweep(announcements, links);
    for (const link of links) if (this.#mustHaveFilters(link)) this.#suspects.add(link.index);
    this.#timer?.[Symbol.dispose]();
    if (this.#refreshMs > 0) {
      this.#timer = this.#deps.clock.after(this.#refreshMs, () => {
        this.#mustRead = true;
        this.#listener();
      });
    }
  }

  #isAsWanted(id: EndpointId, ifindex: number, announcements: Announcements): boolean {
    if (!this.#endpoints.verdict(id).opens) return !announcements.isOpen(ifindex);
    return announcements.matches(ifindex, this.#endpoints.sources(id));
  }

  /** Elements of devices that are gone go at once; those of devices that no endpoint has, when all endpoints are known. */
  #sweep(announcements: Announcements, links: readonly Link[]): void {
    const present = new Map(links.map((link) => [link.index, link]));
    for (const ifindex of announcements.known) {
      const link = present.get(ifindex);
      if (link === undefined) announcements.forget(ifindex);
      else if (this.#endpoints.inSync && this.#endpoints.ofDevice(link.name) === undefined)
        announcements.withdraw(ifindex);
    }
  }

  #closeAbandoned(announcements: Announcements, outcome: Outcome): void {
    for (const { name, ifindex } of this.#endpoints.takeAbandoned()) {
      try {
        const index = ifindex ?? this.#deps.host.link(name)?.index;
        // The ifindex may be another endpoint's by now.
        if (index !== undefined && this.#endpoints.ofIfindex(index) === undefined) announcements.withdraw(index);
      } catch (error) {
        this.#endpoints.abandon(name, ifindex);
        outcome.failed.push({ object: `device ${name}`, reason: wordsOf(error) });
      }
    }
  }

  /** Sweeps after devices that the kernel says are gone. An open one has the ifindex by now: the news were old. */
  #sweepGone(announcements: Announcements, outcome: Outcome): void {
    for (const ifindex of this.#gone) {
      try {
        if (!announcements.isOpen(ifindex)) announcements.forget(ifindex);
        this.#gone.delete(ifindex);
      } catch (error) {
        outcome.failed.push({ object: `BPF map entries of device #${ifindex}`, reason: wordsOf(error) });
      }
    }
  }

  /** Filters before the announcement: an announced device without them would be open. One whose policy can't be enforced stays closed and fails. */
  async #program(id: EndpointId, programs: PodPrograms, announcements: Announcements, outcome: Outcome): Promise<void> {
    const name = this.#endpoints.device(id) ?? '';
    try {
      const link = this.#deps.host.link(name);
      if (link === undefined) throw new Error(`its device ${name} is not there`);
      if (this.#isActive) {
        const state = await readAttached(this.#deps.host, link.index, programs);
        if (state.attached !== 'yes') await attach(this.#deps.host, link.index, programs, state);
        this.#suspects.delete(link.index);
      }
      const verdict = this.#endpoints.verdict(id);
      if (verdict.opens) announcements.announce(link.index, this.#endpoints.sources(id));
      else announcements.withdraw(link.index);
      if (!verdict.opens && verdict.reason !== undefined) throw new Error(verdict.reason);
      this.#endpoints.opened(id, link.index);
      outcome.programmed.push(id);
    } catch (error) {
      outcome.failed.push({ object: `endpoint ${id}`, endpoint: id, reason: wordsOf(error) });
    }
  }

  async #checkSuspects(programs: PodPrograms, outcome: Outcome): Promise<void> {
    for (const ifindex of this.#suspects) {
      const name = this.#deps.host.link(ifindex)?.name ?? `#${ifindex}`;
      try {
        const state = await readAttached(this.#deps.host, ifindex, programs);
        if (state.attached !== 'yes') {
          await attach(this.#deps.host, ifindex, programs, state);
          if (state.attached === 'no') outcome.repaired.push(`BPF filters of ${name}`);
        }
        this.#suspects.delete(ifindex);
      } catch (error) {
        if (isGone(error)) {
          this.#suspects.delete(ifindex);
          continue;
        }
        const endpoint = this.#endpoints.ofDevice(name);
        outcome.failed.push({
          object: `BPF filters of ${name}`,
          ...(endpoint === undefined ? {} : { endpoint }),
          reason: wordsOf(error),
        });
      }
    }
  }

  /** An endpoint's device; and when all endpoints are known, any other pod device, which is thereby closed. */
  #mustHaveFilters(link: Link): boolean {
    if (this.#endpoints.ofDevice(link.name) !== undefined) return true;
    return this.#endpoints.inSync && this.#endpoints.isPodDevice(link.name);
  }

  #take(event: NetlinkEvent): void {
    switch (event.type) {
      case 'overrun':
        this.#mustRead = true;
        break;
      case 'link.del':
        this.#gone.add(event.link.index);
        break;
      case 'link.new': {
        // Another device under the name of one that an endpoint has.
        const id = this.#endpoints.ofDevice(event.link.name);
        if (id === undefined || this.#endpoints.ifindex(event.link.name) === event.link.index) return;
        this.#endpoints.markDirty(id);
        break;
      }
      case 'filter.new':
      case 'filter.del':
      case 'qdisc.new':
      case 'qdisc.del':
        if (!this.#isActive || this.#endpoints.ofIfindex(event.linkIndex) === undefined) return;
        this.#suspects.add(event.linkIndex);
        break;
      default:
        return;
    }
    this.#listener();
  }

  async #release(): Promise<void> {
    this.#isActive = false;
    const failures: string[] = [];
    for (const link of await this.#deps.host.links()) {
      try {
        await detach(this.#deps.host, link.index);
      } catch (error) {
        failures.push(`${link.name}: ${wordsOf(error)}`);
      }
    }
    if (failures.length > 0) throw new Error(`filters could not be removed: ${failures.join('; ')}`);
  }

  #letGo(): void {
    this.#timer?.[Symbol.dispose]();
    this.#events?.[Symbol.dispose]();
    this.#events = undefined;
    this.#programs?.[Symbol.dispose]();
    this.#programs = undefined;
    this.#announcements = undefined;
    this.#isActive = false;
    this.#mustLoad = true;
  }
}

const isGone = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENODEV';
