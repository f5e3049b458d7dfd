import { join } from 'node:path';
import type { Clock } from '#api/clock.ts';
import type { MonitorGroup, Netlink, NetlinkEvent } from '#native/types.ts';
import type { ApplyFailure, HostDeviceState } from '../../contract.ts';
import type { Logger } from '../../logger.ts';
import type { DataplaneConfig, DataplaneUpdate } from '../../messages.ts';
import type { HostEndpointInfo } from '../../policy.ts';
import type { Monitor } from '../../shared/monitor-follower.ts';
import type { LoadedDataplane } from '../loaded-dataplane.ts';
import { hostMarksMissing } from '../marks.ts';
import type { Outcome } from '../pod-cycle.ts';
import { layoutVersion, type ProgramPlace } from '../programs.ts';
import type { HostNeeds } from '../stack-rules.ts';
import { type HostDevice, HostDevices } from './host-devices.ts';
import { HostEnforcement } from './host-enforcement.ts';
import { HostTables } from './host-tables.ts';
import { type HostTraits, traitsOf } from './host-units.ts';

export interface HostEndpointDeps {
  readonly host: Netlink;
  /** Opens a monitor of these groups. */
  readonly openMonitor: (groups: readonly MonitorGroup[]) => Monitor;
  readonly place: ProgramPlace;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * The part of the dataplane that is about host endpoints (docs/design/ebpf-hosts.md): their messages, their devices (`look`), their programs on
 * these while packets come by us (`enforce`), and their policy in the maps (`program`), in this order: what the flush brings into force meets
 * programs and netfilter's rules that are there. A node without a host endpoint has none of it: no
 * program is loaded, no socket is open, nothing is attached.
 */
export class HostEndpoints implements AsyncDisposable {
  readonly #deps: HostEndpointDeps;
  readonly #onDue: () => void;
  readonly #devices: HostDevices;
  readonly #enforcement: HostEnforcement;
  readonly #wanted = new Map<string, HostEndpointInfo>();
  #config: DataplaneConfig | undefined;
  #loaded: LoadedDataplane | undefined;
  #tables: HostTables | undefined;
  #resolved: readonly HostDevice[] = [];
  #mustSetFailsafes = false;
  #timer: Disposable | undefined;

  /** `onDue` is called when something is to be done that no message asks for. */
  constructor(deps: HostEndpointDeps, onDue: () => void) {
    this.#deps = deps;
    this.#onDue = onDue;
    this.#devices = new HostDevices(deps, (event, isChange) => this.#take(event, isChange));
    const { host, place } = deps;
    this.#enforcement = new HostEnforcement({
      host,
      dir: join(place.dir, layoutVersion, 'hosts'),
      objects: place.objects,
      ...(place.netns && { netns: place.netns }),
    });
  }

  /** Records an update; what isn't about host endpoints is passed over. */
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

  /** What is in force on each device. */
  get devices(): readonly HostDeviceState[] {
    return this.#enforcement.states;
  }

  /** Looks which devices host endpoints stand for now. What fails leaves the former ones. */
  async look(outcome: Outcome): Promise<void> {
    this.#schedule();
    const config = this.#config;
    const unusable = this.#wanted.size === 0 || config === undefined ? undefined : hostMarksMissing(config);
    if (unusable !== undefined)
      for (const id of this.#wanted.keys()) outcome.failed.push({ object: `host endpoint ${id}`, reason: unusable });
    try {
      this.#devices.setForwarding(this.#traits.some(({ forwardsIn, forwardsOut }) => forwardsIn || forwardsOut));
      if (!this.#isWanted) this.#devices[Symbol.dispose](); // Nothing is followed for nobody.
      this.#resolved = this.#isWanted ? await this.#devices.resolve() : [];
    } catch (error) {
      this.#failDevices(outcome, error);
    }
  }

  /** Sees to it that packets come by our programs on the devices that have a host endpoint, and on no other. `loaded` is entered. */
  async enforce(loaded: LoadedDataplane, outcome: Outcome): Promise<void> {
    const devices = this.#resolved.map((device) => {
      const endpoint = device.endpoint === undefined ? undefined : this.#wanted.get(device.endpoint);
      return { ...device, isUntracked: endpoint !== undefined && traitsOf(endpoint).untrackedIn };
    });
    try {
      const xdp = this.#config?.xdp ?? { enabled: false, generic: false };
      const { failed, repaired } = await this.#enforcement.keep(loaded, devices, xdp);
      outcome.failed.push(...failed);
      outcome.repaired.push(...repaired);
    } catch (error) {
      this.#failDevices(outcome, error);
    }
  }

  /** Brings policy of host endpoints into the maps of `loaded`. False if these don't say everything that they should. */
  async program(loaded: LoadedDataplane, outcome: Outcome): Promise<boolean> {
    const config = this.#config;
    const tables = this.#loaded === loaded && this.#tables !== undefined ? this.#tables : this.#use(loaded);
    if (config === undefined) return false;
    if (!this.#isWanted && !tables.hasAny) return true;
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

  /** Takes our programs off all devices, whoever of us attached them. */
  async release(): Promise<void> {
    await this.#enforcement.removeAll(this.#loaded);
  }

  /** The maps are gone; what is attached stays. */
  async letGo(): Promise<void> {
    this.#loaded = undefined;
    this.#tables = undefined;
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

  #configure(config: DataplaneConfig): void {
    if (config.xdp.refreshIntervalMs !== this.#config?.xdp.refreshIntervalMs) {
      this.#timer?.[Symbol.dispose]();
      this.#timer = undefined;
    }
    this.#config = config;
    this.#devices.setPrefixes(config.interfacePrefixes);
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
    for (const id of this.#wanted.keys()) outcome.failed.push({ object: `host endpoint ${id}`, reason });
    if (this.#wanted.size === 0) outcome.failed.push({ object: 'host endpoints', reason });
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
  #schedule(): void {
    const refreshMs = this.#config?.xdp.refreshIntervalMs ?? 0;
    if (this.#timer !== undefined || refreshMs === 0 || !this.#isWanted) return;
    this.#timer = this.#deps.clock.after(refreshMs, () => {
      this.#timer = undefined;
      this.#enforcement.suspectAll();
      if (this.#isWanted) this.#onDue();
    });
  }
}
