import { serviceNameLabel } from '#api/core/endpoint-slice.ts';
import type { KindMap } from '#api/kinds.ts';
import type { ServiceId } from '#dataplanes/services.ts';

type EndpointSlice = KindMap['EndpointSlice'];

/** A slice with the service that it says it belongs to. */
export interface OwnedSlice {
  readonly service: ServiceId;
  readonly slice: EndpointSlice;
}

/** What a slice was before a change and what it is now; undefined: it wasn't there, or belonged to no service. */
export interface SliceChange {
  readonly before: OwnedSlice | undefined;
  readonly now: OwnedSlice | undefined;
}

/** All slices that belong to a service, whether that exists or not. Kept once, for rules that name services and for the services themselves. */
export class SlicesByService {
  /** Slice key to slice, by service. */
  readonly #slices = new Map<ServiceId, Map<string, EndpointSlice>>();
  readonly #serviceOf = new Map<string, ServiceId>();

  /** `key` is the slice's `namespace/name`. */
  set(key: string, slice: EndpointSlice | undefined): SliceChange {
    const before = this.#remove(key);
    const name = slice?.metadata.labels?.[serviceNameLabel];
    if (slice === undefined || name === undefined || name === '') return { before, now: undefined };
    const service = `${slice.metadata.namespace}/${name}`;
    const slices = this.#slices.get(service) ?? new Map<string, EndpointSlice>();
    this.#slices.set(service, slices.set(key, slice));
    this.#serviceOf.set(key, service);
    return { before, now: { service, slice } };
  }

  /** In no particular order, each by its `namespace/name`. */
  of(service: ServiceId): ReadonlyMap<string, EndpointSlice> {
    return this.#slices.get(service) ?? none;
  }

  #remove(key: string): OwnedSlice | undefined {
    const service = this.#serviceOf.get(key);
    const slices = service === undefined ? undefined : this.#slices.get(service);
    const slice = slices?.get(key);
    if (service === undefined || slices === undefined || slice === undefined) return undefined;
    slices.delete(key);
    if (slices.size === 0) this.#slices.delete(service);
    this.#serviceOf.delete(key);
    return { service, slice };
  }
}

const none: ReadonlyMap<string, EndpointSlice> = new Map();
