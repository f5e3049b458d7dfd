/** What may not stand together in one rule. Everything here runs on rules whose single fields are fine. */
import { tryParseCidr, type Family } from '../cidr.ts';
import { parseRulePort } from '../policy/ports.ts';
import { protocolHasPorts, protocolNumber, protocolNumbers, type Protocol } from '../policy/protocols.ts';
import type { FieldProblem } from '../schema/checks.ts';

interface Entity {
  readonly nets?: readonly string[] | undefined;
  readonly notNets?: readonly string[] | undefined;
  readonly selector?: string | undefined;
  readonly notSelector?: string | undefined;
  readonly namespaceSelector?: string | undefined;
  readonly ports?: readonly (string | number)[] | undefined;
  readonly notPorts?: readonly (string | number)[] | undefined;
  readonly serviceAccounts?: object | undefined;
  readonly services?: { readonly name?: string | undefined; readonly namespace?: string | undefined } | undefined;
}

interface RuleFields {
  readonly action: string;
  readonly ipVersion?: Family | undefined;
  readonly protocol?: Protocol | undefined;
  readonly notProtocol?: Protocol | undefined;
  readonly icmp?: object | undefined;
  readonly source?: Entity | undefined;
  readonly destination?: Entity | undefined;
  readonly http?: object | undefined;
}

const ends = ['source', 'destination'] as const;

/** A Service names its endpoints itself, so nothing else may select them. */
export function* entityProblems(entity: Entity): Generator<FieldProblem> {
  const { services } = entity;
  if (services === undefined) {
    return;
  }
  if (services.name === undefined || services.name === '') {
    yield { path: ['services', 'name'], message: 'must name a Service' };
  }
  for (const field of ['selector', 'notSelector', 'namespaceSelector', 'nets', 'notNets'] as const) {
    if ((entity[field]?.length ?? 0) > 0) {
      yield { path: [field], message: 'must not be given with services' };
    }
  }
  if (entity.serviceAccounts !== undefined) {
    yield { path: ['serviceAccounts'], message: 'must not be given with services' };
  }
}

/** Rules between the fields of one rule, whatever it stands in. */
export function* ruleProblems(rule: RuleFields): Generator<FieldProblem> {
  yield* portProblems(rule);
  yield* icmpProblems(rule);
  yield* netProblems(rule);
  yield* httpProblems(rule);
}

function* portProblems({ protocol, ...rule }: RuleFields): Generator<FieldProblem> {
  const number = protocol === undefined ? undefined : protocolNumber(protocol);
  for (const end of ends) {
    for (const field of ['ports', 'notPorts'] as const) {
      const ports = rule[end]?.[field] ?? [];
      if (
        number === undefined
          ? ports.some((port) => parseRulePort(port)?.kind === 'range')
          : ports.length > 0 && !protocolHasPorts(number)
      ) {
        yield {
          path: [end, field],
          message: `must not be given unless the rule's protocol is TCP, UDP or SCTP${number === undefined ? ' (names of ports can do without)' : ''}`,
        };
      }
    }
  }
  for (const field of ['ports', 'notPorts'] as const) {
    // As a source a Service stands for addresses alone, so that ports may limit it there.
    if (rule.destination?.services !== undefined && (rule.destination[field]?.length ?? 0) > 0) {
      yield { path: ['destination', field], message: 'must not be given with services, which have ports of their own' };
    }
  }
}

function* icmpProblems(rule: RuleFields): Generator<FieldProblem> {
  const isIcmp = (protocol: Protocol | undefined, number: number): boolean =>
    protocol !== undefined && protocolNumber(protocol) === number;
  const { ICMP, ICMPv6 } = protocolNumbers;
  if (rule.icmp !== undefined && !isIcmp(rule.protocol, ICMP) && !isIcmp(rule.protocol, ICMPv6)) {
    yield { path: ['icmp'], message: "must not be given unless the rule's protocol is ICMP or ICMPv6" };
  }
  for (const [name, number, family] of [
    ['ICMP', ICMP, 4],
    ['ICMPv6', ICMPv6, 6],
  ] as const) {
    const used = isIcmp(rule.protocol, number) || isIcmp(rule.notProtocol, number);
    if (used && rule.ipVersion !== undefined && rule.ipVersion !== family) {
      yield { path: ['ipVersion'], message: `must be ${family} with the protocol ${name}` };
    }
  }
}

function* netProblems(rule: RuleFields): Generator<FieldProblem> {
  let seen: Family | undefined = rule.ipVersion;
  for (const end of ends) {
    for (const field of ['nets', 'notNets'] as const) {
      for (const [index, text] of (rule[end]?.[field] ?? []).entries()) {
        const parsed = tryParseCidr(text);
        if (parsed === undefined) {
          continue;
        }
        if (field === 'notNets' && parsed.prefix === 0) {
          yield { path: [end, field, index], message: 'must not be the whole of a family: nothing is outside of it' };
        }
        seen ??= parsed.family;
        if (parsed.family !== seen) {
          const like = rule.ipVersion === undefined ? "the rule's other networks" : 'ipVersion says';
          yield { path: [end, field, index], message: `must be IPv${seen}, as ${like}` };
        }
      }
    }
  }
}

function* httpProblems({ http, action, protocol }: RuleFields): Generator<FieldProblem> {
  if (http === undefined) {
    return;
  }
  if (action !== 'Allow') {
    yield { path: ['http'], message: 'must not be given unless the action is Allow' };
  }
  if (protocol !== undefined && protocolNumber(protocol) !== protocolNumbers.TCP) {
    yield { path: ['protocol'], message: 'must be TCP (or absent) with http' };
  }
}

interface Directed {
  readonly ingress?: readonly RuleFields[] | undefined;
  readonly egress?: readonly RuleFields[] | undefined;
}

/** What rules may not have because of their direction. `global`: they stand in no namespace, so a Service needs one. */
export function* directionProblems({ ingress = [], egress = [] }: Directed, global: boolean): Generator<FieldProblem> {
  for (const [index, rule] of ingress.entries()) {
    yield* serviceProblems(['ingress', index], rule, 'source', global);
  }
  for (const [index, rule] of egress.entries()) {
    yield* serviceProblems(['egress', index], rule, 'destination', global);
    if (rule.http !== undefined) {
      yield { path: ['egress', index, 'http'], message: 'must not be given in egress rules' };
    }
  }
}

function* serviceProblems(
  path: readonly (string | number)[],
  rule: RuleFields,
  peer: 'source' | 'destination',
  global: boolean,
): Generator<FieldProblem> {
  const own = peer === 'source' ? 'destination' : 'source';
  if (rule[own]?.services !== undefined) {
    yield {
      path: [...path, own, 'services'],
      message: `must not be given: in ${String(path[0])} rules a Service is the ${peer}`,
    };
  }
  const services = rule[peer]?.services;
  if (global && services !== undefined && (services.namespace === undefined || services.namespace === '')) {
    yield {
      path: [...path, peer, 'services', 'namespace'],
      message: 'must be given: the policy has no namespace of its own',
    };
  }
}
