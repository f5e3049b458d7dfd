import type { LocalEndpoint } from '#cni/deps.ts';
import type { Link, Netlink, Route } from '#native/types.ts';

/** What a starting agent finds in the kernel, set against what it knows. */
export interface LiveState {
  /** Known endpoints whose device is there: they stay. */
  readonly alive: readonly LocalEndpoint[];
  /** Known endpoints whose device is gone (reboot, namespace removed without a DEL): they go. */
  readonly dead: readonly LocalEndpoint[];
  /** Our devices of which no endpoint knows: an ADD that never finished. They go. */
  readonly orphans: readonly Link[];
  /** Addresses routed to pod devices, whoever made them: never to be given out. */
  readonly routedAddresses: ReadonlySet<string>;
}

/** Reads links and routes of the node's namespace. `isOurs` knows our devices by their alias. */
export async function readLiveState(
  host: Netlink,
  known: readonly LocalEndpoint[],
  interfacePrefix: string,
  isOurs: (link: Link) => boolean,
): Promise<LiveState> {
  const [links, routes] = await Promise.all([host.links(), host.routes()]);
  const byName = new Map(links.map((link) => [link.name, link]));
  const alive = known.filter(({ endpoint }) => byName.has(endpoint.spec.interfaceName));
  const aliveNames = new Set(alive.map(({ endpoint }) => endpoint.spec.interfaceName));
  const orphans = links.filter((link) => isOurs(link) && !aliveNames.has(link.name));
  const orphanIndexes = new Set(orphans.map(({ index }) => index));
  const podIndexes = new Set(
    links
      .filter(({ name, index }) => name.startsWith(interfacePrefix) && !orphanIndexes.has(index))
      .map(({ index }) => index),
  );
  return {
    alive,
    dead: known.filter((endpoint) => !alive.includes(endpoint)),
    orphans,
    routedAddresses: new Set(
      routes.filter((route) => isPodRoute(route, podIndexes)).map(({ dst }) => dst.split('/')[0] ?? dst),
    ),
  };
}

function isPodRoute({ dst, family, linkIndex, table }: Route, podIndexes: ReadonlySet<number>): boolean {
  return (
    table === 254 && linkIndex !== undefined && podIndexes.has(linkIndex) && dst.endsWith(family === 4 ? '/32' : '/128')
  );
}
