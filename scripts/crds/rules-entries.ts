/** Rules for the single rules of projectcalico.org/v3 policies and profiles. */
import { filled, given } from './cel.ts';
import { smallerNetworkPattern } from './constraints.ts';
import { globalPolicies, kindsWithRules } from './policy-kinds.ts';
import type { CrdRule } from './rules.ts';

const directions = ['ingress', 'egress'] as const;
const ends = ['source', 'destination'] as const;

/** One rule of a policy, in both directions. */
function inRules(row: Omit<CrdRule, 'kinds' | 'at'>): readonly CrdRule[] {
  return directions.map((direction) => ({ kinds: kindsWithRules, at: `spec.${direction}[]`, ...row }));
}

/** A protocol in every way to write it. */
const protocols = {
  withPorts: protocolList([6, 17, 132], ['TCP', 'UDP', 'SCTP']),
  tcp: protocolList([6], ['TCP']),
  icmp: protocolList([1], ['ICMP']),
  icmpv6: protocolList([58], ['ICMPv6']),
};

/** Texts, since CEL's lists have one type; numbers may be written with up to three digits. */
function protocolList(numbers: readonly number[], names: readonly string[]): string {
  const digits = numbers.flatMap((number) => [1, 2, 3].map((width) => String(number).padStart(width, '0')));
  return `[${[...names, ...new Set(digits)].map((text) => JSON.stringify(text)).join(', ')}]`;
}

const action = { action: 'Allow' };

function* portRules(): Generator<CrdRule> {
  for (const end of ends) {
    for (const field of ['ports', 'notPorts'] as const) {
      const ports = `self.${end}.${field}`;
      yield* inRules({
        rule: `!has(self.protocol) || !${filled(ports)} || string(self.protocol) in ${protocols.withPorts}`,
        message: "must not be given unless the rule's protocol is TCP, UDP or SCTP",
        fieldPath: `.${end}.${field}`,
        breaks: { ...action, protocol: 'ICMP', [end]: { [field]: ['http'] } },
      });
      yield* inRules({
        rule: `has(self.protocol) || !${filled(ports)} || !${ports}.exists(port, type(port) == int || !port.matches("[^0-9:]"))`,
        message: "must not be given unless the rule's protocol is TCP, UDP or SCTP (names of ports can do without)",
        fieldPath: `.${end}.${field}`,
        breaks: { ...action, [end]: { [field]: [80] } },
      });
    }
  }
  for (const field of ['ports', 'notPorts'] as const) {
    yield* inRules({
      rule: `!${given('self.destination.services')} || !${filled(`self.destination.${field}`)}`,
      message: 'must not be given with services, which have ports of their own',
      fieldPath: `.destination.${field}`,
      breaks: {
        ...action,
        protocol: 'TCP',
        destination: { services: { name: 'web', namespace: 'shop' }, [field]: [80] },
      },
    });
  }
}

function* icmpRules(): Generator<CrdRule> {
  yield* inRules({
    rule: `!has(self.icmp) || (has(self.protocol) && (string(self.protocol) in ${protocols.icmp} || string(self.protocol) in ${protocols.icmpv6}))`,
    message: "must not be given unless the rule's protocol is ICMP or ICMPv6",
    fieldPath: '.icmp',
    breaks: { ...action, protocol: 'TCP', icmp: { type: 8 } },
  });
  for (const [name, list, family] of [
    ['ICMP', protocols.icmp, 4],
    ['ICMPv6', protocols.icmpv6, 6],
  ] as const) {
    yield* inRules({
      rule: `!has(self.ipVersion) || self.ipVersion == ${family} || !((has(self.protocol) && string(self.protocol) in ${list}) || (has(self.notProtocol) && string(self.notProtocol) in ${list}))`,
      message: `must be ${family} with the protocol ${name}`,
      fieldPath: '.ipVersion',
      breaks: { ...action, ipVersion: 10 - family, notProtocol: name },
    });
  }
  for (const direction of directions) {
    for (const field of ['icmp', 'notICMP'] as const) {
      yield {
        kinds: kindsWithRules,
        at: `spec.${direction}[].${field}`,
        rule: '!has(self.code) || has(self.type)',
        message: 'must be given with a code',
        fieldPath: '.type',
        breaks: { code: 1 },
      };
    }
  }
}

/**
 * Networks of one rule are of one family: of `ipVersion`, else of the rule's first network. What the cost allows is one
 * pass over `nets` and a look at the first of `notNets`. (Host bits are not looked at: see `bounds.ts`.)
 */
function* netRules(): Generator<CrdRule> {
  const lists = ends.flatMap((end) =>
    (['nets', 'notNets'] as const).map((field) => ({ end, field, path: `self.${end}.${field}` })),
  );
  for (const [index, { end, field, path }] of lists.entries()) {
    if (field === 'notNets') {
      yield* directions.map((direction) => ({
        kinds: kindsWithRules,
        at: `spec.${direction}[].${end}.notNets[]`,
        limits: { pattern: smallerNetworkPattern },
        message: 'must not be the whole of a family: nothing is outside of it',
        breaks: '0.0.0.0/0',
      }));
    }
    const first = lists
      .slice(0, index)
      .reduceRight((otherwise, other) => `(${filled(other.path)} ? ${other.path}[0] : ${otherwise})`, `${path}[0]`);
    const isV6 = `(has(self.ipVersion) ? self.ipVersion == 6 : ${first}.contains(":"))`;
    const rest =
      field === 'nets'
        ? `(${isV6} ? ${path}.all(net, net.contains(":")) : ${path}.all(net, !net.contains(":")))`
        : `${path}[0].contains(":") == ${isV6}`;
    yield* inRules({
      rule: `!${filled(path)} || ${rest}`,
      message: "must be of the family that ipVersion says, or else the rule's other networks",
      fieldPath: `.${end}.${field}`,
      ours: 'must be IPv6, as ipVersion says',
      breaks: { ...action, ipVersion: 6, [end]: { [field]: ['10.0.0.0/8'] } },
    });
  }
}

function* httpRules(): Generator<CrdRule> {
  const http = { methods: ['GET'] };
  yield* inRules({
    rule: '!has(self.http) || self.action == "Allow"',
    message: 'must not be given unless the action is Allow',
    fieldPath: '.http',
    breaks: { action: 'Deny', http },
  });
  yield* inRules({
    rule: `!has(self.http) || !has(self.protocol) || string(self.protocol) in ${protocols.tcp}`,
    message: 'must be TCP (or absent) with http',
    fieldPath: '.protocol',
    breaks: { ...action, protocol: 'UDP', http },
  });
  yield {
    kinds: kindsWithRules,
    at: 'spec.egress[]',
    rule: '!has(self.http)',
    message: 'must not be given in egress rules',
    fieldPath: '.http',
    breaks: { ...action, http },
  };
  for (const direction of directions) {
    const at = `spec.${direction}[].http.paths[]`;
    for (const field of ['exact', 'prefix']) {
      yield {
        kinds: kindsWithRules,
        at: `${at}.${field}`,
        limits: { maxLength: 1024, pattern: '^(/[^?# ]*)?$' },
        message: "must have a path that starts with '/', without '?', '#' and blanks, of at most 1024 characters",
        breaks: '/a?b',
      };
    }
    yield {
      kinds: kindsWithRules,
      at,
      rule: '(has(self.exact) && self.exact != "") != (has(self.prefix) && self.prefix != "")',
      message: 'must have either exact or prefix',
      breaks: { exact: '/a', prefix: '/b' },
    };
  }
}

function* serviceRules(): Generator<CrdRule> {
  const services = { name: 'web', namespace: 'shop' };
  for (const direction of directions) {
    for (const end of ends) {
      const at = `spec.${direction}[].${end}`;
      yield {
        kinds: kindsWithRules,
        at,
        rule: `!has(self.services) || ${filled('self.services.name')}`,
        message: 'must name a Service',
        fieldPath: '.services.name',
        breaks: { services: { namespace: 'shop' } },
      };
      for (const [field, value] of [
        ['selector', 'has(a)'],
        ['notSelector', 'has(a)'],
        ['namespaceSelector', 'has(a)'],
        ['nets', ['10.0.0.0/8']],
        ['notNets', ['10.0.0.0/8']],
      ] as const) {
        yield {
          kinds: kindsWithRules,
          at,
          rule: `!has(self.services) || !${filled(`self.${field}`)}`,
          message: 'must not be given with services',
          fieldPath: `.${field}`,
          breaks: { services, [field]: value },
        };
      }
      yield {
        kinds: kindsWithRules,
        at,
        rule: '!has(self.services) || !has(self.serviceAccounts)',
        message: 'must not be given with services',
        fieldPath: '.serviceAccounts',
        breaks: { services, serviceAccounts: { names: ['web'] } },
      };
    }
    const peer = direction === 'ingress' ? 'source' : 'destination';
    const own = direction === 'ingress' ? 'destination' : 'source';
    yield {
      kinds: kindsWithRules,
      at: `spec.${direction}[]`,
      rule: `!${given(`self.${own}.services`)}`,
      message: `must not be given: in ${direction} rules a Service is the ${peer}`,
      fieldPath: `.${own}.services`,
      breaks: { ...action, [own]: { services } },
    };
    yield {
      kinds: [...globalPolicies, 'Profile'],
      at: `spec.${direction}[]`,
      rule: `!${given(`self.${peer}.services`)} || ${filled(`self.${peer}.services.namespace`)}`,
      message: 'must be given: the policy has no namespace of its own',
      fieldPath: `.${peer}.services.namespace`,
      breaks: { ...action, [peer]: { services: { name: 'web' } } },
    };
  }
}

export const entryRules: readonly CrdRule[] = [
  ...portRules(),
  ...icmpRules(),
  ...netRules(),
  ...httpRules(),
  ...serviceRules(),
];
