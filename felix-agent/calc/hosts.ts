import type { KindMap } from '#api/kinds.ts';
import type { HostInfo } from '#dataplanes/messages.ts';

/** A Node's addresses: the first InternalIP of each family. */
export function hostInfo(node: KindMap['Node']): HostInfo {
  const internal = (node.status?.addresses ?? [])
    .filter((address) => address.type === 'InternalIP')
    .map((address) => address.address);
  const ipv4 = internal.find((address) => !address.includes(':'));
  const ipv6 = internal.find((address) => address.includes(':'));
  return { ...(ipv4 === undefined ? {} : { ipv4 }), ...(ipv6 === undefined ? {} : { ipv6 }) };
}
