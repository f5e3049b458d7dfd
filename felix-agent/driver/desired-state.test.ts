import { beforeEach, expect, test } from '@jest/globals';
import type { DataplaneUpdate } from '#dataplanes/messages.ts';
import type { RuleInfo } from '#dataplanes/policy.ts';
import { DesiredState } from './desired-state.ts';

const peer = { sets: ['s1'], notSets: [], ports: [], portSets: [], notPorts: [], notPortSets: [], ipPortSets: [] };
const rule: RuleInfo = { id: 'p ingress 0', action: 'allow', source: peer, destination: { ...peer, sets: [] } };
const policy = { tier: 'default', staged: false, ingress: [rule], egress: [] };
const tiers = [{ name: 'default', defaultAction: 'deny', ingress: ['p'], egress: [] }] as const;
const workload = {
  ifaceName: 'cali1',
  mac: '02:00:00:00:00:01',
  ipv4Nets: ['10.0.0.1/32'],
  ipv6Nets: [],
  allowedSourcePrefixes: [],
  tiers,
  profiles: ['kns.default'],
};
const host = { expectedIps: [], profiles: [], tiers, forwardTiers: [], preDnatTiers: [], untrackedTiers: [] };

/** One of each, in the order in which calc says them. */
const said: readonly DataplaneUpdate[] = [
  { type: 'hostUpdate', node: 'n1', host: { ipv4: '192.0.2.1' } },
  { type: 'poolUpdate', id: 'pool', pool: { cidr: '10.0.0.0/16', masquerade: true } },
  { type: 'routeUpdate', route: { dst: '10.0.1.0/26', type: 'localBlock', nodeName: 'n1' } },
  { type: 'serviceRangesUpdate', cidrs: ['10.96.0.0/12'] },
  {
    type: 'serviceUpdate',
    id: 'default/web',
    service: { clusterIps: { ipv4: '10.96.0.1' }, ports: [], internalTrafficPolicy: 'cluster' },
  },
  { type: 'ipSetUpdate', id: 's1', setType: 'net', members: ['10.0.0.1/32', '10.0.0.2/32'], about: 'all()' },
  { type: 'profileUpdate', id: 'kns.default', profile: { ingress: [], egress: [] } },
  { type: 'policyUpdate', id: 'p', policy },
  { type: 'workloadEndpointUpdate', id: 'k8s/default/a/eth0', endpoint: workload },
  { type: 'hostEndpointUpdate', id: 'h', endpoint: host },
  { type: 'inSync' },
];

let state: DesiredState;
beforeEach(() => {
  state = new DesiredState();
  for (const update of said) state.record(update);
});

test('what was said is said again in the same order', () => {
  expect([...state.replay()]).toEqual(said);
});

test('a set is replayed with what has changed since', () => {
  state.record({ type: 'ipSetDelta', id: 's1', added: ['10.0.0.3/32'], removed: ['10.0.0.1/32'] });
  expect([...state.replay()]).toContainEqual({
    type: 'ipSetUpdate',
    id: 's1',
    setType: 'net',
    members: ['10.0.0.2/32', '10.0.0.3/32'],
    about: 'all()',
  });
});

test('what was taken back is forgotten', () => {
  const back: readonly DataplaneUpdate[] = [
    { type: 'hostEndpointRemove', id: 'h' },
    { type: 'workloadEndpointRemove', id: 'k8s/default/a/eth0' },
    { type: 'policyRemove', id: 'p' },
    { type: 'profileRemove', id: 'kns.default' },
    { type: 'ipSetRemove', id: 's1' },
    { type: 'serviceRemove', id: 'default/web' },
    { type: 'routeRemove', dst: '10.0.1.0/26' },
    { type: 'poolRemove', id: 'pool' },
    { type: 'hostRemove', node: 'n1' },
    { type: 'serviceRangesUpdate', cidrs: [] },
  ];
  for (const update of back) state.record(update);
  expect([...state.replay()]).toEqual([{ type: 'serviceRangesUpdate', cidrs: [] }, { type: 'inSync' }]);
});

test('questions are answered from it', () => {
  expect(state.set('s1')).toMatchObject({ type: 'net', about: 'all()' });
  expect([...(state.set('s1')?.members ?? [])]).toEqual(['10.0.0.1/32', '10.0.0.2/32']);
  expect(state.set('other')).toBeUndefined();
  expect(state.policy('p')).toBe(policy);
  expect(state.profile('kns.default')).toEqual({ ingress: [], egress: [] });
  expect(state.endpoint('k8s/default/a/eth0')).toBe(workload);
  expect([...state.endpoints()].map(([id]) => id)).toEqual(['k8s/default/a/eth0']);
  expect([...state.hostEndpoints()]).toEqual([['h', host]]);
  expect(state.setCount).toBe(1);
  expect(state.config()).toBeUndefined();
});
