import { join } from 'node:path';
import type { Clock } from '#api/clock.ts';
import type { MonitorGroup, Netlink, NetlinkEvent } from '#native/types.ts';
import type { ApplyFailure, HostDeviceState } from '../../contract.ts';
import type { Logger } from '../../logger.ts';
import type { CidrText, DataplaneConfig, DataplaneUpdate } from '../../messages.ts';
import type { HostEndpointInfo } from '../../policy.ts';
import type { Monitor } from '../../shared/monitor-follower.ts';
import type { LoadedDataplane } from '../loaded-dataplane.ts';
import { hostMarksMissing } from '../marks.ts';
import { newOutcome, type Outcome } from '../pod-cycle.ts';
import { layoutVersion, type ProgramPlace } from '../programs.ts';
import type { HostNeeds } from '../stack-rules.ts';
import { type HostDevice, HostDevices } from './host-devices.ts';
import { type EnforcedDevice, HostEnforcement } from './host-enforcement.ts';
import { type HostPart, hostParts } from './host-programs.ts';
import { HostTables } from './host-tables.ts';
import { type HostTraits, traitsOf } from './host-units.ts';

export interface HostEndpointDeps {
  readonly host: Netlink;
  /** Opens a monitor of these groups. */
  readonly openMonitor: (groups: readonly MonitorGroup[]) => Monitor;
  readonly place: ProgramPlace;
  /** This node's, as calc names it. */
  readonly nodeName: string;
  /** Whether the kernel has tcx; absent: it is tried. */
  readonly hasTcx?: boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * The part of the dataplane that is about devices of the node: uplinks (docs/design/ebpf-net.md) and host endpoints (docs/design/ebpf-hosts.md). What
 * is said of them, the devices (`look`), programs on these while packets come by us (`enforce`), and policy in the maps (`program`), in this
 * order: what the flush brings into force meets programs and netfilter's rules that are there.
 */
export class HostEndpoints implements AsyncDisposable {
  readonly #deps: HostEndpointDeps;
  readonly #onDue: () => void;
  readonly #devices: HostDevices;
  readonly #enforcement: HostEnforcement;
  readonly #wanted = new Map<string, HostEndpointInfo>();
  readonly #pools = new Map<string, CidrText>();
  #config: DataplaneConfig | undefined;
  #loaded: LoadedDataplane | undefined;
  #tables: HostTables | undefined;
  #resolved: readonly HostDevice[] = [];
  /** What the last `enforce` has brought about wholly: nothing is to be looked at as long as it is wanted and nobody is suspect. */
  #kept: { readonly loaded: LoadedDataplane; readonly devices: readonly HostDevice[] } | undefined;
  /** Before that nobody can say that a device is to have nothing. */
  #isLooked = false;
  #mustSetFailsafes = false;
  #timer: Disposable | undefined;

  /** `onDue` is called when something is to be done that no message asks for. */
  constructor(deps: HostEndpointDeps, onDue: () => void) {
    this.#deps = deps;
    this.#onDue = onDue;
    this.#devices = new HostDevices(deps, (event, isChange) => this.#take(event, isChange));
    const { host, place, hasTcx } = deps;
    this.#enforcement = new HostEnforcement({
      host,
      dir: join(place.dir, layoutVersion, 'hosts'),
      ...(place.netns && { netns: place.netns }),
      ...(hasTcx === undefined ? {} : { hasTcx }),
    });
  }

  /** Records an update; what isn't about host endpoints or uplinks is passed over. */
  record(update: DataplaneUpdate): void {
    switch (update.type) {
      case 'configUpdate':
        this.#configure(update.config);
        break;
      case 'hostEndpointUpdate':
        this.#wanted.set(update.id, update.endpoint);
        this.#set(update.id, update.endpoint);
        break;
      case 'hostEndpointRemove':
        this.#wanted.delete(update.id);
        this.#set(update.id, undefined);
        break;
      case 'poolUpdate':
        this.#setPool(update.id, update.pool.cidr);
        break;
      case 'poolRemove':
        this.#setPool(update.id, undefined);
        break;
      case 'hostUpdate':
        if (update.node === this.#deps.nodeName) this.#devices.setNode(update.host);
        break;
      case 'hostRemove':
        if (update.node === this.#deps.nodeName) this.#devices.setNode({});
        break;
      default:
        break;
    }
  }

  /** Devices and what is attached to them are compared by the next apply. */
  requestResync(): void {
    this.#devices.requestResync();
    this.#enforcement.suspectAll();
  }

  /** What netfilter has to do for them. */
  get needs(): HostNeeds {
    const isUntracked = this.#traits.some(({ untrackedIn, untrackedOut }) => untrackedIn || untrackedOut);
    return { notLocal: this.#isWanted, untracked: this.#isWanted && isUntracked };
  }

  /** Programs of ours may be on devices, whoever of us attached them. */
  get mayBeAttached(): boolean {
    return this.#enforcement.mayBeAttached;
  }

  /** What the devices that were found ask for. */
  get parts(): readonly HostPart[] {
    const isWanted = {
      net: this.#resolved.some(({ isUplink }) => isUplink),
      host: this.#resolved.some(({ isJudged }) => isJudged),
    };
    return hostParts.filter((part) => isWanted[part]);
  }

  /** What is in force on each device. */
  get devices(): readonly HostDeviceState[] {
    return this.#enforcement.states;
  }

  /** What is to be said of uplinks, while packets come by us. */
  get notes(): readonly string[] {
    if (this.#resolved.some(({ isUplink }) => isUplink)) return [];
    const pattern = this.#config?.uplinkPattern;
    const why =
      pattern === undefined
        ? "none with Ethernet has the node's address, a default route, or a route to a pool"
        : `none with Ethernet has a name that bpfDataIfacePattern (${pattern}) matches`;
    return [
      `no device is an uplink, so what pods send to other nodes and to the world goes by the node's stack: ${why}`,
    ];
  }

  /** Looks which devices are uplinks, and which ones host endpoints stand for now. What fails leaves the former ones. */
  async look(outcome: Outcome): Promise<void> {
    const config = this.#config;
    if (config === undefined) return;
    this.#schedule(config);
    const unusable = this.#wanted.size === 0 ? undefined : hostMarksMissing(config);
    if (unusable !== undefined) this.fail(unusable, outcome);
    try {
      this.#devices.setForwarding(this.#traits.some(({ forwardsIn, forwardsOut }) => forwardsIn || forwardsOut));
      this.#resolved = await this.#devices.resolve(this.#isWanted);
      this.#isLooked = true;
    } catch (error) {
      this.#failDevices(outcome, error);
    }
  }

  /** None of the host endpoints is as it should be. */
  fail(reason: string, outcome: Outcome): void {
    for (const id of this.#wanted.keys()) outcome.failed.push({ object: `host endpoint ${id}`, reason });
  }

  /** Before programs with the maps of `loaded` are entered where an earlier agent's are on devices: by uplinks that have these packets go on past the stack. */
  async adopt(loaded: LoadedDataplane): Promise<void> {
    await this.#enforcement.adopt(loaded, this.#enforced);
    this.#setDirect(loaded);
  }

  /**
   * Sees to it that packets come by our programs on uplinks and on devices that have a host endpoint, and on no other. `loaded` is entered. Returns what of
   * that host endpoints have not.
   */
  async enforce(loaded: LoadedDataplane, outcome: Outcome): Promise<readonly ApplyFailure[]> {
    const devices = this.#resolved;
    if (this.#kept?.loaded === loaded && this.#kept.devices === devices && !this.#enforcement.hasSuspects) return [];
    this.#kept = undefined;
    const failures = newOutcome();
    // Where programs go, packets don't any more.
    this.#setDirect(loaded);
    try {
      const xdp = this.#config?.xdp ?? { enabled: false, generic: false };
      const { failed, failedUplinks, repaired, isSettled } = await this.#enforcement.keep(loaded, this.#enforced, xdp);
      if (isSettled) this.#kept = { loaded, devices };
      outcome.failed.push(...failedUplinks);
      failures.failed.push(...failed);
      outcome.repaired.push(...repaired);
    } catch (error) {
      this.#failDevices(failures, error);
    }
    this.#setDirect(loaded);
    outcome.failed.push(...failures.failed);
    return failures.failed;
  }

  /** Brings policy of host endpoints into the maps of `loaded`. False if these don't say everything that they should. */
  async program(loaded: LoadedDataplane, outcome: Outcome): Promise<boolean> {
    const config = this.#config;
    const tables = this.#loaded === loaded && this.#tables !== undefined ? this.#tables : this.#use(loaded);
    if (config === undefined || !this.#isLooked) return false;
    if (this.#resolved.length === 0 && !tables.hasAny) return true;
    if (tables.isInForceOn(this.#resolved) && !this.#mustSetFailsafes) return true;
    try {
      await tables.prepare();
      if (this.#mustSetFailsafes) loaded.maps.failsafes.set(config);
      this.#mustSetFailsafes = false;
      const everywhere = this.#isWanted ? this.#devices.everywhere : undefined;
      outcome.failed.push(...(await tables.commit(this.#resolved, everywhere)));
      return true;
    } catch (error) {
      this.#failDevices(outcome, error);
      return false;
    }
  }

  /** What could not be made of their policy, once everything is flushed. */
  get failures(): readonly ApplyFailure[] {
    return this.#tables?.failures ?? [];
  }

  /** Takes our programs off all devices, whoever of us attached them, and out of the places of `loaded` that devices jump to. */
  async release(loaded: LoadedDataplane | undefined): Promise<void> {
    this.#kept = undefined;
    loaded?.maps.hostSlots.setDirect(new Set());
    await this.#enforcement.removeAll(loaded);
  }

  /** The maps are gone; what is attached stays. */
  async letGo(): Promise<void> {
    this.#loaded = undefined;
    this.#tables = undefined;
    this.#resolved = [];
    this.#kept = undefined;
    this.#isLooked = false;
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    this.#devices[Symbol.dispose]();
    await this.#enforcement[Symbol.asyncDispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.letGo();
  }

  /** There are host endpoints, and they can be. */
  get #isWanted(): boolean {
    return this.#wanted.size > 0 && this.#config !== undefined && hostMarksMissing(this.#config) === undefined;
  }

  get #enforced(): readonly EnforcedDevice[] {
    return this.#resolved.map((device) => {
      const endpoint = device.endpoint === undefined ? undefined : this.#wanted.get(device.endpoint);
      return { ...device, isUntracked: endpoint !== undefined && traitsOf(endpoint).untrackedIn };
    });
  }

  #setDirect(loaded: LoadedDataplane): void {
    const uplinks = new Set(this.#resolved.filter(({ isUplink }) => isUplink).map(({ ifindex }) => ifindex));
    const direct = new Set(this.#enforcement.direct.filter((ifindex) => uplinks.has(ifindex)));
    loaded.maps.hostSlots.setDirect(direct, new Set(this.#enforcement.shared));
  }

  #setPool(id: string, cidr: CidrText | undefined): void {
    if (this.#pools.get(id) === cidr) return;
    if (cidr === undefined) this.#pools.delete(id);
    else this.#pools.set(id, cidr);
    this.#devices.setPools([...this.#pools.values()]);
  }

  #configure(config: DataplaneConfig): void {
    if (config.xdp.refreshIntervalMs !== this.#config?.xdp.refreshIntervalMs) {
      this.#timer?.[Symbol.dispose]();
      this.#timer = undefined;
    }
    this.#config = config;
    this.#devices.setSettings(config);
    this.#mustSetFailsafes = true;
    this.#enforcement.suspectAll(); // XDP may be allowed now, or not any more.
  }

  #set(id: string, endpoint: HostEndpointInfo | undefined): void {
    this.#devices.set(id, endpoint);
    this.#tables?.set(id, endpoint);
  }

  #use(loaded: LoadedDataplane): HostTables {
    this.#loaded = loaded;
    const tables = new HostTables(loaded.maps);
    for (const [id, endpoint] of this.#wanted) tables.set(id, endpoint);
    this.#tables = tables;
    this.#mustSetFailsafes = true;
    return tables;
  }

  get #traits(): readonly HostTraits[] {
    return [...this.#wanted.values()].map(traitsOf);
  }

  #failDevices(outcome: Outcome, error: unknown): void {
    const reason = (error as Error).message;
    // Each by its name: none of them can be said to be in force.
    this.fail(reason, outcome);
    if (this.#wanted.size === 0) outcome.failed.push({ object: 'uplinks', reason });
  }

  #take(event: NetlinkEvent, isChange: boolean): void {
    let matters = isChange;
    switch (event.type) {
      case 'overrun':
        this.#enforcement.suspectAll();
        break;
      // XDP programs come and go as changes of the link.
      case 'link.new':
        matters = this.#enforcement.suspect(event.link.index) || matters;
        break;
      case 'filter.new':
      case 'filter.del':
      case 'qdisc.new':
      case 'qdisc.del':
        matters = this.#enforcement.suspect(event.linkIndex);
        break;
      default:
        break;
    }
    if (matters) this.#onDue();
  }

  /** tcx and XDP programs are taken off without a word to anybody. */
  #schedule({ xdp: { refreshIntervalMs } }: DataplaneConfig): void {
    if (this.#timer !== undefined || refreshIntervalMs === 0) return;
    this.#timer = this.#deps.clock.after(refreshIntervalMs, () => {
      this.#timer = undefined;
      this.#enforcement.suspectAll();
      if (this.#resolved.length > 0) this.#onDue();
    });
  }
}
