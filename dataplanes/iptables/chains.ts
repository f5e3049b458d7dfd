import type { Table } from '../netfilter/table.ts';
import { wlSourceSet } from './wl-source.ts';

/** What the iptables dataplane puts into one family's tables. Nothing here depends on a pod. */

/**
 * ICMPv6 types that a pod may send from its link-local address: neighbour solicitation and advertisement (it must find the node's
 * end), and multicast listener reports and done messages of both versions (RFC 4861, 2710, 3810; a report is what makes the kernel's own
 * solicited-node groups known). They never leave the link: routers don't forward link-local sources (RFC 4291 2.5.6).
 */
const LINK_LOCAL_ICMP6_TYPES = [135, 136, 131, 132, 143];

/**
 * raw PREROUTING, before connection tracking: what comes from a pod device must be a {source, device} pair of the set. So a device
 * that isn't announced gets nothing through, and neither does a forged source.
 */
export function setRawChains(table: Table, interfacePrefixes: readonly string[]): void {
  const { family } = table;
  const pods = interfacePrefixes.map((prefix) => `-i ${prefix}+`);
  const check = pods.map((from) => `${from} -m set ! --match-set ${wlSourceSet(family)} src,src -j DROP`);
  if (family === 6) {
    table.setChain('cali-wl-link-local', [
      ...LINK_LOCAL_ICMP6_TYPES.map((type) => `-p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j RETURN`),
      '-j DROP',
    ]);
  }
  const linkLocal = family === 6 ? pods.map((from) => `${from} -s fe80::/64 -g cali-wl-link-local`) : [];
  table.setChain('cali-PREROUTING', [...linkLocal, ...check]);
  table.setHook('PREROUTING', { first: ['-j cali-PREROUTING'] });
}

/**
 * filter FORWARD, at its end: what comes from or goes to a pod is accepted, whatever the chain's policy (Docker sets DROP). Other
 * programs' rules come first and are obeyed. Input and output of the node are left alone.
 */
export function setFilterChains(table: Table, interfacePrefixes: readonly string[]): void {
  table.setChain(
    'cali-FORWARD',
    interfacePrefixes.flatMap((prefix) => [`-i ${prefix}+ -j ACCEPT`, `-o ${prefix}+ -j ACCEPT`]),
  );
  table.setHook('FORWARD', { last: ['-j cali-FORWARD'] });
}
