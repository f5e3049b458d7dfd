import type { Link, Netlink, NetlinkOp } from '#native/types.ts';
import type { Logger } from '../logger.ts';
import type { DeviceFilters } from './device-filters.ts';
import { newDeviceOps } from './filters.ts';
import type { HostEndpoints } from './hosts/host-endpoints.ts';
import type { LoadedDataplane } from './loaded-dataplane.ts';
import { newOutcome, type Outcome } from './pod-cycle.ts';
import type { PodEndpoints } from './pod-endpoints.ts';
import type { StackTables } from './stack-tables.ts';

export interface PacketPathParts {
  readonly host: Pick<Netlink, 'links' | 'link'>;
  readonly endpoints: PodEndpoints;
  readonly filters: DeviceFilters;
  readonly hosts: HostEndpoints;
  readonly stack: StackTables;
  /** Brings dirty endpoints into the maps; what fails stays dirty. */
  readonly program: (loaded: LoadedDataplane) => Promise<void>;
  readonly log: Logger;
}

/**
 * Whether packets come by our programs: entering, staying, leaving. `no`: they don't. `waiting`: the programs of an earlier agent judge on until ours know
 * all that is announced. `yes`: ours judge, and are put back where others take them off.
 */
export class PacketPath {
  readonly #parts: PacketPathParts;
  #state: 'no' | 'waiting' | 'yes' = 'no';
  /** Some devices may have filters that what older layouts left is kept for. */
  #mustRemoveOlder = false;
  /** Packets come by programs of ours already, of whatever agent or load: entering must not end outside of the path, also where no device shows them. */
  #mustStay = false;

  constructor(parts: PacketPathParts) {
    this.#parts = parts;
  }

  get state(): 'no' | 'waiting' | 'yes' {
    return this.#state;
  }

  /** What a new pod's device needs before it is up. */
  deviceOps(ifaceName: string, loaded: LoadedDataplane | undefined): readonly NetlinkOp[] {
    return this.#state !== 'no' && loaded !== undefined ? newDeviceOps(ifaceName, loaded.filters) : [];
  }

  /** The same on a device that is there, for one on which another plugin will put the qdisc `ingress`. Throws NoTcxError, or what the kernel says. */
  async link(ifaceName: string, loaded: LoadedDataplane | undefined): Promise<void> {
    const { host, filters } = this.#parts;
    const link = host.link(ifaceName);
    if (this.#state !== 'no' && loaded !== undefined && link !== undefined)
      await filters.link(link.index, loaded.filters);
  }

  /** An endpoint's device; and when all endpoints are known, any other pod device, which is thereby closed. */
  mustHaveFilters(link: Link): boolean {
    const { endpoints } = this.#parts;
    if (endpoints.ofDevice(link.name) !== undefined) return true;
    return endpoints.inSync && endpoints.isPodDevice(link.name);
  }

  /** Before a device is opened. Throws when it doesn't have its filters. */
  async attach(link: Link, { filters }: LoadedDataplane): Promise<void> {
    if (this.#state !== 'yes') return;
    const check = await this.#parts.filters.check(link.index, filters);
    if (check.outcome === 'failed') throw new Error(check.reason);
    if (check.outcome === 'gone') throw new Error(`its device ${link.name} is not there`);
  }

  /** Packets are to come by the programs of `loaded`, as soon as their maps say all that is announced (`isFilled`), or nobody's judge them now. */
  async activate(loaded: LoadedDataplane, isFilled: boolean): Promise<void> {
    if (this.#state === 'yes') return;
    // From here on a new device gets its filters in the batch that makes it.
    this.#state = 'waiting';
    const { filters, hosts, log } = this.#parts;
    const isOnAny = hosts.mayBeAttached || (await filters.isOnAny(await this.#devices(), loaded.filters));
    if (!isFilled && isOnAny) {
      this.#mustStay = true;
      log.info('the programs of an earlier agent judge on until all is known that they know');
      return;
    }
    await this.#enter(loaded);
  }

  /** Enters if that has been waited for; else goes on with the programs of the configuration. */
  async keep(loaded: LoadedDataplane, isFilled: boolean, outcome: Outcome): Promise<void> {
    if (this.#state === 'no') return;
    try {
      if (this.#state === 'waiting') {
        if (isFilled) await this.#enter(loaded);
        return;
      }
      if (loaded.stayEntered()) this.#parts.log.info('the filters go on with the programs of the new configuration');
    } catch (error) {
      outcome.failed.push({ object: 'BPF programs', reason: (error as Error).message });
    }
    // What failed when we entered has been put right: later on its flows would be those of pods that are gone.
    if (this.#mustRemoveOlder && outcome.failed.length === 0) {
      loaded.removeOlder();
      this.#mustRemoveOlder = false;
    }
  }

  /**
   * Puts filters right where they may have changed. Endpoints on whose devices others have programs or filters since, or have none any more, become
   * dirty.
   */
  async look(loaded: LoadedDataplane, outcome: Outcome): Promise<void> {
    const { host, endpoints, filters } = this.#parts;
    if (this.#state !== 'yes' || !filters.mustLook) return;
    const qdiscs = filters.qdiscsOnce();
    for (const ifindex of filters.suspects) {
      const check = await filters.check(ifindex, loaded.filters, qdiscs);
      const name = host.link(ifindex)?.name ?? `#${ifindex}`;
      if (check.outcome === 'repaired') outcome.repaired.push(`BPF filters of ${name}`);
      if (check.outcome !== 'failed') continue;
      const endpoint = endpoints.ofDevice(name);
      outcome.failed.push({
        object: `BPF filters of ${name}`,
        ...(endpoint === undefined ? {} : { endpoint }),
        reason: check.reason,
      });
    }
    try {
      await filters.askForOthers(loaded.filters);
    } catch (error) {
      outcome.failed.push({ object: "others' programs on pod devices", reason: (error as Error).message });
    }
    this.#markOthers();
  }

  /** Packets come by our programs no more. Netfilter's part first: it drops what no program has seen. */
  async release(loaded: LoadedDataplane | undefined): Promise<void> {
    const { host, filters, hosts, stack } = this.#parts;
    this.forget();
    await stack.hook(false);
    await hosts.release(loaded);
    await filters.detachAll(await host.links());
  }

  /** The programs that packets come by are followed by others: they judge on until these know what they know. */
  wait(): void {
    if (this.#state !== 'yes') return;
    this.#state = 'waiting';
    this.#mustStay = true;
  }

  /** What is attached stays; nobody looks after it any more. */
  forget(): void {
    this.#state = 'no';
    this.#mustStay = false;
  }

  /**
   * First what the pods' filters jump to, then these, then uplinks and host endpoints' devices, then netfilter's part, so that no packet meets a step that
   * isn't there. Entering anew is all or nothing, but for uplinks, without which packets go by the stack; where filters of ours were already,
   * they stay, and failures are reported by `apply`.
   */
  async #enter(loaded: LoadedDataplane): Promise<void> {
    const { endpoints, filters, hosts, stack, log } = this.#parts;
    const wereOnHosts = hosts.mayBeAttached;
    // What goes by uplinks now must go on so.
    if (wereOnHosts) await hosts.adopt(loaded);
    const devices = await this.#devices();
    await filters.lookForOthers(devices, loaded.filters);
    if (this.#markOthers()) await this.#parts.program(loaded);
    await loaded.carryFlows('before');
    loaded.enter();
    const report = await filters.attachAll(devices, loaded.filters);
    const { entered, failures } = report;
    const stayed = report.stayed || wereOnHosts || this.#mustStay;
    for (const { link } of failures) filters.suspect(link.index);
    const words = failures.map(({ link, reason }) => {
      const id = endpoints.ofDevice(link.name);
      return `${link.name}${id === undefined ? '' : ` (endpoint ${id})`}: ${reason}`;
    });
    const onHosts = await hosts.enforce(loaded, newOutcome());
    words.push(...onHosts.map(({ object, reason }) => `${object}: ${reason}`));
    try {
      if (words.length > 0 && !stayed) throw new Error(`filters could not be attached: ${words.join('; ')}`);
      await stack.hook(true);
    } catch (error) {
      if (stayed) {
        // The programs are in force, netfilter's part follows: what they need of the former maps is theirs now.
        await loaded.carryFlows('after');
        throw error;
      }
      this.#state = 'no';
      await hosts.release(loaded);
      // One direction may have come where the other did not.
      await filters.detachAll([...entered, ...failures.map(({ link }) => link)]);
      throw error;
    }
    // We were in the path already: what is attached keeps its pods safe.
    if (words.length > 0) log.error('some devices do not have our programs', { failures: words });
    await loaded.carryFlows('after');
    this.#mustRemoveOlder = words.length > 0;
    if (words.length === 0) loaded.removeOlder();
    this.#state = 'yes';
    this.#mustStay = false;
    for (const { link } of failures) {
      const id = endpoints.ofDevice(link.name);
      if (id !== undefined) endpoints.markDirty(id);
    }
  }

  /** True if that makes an endpoint dirty. */
  #markOthers(): boolean {
    const { endpoints, filters } = this.#parts;
    const ids = filters.takeOthersChanged().map((ifindex) => endpoints.ofIfindex(ifindex));
    for (const id of ids) if (id !== undefined) endpoints.markDirty(id);
    return ids.some((id) => id !== undefined);
  }

  async #devices(): Promise<readonly Link[]> {
    return (await this.#parts.host.links()).filter((link) => this.mustHaveFilters(link));
  }
}
