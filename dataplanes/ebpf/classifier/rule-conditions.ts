import { type Family, familyOf } from '#api/cidr.ts';
import { Dimension, PortTable } from '../bpf-types.gen.ts';
import type { PeerMatch, PortRange, RuleInfo } from '../../policy.ts';
import { portTablesOf } from './ports.ts';

/** A trait by name: where its members are found. */
export type TraitName =
  | { readonly kind: 'set'; readonly set: string }
  | { readonly kind: 'net'; readonly net: string }
  | { readonly kind: 'ports'; readonly table: number; readonly min: number; readonly max: number }
  | { readonly kind: 'ipPort'; readonly set: string };

/** What a rule asks in one dimension: all of these traits, of each group at least one, none of those. */
export interface Condition<T = TraitName> {
  readonly all: readonly T[];
  readonly any: readonly (readonly T[])[];
  readonly none: readonly T[];
}

/** By dimension. */
export type Conditions = readonly [Condition, Condition, Condition, Condition];

/** What every packet meets; the same object wherever a rule asks nothing. */
export const NOTHING: Condition<never> = { all: [], any: [], none: [] };

const LAST = 65_535;
const WITH_PORTS = [6, 17, 132];

/** ICMP's number in the family. */
const icmpOf = (family: Family): number => (family === 4 ? 1 : 58);

/**
 * True if packets of the family can match: addresses are of one family, so what names one of the other says nothing of ours; ICMP types
 * exist in the family's own ICMP alone.
 */
export function canMatch({ ipVersion, protocol, notProtocol, icmp, source, destination }: RuleInfo, family: Family) {
  const nets = [source.net, source.notNet, destination.net, destination.notNet];
  return (
    (ipVersion === undefined || ipVersion === family) &&
    (protocol === undefined || protocol !== notProtocol) &&
    (icmp === undefined || protocol === undefined || protocol === icmpOf(family)) &&
    nets.every((net) => net === undefined || familyOf(net) === family) &&
    ![source.notNet, destination.notNet].some((net) => net?.endsWith('/0') === true)
  );
}

/** What a rule asks of a packet of the family, by dimension. Ports are those of TCP, UDP and SCTP; other protocols have none. */
export function conditionsOf(rule: RuleInfo, family: Family): Conditions {
  const { source, destination, protocol, notProtocol, icmp, notIcmp } = rule;
  const types = ({ type, code }: NonNullable<typeof icmp>): TraitName => ({
    kind: 'ports',
    table: family === 4 ? PortTable.icmp : PortTable.icmpv6,
    min: (type << 8) | (code ?? 0),
    max: (type << 8) | (code ?? 255),
  });
  const service = portCondition(destination, protocol, 'destination');
  const conditions: Condition[] = [];
  conditions[Dimension.source] = addressCondition(source);
  conditions[Dimension.destination] = addressCondition(destination);
  conditions[Dimension.service] = {
    all: [
      ...(protocol === undefined ? [] : [protocolTrait(protocol, family)]),
      ...(icmp === undefined ? [] : [types(icmp)]),
      ...service.all,
    ],
    any: service.any,
    none: [
      ...(notProtocol === undefined ? [] : [protocolTrait(notProtocol, family)]),
      ...(notIcmp === undefined ? [] : [types(notIcmp)]),
      ...service.none,
    ],
  };
  conditions[Dimension.sourcePort] = portCondition(source, protocol, 'source');
  return conditions as unknown as Conditions;
}

function addressCondition({ net, notNet, sets, notSets }: PeerMatch): Condition {
  if (net === undefined && notNet === undefined && sets.length + notSets.length === 0) return NOTHING;
  const nets = (cidr: string | undefined): TraitName[] =>
    cidr === undefined || cidr.endsWith('/0') ? [] : [{ kind: 'net', net: cidr }];
  const named = (ids: readonly string[]): TraitName[] => ids.map((set) => ({ kind: 'set', set }));
  return { all: [...nets(net), ...named(sets)], any: [], none: [...nets(notNet), ...named(notSets)] };
}

function portCondition(peer: PeerMatch, protocol: number | undefined, end: 'source' | 'destination'): Condition {
  const { ports, notPorts, ipPortSets, portSets, notPortSets } = peer;
  if (ports.length + notPorts.length + ipPortSets.length + portSets.length + notPortSets.length === 0) return NOTHING;
  const protocols = WITH_PORTS.filter((number) => protocol === undefined || number === protocol);
  const inRanges = (ranges: readonly PortRange[]): TraitName[] =>
    protocols.flatMap((number) => {
      const table = portTablesOf(number)?.[end];
      return table === undefined ? [] : ranges.map(({ min, max }) => ({ kind: 'ports', table, min, max }));
    });
  const named = (ids: readonly string[]): TraitName[] => ids.map((set) => ({ kind: 'ipPort', set }));
  const asked = peer.ports.length + peer.portSets.length > 0;
  return {
    all: named(peer.ipPortSets),
    // An empty group is one that nothing is in: ports of a protocol that has none.
    any: asked ? [[...inRanges(peer.ports), ...named(peer.portSets)]] : [],
    none: [...inRanges(peer.notPorts), ...named(peer.notPortSets)],
  };
}

function protocolTrait(protocol: number, family: Family): TraitName {
  const table =
    protocol === icmpOf(family)
      ? family === 4
        ? PortTable.icmp
        : PortTable.icmpv6
      : portTablesOf(protocol)?.destination;
  return table === undefined
    ? { kind: 'ports', table: PortTable.other, min: protocol, max: protocol }
    : { kind: 'ports', table, min: 0, max: LAST };
}

/** Equal for equal traits. */
export function traitKey(trait: TraitName): string {
  switch (trait.kind) {
    case 'set':
    case 'ipPort':
      return `${trait.kind} ${trait.set}`;
    case 'net':
      return `net ${trait.net}`;
    case 'ports':
      return `ports ${trait.table} ${trait.min}-${trait.max}`;
  }
}
