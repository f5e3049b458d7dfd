import { tryParseIp, type Family } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import type { HostInfo, IpText } from '#dataplanes/messages.ts';

/** A Node's addresses: the first InternalIP of each family, canonical: a cloud's may be in any spelling. */
export function hostInfo(node: KindMap['Node']): HostInfo {
  const internal = (node.status?.addresses ?? []).flatMap(({ type, address }) =>
    type === 'InternalIP' ? (tryParseIp(address) ?? []) : [],
  );
  const first = (family: Family): IpText | undefined => internal.find((ip) => ip.family === family)?.text;
  const [ipv4, ipv6] = [first(4), first(6)];
  return { ...(ipv4 === undefined ? {} : { ipv4 }), ...(ipv6 === undefined ? {} : { ipv6 }) };
}
