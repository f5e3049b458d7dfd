import { describe, expect, test } from '@jest/globals';
import { converted, said } from './convert.fixtures.ts';

const pods = 'projectcalico.org/orchestrator == "k8s"';
const own = `projectcalico.org/namespace == "ns" && ${pods}`;
const anywhere = `has(projectcalico.org/namespace) && ${pods}`;

test('a NetworkPolicy of Kubernetes becomes one of the default tier with order 1000', () => {
  const policy = converted('KubernetesNetworkPolicy', { podSelector: { matchLabels: { app: 'web' } } });
  expect({ ...policy, selector: policy.selector.text }).toEqual({
    id: 'KubernetesNetworkPolicy ns/p',
    tier: 'default',
    order: 1000,
    name: 'p',
    namespace: 'ns',
    kind: 'KubernetesNetworkPolicy',
    selector: `(${own} && app == "web")`,
    ingressType: true,
    egressType: false,
    staged: false,
    applyOnForward: false,
    doNotTrack: false,
    preDnat: false,
    ingress: [],
    egress: [],
    problems: [],
  });
});

test('the staged one is the same, staged', () => {
  const spec = { podSelector: {}, ingress: [{}] };
  const enforced = converted('KubernetesNetworkPolicy', spec);
  expect(converted('StagedKubernetesNetworkPolicy', { ...spec, stagedAction: 'Learn' })).toEqual({
    ...enforced,
    id: 'StagedKubernetesNetworkPolicy ns/p',
    kind: 'StagedKubernetesNetworkPolicy',
    staged: true,
    ingress: enforced.ingress.map((rule) => ({ ...rule, id: 'StagedKubernetesNetworkPolicy ns/p ingress 0' })),
  });
});

test.each([
  [{}, true, false],
  [{ egress: [{}] }, true, true],
  [{ policyTypes: ['Egress'] }, false, true],
  [{ policyTypes: ['Ingress'], egress: [{}] }, true, false],
  [{ policyTypes: ['Ingress', 'Egress'] }, true, true],
])('%j is about ingress: %j, egress: %j', (spec, ingress, egress) => {
  const policy = converted('KubernetesNetworkPolicy', spec);
  expect([policy.ingressType, policy.egressType]).toEqual([ingress, egress]);
});

describe('the pod selector', () => {
  const selects = (key: string, operator: string, values?: readonly string[]) => ({
    matchExpressions: [{ key, operator, values }],
  });
  test.each([
    [{}, `(${own})`],
    [{ matchLabels: { b: '2', a: '1' } }, `(${own} && a == "1" && b == "2")`],
    [{ matchLabels: { a: '' } }, `(${own} && a == "")`],
    [selects('a', 'In', ['y', 'x']), `(${own} && a in {"x", "y"})`],
    [selects('a', 'NotIn', ['x']), `(${own} && a not in {"x"})`],
    [selects('a', 'Exists'), `(${own} && has(a))`],
    [selects('a', 'DoesNotExist'), `(${own} && !has(a))`],
    [{ matchLabels: { a: '1' }, ...selects('example.com/b', 'Exists') }, `(${own} && a == "1" && has(example.com/b))`],
  ])('%j is %s', (podSelector, text) => {
    expect(converted('KubernetesNetworkPolicy', { podSelector }).selector.text).toBe(text);
  });
});

describe('a peer', () => {
  test.each([
    [{ podSelector: {} }, { sets: [`(${own})`] }],
    [{ podSelector: { matchLabels: { a: '1' } } }, { sets: [`(${own} && a == "1")`] }],
    [{ namespaceSelector: {} }, { sets: [`(${anywhere})`] }],
    [{ namespaceSelector: {}, podSelector: { matchLabels: { a: '1' } } }, { sets: [`(${anywhere} && a == "1")`] }],
    [
      { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'x' } }, podSelector: {} },
      { sets: [`(pcns.kubernetes.io/metadata.name == "x" && ${pods})`] },
    ],
    [
      { namespaceSelector: { matchExpressions: [{ key: 'env', operator: 'DoesNotExist' }] } },
      { sets: [`(!has(pcns.env) && ${pods})`] },
    ],
    [{ ipBlock: { cidr: '10.0.0.0/8' } }, { net: '10.0.0.0/8' }],
    [{ ipBlock: { cidr: '10.0.0.1/8', except: ['10.1.0.0/16'] } }, { net: '10.0.0.0/8', notNet: '10.1.0.0/16' }],
    [
      { ipBlock: { cidr: 'fd00::/8', except: ['fd01::/16', 'fd00::/16'] } },
      { net: 'fd00::/8', notSets: ['fd00::/16 fd01::/16'] },
    ],
  ])('%j', (peer, expected) => {
    const policy = converted('KubernetesNetworkPolicy', {
      policyTypes: ['Ingress', 'Egress'],
      ingress: [{ from: [peer] }],
      egress: [{ to: [peer] }],
    });
    const net = 'net' in expected ? { ipVersion: expected.net.includes(':') ? 6 : 4 } : {};
    expect(policy.ingress.map(said)).toEqual([
      { id: `${policy.id} ingress 0`, action: 'allow', ...net, source: expected },
    ]);
    expect(policy.egress.map(said)).toEqual([
      { id: `${policy.id} egress 0`, action: 'allow', ...net, destination: expected },
    ]);
  });

  test.each([[{}], [{ from: [] }], [{ from: [], ports: [] }]])('no peer at all (%j) is everybody', (rule) => {
    const policy = converted('KubernetesNetworkPolicy', { ingress: [rule] });
    expect(policy.ingress.map(said)).toEqual([{ id: `${policy.id} ingress 0`, action: 'allow' }]);
  });
});

describe('ports', () => {
  test.each([
    [[{}], [{ protocol: 6 }]],
    [[{ protocol: 'UDP' }], [{ protocol: 17 }]],
    [[{ port: 80 }], [{ protocol: 6, destination: { ports: ['80'] } }]],
    [[{ port: 80, endPort: 90 }], [{ protocol: 6, destination: { ports: ['80-90'] } }]],
    [[{ port: 'http' }], [{ protocol: 6, destination: { portSets: ['http/6 of all()'] } }]],
    [
      [{ protocol: 'SCTP', port: 'sig' }, { port: 81 }, { port: 80 }, { protocol: 'TCP', port: 443 }],
      [
        { protocol: 6, destination: { ports: ['80-81', '443'] } },
        { protocol: 132, destination: { portSets: ['sig/132 of all()'] } },
      ],
    ],
    // All ports of a protocol leave nothing to its other entries.
    [[{ port: 80 }, { protocol: 'TCP' }, { port: 'http' }], [{ protocol: 6 }]],
  ])('%j', (ports, expected) => {
    const policy = converted('KubernetesNetworkPolicy', { ingress: [{ ports }] });
    const id = `${policy.id} ingress 0`;
    expect(policy.ingress.map(said)).toEqual(
      expected.map((rule, k) => ({ id: expected.length === 1 ? id : `${id}.${k}`, action: 'allow', ...rule })),
    );
  });

  test('a named port of egress is looked up in the peers, of ingress in the pods themselves', () => {
    const ports = [{ port: 'http' }];
    const peers = [{ podSelector: { matchLabels: { a: '1' } } }];
    const policy = converted('KubernetesNetworkPolicy', {
      policyTypes: ['Ingress', 'Egress'],
      ingress: [{ ports, from: peers }],
      egress: [{ ports, to: peers }],
    });
    expect(said(policy.ingress[0])).toMatchObject({
      source: { sets: [`(${own} && a == "1")`] },
      destination: { portSets: ['http/6 of all()'] },
    });
    expect(said(policy.egress[0])).toMatchObject({ destination: { portSets: [`http/6 of (${own} && a == "1")`] } });
  });

  test('every protocol is combined with every peer, under one number', () => {
    const policy = converted('KubernetesNetworkPolicy', {
      ingress: [
        {},
        {
          from: [{ podSelector: {} }, { ipBlock: { cidr: '10.0.0.0/8' } }],
          ports: [{ protocol: 'UDP', port: 53 }, { port: 53 }],
        },
      ],
    });
    expect(policy.ingress.map(({ id, protocol, source: { net } }) => [id, protocol, net])).toEqual([
      ['KubernetesNetworkPolicy ns/p ingress 0', undefined, undefined],
      ['KubernetesNetworkPolicy ns/p ingress 1.0', 6, undefined],
      ['KubernetesNetworkPolicy ns/p ingress 1.1', 6, '10.0.0.0/8'],
      ['KubernetesNetworkPolicy ns/p ingress 1.2', 17, undefined],
      ['KubernetesNetworkPolicy ns/p ingress 1.3', 17, '10.0.0.0/8'],
    ]);
  });
});

test('a field of the other direction is unknown: egress has no from, and without it the rule would allow everything', () => {
  const policy = converted('KubernetesNetworkPolicy', { egress: [{ from: [{ podSelector: {} }] }] });
  expect(policy.egress).toEqual([]);
  expect(policy.problems).toEqual([
    "egress rule 0 (allow) can't be converted and is left out: from is unknown, and without it the rule would match more than it says",
  ]);
});
