import type { CidrText, DataplaneConfig, DataplaneUpdate, EndpointId, WorkloadEndpointInfo } from '../messages.ts';

/**
 * What calc wants of this node's pods, and which of it is not done yet. Pure bookkeeping. Endpoints are said by their device's name; the
 * ifindex under which a device was opened is remembered, so that another device of the same name is noticed.
 */
export class PodEndpoints {
  readonly #endpoints = new Map<EndpointId, WorkloadEndpointInfo>();
  readonly #byDevice = new Map<string, EndpointId>();
  readonly #ifindexes = new Map<string, number>();
  readonly #dirty = new Set<EndpointId>();
  readonly #removed = new Set<EndpointId>();
  readonly #abandoned = new Set<string>();
  #prefixes: readonly string[] = ['cali'];
  #useOtherSources = false;
  #inSync = false;

  /** Records an update; what isn't about endpoints is passed over. */
  record(update: DataplaneUpdate): void {
    switch (update.type) {
      case 'configUpdate':
        this.#configure(update.config);
        break;
      case 'workloadEndpointUpdate':
        this.#leave(update.id, update.endpoint.ifaceName);
        this.#endpoints.set(update.id, update.endpoint);
        this.#byDevice.set(update.endpoint.ifaceName, update.id);
        this.#abandoned.delete(update.endpoint.ifaceName);
        this.#removed.delete(update.id);
        this.#dirty.add(update.id);
        break;
      case 'workloadEndpointRemove':
        this.#leave(update.id, undefined);
        this.#endpoints.delete(update.id);
        this.#dirty.delete(update.id);
        this.#removed.add(update.id);
        break;
      case 'inSync':
        this.#inSync = true;
        break;
      default:
        break;
    }
  }

  /** True once everything that exists has been said: what is known of besides may go. */
  get inSync(): boolean {
    return this.#inSync;
  }

  /** Endpoints that are not as wanted, as far as known. */
  get dirty(): readonly EndpointId[] {
    return [...this.#dirty];
  }

  /** Takes what is dirty, to be programmed; what isn't by that is marked again, and so is what changes meanwhile. */
  takeDirty(): readonly EndpointId[] {
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    return dirty;
  }

  isDirty(id: EndpointId): boolean {
    return this.#dirty.has(id);
  }

  get all(): readonly EndpointId[] {
    return [...this.#endpoints.keys()];
  }

  endpoint(id: EndpointId): WorkloadEndpointInfo | undefined {
    return this.#endpoints.get(id);
  }

  device(id: EndpointId): string | undefined {
    return this.#endpoints.get(id)?.ifaceName;
  }

  ofDevice(name: string): EndpointId | undefined {
    return this.#byDevice.get(name);
  }

  /** What the endpoint may send from. */
  sources(id: EndpointId): readonly CidrText[] {
    const endpoint = this.#endpoints.get(id);
    if (endpoint === undefined) return [];
    return [
      ...endpoint.ipv4Nets,
      ...endpoint.ipv6Nets,
      ...(this.#useOtherSources ? endpoint.allowedSourcePrefixes : []),
    ];
  }

  markDirty(id: EndpointId): void {
    if (this.#endpoints.has(id)) this.#dirty.add(id);
  }

  /** The endpoint's device is open under this ifindex. */
  opened(id: EndpointId, ifindex: number): void {
    const name = this.device(id);
    if (name !== undefined) this.#ifindexes.set(name, ifindex);
  }

  /** The ifindex under which the device of this name was opened. */
  ifindex(name: string): number | undefined {
    return this.#ifindexes.get(name);
  }

  /** The endpoint whose device was opened under this ifindex. */
  ofIfindex(ifindex: number): EndpointId | undefined {
    for (const [name, index] of this.#ifindexes) if (index === ifindex) return this.#byDevice.get(name);
    return undefined;
  }

  /** Devices that no endpoint has any more, each once, with the ifindex under which it was opened; it is forgotten by that. */
  takeAbandoned(): readonly { readonly name: string; readonly ifindex: number | undefined }[] {
    const list = [...this.#abandoned].map((name) => ({ name, ifindex: this.#ifindexes.get(name) }));
    for (const { name } of list) this.#ifindexes.delete(name);
    this.#abandoned.clear();
    return list;
  }

  /** Puts a device back that could not be closed. */
  abandon(name: string, ifindex: number | undefined): void {
    if (this.#byDevice.has(name)) return;
    this.#abandoned.add(name);
    if (ifindex !== undefined) this.#ifindexes.set(name, ifindex);
  }

  /** Endpoints that were removed, until `takeRemoved` takes them. */
  get removed(): ReadonlySet<EndpointId> {
    return this.#removed;
  }

  /** Endpoints removed of which nothing is left, as `isGone` knows; each once. */
  takeRemoved(isGone: (id: EndpointId) => boolean): readonly EndpointId[] {
    const list = [...this.#removed].filter(isGone);
    for (const id of list) this.#removed.delete(id);
    return list;
  }

  isPodDevice(name: string): boolean {
    return this.#prefixes.some((prefix) => name.startsWith(prefix));
  }

  #configure(config: DataplaneConfig): void {
    this.#prefixes = config.interfacePrefixes;
    const useOtherSources = config.workloadSourceSpoofing === 'any';
    if (useOtherSources === this.#useOtherSources) return;
    this.#useOtherSources = useOtherSources;
    for (const id of this.#endpoints.keys()) this.#dirty.add(id);
  }

  /** The endpoint's device is another one from now on (or none); it is abandoned unless another endpoint has it. */
  #leave(id: EndpointId, next: string | undefined): void {
    const name = this.device(id);
    if (name === undefined || name === next || this.#byDevice.get(name) !== id) return;
    this.#byDevice.delete(name);
    this.#abandoned.add(name);
  }
}
