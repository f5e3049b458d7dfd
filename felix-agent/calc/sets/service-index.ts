import { bitsOf, tryParseIp } from '#api/cidr.ts';
import { serviceNameLabel } from '#api/core/endpoint-slice.ts';
import type { KindMap } from '#api/kinds.ts';
import { protocolNumber } from '#api/policy/protocols.ts';
import type { SetSpec } from '../model.ts';
import type { MemberSet } from './member-set.ts';

type EndpointSlice = KindMap['EndpointSlice'];
type ServiceSpec = Extract<SetSpec, { readonly kind: 'service' }>;

/** Keeps the sets of Services equal to what their EndpointSlices say. Slices without a Service are of no interest. */
export class ServiceIndex {
  /** Slice key to slice, by service key. */
  readonly #slices = new Map<string, Map<string, EndpointSlice>>();
  readonly #serviceOf = new Map<string, string>();
  readonly #sets = new Map<string, Set<MemberSet>>();

  /** `key` is the slice's `namespace/name`; `changed` is told of every set that it may have changed. */
  onSlice(key: string, slice: EndpointSlice | undefined, changed: (set: MemberSet) => void): void {
    const oldService = this.#serviceOf.get(key);
    const name = slice?.metadata.labels?.[serviceNameLabel];
    const service = name === undefined ? undefined : `${slice?.metadata.namespace ?? ''}/${name}`;
    const old = oldService === undefined ? undefined : this.#slices.get(oldService)?.get(key);
    // Additions first: what the old and the new version share then stays without a change.
    if (service !== undefined && slice !== undefined) {
      const slices = this.#slices.get(service) ?? new Map<string, EndpointSlice>();
      this.#slices.set(service, slices.set(key, slice));
      this.#serviceOf.set(key, service);
      for (const set of this.#sets.get(service) ?? []) {
        for (const member of membersOf(slice, set)) set.add(member);
        changed(set);
      }
    }
    if (oldService !== undefined && old !== undefined) {
      for (const set of this.#sets.get(oldService) ?? []) {
        for (const member of membersOf(old, set)) set.remove(member);
        changed(set);
      }
    }
    if (oldService !== undefined && oldService !== service) {
      const slices = this.#slices.get(oldService);
      slices?.delete(key);
      if (slices?.size === 0) this.#slices.delete(oldService);
    }
    if (service === undefined) this.#serviceOf.delete(key);
  }

  /** Fills a service's set and keeps it current until `removeSet`. */
  addSet(set: MemberSet, { namespace, name }: ServiceSpec): void {
    const service = `${namespace}/${name}`;
    this.#sets.set(service, (this.#sets.get(service) ?? new Set()).add(set));
    for (const slice of this.#slices.get(service)?.values() ?? []) {
      for (const member of membersOf(slice, set)) set.add(member);
    }
  }

  removeSet(set: MemberSet, { namespace, name }: ServiceSpec): void {
    const sets = this.#sets.get(`${namespace}/${name}`);
    sets?.delete(set);
    if (sets?.size === 0) this.#sets.delete(`${namespace}/${name}`);
  }
}

/**
 * All addresses of a slice, ready or not (a connection to a terminating backend is still one to the service), each with every port
 * that has a number.
 */
function* membersOf(slice: EndpointSlice, set: MemberSet): Generator<string> {
  for (const { addresses } of slice.endpoints) {
    for (const text of addresses) {
      const ip = tryParseIp(text);
      if (ip === undefined) continue; // addressType FQDN
      if (set.type === 'net') {
        yield `${ip.text}/${bitsOf(ip.family)}`;
        continue;
      }
      for (const { protocol, port } of slice.ports) {
        const number = protocolNumber(protocol);
        if (port !== undefined && port > 0 && number !== undefined) yield `${ip.text},${number}:${port}`;
      }
    }
  }
}
