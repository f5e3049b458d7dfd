import { annotation } from '#api/annotations.ts';
import { bitsOf, withoutPrefix, type Family } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import { hostInfo } from '../calc/hosts.ts';

type Node = KindMap['Node'];

const annotationOf: Readonly<Record<Family, string>> = { 4: annotation.nodeIPv4, 6: annotation.nodeIPv6 };

/**
 * The annotations of this node that must change, null for what must go; empty if none. They say the Node's InternalIP of each family with the
 * prefix length of its subnet, as a device of the node has it (`addresses`: with prefix lengths). While no device has it (it comes late, or a cloud translates it)
 * the node counts as alone in its subnet: /32 or /128.
 */
export function annotationChanges(node: Node, addresses: readonly string[]): Readonly<Record<string, string | null>> {
  const { ipv4, ipv6 } = hostInfo(node);
  const changes: Record<string, string | null> = {};
  for (const [family, ip] of [[4, ipv4] as const, [6, ipv6] as const]) {
    const name = annotationOf[family];
    const onDevice = addresses.find((address) => withoutPrefix(address) === ip);
    const wanted = ip === undefined ? null : (onDevice ?? `${ip}/${bitsOf(family)}`);
    if (wanted !== (node.metadata.annotations?.[name] ?? null)) changes[name] = wanted;
  }
  return changes;
}

/** True while the scheduler may take the node for one without network: a cloud controller says so of a new Node, and some say it again. */
export function mustReportNetwork(node: Node): boolean {
  return node.status.conditions.find(({ type }) => type === 'NetworkUnavailable')?.status !== 'False';
}
