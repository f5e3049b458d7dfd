import { withoutPrefix } from '#api/cidr.ts';
import type { Datastore } from '#datastore/datastore.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import { handleOf as attachmentHandle, parseAlias } from '#cni/names.ts';
import type { NodeIpam } from '#ipam/node-ipam.ts';
import type { Netlink } from '#native/types.ts';
import type { Log } from '../log.ts';
import { removeDevices } from '../remove-devices.ts';
import type { EndpointFiles } from './endpoint-files.ts';
import type { EndpointPublisher } from './endpoint-publisher.ts';
import type { EndpointStore } from './endpoint-store.ts';
import { readLiveState } from './live-state.ts';
import { lostEndpoints } from './lost-endpoints.ts';

/** What the takeover works with. */
export interface TakeoverParts {
  readonly nodeName: string;
  readonly log: Log;
  readonly datastore: Datastore;
  readonly host: Netlink;
  readonly files: EndpointFiles;
  readonly endpoints: EndpointStore;
  readonly publisher: EndpointPublisher;
  readonly ipam: NodeIpam;
  /** Device name prefix, as configured now. */
  readonly interfacePrefix: () => string;
}

/**
 * The first thing a starting agent does with the node: endpoints whose device is there go on as they are; those without one (a reboot)
 * are let go with their addresses; devices of an ADD that never finished are deleted; IPAM learns what is in use before it gives
 * anything out. Endpoints come from the state dir, and where that is lost from the datastore.
 */
export class Takeover {
  readonly #parts: TakeoverParts;

  constructor(parts: TakeoverParts) {
    this.#parts = parts;
  }

  async run(): Promise<void> {
    const { files, host, endpoints, publisher, ipam, log, interfacePrefix } = this.#parts;
    const fromFiles = files.load();
    const lost = await lostEndpoints(this.#parts, fromFiles);
    const { alive, dead, orphans, routedAddresses } = await readLiveState(
      host,
      [...fromFiles, ...lost],
      interfacePrefix(),
      ({ alias }) => parseAlias(alias),
    );
    for (const local of dead) {
      const { metadata } = local.endpoint;
      log.info({ endpoint: metadata.name }, 'the endpoint has no device any more; letting it go');
      files.remove(metadata.namespace, metadata.name);
      publisher.remove(local);
    }
    if (orphans.length > 0) {
      log.warn({ devices: orphans.map(({ name }) => name) }, 'deleting devices of ADDs that never finished');
      await removeDevices(host, orphans);
    }
    const known = alive.filter(({ network }) => network !== '');
    await ipam.start({ live: liveAddresses(known, routedAddresses), valid: new Set(known.map(handleOf)) });
    const found = await this.#withNetworks(alive.filter(({ network }) => network === ''));
    for (const endpoint of [...known, ...found]) {
      if (!fromFiles.includes(endpoint)) files.save(endpoint);
      endpoints.adopt(endpoint);
    }
  }

  /** A network's name that its device doesn't tell is in the handle that holds the endpoint's addresses. */
  async #withNetworks(endpoints: readonly LocalEndpoint[]): Promise<readonly LocalEndpoint[]> {
    if (endpoints.length === 0) return [];
    const handles = [...(await this.#parts.ipam.allocations()).keys()];
    return endpoints.map((endpoint) => {
      const suffix = handleOf(endpoint);
      const network = handles.find((handle) => handle.endsWith(suffix))?.slice(0, -suffix.length) ?? '';
      return { ...endpoint, network };
    });
  }
}

/** IPAM's handle of an endpoint. */
function handleOf({ endpoint, network, ifname }: LocalEndpoint): string {
  return attachmentHandle({ network, containerId: endpoint.spec.containerID ?? '', ifname });
}

function liveAddresses(
  alive: readonly LocalEndpoint[],
  routed: ReadonlySet<string>,
): ReadonlyMap<string, { readonly handle: string } | undefined> {
  const live = new Map<string, { readonly handle: string } | undefined>(
    [...routed].map((address) => [address, undefined]),
  );
  for (const endpoint of alive) {
    for (const net of endpoint.endpoint.spec.ipNetworks) live.set(withoutPrefix(net), { handle: handleOf(endpoint) });
  }
  return live;
}
