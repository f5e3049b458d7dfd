import { loadAddon } from './addon.ts';
import type { Family, NetnsRef } from './types.ts';

/**
 * What a datagram over loopback showed. `active`: an entry made by ctnetlink translated it. `inactive`: it arrived untranslated. `unknown`,
 * with the reason: it didn't arrive (loopback is down, or a rule drops it), so that nothing is proven.
 */
export type NatProof =
  | { readonly state: 'active' | 'inactive' }
  | { readonly state: 'unknown'; readonly reason: string };

/**
 * Proves whether the kernel tracks and translates in the namespace (absent: where the process is), in one family. It registers its hooks for
 * both together, for all packets, forwarded ones too, when the first rule needs them: a rule with NAT in it; one that uses `ct state` beside a
 * NAT chain; not empty chains. There is no other way to ask on kernels without nfnetlink_hook.
 *
 * It makes an entry that translates the port of a datagram from 127.0.0.1 (::1) to itself, sends that datagram, looks where it arrives (within
 * 0.2 s; at once, usually), and deletes the entry. On a worker. Rejects with NetlinkFailures: `EPERM`; `EOPNOTSUPP` of a kernel without NAT.
 */
export async function proveNat(family: Family, ns?: NetnsRef): Promise<NatProof> {
  return await loadAddon<{ proveNat(family: Family, ns?: NetnsRef): Promise<NatProof> }>().proveNat(family, ns);
}
