import { describe, expect, test } from '@jest/globals';
import { converted, said } from './convert.fixtures.ts';

const pods = 'projectcalico.org/orchestrator == "k8s"';
const anywhere = `has(projectcalico.org/namespace) && ${pods}`;
const everyPod = `(${anywhere})`;
const base = { tier: 'Admin', priority: 7, subject: { namespaces: {} } };

test('a ClusterNetworkPolicy becomes one of kube-admin or kube-baseline, ordered by priority', () => {
  const policy = converted('ClusterNetworkPolicy', base);
  expect({ ...policy, selector: policy.selector.text }).toEqual({
    id: 'ClusterNetworkPolicy p',
    tier: 'kube-admin',
    order: 7,
    name: 'p',
    kind: 'ClusterNetworkPolicy',
    selector: everyPod,
    ingressType: false,
    egressType: false,
    staged: false,
    applyOnForward: false,
    doNotTrack: false,
    preDnat: false,
    ingress: [],
    egress: [],
    problems: [],
  });
  expect(converted('ClusterNetworkPolicy', { ...base, tier: 'Baseline' }).tier).toBe('kube-baseline');
});

test.each([
  [{ namespaces: { matchLabels: { env: 'prod' } } }, `(pcns.env == "prod" && ${pods})`],
  [
    { pods: { namespaceSelector: { matchLabels: { env: 'prod' } }, podSelector: { matchLabels: { a: '1' } } } },
    `(pcns.env == "prod" && ${pods} && a == "1")`,
  ],
  [{ pods: { namespaceSelector: {}, podSelector: {} } }, everyPod],
])('the subject %j is %s', (subject, text) => {
  expect(converted('ClusterNetworkPolicy', { ...base, subject }).selector.text).toBe(text);
});

test.each([
  ['Accept', 'allow'],
  ['Deny', 'deny'],
  ['Pass', 'pass'],
])('%s is %s', (action, expected) => {
  const policy = converted('ClusterNetworkPolicy', { ...base, ingress: [{ action, from: [{ namespaces: {} }] }] });
  expect(policy).toMatchObject({ ingressType: true, egressType: false, problems: [] });
  expect(policy.ingress.map(said)).toEqual([
    { id: 'ClusterNetworkPolicy p ingress 0', action: expected, source: { sets: [everyPod] } },
  ]);
});

describe('peers', () => {
  test.each([
    [{ namespaces: { matchLabels: { a: 'b' } } }, { sets: [`(pcns.a == "b" && ${pods})`] }],
    // Unlike in Calico: of namespaces that lack a label, but not what has no namespace at all.
    [
      { namespaces: { matchExpressions: [{ key: 'a', operator: 'NotIn', values: ['b'] }] } },
      { sets: [`(pcns.a not in {"b"} && ${pods})`] },
    ],
    [
      { pods: { namespaceSelector: {}, podSelector: { matchLabels: { a: '1' } } } },
      { sets: [`(${anywhere} && a == "1")`] },
    ],
    [{ networks: ['10.1.2.3/8'] }, { net: '10.0.0.0/8' }],
    [{ networks: ['fd00::/8', '10.0.0.0/8'] }, { sets: ['10.0.0.0/8 fd00::/8'] }],
  ])('%j', (peer, expected) => {
    const policy = converted('ClusterNetworkPolicy', { ...base, egress: [{ action: 'Deny', to: [peer] }] });
    expect(policy.egress.map(said)).toEqual([
      {
        id: 'ClusterNetworkPolicy p egress 0',
        action: 'deny',
        ...('net' in expected ? { ipVersion: 4 } : {}),
        destination: expected,
      },
    ]);
  });
});

describe('protocols', () => {
  test.each([
    [[{ tcp: {} }], [{ protocol: 6 }]],
    [[{ tcp: { destinationPort: { number: 80 } } }], [{ protocol: 6, destination: { ports: ['80'] } }]],
    [
      [{ udp: { destinationPort: { range: { start: 10, end: 20 } } } }, { udp: { destinationPort: { number: 21 } } }],
      [{ protocol: 17, destination: { ports: ['10-21'] } }],
    ],
    [
      [{ sctp: {} }, { tcp: { destinationPort: { number: 1 } } }],
      [{ protocol: 6, destination: { ports: ['1'] } }, { protocol: 132 }],
    ],
    [
      [{ destinationNamedPort: 'web' }],
      [6, 17, 132].map((protocol) => ({ protocol, destination: { portSets: [`web/${protocol} of all()`] } })),
    ],
  ])('%j', (protocols, expected) => {
    const rule = { action: 'Accept', protocols, from: [{ namespaces: {} }] };
    const policy = converted('ClusterNetworkPolicy', { ...base, ingress: [rule] });
    const id = 'ClusterNetworkPolicy p ingress 0';
    expect(policy.ingress.map(said)).toEqual(
      expected.map((fields, k) => ({
        id: expected.length === 1 ? id : `${id}.${k}`,
        action: 'allow',
        source: { sets: [everyPod] },
        ...fields,
      })),
    );
  });
});

describe('what is not understood', () => {
  const cases: readonly [what: string, rule: object][] = [
    ['a peer by nodes', { to: [{ namespaces: {} }, { nodes: {} }] }],
    ['a peer by domain names', { to: [{ domainNames: ['example.com'] }] }],
    ['a peer of a newer version', { to: [{ galaxies: {} }] }],
    ['a peer that says nothing', { to: [{}] }],
    ['a protocol of a newer version', { to: [{ namespaces: {} }], protocols: [{ tcp: {} }, { quic: {} }] }],
  ];
  test.each(cases)('%s makes Deny and Pass a denial of everything', (_, rule) => {
    for (const action of ['Deny', 'Pass']) {
      const policy = converted('ClusterNetworkPolicy', { ...base, egress: [{ action, ...rule }] });
      expect(policy.egress.map(said)).toEqual([{ id: 'ClusterNetworkPolicy p egress 0', action: 'deny' }]);
      expect(policy.problems).toEqual([expect.stringContaining('replaced by a denial of everything')]);
    }
  });
  test.each(cases)('%s leaves an Accept out, and the others keep their numbers', (_, rule) => {
    const good = { action: 'Accept', to: [{ networks: ['10.0.0.0/8'] }] };
    const policy = converted('ClusterNetworkPolicy', { ...base, egress: [{ action: 'Accept', ...rule }, good] });
    expect(policy.egress.map(({ id }) => id)).toEqual(['ClusterNetworkPolicy p egress 1']);
    expect(policy.problems).toEqual([expect.stringMatching(/^egress rule 0 \(allow\) .*left out/)]);
  });
});
