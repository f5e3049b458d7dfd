import { bitsOf, containsIp, parseCidr, parseIp, type Ip } from '#api/cidr.ts';
import type { IcmpMatch, PeerMatch, PortRange, RuleInfo, SetId } from '#dataplanes/policy.ts';
import { familyOfPacket, type Packet } from './packet.ts';
import type { PolicyView, SetView } from './policy-view.ts';
import { icmpText, portsText, setText } from './rule-text.ts';

type Side = 'source' | 'destination';

/** Why the rule does not match the packet, in a few words; undefined when it does. */
export function mismatch(rule: RuleInfo, packet: Packet, view: PolicyView): string | undefined {
  return (
    mismatchOfProtocol(rule, packet) ??
    mismatchOfPeer('source', rule.source, packet, view) ??
    mismatchOfPeer('destination', rule.destination, packet, view)
  );
}

function mismatchOfProtocol(rule: RuleInfo, packet: Packet): string | undefined {
  const { ipVersion, protocol, notProtocol, icmp, notIcmp } = rule;
  if (ipVersion !== undefined && ipVersion !== familyOfPacket(packet)) return `it is for IPv${ipVersion}`;
  if (protocol !== undefined && protocol !== packet.protocol) return `it is for protocol ${protocol}`;
  if (notProtocol === packet.protocol) return `it is for everything but protocol ${notProtocol}`;
  if (icmp !== undefined && !isIcmp(icmp, packet)) return `it is for ${icmpText(icmp)}`;
  if (notIcmp !== undefined && isIcmp(notIcmp, packet)) return `it is for everything but ${icmpText(notIcmp)}`;
  return undefined;
}

function isIcmp({ type, code }: IcmpMatch, packet: Packet): boolean {
  return packet.icmpType === type && (code === undefined || packet.icmpCode === code);
}

function mismatchOfPeer(side: Side, peer: PeerMatch, packet: Packet, view: PolicyView): string | undefined {
  const address = side === 'source' ? packet.source : packet.destination;
  const ip = parseIp(address);
  if (peer.net !== undefined && !netHas(peer.net, ip)) return `${side} ${address} is not in ${peer.net}`;
  if (peer.notNet !== undefined && netHas(peer.notNet, ip)) return `${side} ${address} is in ${peer.notNet}`;
  const missing = peer.sets.find((id) => !setHasAddress(view.set(id), ip, address));
  if (missing !== undefined) return `${side} ${address} is not in set ${setText(missing, view)}`;
  const found = peer.notSets.find((id) => setHasAddress(view.set(id), ip, address));
  if (found !== undefined) return `${side} ${address} is in set ${setText(found, view)}`;
  return mismatchOfPort(side, peer, packet, view);
}

function mismatchOfPort(side: Side, peer: PeerMatch, packet: Packet, view: PolicyView): string | undefined {
  const port = side === 'source' ? packet.sourcePort : packet.destinationPort;
  const asksPort = peer.ports.length + peer.portSets.length > 0;
  if (asksPort && !isPort(side, peer.ports, peer.portSets, packet, view)) {
    return `${side} port ${port ?? '(none)'} is not ${portsText(peer.ports, peer.portSets, view)}`;
  }
  if (isPort(side, peer.notPorts, peer.notPortSets, packet, view)) {
    return `${side} port ${port ?? '(none)'} is ${portsText(peer.notPorts, peer.notPortSets, view)}`;
  }
  const missing = peer.ipPortSets.find((id) => !setHasPort(side, view.set(id), packet));
  return missing === undefined ? undefined : `${side} is not a backend in set ${setText(missing, view)}`;
}

function isPort(
  side: Side,
  ranges: readonly PortRange[],
  sets: readonly SetId[],
  packet: Packet,
  view: PolicyView,
): boolean {
  const port = side === 'source' ? packet.sourcePort : packet.destinationPort;
  return (
    (port !== undefined && ranges.some(({ min, max }) => port >= min && port <= max)) ||
    sets.some((id) => setHasPort(side, view.set(id), packet))
  );
}

function netHas(net: string, ip: Ip): boolean {
  const cidr = parseCidr(net);
  return cidr.family === ip.family && containsIp(cidr, ip);
}

/** A single address is looked up; networks are gone through: this runs when somebody asks, not per packet. */
function setHasAddress(set: SetView | undefined, ip: Ip, address: string): boolean {
  if (set === undefined) return false;
  if (set.members.has(`${address}/${bitsOf(ip.family)}`)) return true;
  for (const member of set.members) if (netHas(member, ip)) return true;
  return false;
}

function setHasPort(side: Side, set: SetView | undefined, packet: Packet): boolean {
  const address = side === 'source' ? packet.source : packet.destination;
  const port = side === 'source' ? packet.sourcePort : packet.destinationPort;
  return set?.members.has(`${address},${packet.protocol}:${port ?? ''}`) === true;
}
