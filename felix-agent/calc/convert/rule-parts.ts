/** What every kind of rule is brought to before it becomes a `CalcRule`, and how it does. */
import type { Family } from '#api/cidr.ts';
import { Selector } from '#api/selector/selector.ts';
import type { SelectorNode } from '#api/selector/ast.ts';
import { protocolNumbers } from '#api/policy/protocols.ts';
import type { IcmpMatch, RuleAction, RuleId } from '#dataplanes/policy.ts';
import type { CalcPeer, CalcRule, SetSpec } from '../model.ts';
import { groupPorts, type Ports, type ProtocolPort } from './ports.ts';
import { namedPortSet, netsMatch, selectorSet, type NetsMatch, type ServiceSet } from './sets.ts';

/** One end of a rule. What is absent asks nothing. */
export interface PeerParts {
  /** Everything that the end must be selected by. */
  readonly selector?: SelectorNode | undefined;
  readonly notSelector?: SelectorNode | undefined;
  readonly nets?: readonly string[] | undefined;
  readonly notNets?: readonly string[] | undefined;
  readonly ports?: Ports | undefined;
  readonly notPorts?: Ports | undefined;
  /** A `service` set; with ports it is of {address, protocol, port}. */
  readonly service?: ServiceSet | undefined;
}

/** A rule without its id. */
export interface RuleParts {
  readonly action: RuleAction;
  readonly ipVersion?: Family | undefined;
  readonly protocol?: number | undefined;
  readonly notProtocol?: number | undefined;
  readonly icmp?: IcmpMatch | undefined;
  readonly notIcmp?: IcmpMatch | undefined;
  readonly source?: PeerParts | undefined;
  readonly destination?: PeerParts | undefined;
}

/** A rule of Kubernetes' policies: one for each protocol and each end that it is about (undefined: all). Ports are the destination's. */
export function combined(
  action: RuleAction,
  direction: 'ingress' | 'egress',
  ends: readonly (PeerParts | undefined)[],
  entries: readonly ProtocolPort[],
): readonly RuleParts[] {
  return groupPorts(entries).flatMap(({ protocol, ports }) =>
    ends.map((end): RuleParts =>
      direction === 'ingress'
        ? { action, protocol, source: end, destination: { ports } }
        : { action, protocol, destination: { ...end, ports } },
    ),
  );
}

const noSets: readonly SetSpec[] = Object.freeze([]);
const anyPeer: CalcPeer = Object.freeze({
  sets: noSets,
  notSets: noSets,
  ports: Object.freeze([]),
  portSets: noSets,
  notPorts: Object.freeze([]),
  notPortSets: noSets,
  ipPortSets: noSets,
});
const everything = new Selector(Object.freeze({ op: 'all' }));

/** The rule with its id. Throws `ConversionError` where a part can't be understood. */
export function calcRule(id: RuleId, parts: RuleParts): CalcRule {
  const source = peer(parts.source, parts.protocol);
  const destination = peer(parts.destination, parts.protocol);
  const ipVersion = parts.ipVersion ?? families([...source.nets, ...destination.nets]) ?? icmpFamily(parts);
  return {
    id,
    action: parts.action,
    ...(ipVersion === undefined ? {} : { ipVersion }),
    ...(parts.protocol === undefined ? {} : { protocol: parts.protocol }),
    ...(parts.notProtocol === undefined ? {} : { notProtocol: parts.notProtocol }),
    ...(parts.icmp === undefined ? {} : { icmp: parts.icmp }),
    ...(parts.notIcmp === undefined ? {} : { notIcmp: parts.notIcmp }),
    source: source.peer,
    destination: destination.peer,
  };
}

/**
 * A rule with networks, negated ones included, is about the family of its networks: `notNets: [10.0.0.0/8]` says nothing of IPv6 (as in
 * Calico). Undefined where there are none, or where one list has both families, as a ClusterNetworkPolicy's may.
 */
function families(matches: readonly NetsMatch[]): Family | undefined {
  return matches.find((match) => match.family !== undefined)?.family;
}

/** Types and codes exist in one family only. */
function icmpFamily({ icmp, notIcmp, protocol }: RuleParts): Family | undefined {
  if (icmp === undefined && notIcmp === undefined) {
    return undefined;
  }
  return protocol === protocolNumbers.ICMPv6 ? 6 : protocol === protocolNumbers.ICMP ? 4 : undefined;
}

function peer(
  parts: PeerParts | undefined,
  protocol: number | undefined,
): { readonly peer: CalcPeer; readonly nets: readonly NetsMatch[] } {
  if (parts === undefined) {
    return { peer: anyPeer, nets: [] };
  }
  const nets = netsMatch(parts.nets ?? []);
  const notNets = netsMatch(parts.notNets ?? []);
  const selector = parts.selector === undefined ? undefined : new Selector(parts.selector);
  const portSets = namedPorts(parts.ports, selector ?? everything, protocol);
  const ranges = parts.ports?.ranges ?? [];
  // Who has a named port of these endpoints is one of them: the set of the endpoints need not be asked as well.
  const implied = portSets.length > 0 && ranges.length === 0;
  return {
    nets: [nets, notNets],
    peer: {
      ...(nets.net === undefined ? {} : { net: nets.net }),
      ...(notNets.net === undefined ? {} : { notNet: notNets.net }),
      sets: present(
        implied || selector === undefined ? undefined : selectorSet(selector),
        nets.set,
        parts.service?.withPorts === false ? parts.service : undefined,
      ),
      notSets: present(
        parts.notSelector === undefined ? undefined : selectorSet(new Selector(parts.notSelector)),
        notNets.set,
      ),
      ports: ranges,
      portSets,
      notPorts: parts.notPorts?.ranges ?? [],
      notPortSets: namedPorts(parts.notPorts, selector ?? everything, protocol),
      ipPortSets: present(parts.service?.withPorts === true ? parts.service : undefined),
    },
  };
}

/** An endpoint's named port has a protocol of its own; it must be the rule's, which is TCP where the rule has none (as in Calico). */
function namedPorts(
  ports: Ports | undefined,
  selector: Selector,
  protocol: number = protocolNumbers.TCP,
): readonly SetSpec[] {
  return ports === undefined ? noSets : ports.names.map((name) => namedPortSet(selector, name, protocol));
}

function present(...specs: readonly (SetSpec | undefined)[]): readonly SetSpec[] {
  const found = specs.filter((spec) => spec !== undefined);
  return found.length === 0 ? noSets : found;
}
