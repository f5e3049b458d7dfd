import type { CidrText, EndpointId, RouteInfo, WorkloadDevice, WorkloadEndpointInfo } from '../messages.ts';

/** Who wants a route to a destination. */
export type Claim =
  | { readonly kind: 'pod'; readonly id: EndpointId; readonly ifaceName: string }
  | { readonly kind: 'route'; readonly route: RouteInfo };

/**
 * Which routes are wanted, by destination. Several may want the same one: a pod's address taken over by another pod, a block of one
 * address. A pod here wins over a block elsewhere, the endpoint announced last over one announced before.
 */
export class RouteWishes {
  readonly #endpoints = new Map<EndpointId, WorkloadEndpointInfo>();
  /** The pods that claim an address, the newest last. */
  readonly #pods = new Map<CidrText, (Claim & { readonly kind: 'pod' })[]>();
  readonly #routes = new Map<CidrText, RouteInfo>();
  readonly #idByIface = new Map<string, EndpointId>();

  /** Announces or (undefined) removes an endpoint; returns the destinations whose winner may have changed. */
  setEndpoint(id: EndpointId, endpoint: WorkloadEndpointInfo | undefined): readonly CidrText[] {
    const before = this.#endpoints.get(id);
    const touched = new Set([...netsOf(before), ...netsOf(endpoint)]);
    for (const net of netsOf(before)) {
      const claims = (this.#pods.get(net) ?? []).filter((claim) => claim.id !== id);
      if (claims.length > 0) this.#pods.set(net, claims);
      else this.#pods.delete(net);
    }
    if (before !== undefined && this.#idByIface.get(before.ifaceName) === id) this.#idByIface.delete(before.ifaceName);
    if (endpoint === undefined) {
      this.#endpoints.delete(id);
    } else {
      this.#endpoints.set(id, endpoint);
      this.#idByIface.set(endpoint.ifaceName, id);
      for (const net of netsOf(endpoint)) {
        this.#pods.set(net, [...(this.#pods.get(net) ?? []), { kind: 'pod', id, ifaceName: endpoint.ifaceName }]);
      }
    }
    return [...touched];
  }

  setRoute(route: RouteInfo): void {
    this.#routes.set(route.dst, route);
  }

  removeRoute(dst: CidrText): void {
    this.#routes.delete(dst);
  }

  /** Who gets the route to `dst`. */
  winner(dst: CidrText): Claim | undefined {
    const pod = this.#pods.get(dst)?.at(-1);
    if (pod !== undefined) return pod;
    const route = this.#routes.get(dst);
    return route === undefined ? undefined : { kind: 'route', route };
  }

  endpoint(id: EndpointId): WorkloadEndpointInfo | undefined {
    return this.#endpoints.get(id);
  }

  endpoints(): Iterable<[EndpointId, WorkloadEndpointInfo]> {
    return this.#endpoints;
  }

  /** The endpoint behind a host device. */
  idOf(ifaceName: string): EndpointId | undefined {
    return this.#idByIface.get(ifaceName);
  }

  /** Destinations of routes over other nodes. */
  *overNodes(): Iterable<RouteInfo> {
    for (const route of this.#routes.values()) if (route.nodeIp !== undefined) yield route;
  }

  /** Every wanted destination. */
  destinations(): Iterable<CidrText> {
    return new Set([...this.#pods.keys(), ...this.#routes.keys()]);
  }
}

/** The addresses of an endpoint that get a route and a neighbour. */
export const netsOf = (endpoint: WorkloadEndpointInfo | undefined): readonly CidrText[] =>
  endpoint === undefined ? [] : [...endpoint.ipv4Nets, ...endpoint.ipv6Nets];

/** True if they differ in nothing but policy. */
export const isSameDevice = (a: WorkloadDevice, b: WorkloadDevice): boolean =>
  a.ifaceName === b.ifaceName &&
  a.mac === b.mac &&
  [a.ipv4Nets, a.ipv6Nets, a.allowedSourcePrefixes].join(';') ===
    [b.ipv4Nets, b.ipv6Nets, b.allowedSourcePrefixes].join(';');
