import { bitsOf, tryParseIp } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import { protocolNumber } from '#api/policy/protocols.ts';
import type { ServiceId } from '#dataplanes/services.ts';
import type { SetSpec } from '../model.ts';
import type { SliceChange, SlicesByService } from '../services/slices-by-service.ts';
import type { MemberSet } from './member-set.ts';

type EndpointSlice = KindMap['EndpointSlice'];
type ServiceSpec = Extract<SetSpec, { readonly kind: 'service' }>;

/** Keeps the sets of Services equal to what their EndpointSlices say. Slices without a Service are of no interest. */
export class ServiceIndex {
  readonly #slices: SlicesByService;
  readonly #sets = new Map<ServiceId, Set<MemberSet>>();

  constructor(slices: SlicesByService) {
    this.#slices = slices;
  }

  /** `changed` is told of every set that the slice's change may have changed. */
  onSlice({ before, now }: SliceChange, changed: (set: MemberSet) => void): void {
    // Additions first: what the old and the new version share then stays without a change.
    if (now !== undefined) {
      for (const set of this.#sets.get(now.service) ?? []) {
        for (const member of membersOf(now.slice, set)) set.add(member);
        changed(set);
      }
    }
    if (before !== undefined) {
      for (const set of this.#sets.get(before.service) ?? []) {
        for (const member of membersOf(before.slice, set)) set.remove(member);
        changed(set);
      }
    }
  }

  /** Fills a service's set and keeps it current until `removeSet`. */
  addSet(set: MemberSet, { namespace, name }: ServiceSpec): void {
    const service = `${namespace}/${name}`;
    this.#sets.set(service, (this.#sets.get(service) ?? new Set()).add(set));
    for (const slice of this.#slices.of(service).values()) {
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
