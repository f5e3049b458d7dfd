import { containsIp, tryParseIp, withoutPrefix } from '#api/cidr.ts';
import type { FactsSource } from '#ipam/facts.ts';
import type { NodeIpam } from '#ipam/node-ipam.ts';
import type { Metrics, Sample } from '../metrics/metrics.ts';

/** Calico's label for what lies in no pool (any more). */
const noPool = 'no_ippool';

/** What the metrics of addresses are read from. */
export interface AddressSources {
  readonly nodeName: string;
  readonly ipam: Pick<NodeIpam, 'owned' | 'ownBlocks'>;
  readonly facts: FactsSource;
}

/** Calico's metrics of addresses; each agent has its own node's part, the reserve left out: their sum is the cluster's. */
export interface AddressMetrics {
  /** Where the candidates for release come from. */
  watchCandidates(candidates: () => readonly string[]): void;
  /** Counts addresses of a node that were reclaimed. */
  onReclaimed(node: string, addresses: readonly string[]): void;
}

/** Ties the metrics to where their values are. */
export function watchAddresses(metrics: Metrics, { nodeName, ipam, facts }: AddressSources): AddressMetrics {
  const poolOf = (text: string): string => {
    const ip = tryParseIp(text);
    const pool = ip && facts.current()?.pools.find(({ cidr }) => containsIp(cidr, ip));
    return pool?.name ?? noPool;
  };
  const byPool = (addresses: readonly string[]): readonly Sample[] => {
    const counts = new Map<string, number>();
    for (const pool of addresses.map(poolOf)) counts.set(pool, (counts.get(pool) ?? 0) + 1);
    return [...counts].map(([ippool, value]) => ({ value, labels: { ippool, node: nodeName } }));
  };
  metrics.read('ipam_allocations_in_use', () => byPool(ipam.owned().map(({ address }) => address)));
  metrics.read('ipam_allocations_borrowed', () => {
    const own = new Set(ipam.ownBlocks());
    return byPool(ipam.owned().flatMap(({ address, cidr }) => (own.has(cidr) ? [] : [address])));
  });
  metrics.read('ipam_blocks', () => byPool(ipam.ownBlocks().map(withoutPrefix)));
  return {
    watchCandidates: (candidates) => metrics.read('ipam_allocations_gc_candidates', () => byPool(candidates())),
    onReclaimed: (node, addresses) => {
      for (const address of addresses) {
        metrics.add('ipam_allocations_gc_reclamations', 1, { ippool: poolOf(address), node });
      }
    },
  };
}
