import { bitsOf, ipAt, tryParseCidr } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import type { HostInfo, RouteInfo } from '#dataplanes/messages.ts';
import { Pending, type Changes } from './pending.ts';

type Block = KindMap['IPAMBlock'];

/**
 * Routes that follow from IPAM blocks: another node's block goes to that node, our own is a blackhole under the pods' /32s (unused
 * addresses must not loop over the default route), and an address that a node borrowed from another's block is a /32 to the borrower.
 * A route whose node has no address of the family yet waits for it.
 */
export class BlockRoutes {
  readonly #self: string;
  readonly #blocks = new Map<string, { readonly routes: readonly BlockRoute[] }>();
  /** Which blocks depend on a node's address. */
  readonly #blocksOfNode = new Map<string, Set<string>>();
  readonly #hosts = new Map<string, HostInfo>();
  readonly #pending = new Pending<'routeUpdate' | 'routeRemove'>();

  constructor(selfNodeName: string) {
    this.#self = selfNodeName;
  }

  onHost(name: string, host: HostInfo | undefined): void {
    if (host === undefined) this.#hosts.delete(name);
    else this.#hosts.set(name, host);
    for (const block of this.#blocksOfNode.get(name) ?? []) {
      for (const route of this.#blocks.get(block)?.routes ?? []) this.#offer(route);
    }
  }

  onBlock(name: string, block: Block | undefined): void {
    const routes = block === undefined || block.spec.deleted ? [] : this.#routesOf(block);
    const present = new Set(routes.map((route) => route.dst));
    for (const old of this.#blocks.get(name)?.routes ?? []) {
      this.#forget(old.nodeName, name);
      if (!present.has(old.dst)) this.#pending.set(old.dst, undefined, { type: 'routeRemove', dst: old.dst });
    }
    if (routes.length === 0) this.#blocks.delete(name);
    else this.#blocks.set(name, { routes });
    for (const route of routes) {
      const dependants = this.#blocksOfNode.get(route.nodeName) ?? new Set();
      this.#blocksOfNode.set(route.nodeName, dependants.add(name));
      this.#offer(route);
    }
  }

  take(): Changes<'routeUpdate' | 'routeRemove'> {
    return this.#pending.take();
  }

  #forget(node: string, block: string): void {
    const dependants = this.#blocksOfNode.get(node);
    dependants?.delete(block);
    if (dependants?.size === 0) this.#blocksOfNode.delete(node);
  }

  #routesOf(block: Block): BlockRoute[] {
    const { cidr, affinity, allocations, attributes } = block.spec;
    const owner = affinity?.startsWith('host:') === true ? affinity.slice('host:'.length) : undefined;
    const routes: BlockRoute[] = [];
    const network = tryParseCidr(cidr);
    if (network === undefined) return routes; // Validated where it was read; nothing to route otherwise.
    if (owner !== undefined && owner !== this.#self) {
      routes.push({ dst: network.text, nodeName: owner, type: 'remoteBlock' });
    } else if (owner !== undefined && network.prefix < bitsOf(network.family)) {
      // A block of one address has the same destination as its pod's route: a blackhole would be in the pod's way.
      routes.push({ dst: network.text, nodeName: owner, type: 'localBlock' });
    }
    for (const [ordinal, index] of allocations.entries()) {
      if (index === null) continue;
      const node = attributes[index]?.secondary?.['node'];
      if (node === undefined || node === owner || node === this.#self) continue;
      routes.push({
        dst: `${ipAt(network, ordinal).text}/${bitsOf(network.family)}`,
        nodeName: node,
        type: 'borrowed',
      });
    }
    return routes;
  }

  /** Hands over the route as it can be at present: with its node's address, or not at all. */
  #offer({ dst, nodeName, type }: BlockRoute): void {
    const host = this.#hosts.get(nodeName);
    const nodeIp = dst.includes(':') ? host?.ipv6 : host?.ipv4;
    const removal = { type: 'routeRemove', dst } as const;
    if (type === 'localBlock') {
      this.#pending.set(dst, { type: 'routeUpdate', route: { dst, type, nodeName } }, removal);
    } else if (nodeIp === undefined) {
      this.#pending.set(dst, undefined, removal);
    } else {
      this.#pending.set(dst, { type: 'routeUpdate', route: { dst, type, nodeName, nodeIp } }, removal);
    }
  }
}

type BlockRoute = Pick<RouteInfo, 'dst' | 'nodeName' | 'type'>;
