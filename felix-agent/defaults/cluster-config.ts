import { isLinkLocal, tryParseCidr, type Cidr, type Family } from '#api/cidr.ts';
import { blockSizes } from '#api/v3/ip-pool.ts';

/** The ConfigMap that says how Tortie is set up in a cluster; the manifest brings it with empty values. */
export const clusterConfigKey = { namespace: 'kube-system', name: 'tortie-config' } as const;
const where = `ConfigMap ${clusterConfigKey.namespace}/${clusterConfigKey.name}`;

/** What the ConfigMap says of the objects that agents make. */
export interface ClusterConfig {
  /** The ranges of the default pools; undefined: the cluster is asked. */
  readonly ranges: Readonly<Record<Family, Cidr | undefined>>;
  /** False: no pool is made; pods get addresses when somebody makes one. */
  readonly defaultPools: boolean;
  /** Values that can't be used, each with ConfigMap and key. */
  readonly problems: readonly string[];
}

/**
 * Reads `data` of the ConfigMap: `podCIDR`, `podCIDRv6` (networks) and `defaultPools` (`true` or `false`). A key that is missing or empty says
 * nothing; without the ConfigMap nothing is said. Other keys are for others.
 */
export function parseClusterConfig(data: Readonly<Record<string, string>> = {}): ClusterConfig {
  const problems: string[] = [];
  const value = (key: string) => data[key]?.trim() ?? '';
  const range = (key: string, family: Family): Cidr | undefined => {
    const text = value(key);
    if (text === '') return undefined;
    const network = tryParseCidr(text);
    if (network !== undefined && network.family === family && isPoolRange(network)) return network;
    problems.push(`${where}: ${key} must be ${rangeText[family]} (is ${JSON.stringify(text)})`);
    return undefined;
  };
  const ranges = { 4: range('podCIDR', 4), 6: range('podCIDRv6', 6) };
  const pools = value('defaultPools');
  if (pools !== '' && pools !== 'true' && pools !== 'false') {
    problems.push(`${where}: defaultPools must be "true" or "false" (is ${JSON.stringify(pools)})`);
  }
  return { ranges, defaultPools: pools !== 'false', problems };
}

/** True if a pool may have this range: room for a block, and valid beyond one link. */
export function isPoolRange(network: Cidr): boolean {
  return network.prefix <= blockSizes[network.family].default && !isLinkLocal(network);
}

const rangeText: Readonly<Record<Family, string>> = {
  4: `an IPv4 network with room for a /${blockSizes[4].default}, not link-local, e.g. 10.65.0.0/16`,
  6: `an IPv6 network with room for a /${blockSizes[6].default}, not link-local, e.g. fd65::/48`,
};
