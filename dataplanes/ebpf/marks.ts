import type { DataplaneConfig } from '../messages.ts';

/** Bits of a packet's mark by which programs and netfilter's rules tell each other what they know. */
export interface PacketMarks {
  /** A pod's program has judged it and given it to the node's stack. */
  readonly seen: number;
  /** The node itself sends it. */
  readonly host: number;
  /** A host endpoint lets it pass through the node, not to the node; 0: there is no bit for it, nor for the next two. */
  readonly notLocal: number;
  /** Untracked policy of a host endpoint has allowed it. */
  readonly untracked: number;
  /** preDNAT policy of a host endpoint has allowed it. */
  readonly preAccepted: number;
}

/**
 * The mask's lowest bits are those of the iptables dataplane's rules (which clear them in raw PREROUTING): while one dataplane takes over
 * from the other both are at work, so ours come after them.
 */
const IPTABLES_BITS = 5;
const HOST_ENDPOINT_BITS = 3;
const names = ['seen', 'host'] as const satisfies readonly (keyof PacketMarks)[];

/**
 * Shares out the mask: its sixth and seventh lowest bit, and the three after them for host endpoints. Throws (`code` `E_MARK_BITS`) where it has too
 * few for pods.
 */
export function packetMarks({ markMask }: Pick<DataplaneConfig, 'markMask'>): PacketMarks {
  const bits = Array.from({ length: 32 }, (_, index) => 2 ** index).filter((bit) => (markMask & bit) !== 0);
  const [seen, host, ...rest] = bits.slice(IPTABLES_BITS);
  const [notLocal = 0, untracked = 0, preAccepted = 0] = rest.length < HOST_ENDPOINT_BITS ? [] : rest;
  if (seen !== undefined && host !== undefined) return { seen, host, notLocal, untracked, preAccepted };
  throw Object.assign(
    new Error(
      `iptablesMarkMask (FELIX_IPTABLESMARKMASK) is 0x${(markMask >>> 0).toString(16)}, which has ${bits.length} bits: ` +
        `the eBPF dataplane needs ${IPTABLES_BITS + names.length}, of which it takes the last two (${names.join(', ')}); ` +
        `set it to a mask with more bits that no other program uses`,
    ),
    { code: 'E_MARK_BITS' },
  );
}

/** Why there can be no host endpoints with this mask; undefined: there can. */
export function hostMarksMissing(config: Pick<DataplaneConfig, 'markMask'>): string | undefined {
  if (packetMarks(config).notLocal !== 0) return undefined;
  const needed = IPTABLES_BITS + names.length + HOST_ENDPOINT_BITS;
  return (
    `iptablesMarkMask (FELIX_IPTABLESMARKMASK) is 0x${(config.markMask >>> 0).toString(16)}: host endpoints need ${needed} bits in the eBPF ` +
    `dataplane; set it to a mask with more bits that no other program uses`
  );
}
