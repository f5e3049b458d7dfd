import { withoutPrefix } from '#api/cidr.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import { aliasPart, handleOf, parseAlias } from '#cni/names.ts';
import type { Netlink } from '#native/types.ts';
import type { EndpointStore } from '../endpoints/endpoint-store.ts';
import type { LocalEndpoints } from './leaked-addresses.ts';

/** IPAM's handle of an endpoint. */
export function localHandle({ endpoint, network, ifname }: LocalEndpoint): string {
  return handleOf({ network, containerId: endpoint.spec.containerID ?? '', ifname });
}

/** Main table. */
const mainTable = 254;

/** This node's endpoints with what the kernel has of them. */
export class KernelEndpoints implements LocalEndpoints {
  readonly #endpoints: EndpointStore;
  readonly #host: Pick<Netlink, 'link' | 'links' | 'routes'>;
  readonly #interfacePrefix: () => string;

  constructor(
    endpoints: EndpointStore,
    host: Pick<Netlink, 'link' | 'links' | 'routes'>,
    interfacePrefix: () => string,
  ) {
    this.#endpoints = endpoints;
    this.#host = host;
    this.#interfacePrefix = interfacePrefix;
  }

  list(): readonly LocalEndpoint[] {
    return this.#endpoints.list();
  }

  remove(namespace: string, name: string, containerId: string): Promise<void> {
    return this.#endpoints.remove(namespace, name, containerId);
  }

  hasDevice({ endpoint, ifname }: LocalEndpoint): boolean {
    const link = this.#host.link(endpoint.spec.interfaceName);
    if (link === undefined) return false;
    const owner = parseAlias(link.alias);
    // A device without an alias of ours says nothing against the endpoint that names it.
    return (
      owner === undefined ||
      (owner.containerId === aliasPart(endpoint.spec.containerID ?? '') && owner.ifname === ifname)
    );
  }

  async routed(): Promise<ReadonlySet<string>> {
    const [links, routes] = await Promise.all([this.#host.links(), this.#host.routes()]);
    const prefix = this.#interfacePrefix();
    const pods = new Set(links.flatMap(({ name, index }) => (name.startsWith(prefix) ? [index] : [])));
    return new Set(
      routes.flatMap(({ dst, family, linkIndex, table }) => {
        const isHost = dst.endsWith(family === 4 ? '/32' : '/128');
        return table === mainTable && isHost && linkIndex !== undefined && pods.has(linkIndex)
          ? [withoutPrefix(dst)]
          : [];
      }),
    );
  }
}
