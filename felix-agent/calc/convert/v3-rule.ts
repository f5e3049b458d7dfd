/** Rules of projectcalico.org/v3. */
import { familyOf, type Family } from '#api/cidr.ts';
import { protocolNumber, protocolNumbers } from '#api/policy/protocols.ts';
import type { EntityRule, Rule } from '#api/v3/rule.ts';
import type { IcmpMatch, RuleAction } from '#dataplanes/policy.ts';
import { parsePorts } from './ports.ts';
import { ConversionError } from './problem.ts';
import type { PeerParts, RuleParts } from './rule-parts.ts';
import type { Direction, PartsOf } from './rules.ts';
import { parsed, peerNode } from './selectors.ts';
import { serviceSet } from './sets.ts';

const actions: Readonly<Record<Rule['action'], RuleAction>> = {
  Allow: 'allow',
  Deny: 'deny',
  Log: 'log',
  Pass: 'pass',
};

export function v3Action(rule: Rule): RuleAction {
  return actions[rule.action];
}

/** The parts of rules of a policy of this namespace (undefined: a cluster-wide one). */
export function v3Parts(namespace: string | undefined): PartsOf<Rule> {
  return (rule, direction) => {
    if (rule.http !== undefined) {
      throw new ConversionError('http is not enforced here, and without it the rule would match more than it says');
    }
    return notIcmpParts(rule, {
      action: v3Action(rule),
      ipVersion: rule.ipVersion,
      protocol: protocol(rule.protocol),
      notProtocol: protocol(rule.notProtocol),
      icmp: icmp(rule.icmp),
      source: peerParts(rule.source, namespace, 'source', direction),
      destination: peerParts(rule.destination, namespace, 'destination', direction),
    });
  };
}

const icmpOf: Readonly<Record<Family, number>> = { 4: protocolNumbers.ICMP, 6: protocolNumbers.ICMPv6 };

/**
 * "Not this ICMP type" is true of every packet that is no ICMP. Dataplanes can ask for a type only together with its protocol; so a rule that
 * has notICMP and no protocol becomes two for each family: other protocols, and ICMP of other types.
 */
function notIcmpParts(rule: Rule, parts: RuleParts): readonly RuleParts[] {
  const notIcmp = icmp(rule.notICMP);
  const given = parts.protocol;
  if (notIcmp === undefined) {
    return [parts];
  }
  if (given !== undefined) {
    return [given === icmpOf[4] || given === icmpOf[6] ? { ...parts, notIcmp } : parts];
  }
  const family = parts.ipVersion ?? familyOfNets(rule);
  return (family === undefined ? ([4, 6] as const) : [family]).flatMap((ipVersion): RuleParts[] => {
    const number = icmpOf[ipVersion];
    if (parts.notProtocol === number) {
      return [{ ...parts, ipVersion }];
    }
    if (parts.notProtocol !== undefined) {
      throw new ConversionError(
        'notICMP together with the notProtocol of another protocol is not supported; give a protocol',
      );
    }
    return [
      { ...parts, ipVersion, notProtocol: number },
      { ...parts, ipVersion, protocol: number, notIcmp },
    ];
  });
}

function familyOfNets({ source, destination }: Rule): Family | undefined {
  const [first] = [source, destination].flatMap((end) => [...(end?.nets ?? []), ...(end?.notNets ?? [])]);
  return first === undefined ? undefined : familyOf(first);
}

function peerParts(
  peer: EntityRule | undefined,
  namespace: string | undefined,
  end: 'source' | 'destination',
  direction: Direction,
): PeerParts | undefined {
  return peer === undefined
    ? undefined
    : {
        selector: peerNode(peer, namespace),
        // Not limited to a namespace: the positive side is, as soon as there is a notSelector.
        notSelector: parsed(peer.notSelector),
        nets: peer.nets,
        notNets: peer.notNets,
        ports: parsePorts(peer.ports ?? []),
        notPorts: parsePorts(peer.notPorts ?? []),
        service: service(peer.services, namespace, end, direction),
      };
}

/** What a Service's endpoints listen on, as a destination; only their addresses, as a source: clients have other ports. */
function service(
  match: EntityRule['services'],
  namespace: string | undefined,
  end: 'source' | 'destination',
  direction: Direction,
): PeerParts['service'] {
  if (match === undefined) {
    return undefined;
  }
  const isDestination = end === 'destination';
  if (isDestination !== (direction === 'egress')) {
    throw new ConversionError(`services can't be asked of the ${end} of an ${direction} rule`);
  }
  const { name = '' } = match;
  const within = match.namespace === undefined || match.namespace === '' ? namespace : match.namespace;
  if (within === undefined || name === '') {
    throw new ConversionError(`services ${name === '' ? 'has no name' : `${name} has no namespace`}`);
  }
  return serviceSet(within, name, isDestination);
}

function protocol(given: string | number | undefined): number | undefined {
  if (given === undefined) {
    return undefined;
  }
  const number = protocolNumber(given);
  if (number === undefined) {
    throw new ConversionError(`${JSON.stringify(given)} is no protocol`);
  }
  return number;
}

/** A match without a type asks nothing; a code alone is refused by the schema. */
function icmp(given: Rule['icmp']): IcmpMatch | undefined {
  return given?.type === undefined
    ? undefined
    : { type: given.type, ...(given.code === undefined ? {} : { code: given.code }) };
}
