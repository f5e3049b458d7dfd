import { beforeEach, describe, expect, test } from '@jest/globals';
import { ANY_PEER, ANY_RULE, TEST_CONFIG } from '#dataplanes/shared/test-config.ts';
import type { PolicyInfo, RuleInfo, TierInfo } from '#dataplanes/policy.ts';
import type { WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import type { Party } from './directory.ts';
import { explain, requestOf, type ExplainRequest } from './explain.ts';
import { reportPolicy } from './policy-report.ts';
import type { PolicyView } from './policy-view.ts';

const rule = (id: string, action: RuleInfo['action'], more: Partial<RuleInfo> = {}): RuleInfo => ({
  id,
  action,
  ...ANY_RULE,
  ...more,
});
const policy = (ingress: RuleInfo[], staged = false): PolicyInfo => ({ tier: 'default', staged, ingress, egress: [] });
const tier = (name: string, ingress: string[], defaultAction: TierInfo['defaultAction'] = 'deny'): TierInfo => ({
  name,
  defaultAction,
  ingress,
  egress: [],
});
const endpoint = (address: string, tiers: TierInfo[]): WorkloadEndpointInfo => ({
  ifaceName: 'cali1',
  mac: '02:00:00:00:00:01',
  ipv4Nets: [`${address}/32`],
  ipv6Nets: [],
  allowedSourcePrefixes: [],
  tiers,
  profiles: profileIds,
});

let policies: Record<string, PolicyInfo>;
let tiers: TierInfo[];
let profileIds: string[];
let sets: Record<string, string[]>;
let toHost: 'drop' | 'accept' | 'return';

const client = 'k8s/default/client/eth0';
const server = 'k8s/default/server/eth0';
const view: PolicyView = {
  config: () => ({ ...TEST_CONFIG, endpointToHostAction: toHost }),
  set: (id) =>
    sets[id] === undefined
      ? undefined
      : { type: id.startsWith('p:') ? 'ipPort' : 'net', members: new Set(sets[id]), about: `about ${id}` },
  sets: () => [],
  policy: (id) => policies[id],
  profile: (id) =>
    id === 'kns.default'
      ? {
          ingress: [rule('Profile kns.default ingress 0', 'allow')],
          egress: [rule('Profile kns.default egress 0', 'allow')],
        }
      : id === 'passing'
        ? { ingress: [rule('Profile passing ingress 0', 'pass')], egress: [] }
        : undefined,
  endpoint: (id) =>
    id === client ? endpoint('10.65.0.1', []) : id === server ? endpoint('10.65.0.2', tiers) : undefined,
  endpoints: () => [],
  hostEndpoints: () => [],
};
const parties: Record<string, Party> = {
  client: { name: 'pod default/client', kind: 'local endpoint', endpoint: client, addresses: ['10.65.0.1'] },
  server: { name: 'pod default/server', kind: 'local endpoint', endpoint: server, addresses: ['10.65.0.2'] },
  host: { name: 'node node1', kind: 'this host', node: 'node1', addresses: ['172.31.0.11'] },
  far: { name: 'pod default/far', kind: 'remote pod', node: 'node2', addresses: ['10.65.1.1'] },
  outside: { name: '192.0.2.1', kind: 'outside', addresses: ['192.0.2.1'] },
};
const directory = { find: (text: string) => parties[text] as Party };
const ask = (more: Partial<ExplainRequest> = {}) =>
  explain({ source: 'client', destination: 'server', protocol: 'tcp', port: '80', ...more }, directory, view);

beforeEach(() => {
  policies = {};
  tiers = [];
  profileIds = ['kns.default'];
  sets = {};
  toHost = 'drop';
});

describe('explain', () => {
  test('without a policy the profiles decide, and are named', () => {
    expect(ask()).toMatchObject({
      verdict: 'allow',
      egress: { rule: 'Profile kns.default egress 0' },
      ingress: { rule: 'Profile kns.default ingress 0' },
    });
  });

  test.each<[string, Partial<RuleInfo>, string]>([
    ['another protocol', { protocol: 17 }, 'it is for protocol 17'],
    ['everything but TCP', { notProtocol: 6 }, 'it is for everything but protocol 6'],
    ['the other family', { ipVersion: 6 }, 'it is for IPv6'],
    ['an ICMP type', { icmp: { type: 8 } }, 'it is for ICMP type 8'],
    ['a source net', { source: { ...ANY_PEER, net: '10.66.0.0/16' } }, 'source 10.65.0.1 is not in 10.66.0.0/16'],
    [
      'a net that is excluded',
      { source: { ...ANY_PEER, notNet: '10.65.0.0/16' } },
      'source 10.65.0.1 is in 10.65.0.0/16',
    ],
    ['a set', { source: { ...ANY_PEER, sets: ['s:1'] } }, 'source 10.65.0.1 is not in set {about s:1} (1 member)'],
    [
      'a set that is excluded',
      { destination: { ...ANY_PEER, notSets: ['s:2'] } },
      'destination 10.65.0.2 is in set {about s:2} (1 member)',
    ],
    ['a port', { destination: { ...ANY_PEER, ports: [{ min: 81, max: 90 }] } }, 'destination port 80 is not 81:90'],
    [
      'a named port',
      { destination: { ...ANY_PEER, portSets: ['p:1'] } },
      'destination port 80 is not {about p:1} (1 member)',
    ],
    [
      'a port that is excluded',
      { destination: { ...ANY_PEER, notPorts: [{ min: 80, max: 80 }] } },
      'destination port 80 is 80',
    ],
    [
      'a service',
      { destination: { ...ANY_PEER, ipPortSets: ['p:1'] } },
      'destination is not a backend in set {about p:1} (1 member)',
    ],
  ])('a rule for %s says why it does not match', (_, more, note) => {
    sets = { 's:1': ['10.66.0.0/16'], 's:2': ['10.65.0.0/24'], 'p:1': ['10.65.0.2,6:81'] };
    policies = { a: policy([rule('a ingress 0', 'allow', more)]) };
    tiers = [tier('default', ['a'])];
    const { verdict, reason, ingress } = ask();
    expect(verdict).toBe('deny');
    expect(reason).toContain('no rule matched in tier default, whose default action is Deny (1 policy there)');
    expect(ingress?.steps).toEqual([{ tier: 'default', rule: 'a ingress 0', action: 'allow', matched: false, note }]);
  });

  test('sets, ports, named ports and services match what is in them', () => {
    sets = { 's:1': ['10.65.0.1/32'], 'p:1': ['10.65.0.2,6:80'] };
    policies = {
      a: policy([
        rule('a ingress 0', 'deny', {
          source: { ...ANY_PEER, sets: ['s:1'] },
          destination: { ...ANY_PEER, portSets: ['p:1'], ports: [{ min: 1, max: 2 }], ipPortSets: ['p:1'] },
        }),
      ]),
    };
    tiers = [tier('default', ['a'])];
    expect(ask()).toMatchObject({ verdict: 'deny', ingress: { rule: 'a ingress 0' } });
    expect(ask({ port: '2' })).toMatchObject({ verdict: 'deny', ingress: { rule: null } });
  });

  test('pass goes to the next tier, log goes on, a staged policy decides nothing', () => {
    policies = {
      staged: policy([rule('staged ingress 0', 'deny')], true),
      first: policy([rule('first ingress 0', 'log'), rule('first ingress 1', 'pass'), rule('first ingress 2', 'deny')]),
      second: policy([rule('second ingress 0', 'allow')]),
    };
    tiers = [tier('a', ['staged', 'first']), tier('b', ['second'])];
    const { verdict, ingress } = ask();
    expect(verdict).toBe('allow');
    expect(ingress?.steps.map(({ rule: id, note }) => [id, note])).toEqual([
      ['staged ingress 0', 'staged: it would deny, and decides nothing'],
      ['first ingress 0', ''],
      ['first ingress 1', ''],
      ['second ingress 0', ''],
    ]);
  });

  test.each<[TierInfo['defaultAction'], boolean, 'allow' | 'deny']>([
    ['deny', false, 'deny'],
    ['pass', false, 'allow'],
    ['deny', true, 'allow'],
  ])('a tier that ends with %s (only staged policies: %s) makes it %s', (action, staged, verdict) => {
    policies = { a: policy([rule('a ingress 0', 'allow', { protocol: 17 })], staged) };
    tiers = [tier('t', ['a'], action)];
    expect(ask().verdict).toBe(verdict);
  });

  test.each<[string, string[], 'allow' | 'deny', string]>([
    [
      'one that nobody defines denies, even before one that allows',
      ['none', 'kns.default'],
      'deny',
      'profile none is not',
    ],
    ['one that allows decides before one that nobody defines', ['kns.default', 'none'], 'allow', 'kns.default'],
    ['pass goes to the next one', ['passing', 'kns.default'], 'allow', 'kns.default'],
    ['after the last one comes a denial', ['passing'], 'deny', 'no profile (passing) allows it'],
    ['none denies', [], 'deny', 'there is no profile'],
  ])('profiles: %s', (_what, ids, verdict, reason) => {
    profileIds = ids;
    expect(ask({ source: 'far' })).toMatchObject({ verdict });
    expect(ask({ source: 'far' }).reason).toContain(reason);
  });

  test('a tier with a policy that is not known denies, whatever stands before it', () => {
    policies = { a: policy([rule('a ingress 0', 'allow')]) };
    tiers = [tier('default', ['a', 'b'])];
    expect(ask()).toMatchObject({ verdict: 'deny', ingress: { rule: null } });
    expect(ask().reason).toContain('b of tier default is not known yet');
  });

  test.each(['drop', 'accept', 'return'] as const)('to its own host: endpoint-to-host action %s', (action) => {
    toHost = action;
    expect(ask({ destination: 'host' })).toMatchObject({
      verdict: action === 'drop' ? 'deny' : 'allow',
      ingress: null,
    });
  });

  test('a host reaches its own pods whatever policy says', () => {
    policies = { a: policy([rule('a ingress 0', 'deny')]) };
    tiers = [tier('default', ['a'])];
    expect(ask({ source: 'host' })).toMatchObject({ verdict: 'allow', ingress: null });
  });

  test('what a pod sends to itself nobody judges', () => {
    policies = { a: policy([rule('a ingress 0', 'deny')]) };
    tiers = [tier('default', ['a'])];
    expect(ask({ source: 'server' })).toMatchObject({ verdict: 'allow', egress: null, ingress: null });
  });

  test("a remote pod's side is judged on its node, and that is said", () => {
    const { notes, egress } = ask({ source: 'far' });
    expect(egress).toBeNull();
    expect(notes).toEqual(['egress of pod default/far is judged on node node2: ask there too']);
  });

  test.each<[string, Partial<ExplainRequest>]>([
    ['VXLAN', { protocol: 'udp', port: '4789' }],
    ['IP-in-IP', { protocol: '4' }],
  ])('%s from a pod is denied whatever policy says, from elsewhere it is not', (what, request) => {
    tiers = [];
    expect(ask(request)).toMatchObject({ verdict: 'deny', egress: null });
    expect(ask(request).reason).toContain(`pods may not send ${what}`);
    expect(ask({ ...request, source: 'far' }).verdict).toBe('allow');
  });

  test.each<[Partial<ExplainRequest>, string]>([
    [{ source: 'far', destination: 'outside' }, 'neither pod default/far nor 192.0.2.1 is on this node: ask on node2'],
    [{ protocol: 'tpc' }, 'protocol tpc is unknown'],
    [{ port: '70000' }, '70000 is not a port (1 to 65535)'],
    [{ protocol: 'icmp', port: '256' }, '256 is not an ICMP type'],
    [{ family: 6 }, 'there is no IPv6 address of one family at both ends'],
  ])('the question %j is refused with a reason', (request, message) => {
    expect(() => ask(request)).toThrow(message);
    expect(() => ask(request)).toThrow(expect.objectContaining({ code: 'bad-request' }));
  });

  test('a question without a needed port is refused', () => {
    expect(() => explain({ source: 'client', destination: 'server', protocol: 'udp' }, directory, view)).toThrow(
      'needs a destination port',
    );
  });

  test.each([
    ['source=a&destination=b', 'source, destination and protocol are needed'],
    ['source=a&destination=b&protocol=tcp&family=5', 'family 5 is neither 4 nor 6'],
  ])('the request %s is refused: %s', (query, message) => {
    expect(() => requestOf(new URLSearchParams(query))).toThrow(message);
    expect(() => requestOf(new URLSearchParams(query))).toThrow(expect.objectContaining({ code: 'bad-request' }));
  });

  test('icmp is an echo request unless said otherwise', () => {
    const { packet } = explain({ source: 'client', destination: 'server', protocol: 'icmp' }, directory, view);
    expect(packet).toEqual({ source: '10.65.0.1', destination: '10.65.0.2', protocol: 1, icmpType: 8, icmpCode: 0 });
  });
});

test('the report of an endpoint has tiers, rules in words and what they counted', () => {
  sets = { 's:1': ['10.65.0.1/32', '10.65.0.7/32'] };
  policies = {
    a: policy([
      rule('a ingress 0', 'allow', {
        protocol: 6,
        source: { ...ANY_PEER, sets: ['s:1'] },
        destination: { ...ANY_PEER, ports: [{ min: 80, max: 80 }] },
      }),
    ]),
    b: policy([rule('b ingress 0', 'deny')], true),
  };
  tiers = [tier('default', ['a']), tier('trial', ['b'])];
  const report = reportPolicy(view, server, new Map([['a ingress 0', { packets: 3, bytes: 180 }]]));
  expect(report?.ingress.tiers).toEqual([
    {
      name: 'default',
      endsWith: 'deny',
      policies: [
        {
          id: 'a',
          staged: false,
          rules: [
            {
              id: 'a ingress 0',
              text: 'allow TCP from {about s:1} (2 members) to port 80',
              counter: { packets: 3, bytes: 180 },
            },
          ],
        },
      ],
    },
    {
      name: 'trial',
      endsWith: null,
      policies: [{ id: 'b', staged: true, rules: [{ id: 'b ingress 0', text: 'deny', counter: null }] }],
    },
  ]);
  expect(report?.egress.tiers).toEqual([]);
  expect(reportPolicy(view, 'k8s/default/nobody/eth0', new Map())).toBeUndefined();
});
