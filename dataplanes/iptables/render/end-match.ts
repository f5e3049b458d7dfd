import { familyOf } from '#api/cidr.ts';
import type { Family } from '#native/types.ts';
import type { CidrText } from '../../messages.ts';
import type { PeerMatch, PortRange, SetId } from '../../policy.ts';
import { policySetName } from './names.ts';
import { words } from './text.ts';

/** Which end of a packet, and how iptables names it. */
export type End = 'source' | 'destination';
const END_WORDS = {
  source: { address: '-s', ports: '--sports', set: 'src' },
  destination: { address: '-d', ports: '--dports', set: 'dst' },
} as const;

/** What is asked of one end: `inline` is ANDed in the deciding rule; `any` and `none` are rules of their own, before it. */
export interface EndMatch {
  /** In the order in which the kernel should try them, the cheap ones first. */
  readonly inline: readonly string[];
  /** Not empty: at least one of these must match. */
  readonly any: readonly string[];
  /** None of these may match. */
  readonly none: readonly string[];
}

/** Protocols whose ports the multiport match knows: TCP, UDP, DCCP, SCTP, UDP-Lite. */
const PORT_PROTOCOLS = [6, 17, 33, 132, 136];
/** Ports of one multiport match; a range counts twice (XT_MULTI_PORTS). */
const MULTIPORT_SLOTS = 15;

/** One end of a rule for one family, or undefined where no packet of the family can match. `protocol` is the rule's. */
export function endMatch(
  end: End,
  peer: PeerMatch,
  protocol: number | undefined,
  family: Family,
): EndMatch | undefined {
  const address = addressMatch(end, peer, family);
  const ports = portMatch(end, peer, protocol, family);
  if (address === undefined || ports === undefined) return undefined;
  const { set } = END_WORDS[end];
  const inline = [
    ...address.inline,
    ...ports.inline,
    // Sets last: a look-up costs more than anything before it.
    ...peer.sets.map((id) => setMatch(family, id, set)),
    ...peer.notSets.map((id) => setMatch(family, id, set, '!')),
    ...peer.ipPortSets.map((id) => setMatch(family, id, `${set},${set}`)),
    ...peer.notPortSets.map((id) => setMatch(family, id, `${set},${set}`, '!')),
  ];
  return { inline, any: ports.any, none: [...address.none, ...ports.none] };
}

/** iptables takes one address per rule and end, so of `net` and `notNet` together the exception becomes a rule of its own. */
function addressMatch(end: End, { net, notNet }: PeerMatch, family: Family): Omit<EndMatch, 'any'> | undefined {
  const { address } = END_WORDS[end];
  if ([net, notNet].some((cidr) => cidr !== undefined && familyOf(cidr) !== family)) return undefined;
  if (notNet !== undefined && isEverything(notNet)) return undefined;
  const positive = net === undefined || isEverything(net) ? [] : [words(address, net)];
  if (notNet === undefined) return { inline: positive, none: [] };
  if (positive.length === 0) return { inline: [words('!', address, notNet)], none: [] };
  return { inline: positive, none: [words(address, notNet)] };
}

function portMatch(end: End, peer: PeerMatch, protocol: number | undefined, family: Family): EndMatch | undefined {
  const { ports, set } = END_WORDS[end];
  const protocols = PORT_PROTOCOLS.filter((number) => protocol === undefined || number === protocol);
  // A match of ports needs its protocol in the same rule: the deciding rule has it already, others get their own.
  const alone = (ranges: readonly PortRange[]): string[] =>
    protocols.flatMap((number) => chunks(ranges).map((chunk) => `-p ${number} -m multiport ${ports} ${chunk}`));
  const named = peer.portSets.map((id) => setMatch(family, id, `${set},${set}`));

  const asked = peer.ports.length + peer.portSets.length > 0;
  const any = [...alone(peer.ports), ...named];
  if (asked && any.length === 0) return undefined; // Ports of a protocol that has none.
  const isOne = any.length === 1 && (named.length === 1 || protocol !== undefined);
  const one = named.length === 1 ? named : chunks(peer.ports).map((chunk) => `-m multiport ${ports} ${chunk}`);
  const isNegatedInline = protocol !== undefined && protocols.length > 0;
  const negated = chunks(peer.notPorts).map((chunk) => `-m multiport ! ${ports} ${chunk}`);
  return {
    inline: [...(isOne ? one : []), ...(isNegatedInline ? negated : [])],
    any: isOne ? [] : any,
    none: protocol === undefined ? alone(peer.notPorts) : [],
  };
}

/** The ranges as values of multiport matches. */
function chunks(ranges: readonly PortRange[]): string[] {
  const lists: string[][] = [];
  let slots = MULTIPORT_SLOTS;
  for (const { min, max } of ranges) {
    const needed = min === max ? 1 : 2;
    if (slots + needed > MULTIPORT_SLOTS) {
      lists.push([]);
      slots = 0;
    }
    slots += needed;
    lists.at(-1)?.push(min === max ? `${min}` : `${min}:${max}`);
  }
  return lists.map((list) => list.join(','));
}

function setMatch(family: Family, id: SetId, dimensions: string, not: '' | '!' = ''): string {
  return words('-m set', not, '--match-set', policySetName(family, id), dimensions);
}

const isEverything = (cidr: CidrText): boolean => cidr.endsWith('/0');
