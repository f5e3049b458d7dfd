import type { Clock } from '#api/clock.ts';
import type { CommandRunner } from '#native/command-runner.ts';
import type { Family, Link, Netlink, NetlinkEvent } from '#native/types.ts';
import type { ApplyFailure, ApplyReport, Programmer } from '../contract.ts';
import type { Logger } from '../logger.ts';
import type { DataplaneConfig, DataplaneUpdate, EndpointId } from '../messages.ts';
import type { SetKernel } from '../netfilter/ipsets.ts';
import type { VariantChoice } from '../netfilter/variant-choice.ts';
import { podDeviceSysctls, reversePathFilterFor, summarise, type SysctlPort } from './host-sysctls.ts';
import { KernelView } from './kernel-view.ts';
import { Masquerade } from './masquerade.ts';
import { type Monitor, MonitorFollower } from './monitor-follower.ts';
import { NeighbourSync } from './neighbour-sync.ts';
import { NodeSysctls, type SysctlMemory } from './node-sysctls.ts';
import { DEFAULT_ROUTE_SETTINGS, type RouteSettings, RouteSync } from './route-sync.ts';
import { isSameDevice, netsOf, RouteWishes } from './route-wishes.ts';

/** What the host network works with; everything is of the node's own namespace. */
export interface HostNetworkDeps {
  readonly host: Netlink;
  readonly openMonitor: () => Monitor;
  readonly sysctls: SysctlPort;
  readonly sysctlMemory: SysctlMemory;
  readonly sets: SetKernel;
  readonly commands: CommandRunner;
  readonly variants: VariantChoice;
  readonly clock: Clock;
  readonly log: Logger;
}

/** After the monitor broke, wait this long before it is opened again. */
const MONITOR_RETRY_MS = 1_000;

/**
 * What both dataplanes need of the node: routes and neighbours of its pods, routes to other nodes' blocks, the sysctls that make it a
 * router, natOutgoing. The driver runs it beside the active dataplane.
 *
 * It reads the kernel once, then follows the monitor. An event that leaves something of ours wrong marks that thing and calls the
 * disturbed-listener; the driver coalesces. Everything is compared in full each routeRefreshInterval, on request and when the
 * kernel dropped events. A new pod whose routes the CNI plugin has already made costs look-ups in memory, its neighbours (one netlink
 * batch) and its sysctls (read, and written if they differ): no process.
 */
export class HostNetwork implements Programmer {
  readonly #deps: HostNetworkDeps;
  readonly #view = new KernelView();
  readonly #wishes = new RouteWishes();
  readonly #monitor: MonitorFollower;
  readonly #routes: RouteSync;
  readonly #neighbours: NeighbourSync;
  readonly #masquerade: Masquerade;
  readonly #nodeSysctls: NodeSysctls;
  /** Endpoints whose device's sysctls are to be written. */
  readonly #dirtyDevices = new Set<EndpointId>();
  readonly #dirtyEndpoints = new Set<EndpointId>();
  readonly #removedEndpoints = new Set<EndpointId>();
  /** Endpoints whose sysctls were right once: if one isn't now, somebody else changed it. */
  readonly #settledDevices = new Set<EndpointId>();
  #config: DataplaneConfig | undefined;
  #families: readonly Family[] = [4];
  #mustRead = true;
  #mustCheckHost = true;
  #disposed = false;
  #timer: Disposable | undefined;
  /** Until the monitor, which broke, is opened again. */
  #reopening: Disposable | undefined;
  #listener: () => void = () => {};

  constructor(deps: HostNetworkDeps) {
    this.#deps = deps;
    this.#monitor = new MonitorFollower(
      deps.openMonitor,
      (event) => {
        if (this.#take(event)) this.#listener();
      },
      (reason) => this.#lostMonitor(reason),
    );
    this.#routes = new RouteSync(deps.host, this.#view, this.#wishes);
    this.#neighbours = new NeighbourSync(deps.host, this.#view, this.#wishes, (name) => this.#isPodDevice(name));
    this.#nodeSysctls = new NodeSysctls(deps.sysctls, deps.sysctlMemory);
    const hasIpv6 = (): boolean => this.#hasIpv6();
    this.#masquerade = new Masquerade({ ...deps, hasIpv6 }, () => this.#listener());
  }

  onUpdate(update: DataplaneUpdate): void {
    switch (update.type) {
      case 'configUpdate':
        this.#setConfig(update.config);
        break;
      case 'workloadEndpointUpdate': {
        const before = this.#wishes.endpoint(update.id);
        this.#dirtyEndpoints.add(update.id);
        this.#removedEndpoints.delete(update.id);
        if (before !== undefined && isSameDevice(before, update.endpoint)) break; // Only its policy is another.
        if (before !== undefined && before.ifaceName !== update.endpoint.ifaceName)
          this.#neighbours.abandon(before.ifaceName);
        for (const dst of this.#wishes.setEndpoint(update.id, update.endpoint)) this.#routes.wishChanged(dst);
        this.#neighbours.wishChanged(update.id);
        this.#settledDevices.delete(update.id);
        this.#dirtyDevices.add(update.id);
        break;
      }
      case 'workloadEndpointRemove': {
        const before = this.#wishes.endpoint(update.id);
        if (before !== undefined) this.#neighbours.abandon(before.ifaceName);
        for (const dst of this.#wishes.setEndpoint(update.id, undefined)) this.#routes.wishChanged(dst);
        this.#neighbours.wishChanged(update.id);
        this.#dirtyDevices.delete(update.id);
        this.#dirtyEndpoints.delete(update.id);
        this.#removedEndpoints.add(update.id);
        break;
      }
      case 'routeUpdate':
        this.#wishes.setRoute(update.route);
        this.#routes.wishChanged(update.route.dst);
        break;
      case 'routeRemove':
        this.#wishes.removeRoute(update.dst);
        this.#routes.wishChanged(update.dst);
        break;
      case 'poolUpdate':
        this.#masquerade.setPool(update.id, update.pool);
        break;
      case 'poolRemove':
        this.#masquerade.setPool(update.id, undefined);
        break;
      case 'hostUpdate':
        this.#masquerade.setHost(update.node, update.host);
        break;
      case 'hostRemove':
        this.#masquerade.setHost(update.node, undefined);
        break;
      case 'inSync':
        this.#routes.allowRemoval();
        this.#neighbours.allowRemoval();
        this.#masquerade.allowRemoval();
        break;
      default: // Policy and services are the dataplane's.
    }
  }

  async apply(): Promise<ApplyReport> {
    const failed: ApplyFailure[] = [];
    const repaired: string[] = [];
    if (this.#config === undefined) return { programmed: [], removed: [], failed, repaired };
    try {
      await this.#readIfNeeded(this.#config);
    } catch (error) {
      this.#mustRead = true;
      const failures = this.#failuresOfAll(this.#dirtyEndpoints, (error as Error).message);
      return { programmed: [], removed: [], failed: failures, repaired };
    }
    // Endpoints that change while this runs are the next cycle's.
    const endpoints = [...this.#dirtyEndpoints];
    this.#dirtyEndpoints.clear();
    const removed = [...this.#removedEndpoints];
    this.#removedEndpoints.clear();
    try {
      this.#applyHostSysctls(failed, repaired);
      this.#applyDeviceSysctls(failed, repaired);
      const routes = await this.#routes.apply();
      const neighbours = await this.#neighbours.apply();
      const masquerade = await this.#masquerade.apply();
      repaired.push(...routes.repaired, ...neighbours.repaired, ...masquerade.repaired);
      for (const [dst, failure] of routes.failed) {
        const claim = this.#wishes.winner(dst);
        failed.push(claim?.kind === 'pod' ? { ...failure, endpoint: claim.id } : failure);
      }
      failed.push(...neighbours.failed, ...masquerade.failed);
    } catch (error) {
      for (const id of endpoints) this.#dirtyEndpoints.add(id);
      this.#mustRead = true;
      failed.push(...this.#failuresOfAll(endpoints, (error as Error).message));
      return { programmed: [], removed, failed, repaired };
    }
    const summary = this.#summariseByEndpoint(failed);
    for (const { endpoint } of summary) if (endpoint !== undefined) this.#dirtyEndpoints.add(endpoint);
    const programmed = endpoints.filter(
      (id) => this.#wishes.endpoint(id) !== undefined && !this.#dirtyEndpoints.has(id),
    );
    return { programmed, removed, failed: summary, repaired };
  }

  requestResync(): void {
    this.#mustRead = true;
    this.#mustCheckHost = true;
    this.#masquerade.requestResync();
  }

  onDisturbed(listener: () => void): void {
    this.#listener = listener;
  }

  /**
   * Removes routes, neighbours, rules and sets that are ours, whoever of us made them, and gives the node's sysctls back their values from
   * before Tortie. Needs no update before it; without a configuration ours is what the defaults make. One part's failure doesn't keep
   * the others from being done: it throws at the end.
   */
  async cleanup(): Promise<void> {
    this.#stop();
    this.#disposed = false;
    const problems: string[] = [];
    const attempt = async (step: () => Promise<readonly ApplyFailure[]>): Promise<void> => {
      try {
        problems.push(...(await step()).map(({ object, reason }) => `${object}: ${reason}`));
      } catch (error) {
        problems.push((error as Error).message);
      }
    };
    await attempt(() => this.#removeRoutesAndNeighbours());
    await attempt(() => this.#masquerade.cleanup().then(() => []));
    await attempt(() => Promise.resolve(this.#nodeSysctls.restore()));
    this.#mustCheckHost = true;
    if (problems.length > 0) throw new Error(`cleaning up the host network: ${problems.join('; ')}`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#stop();
    this.#masquerade[Symbol.dispose]();
    return Promise.resolve();
  }

  async #removeRoutesAndNeighbours(): Promise<readonly ApplyFailure[]> {
    this.#routes.setConfig({ ...this.#routeSettings, ipv6Support: true });
    for (const [id] of [...this.#wishes.endpoints()]) this.onUpdate({ type: 'workloadEndpointRemove', id });
    for (const dst of [...this.#wishes.destinations()]) this.onUpdate({ type: 'routeRemove', dst });
    this.onUpdate({ type: 'inSync' });
    // A family that is switched off by now may have been in use before.
    await this.#view.read(this.#deps.host, this.#hasIpv6() ? [4, 6] : [4]);
    this.#routes.lookAtAll();
    this.#neighbours.lookAtAll();
    const routes = await this.#routes.apply();
    const neighbours = await this.#neighbours.apply();
    if (this.#config !== undefined) this.#routes.setConfig(this.#config);
    return [...routes.failed.values(), ...neighbours.failed];
  }

  /** What tells our routes and devices; before the first configuration (a cleanup needs none) the defaults. */
  get #routeSettings(): RouteSettings {
    return this.#config ?? DEFAULT_ROUTE_SETTINGS;
  }

  #hasIpv6(): boolean {
    return this.#deps.sysctls.read('net/ipv6/conf/all/forwarding') !== undefined;
  }

  #isPodDevice(name: string): boolean {
    return this.#routeSettings.interfacePrefixes.some((prefix) => name.startsWith(prefix));
  }

  #setConfig(config: DataplaneConfig): void {
    this.#config = config;
    this.#families = config.ipv6Support && this.#hasIpv6() ? [4, 6] : [4];
    this.#routes.setConfig(config);
    this.#masquerade.setConfig(config);
    for (const [id] of this.#wishes.endpoints()) this.#dirtyDevices.add(id);
    this.#settledDevices.clear();
    this.#mustRead = true;
    this.#mustCheckHost = true;
  }

  async #readIfNeeded(config: DataplaneConfig): Promise<void> {
    if (!this.#mustRead) return;
    this.#monitor.start(); // Before the read: what happens in between comes as an event.
    this.#mustRead = false;
    await this.#view.read(this.#deps.host, this.#families);
    this.#routes.lookAtAll();
    this.#neighbours.lookAtAll();
    for (const [id] of this.#wishes.endpoints()) this.#dirtyDevices.add(id);
    this.#timer?.[Symbol.dispose]();
    if (config.routeRefreshIntervalMs > 0) {
      this.#timer = this.#deps.clock.after(config.routeRefreshIntervalMs, () => {
        this.#mustRead = true;
        this.#mustCheckHost = true;
        this.#listener();
      });
    }
  }

  #applyHostSysctls(failed: ApplyFailure[], repaired: string[]): void {
    if (!this.#mustCheckHost) return;
    const outcome = this.#nodeSysctls.apply(this.#families, this.#view);
    failed.push(...outcome.failed);
    repaired.push(...outcome.repaired);
    this.#mustCheckHost = outcome.failed.length > 0;
  }

  #applyDeviceSysctls(failed: ApplyFailure[], repaired: string[]): void {
    const { sysctls } = this.#deps;
    for (const id of [...this.#dirtyDevices]) {
      const endpoint = this.#wishes.endpoint(id);
      if (endpoint === undefined) {
        this.#dirtyDevices.delete(id);
        continue;
      }
      if (this.#lookUp(endpoint.ifaceName) === undefined) {
        failed.push(deviceFailure(id, endpoint.ifaceName, 'does not exist'));
        continue;
      }
      const mayUseOthers = this.#config?.workloadSourceSpoofing === 'any' && endpoint.allowedSourcePrefixes.length > 0;
      const outcome = summarise(
        sysctls.write(podDeviceSysctls(endpoint, this.#families, reversePathFilterFor(sysctls, mayUseOthers))),
      );
      failed.push(...outcome.failed.map((failure) => ({ ...failure, endpoint: id })));
      if (this.#settledDevices.has(id))
        repaired.push(...outcome.written.map((name) => `sysctl ${name} had been changed`));
      if (outcome.failed.length > 0) continue;
      this.#settledDevices.add(id);
      this.#dirtyDevices.delete(id);
    }
  }

  /** Asks the kernel: events come late, and each thing tried on a device that is gone would be a failure of its own. */
  #lookUp(ifaceName: string): Link | undefined {
    const link = this.#deps.host.link(ifaceName);
    const known = this.#view.link(ifaceName);
    if (link !== undefined) this.#take({ type: 'link.new', link });
    else if (known !== undefined) this.#take({ type: 'link.del', link: known });
    return link;
  }

  /** Nothing could be done, so nothing for these endpoints either, as far as they are still wanted: who waits for one waits on. */
  #failuresOfAll(endpoints: Iterable<EndpointId>, reason: string): readonly ApplyFailure[] {
    const ofEndpoints = [...endpoints]
      .filter((id) => this.#wishes.endpoint(id) !== undefined)
      .map((endpoint) => ({ object: `endpoint ${endpoint}`, endpoint, reason: `host network: ${reason}` }));
    return [{ object: 'host network', reason }, ...ofEndpoints];
  }

  /** One failure for an endpoint whose device is gone or down, whatever failed for it; none for an endpoint that was removed meanwhile. */
  #summariseByEndpoint(failed: readonly ApplyFailure[]): ApplyFailure[] {
    const summary = failed.filter(({ endpoint }) => endpoint === undefined);
    for (const [id, failures] of Map.groupBy(failed, ({ endpoint }) => endpoint)) {
      const endpoint = id === undefined ? undefined : this.#wishes.endpoint(id);
      if (id === undefined || endpoint === undefined) continue;
      const link = this.#lookUp(endpoint.ifaceName);
      if (link === undefined) summary.push(deviceFailure(id, endpoint.ifaceName, 'does not exist'));
      else if (!link.up) summary.push(deviceFailure(id, endpoint.ifaceName, 'is down'));
      else summary.push(...failures);
    }
    return summary;
  }

  /** Without events only the refresh interval would notice changes: open a new one and read everything. */
  #lostMonitor(reason: string): void {
    this.#deps.log.warn('lost the netlink monitor; opening it again', { reason });
    this.#mustRead = true;
    this.#reopening?.[Symbol.dispose]();
    if (!this.#disposed) this.#reopening = this.#deps.clock.after(MONITOR_RETRY_MS, () => this.#listener());
  }

  /** Takes an event in; true when something of ours is wrong now. */
  #take(event: NetlinkEvent): boolean {
    const before =
      event.type === 'link.new' || event.type === 'link.del' ? this.#view.linkByIndex(event.link.index) : undefined;
    this.#view.apply(event);
    switch (event.type) {
      case 'overrun':
        this.#mustRead = true;
        return true;
      case 'link.new':
      case 'link.del': {
        const id = this.#wishes.idOf(event.link.name);
        const isUp = event.type === 'link.new' && event.link.up;
        if (isUp === (before?.up ?? false)) return false;
        if (id === undefined) return !this.#isPodDevice(event.link.name) && this.#routes.uplinkChanged();
        // Its routes and neighbours went with it; nothing can be done before it is up again.
        if (event.type === 'link.del') {
          for (const dst of netsOf(this.#wishes.endpoint(id))) this.#routes.startOver(dst);
          this.#neighbours.startOver(id);
          this.#settledDevices.delete(id);
        } else {
          for (const dst of netsOf(this.#wishes.endpoint(id))) this.#routes.lookAt(dst);
          this.#neighbours.lookAt(id);
        }
        this.#dirtyDevices.add(id);
        return isUp;
      }
      case 'route.new':
      case 'route.del':
        return this.#routes.kernelChanged(event.route);
      case 'neigh.new':
      case 'neigh.del': {
        const link = this.#view.linkByIndex(event.neighbour.linkIndex);
        return link !== undefined && this.#neighbours.kernelChanged(link.name, event.neighbour);
      }
      case 'addr.new':
      case 'addr.del': {
        const link = this.#view.linkByIndex(event.address.linkIndex);
        return link !== undefined && !this.#isPodDevice(link.name) && this.#routes.uplinkChanged();
      }
      default:
        return false;
    }
  }

  #stop(): void {
    this.#disposed = true;
    this.#timer?.[Symbol.dispose]();
    this.#reopening?.[Symbol.dispose]();
    this.#monitor.stop();
    this.#mustRead = true;
  }
}

const deviceFailure = (endpoint: EndpointId, ifaceName: string, what: 'does not exist' | 'is down'): ApplyFailure => ({
  object: `endpoint ${endpoint}`,
  endpoint,
  reason: `device ${ifaceName} of endpoint ${endpoint} ${what}`,
});
