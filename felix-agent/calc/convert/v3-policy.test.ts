import { describe, expect, test } from '@jest/globals';
import { parseSelector } from '#api/selector/selector.ts';
import { hashId } from '#api/hash-id.ts';
import { converted, said } from './convert.fixtures.ts';

const own = 'projectcalico.org/namespace == "ns"';
const inNamespace = 'has(projectcalico.org/namespace)';

test('a NetworkPolicy with a rule becomes exactly this', () => {
  const policy = converted('NetworkPolicy', {
    tier: 'security',
    order: 10.5,
    selector: 'app == "web"',
    types: ['Ingress'],
    ingress: [
      {
        action: 'Allow',
        protocol: 'TCP',
        source: { selector: 'app == "client"', nets: ['10.0.0.0/8', '192.168.0.0/16'], notNets: ['10.1.0.0/16'] },
        destination: { ports: [80, '8000:8080', 'http'] },
      },
    ],
  });
  const client = parseSelector(`${own} && app == "client"`);
  const all = parseSelector('all()');
  expect(policy).toEqual({
    id: 'NetworkPolicy ns/p',
    tier: 'security',
    order: 10.5,
    name: 'p',
    namespace: 'ns',
    kind: 'NetworkPolicy',
    selector: parseSelector(`${own} && app == "web"`),
    ingressType: true,
    egressType: false,
    staged: false,
    applyOnForward: false,
    doNotTrack: false,
    preDnat: false,
    egress: [],
    problems: [],
    ingress: [
      {
        id: 'NetworkPolicy ns/p ingress 0',
        action: 'allow',
        ipVersion: 4,
        protocol: 6,
        source: {
          sets: [
            { kind: 'selector', id: client.id, selector: client },
            {
              kind: 'nets',
              id: hashId('n', '10.0.0.0/8,192.168.0.0/16'),
              nets: ['10.0.0.0/8', '192.168.0.0/16'],
            },
          ],
          notSets: [],
          notNet: '10.1.0.0/16',
          ports: [],
          portSets: [],
          notPorts: [],
          notPortSets: [],
          ipPortSets: [],
        },
        destination: {
          sets: [],
          notSets: [],
          ports: [
            { min: 80, max: 80 },
            { min: 8000, max: 8080 },
          ],
          portSets: [{ kind: 'namedPort', id: hashId('p', 'all(),6,http'), selector: all, port: 'http', protocol: 6 }],
          notPorts: [],
          notPortSets: [],
          ipPortSets: [],
        },
      },
    ],
  });
});

test('a GlobalNetworkPolicy for host endpoints carries its flags, and without order it is last', () => {
  expect(
    converted('GlobalNetworkPolicy', {
      selector: 'role == "gw"',
      applyOnForward: true,
      preDNAT: true,
      types: ['Ingress'],
    }),
  ).toMatchObject({
    id: 'GlobalNetworkPolicy p',
    tier: 'default',
    order: Infinity,
    selector: { text: 'role == "gw"' },
    applyOnForward: true,
    preDnat: true,
    doNotTrack: false,
    staged: false,
    ingressType: true,
    egressType: false,
  });
  expect(converted('GlobalNetworkPolicy', { applyOnForward: true, doNotTrack: true })).toMatchObject({
    doNotTrack: true,
  });
  expect(converted('GlobalNetworkPolicy', {})).not.toHaveProperty('namespace');
});

test.each([
  ['StagedNetworkPolicy', 'StagedNetworkPolicy ns/p'],
  ['StagedGlobalNetworkPolicy', 'StagedGlobalNetworkPolicy p'],
] as const)('%s is its enforced form with staged set', (kind, id) => {
  for (const stagedAction of ['Set', 'Learn', 'Ignore', undefined]) {
    const policy = converted(kind, { stagedAction, ingress: [{ action: 'Deny' }] });
    expect(policy).toMatchObject({ id, kind, staged: true, ingressType: true });
    expect(said(policy.ingress[0])).toEqual({ id: `${id} ingress 0`, action: 'deny' });
  }
});

describe('the subject of', () => {
  const cases: readonly [kind: 'NetworkPolicy' | 'GlobalNetworkPolicy', spec: object, text: string][] = [
    ['NetworkPolicy', {}, own],
    ['NetworkPolicy', { selector: 'all()' }, own],
    ['NetworkPolicy', { selector: 'a == "b" || c == "d"' }, `(${own} && (a == "b" || c == "d"))`],
    ['NetworkPolicy', { serviceAccountSelector: 'role == "db"' }, `(${own} && pcsa.role == "db")`],
    ['NetworkPolicy', { serviceAccountSelector: 'all()' }, own],
    [
      'NetworkPolicy',
      { selector: 'has(a)', serviceAccountSelector: '!has(x) || x in {"1"}' },
      `(${own} && has(a) && (!has(pcsa.x) || pcsa.x in {"1"}))`,
    ],
    ['GlobalNetworkPolicy', {}, 'all()'],
    ['GlobalNetworkPolicy', { selector: 'all()' }, 'all()'],
    ['GlobalNetworkPolicy', { selector: 'has(a)' }, 'has(a)'],
    ['GlobalNetworkPolicy', { namespaceSelector: 'all()' }, inNamespace],
    ['GlobalNetworkPolicy', { namespaceSelector: '!all()' }, `!${inNamespace}`],
    ['GlobalNetworkPolicy', { namespaceSelector: 'env == "prod"' }, 'pcns.env == "prod"'],
    ['GlobalNetworkPolicy', { namespaceSelector: 'env != "prod"' }, 'pcns.env != "prod"'],
    [
      'GlobalNetworkPolicy',
      { selector: 'all()', namespaceSelector: 'env != "prod"' },
      `(pcns.env != "prod" && ${inNamespace})`,
    ],
    [
      'GlobalNetworkPolicy',
      { selector: 'has(a)', namespaceSelector: 'b contains "1"', serviceAccountSelector: 'c starts with "2"' },
      '(pcns.b contains "1" && pcsa.c starts with "2" && has(a))',
    ],
    ['GlobalNetworkPolicy', { serviceAccountSelector: 'all()' }, 'has(projectcalico.org/serviceaccount)'],
    [
      'GlobalNetworkPolicy',
      { selector: '!all()', serviceAccountSelector: 'x not in {"1"}' },
      '(pcsa.x not in {"1"} && !has(projectcalico.org/serviceaccount))',
    ],
  ];
  test.each(cases)('%s %j is %s', (kind, spec, text) => {
    expect(converted(kind, spec).selector.text).toBe(text);
  });
});

describe('without types', () => {
  const rules = [{ action: 'Allow' }];
  test.each([
    [{}, true, false],
    [{ ingress: rules }, true, false],
    [{ egress: rules }, false, true],
    [{ ingress: rules, egress: rules }, true, true],
    [{ types: ['Egress'], ingress: rules }, false, true],
  ])('%j is about ingress: %j, egress: %j', (spec, ingress, egress) => {
    const policy = converted('NetworkPolicy', spec);
    expect([policy.ingressType, policy.egressType]).toEqual([ingress, egress]);
    // Nobody may look at rules of another direction, so they are not there.
    expect([policy.ingress.length > 0 && !ingress, policy.egress.length > 0 && !egress]).toEqual([false, false]);
  });
});

describe('a peer of', () => {
  const cases: readonly [kind: 'NetworkPolicy' | 'GlobalNetworkPolicy', peer: object, said: object | undefined][] = [
    ['NetworkPolicy', {}, undefined],
    ['NetworkPolicy', { selector: '', namespaceSelector: '', nets: [], ports: [] }, undefined],
    ['NetworkPolicy', { selector: 'has(a)' }, { sets: [`(${own} && has(a))`] }],
    ['NetworkPolicy', { selector: 'all()' }, { sets: [own] }],
    ['NetworkPolicy', { notSelector: 'has(a)' }, { sets: [own], notSets: ['has(a)'] }],
    [
      'NetworkPolicy',
      { selector: 'has(b)', notSelector: 'has(a)' },
      { sets: [`(${own} && has(b))`], notSets: ['has(a)'] },
    ],
    ['NetworkPolicy', { namespaceSelector: 'all()' }, { sets: [inNamespace] }],
    ['NetworkPolicy', { namespaceSelector: 'global()' }, { sets: [`!${inNamespace}`] }],
    ['NetworkPolicy', { namespaceSelector: 'a == "b"' }, { sets: ['pcns.a == "b"'] }],
    [
      'NetworkPolicy',
      { namespaceSelector: 'projectcalico.org/name == "other"', selector: 'has(a)' },
      { sets: ['(pcns.projectcalico.org/name == "other" && has(a))'] },
    ],
    [
      'NetworkPolicy',
      { namespaceSelector: 'global()', selector: 'has(a)', notSelector: 'has(b)' },
      { sets: [`(!${inNamespace} && has(a))`], notSets: ['has(b)'] },
    ],
    [
      'NetworkPolicy',
      { serviceAccounts: { names: ['b', 'a'] } },
      { sets: [`(${own} && projectcalico.org/serviceaccount in {"a", "b"})`] },
    ],
    [
      'NetworkPolicy',
      { serviceAccounts: { names: ['a'], selector: 'x == "y"' }, selector: 'has(a)' },
      { sets: [`(${own} && pcsa.x == "y" && projectcalico.org/serviceaccount in {"a"} && has(a))`] },
    ],
    ['NetworkPolicy', { serviceAccounts: {} }, undefined],
    ['NetworkPolicy', { serviceAccounts: { selector: 'all()' } }, { sets: [own] }],
    ['GlobalNetworkPolicy', { selector: 'has(a)' }, { sets: ['has(a)'] }],
    ['GlobalNetworkPolicy', { selector: 'all()' }, { sets: ['all()'] }],
    ['GlobalNetworkPolicy', { notSelector: 'has(a)' }, { notSets: ['has(a)'] }],
    [
      'GlobalNetworkPolicy',
      { serviceAccounts: { names: [`a"'} || all() || b in {'c`] } },
      { sets: ['projectcalico.org/serviceaccount in {}'] },
    ],
    [
      'GlobalNetworkPolicy',
      { notSelector: 'has(a)', namespaceSelector: 'all()' },
      { sets: [inNamespace], notSets: ['has(a)'] },
    ],
    ['GlobalNetworkPolicy', { serviceAccounts: { selector: 'x == "y"' } }, { sets: ['pcsa.x == "y"'] }],
    [
      'GlobalNetworkPolicy',
      { serviceAccounts: { names: ['a'] } },
      { sets: ['projectcalico.org/serviceaccount in {"a"}'] },
    ],
    [
      'GlobalNetworkPolicy',
      { namespaceSelector: '!(has(a) || b == "c") && d ends with "e"' },
      { sets: ['(!(has(pcns.a) || pcns.b == "c") && pcns.d ends with "e")'] },
    ],
    ['GlobalNetworkPolicy', { nets: ['10.0.0.0/8'] }, { net: '10.0.0.0/8' }],
    ['GlobalNetworkPolicy', { nets: ['0.0.0.0/0'] }, { net: '0.0.0.0/0' }],
    ['GlobalNetworkPolicy', { nets: ['10.0.0.0/8', '10.0.0.0/8'] }, { net: '10.0.0.0/8' }],
    ['GlobalNetworkPolicy', { nets: ['0.0.0.0/0', '10.0.0.0/8'] }, { sets: ['0.0.0.0/0 10.0.0.0/8'] }],
    ['GlobalNetworkPolicy', { notNets: ['10.2.0.0/16', '10.1.0.0/16'] }, { notSets: ['10.1.0.0/16 10.2.0.0/16'] }],
    ['GlobalNetworkPolicy', { nets: ['FD00:0::/64', 'fd00:1::/64', 'fd00::/64'] }, { sets: ['fd00:1::/64 fd00::/64'] }],
    ['GlobalNetworkPolicy', { ports: [8080, 80, '81:90', 91, 80] }, { ports: ['80-91', '8080'] }],
    ['GlobalNetworkPolicy', { ports: ['1:65535'], notPorts: [22, '23'] }, { ports: ['1-65535'], notPorts: ['22-23'] }],
    ['GlobalNetworkPolicy', { ports: ['http', 'dns', 'http'] }, { portSets: ['dns/6 of all()', 'http/6 of all()'] }],
    // The set of endpoints is implied by their named ports, unless numbers are given as well.
    ['GlobalNetworkPolicy', { ports: ['http'], selector: 'has(a)' }, { portSets: ['http/6 of has(a)'] }],
    [
      'GlobalNetworkPolicy',
      { ports: ['http', 80], selector: 'has(a)' },
      { sets: ['has(a)'], ports: ['80'], portSets: ['http/6 of has(a)'] },
    ],
    [
      'GlobalNetworkPolicy',
      { notPorts: ['http', 80], selector: 'has(a)' },
      { sets: ['has(a)'], notPorts: ['80'], notPortSets: ['http/6 of has(a)'] },
    ],
    [
      'NetworkPolicy',
      { ports: ['http'], notSelector: 'has(a)' },
      { portSets: [`http/6 of ${own}`], notSets: ['has(a)'] },
    ],
    ['NetworkPolicy', { ports: ['http'] }, { portSets: ['http/6 of all()'] }],
  ];
  test.each(cases)('%s: %j', (kind, peer, expected) => {
    const policy = converted(kind, {
      ingress: [{ action: 'Allow', protocol: 'TCP', source: peer }],
      egress: [{ action: 'Allow', protocol: 'TCP', destination: peer }],
    });
    expect(policy.problems).toEqual([]);
    const [id, rest] = [policy.id, { action: 'allow', protocol: 6, ...family(peer) }];
    expect(said(policy.ingress[0])).toEqual({ id: `${id} ingress 0`, ...rest, ...(expected && { source: expected }) });
    expect(said(policy.egress[0])).toEqual({
      id: `${id} egress 0`,
      ...rest,
      ...(expected && { destination: expected }),
    });
  });
});

function family({
  nets = [],
  notNets = [],
}: {
  readonly nets?: readonly string[];
  readonly notNets?: readonly string[];
}) {
  const [first] = [...nets, ...notNets];
  return first === undefined ? {} : { ipVersion: first.includes(':') ? 6 : 4 };
}

describe('the rule', () => {
  const cases: readonly [rule: object, said: readonly object[]][] = [
    [{ action: 'Allow' }, [{ action: 'allow' }]],
    [{ action: 'Deny' }, [{ action: 'deny' }]],
    [{ action: 'Pass' }, [{ action: 'pass' }]],
    [{ action: 'Log' }, [{ action: 'log' }]],
    [{ action: 'Allow', ipVersion: 6 }, [{ action: 'allow', ipVersion: 6 }]],
    [{ action: 'Allow', protocol: 'UDP' }, [{ action: 'allow', protocol: 17 }]],
    [{ action: 'Allow', protocol: 'UDPLite' }, [{ action: 'allow', protocol: 136 }]],
    [{ action: 'Allow', protocol: 'SCTP' }, [{ action: 'allow', protocol: 132 }]],
    [{ action: 'Allow', protocol: 'ICMP' }, [{ action: 'allow', protocol: 1 }]],
    [{ action: 'Allow', protocol: 'ICMPv6' }, [{ action: 'allow', protocol: 58 }]],
    [{ action: 'Allow', protocol: 47 }, [{ action: 'allow', protocol: 47 }]],
    [{ action: 'Allow', notProtocol: 'TCP' }, [{ action: 'allow', notProtocol: 6 }]],
    [
      { action: 'Allow', protocol: 'ICMP', icmp: { type: 8, code: 0 } },
      [{ action: 'allow', ipVersion: 4, protocol: 1, icmp: { type: 8, code: 0 } }],
    ],
    [
      { action: 'Allow', protocol: 58, icmp: { type: 128 } },
      [{ action: 'allow', ipVersion: 6, protocol: 58, icmp: { type: 128 } }],
    ],
    [
      { action: 'Allow', protocol: 'ICMP', notICMP: { type: 8 } },
      [{ action: 'allow', ipVersion: 4, protocol: 1, notIcmp: { type: 8 } }],
    ],
    // What is no ICMP at all is not of that type either.
    [{ action: 'Allow', protocol: 'TCP', notICMP: { type: 8 } }, [{ action: 'allow', protocol: 6 }]],
    [
      { action: 'Allow', ipVersion: 4, notICMP: { type: 8 } },
      [
        { action: 'allow', ipVersion: 4, notProtocol: 1 },
        { action: 'allow', ipVersion: 4, protocol: 1, notIcmp: { type: 8 } },
      ],
    ],
    [{ action: 'Allow', protocol: 'ICMP', icmp: {} }, [{ action: 'allow', protocol: 1 }]],
    // Networks say the family, negated ones as well.
    [
      { action: 'Deny', source: { notNets: ['10.0.0.0/8'] } },
      [{ action: 'deny', ipVersion: 4, source: { notNet: '10.0.0.0/8' } }],
    ],
    [
      { action: 'Deny', destination: { nets: ['fd00::/8', 'fe80::/10'] } },
      [{ action: 'deny', ipVersion: 6, destination: { sets: ['fd00::/8 fe80::/10'] } }],
    ],
    [
      { action: 'Allow', protocol: 'UDP', destination: { ports: ['dns'] } },
      [{ action: 'allow', protocol: 17, destination: { portSets: ['dns/17 of all()'] } }],
    ],
    [
      { action: 'Allow', destination: { ports: ['dns'] } },
      [{ action: 'allow', destination: { portSets: ['dns/6 of all()'] } }],
    ],
    [{ action: 'Allow', metadata: { annotations: { a: 'b' } } }, [{ action: 'allow' }]],
  ];
  test.each(cases)('%j', (rule, expected) => {
    const policy = converted('GlobalNetworkPolicy', { ingress: [rule] });
    const id = 'GlobalNetworkPolicy p ingress 0';
    expect(policy.ingress.map(said)).toEqual(
      expected.map((fields, k) => ({ id: expected.length === 1 ? id : `${id}.${k}`, ...fields })),
    );
  });

  test('notICMP without anything that tells the family is about both', () => {
    const policy = converted('GlobalNetworkPolicy', { egress: [{ action: 'Allow', notICMP: { type: 8 } }] });
    expect(policy.egress.map(said)).toEqual([
      { id: 'GlobalNetworkPolicy p egress 0.0', action: 'allow', ipVersion: 4, notProtocol: 1 },
      { id: 'GlobalNetworkPolicy p egress 0.1', action: 'allow', ipVersion: 4, protocol: 1, notIcmp: { type: 8 } },
      { id: 'GlobalNetworkPolicy p egress 0.2', action: 'allow', ipVersion: 6, notProtocol: 58 },
      { id: 'GlobalNetworkPolicy p egress 0.3', action: 'allow', ipVersion: 6, protocol: 58, notIcmp: { type: 8 } },
    ]);
  });

  test('notICMP with the notProtocol of its own family is no more than that', () => {
    const rule = { action: 'Deny', notICMP: { type: 1 }, notProtocol: 'ICMP', ipVersion: 4 };
    expect(converted('GlobalNetworkPolicy', { ingress: [rule] }).ingress.map(said)).toEqual([
      { id: 'GlobalNetworkPolicy p ingress 0', action: 'deny', ipVersion: 4, notProtocol: 1 },
    ]);
  });

  test.each([
    ['Allow', []],
    ['Log', []],
    ['Deny', [{ id: 'GlobalNetworkPolicy p ingress 0', action: 'deny' }]],
    ['Pass', [{ id: 'GlobalNetworkPolicy p ingress 0', action: 'deny' }]],
  ])('%s that can not be converted lets nothing through, and that is said', (action, expected) => {
    const rule = { action, notICMP: { type: 1 }, notProtocol: 'TCP', ipVersion: 4 };
    const policy = converted('GlobalNetworkPolicy', { ingress: [rule] });
    expect(policy.ingress.map(said)).toEqual(expected);
    expect(policy.problems).toEqual([expect.stringMatching(/^ingress rule 0 \((allow|log|deny|pass)\) .*notProtocol/)]);
  });
});

describe('services', () => {
  const web = { services: { name: 'web', namespace: 'shop' } };
  test('as the destination of an egress rule are their endpoints with their ports', () => {
    const policy = converted('GlobalNetworkPolicy', { egress: [{ action: 'Allow', destination: web }] });
    expect(said(policy.egress[0])).toMatchObject({ destination: { ipPortSets: ['shop/web with ports'] } });
  });
  test('as the source of an ingress rule are addresses, and the policy has a namespace for them', () => {
    const source = { services: { name: 'web' } };
    const policy = converted('NetworkPolicy', { ingress: [{ action: 'Allow', source }] });
    expect(said(policy.ingress[0])).toMatchObject({ source: { sets: ['ns/web'] } });
  });
  test('have different ids with and without ports, and each service its own', () => {
    const ids = ['web', 'api'].flatMap((name) => {
      const services = { services: { name } };
      const policy = converted('NetworkPolicy', {
        ingress: [{ action: 'Allow', source: services }],
        egress: [{ action: 'Allow', destination: services }],
      });
      return [policy.ingress[0]?.source.sets[0]?.id, policy.egress[0]?.destination.ipPortSets[0]?.id];
    });
    expect(new Set(ids).size).toBe(4);
  });
});

test('a rule with http is left out, because without it it would allow more; the others keep their numbers', () => {
  const policy = converted('NetworkPolicy', {
    ingress: [
      { action: 'Allow', protocol: 'TCP', http: { methods: ['GET'] }, source: { selector: 'has(a)' } },
      { action: 'Deny' },
    ],
  });
  expect(policy.ingress.map(said)).toEqual([{ id: 'NetworkPolicy ns/p ingress 1', action: 'deny' }]);
  expect(policy.ingressType).toBe(true);
  expect(policy.problems).toEqual([expect.stringMatching(/^ingress rule 0 \(allow\) .*left out: http/)]);
});

test('the same list of networks is the same set in any order and spelling, in any policy', () => {
  const ids = [
    ['fd00::/64', 'fd01::/64'],
    ['FD01:0::/64', 'fd00::/64', 'fd00::/64'],
  ].map(
    (nets) =>
      converted('GlobalNetworkPolicy', { ingress: [{ action: 'Allow', source: { nets } }] }).ingress[0]?.source.sets[0]
        ?.id,
  );
  expect(ids[0]).toMatch(/^n:[\w-]{38}$/);
  expect(ids[1]).toBe(ids[0]);
});
