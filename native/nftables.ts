import { loadAddon } from './addon.ts';
import type { NetnsRef } from './types.ts';

/** A table of nf_tables, whoever made it. */
export interface NftTable {
  /** `inet`, `ip`, `ip6`, `arp`, `bridge`, `netdev`. */
  readonly family: string;
  readonly name: string;
}

/** A chain that packets enter at a hook. Facts: nft(8), linux/netfilter/nf_tables.h. */
export interface NftBaseChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  /** `filter`, `nat`, `route`. */
  readonly type: string;
  /** `prerouting`, `input`, `forward`, `output`, `postrouting`, `ingress`, `egress`. */
  readonly hook: string;
  /** Lower ones come first. */
  readonly priority: number;
  /** What becomes of a packet that no rule decides. */
  readonly policy: 'accept' | 'drop';
}

/** What is in nf_tables, iptables-nft's tables included. */
export interface NftRuleset {
  readonly tables: readonly NftTable[];
  readonly baseChains: readonly NftBaseChain[];
}

interface NftablesAddon {
  nftables(ns?: NetnsRef): Promise<NftRuleset>;
}

/**
 * Tables and base chains of a namespace (absent: where the process is), over netlink, on a worker. Rejects with NetlinkFailure's fields:
 * `EPERM` without CAP_NET_ADMIN, `EINVAL` or `EOPNOTSUPP` when the kernel has no nf_tables.
 */
export async function readNftables(ns?: NetnsRef): Promise<NftRuleset> {
  return await loadAddon<NftablesAddon>().nftables(ns);
}
