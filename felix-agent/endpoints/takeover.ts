import type { Datastore } from '#datastore/datastore.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import { handleOf as attachmentHandle, parseAlias } from '#cni/names.ts';
import type { NodeIpam } from '#ipam/node-ipam.ts';
import type { Link, Netlink } from '#native/types.ts';
import type { Log } from '../log.ts';
import type { EndpointFiles } from './endpoint-files.ts';
import type { EndpointPublisher } from './endpoint-publisher.ts';
import type { EndpointStore } from './endpoint-store.ts';
import { readLiveState } from './live-state.ts';

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
    const known = [...fromFiles, ...(await this.#onlyInDatastore(fromFiles))];
    const { alive, dead, orphans, routedAddresses } = await readLiveState(host, known, interfacePrefix(), isOurs);
    for (const { endpoint } of dead) {
      log.info({ endpoint: endpoint.metadata.name }, 'the endpoint has no device any more; letting it go');
      files.remove(endpoint.metadata.namespace, endpoint.metadata.name);
      publisher.remove(endpoint);
    }
    if (orphans.length > 0) {
      log.warn({ devices: orphans.map(({ name }) => name) }, 'deleting devices of ADDs that never finished');
      await host.run(orphans.map(({ index }) => ({ op: 'link.del', link: index })));
    }
    await ipam.start({ live: liveAddresses(alive, routedAddresses), isGone: isGoneWithout(alive) });
    for (const endpoint of alive) endpoints.adopt(endpoint);
  }

  /** WorkloadEndpoints of this node of which the state dir knows nothing. Their network is told by who holds their addresses. */
  async #onlyInDatastore(known: readonly LocalEndpoint[]): Promise<readonly LocalEndpoint[]> {
    const { datastore, nodeName, ipam } = this.#parts;
    const { items } = await datastore.list('WorkloadEndpoint');
    const names = new Set(known.map(({ endpoint: { metadata } }) => `${metadata.namespace}/${metadata.name}`));
    const lost = items.filter(({ spec, metadata }) => spec.node === nodeName && !names.has(`${metadata.namespace}/${metadata.name}`));
    if (lost.length === 0) return [];
    const handles = [...(await ipam.allocations()).keys()];
    return lost.map((endpoint) => {
      const suffix = `.${endpoint.spec.containerID ?? ''}`;
      const network = handles.find((handle) => handle.endsWith(suffix))?.slice(0, -suffix.length) ?? '';
      return { endpoint, network, ifname: endpoint.spec.endpoint, netns: '' };
    });
  }
}

function handleOf({ endpoint, network, ifname }: LocalEndpoint): string {
  return attachmentHandle({ network, containerId: endpoint.spec.containerID ?? '', ifname });
}

/** Only devices with our alias are ours, whatever their name. */
function isOurs({ alias }: Link): boolean {
  return parseAlias(alias) !== undefined;
}

function liveAddresses(
  alive: readonly LocalEndpoint[],
  routed: ReadonlySet<string>,
): ReadonlyMap<string, { readonly handle: string } | undefined> {
  const live = new Map<string, { readonly handle: string } | undefined>([...routed].map((address) => [address, undefined]));
  for (const endpoint of alive) {
    for (const net of endpoint.endpoint.spec.ipNetworks) live.set(net.split('/')[0] ?? net, { handle: handleOf(endpoint) });
  }
  return live;
}

/** A sandbox without a device here is gone: no ADD can be under way while no agent runs. */
function isGoneWithout(alive: readonly LocalEndpoint[]): (handle: string) => boolean {
  const handles = new Set(alive.map(handleOf));
  return (handle) => !handles.has(handle);
}
