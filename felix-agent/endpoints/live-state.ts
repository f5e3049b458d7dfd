import { withoutPrefix } from '#api/cidr.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import { aliasPart, type AliasParts } from '#cni/names.ts';
import type { Link, Netlink, Route } from '#native/types.ts';

/** What a starting agent finds in the kernel, set against what it knows. */
export interface LiveState {
  /** Known endpoints whose device is there, and theirs: they stay. */
  readonly alive: readonly LocalEndpoint[];
  /**
   * Known endpoints whose device is gone (reboot, namespace removed without a DEL), or is by now another container's: two sandboxes
   * of one pod have the same device name. They go.
   */
  readonly dead: readonly LocalEndpoint[];
  /** Our devices of which no endpoint knows: an ADD that never finished. They go. */
  readonly orphans: readonly Link[];
  /** Addresses routed to pod devices, whoever made them: never to be given out. */
  readonly routedAddresses: ReadonlySet<string>;
}

/** Reads links and routes of the node's namespace. `ownerOf` knows our devices, and whose they are, by their alias. */
export async function readLiveState(
  host: Netlink,
  known: readonly LocalEndpoint[],
  interfacePrefix: string,
  ownerOf: (link: Link) => AliasParts | undefined,
): Promise<LiveState> {
  const [links, routes] = await Promise.all([host.links(), host.routes()]);
  const byName = new Map(links.map((link) => [link.name, link]));
  const alive = known.filter((endpoint) => {
    const link = byName.get(endpoint.endpoint.spec.interfaceName);
    return link !== undefined && mayBeOf(ownerOf(link), endpoint);
  });
  const aliveNames = new Set(alive.map(({ endpoint }) => endpoint.spec.interfaceName));
  const orphans = links.filter((link) => ownerOf(link) !== undefined && !aliveNames.has(link.name));
  const orphanIndexes = new Set(orphans.map(({ index }) => index));
  const podIndexes = new Set(
    links
      .filter(
        ({ name, index }) => aliveNames.has(name) || (name.startsWith(interfacePrefix) && !orphanIndexes.has(index)),
      )
      .map(({ index }) => index),
  );
  return {
    alive,
    dead: known.filter((endpoint) => !alive.includes(endpoint)),
    orphans,
    routedAddresses: new Set(
      routes.filter((route) => isPodRoute(route, podIndexes)).map(({ dst }) => withoutPrefix(dst)),
    ),
  };
}

function isPodRoute({ dst, family, linkIndex, table }: Route, podIndexes: ReadonlySet<number>): boolean {
  return (
    table === 254 && linkIndex !== undefined && podIndexes.has(linkIndex) && dst.endsWith(family === 4 ? '/32' : '/128')
  );
}

/** A device without an alias of ours says nothing against the endpoint that names it. */
function mayBeOf(owner: AliasParts | undefined, { endpoint, ifname }: LocalEndpoint): boolean {
  if (owner === undefined) return true;
  return owner.containerId === aliasPart(endpoint.spec.containerID ?? '') && owner.ifname === ifname;
}
