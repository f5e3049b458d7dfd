import { protocolText } from '#api/policy/protocols.ts';
import type { IcmpMatch, PeerMatch, PortRange, RuleInfo, SetId } from '#dataplanes/policy.ts';
import type { PolicyView } from './policy-view.ts';

/** A rule in one line, as people say it: `allow tcp from {role == "web"} (3 members) to port 80, 443`. */
export function ruleText(rule: RuleInfo, view: PolicyView): string {
  const { action, ipVersion, protocol, notProtocol, icmp, notIcmp } = rule;
  return [
    action,
    ipVersion === undefined ? '' : `IPv${ipVersion}`,
    protocol === undefined ? '' : protocolText(protocol),
    notProtocol === undefined ? '' : `not ${protocolText(notProtocol)}`,
    icmp === undefined ? '' : icmpText(icmp),
    notIcmp === undefined ? '' : `not ${icmpText(notIcmp)}`,
    peerText('from', rule.source, view),
    peerText('to', rule.destination, view),
  ]
    .filter((part) => part !== '')
    .join(' ');
}

/** `ICMP type 8 code 0`. */
export function icmpText({ type, code }: IcmpMatch): string {
  return `ICMP type ${type}${code === undefined ? '' : ` code ${code}`}`;
}

/** What a set stands for and how big it is: `{role == "web"} (3 members)`. */
export function setText(id: SetId, view: PolicyView): string {
  const set = view.set(id);
  if (set === undefined) return `{${id}} (not announced)`;
  const { size } = set.members;
  return `{${set.about ?? id}} (${size} ${size === 1 ? 'member' : 'members'})`;
}

/** `80, 1000:2000, {named port http} (2 members)`. */
export function portsText(ranges: readonly PortRange[], sets: readonly SetId[], view: PolicyView): string {
  const texts = ranges.map(({ min, max }) => (min === max ? String(min) : `${min}:${max}`));
  return [...texts, ...sets.map((id) => setText(id, view))].join(', ');
}

function peerText(preposition: 'from' | 'to', peer: PeerMatch, view: PolicyView): string {
  const { net, notNet, sets, notSets, ports, portSets, notPorts, notPortSets, ipPortSets } = peer;
  const parts = [
    ...(net === undefined ? [] : [net]),
    ...(notNet === undefined ? [] : [`not ${notNet}`]),
    ...sets.map((id) => setText(id, view)),
    ...notSets.map((id) => `not ${setText(id, view)}`),
    ...(ports.length + portSets.length === 0 ? [] : [`port ${portsText(ports, portSets, view)}`]),
    ...(notPorts.length + notPortSets.length === 0 ? [] : [`not port ${portsText(notPorts, notPortSets, view)}`]),
    ...ipPortSets.map((id) => setText(id, view)),
  ];
  return parts.length === 0 ? '' : `${preposition} ${parts.join(' and ')}`;
}
