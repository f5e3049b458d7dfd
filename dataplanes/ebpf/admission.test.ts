import { describe, expect, test } from '@jest/globals';
import type { DataplaneUpdate } from '../messages.ts';
import type { ProfileInfo, RuleInfo } from '../policy.ts';
import { ANY_RULE } from '../shared/test-config.ts';
import { Admission } from './admission.ts';

const rule = (action: RuleInfo['action'], more: Partial<RuleInfo> = {}): RuleInfo => ({
  ...ANY_RULE,
  id: 'r',
  action,
  ...more,
});
const allow = [rule('allow')];
const tcpOnly = [rule('allow', { protocol: 6 })];
const profile = (id: string, ingress: readonly RuleInfo[], egress: readonly RuleInfo[] = ingress): DataplaneUpdate => ({
  type: 'profileUpdate',
  id,
  profile: { ingress, egress } satisfies ProfileInfo,
});
const policy = (id: string, staged: boolean): DataplaneUpdate => ({
  type: 'policyUpdate',
  id,
  policy: { tier: 'default', staged, ingress: [], egress: [] },
});
const selectedBy = (...ids: readonly string[]) => [
  { name: 'default', defaultAction: 'deny' as const, ingress: ids, egress: [] },
];

const open = { opens: true };
const closed = { opens: false };
const unable = (words: string) => ({ opens: false, reason: expect.stringContaining(words) });

describe('an endpoint', () => {
  test.each([
    ['of a namespace that allows all', ['kns.a', 'ksa.a.b'], [], open],
    ['without profiles', [], [], closed],
    ['of a profile that nobody defines', ['nobody', 'kns.a'], [], closed],
    ['whose profiles have no rules', ['ksa.a.b'], [], closed],
    ['whose profile denies all', ['deny'], [], closed],
    ['whose profile allows a part', ['tcp', 'kns.a'], [], unable('tcp')],
    ['whose profile allows one direction', ['in'], [], unable('in')],
    ['whose profile logs first', ['log'], [], open],
    ['that a policy selects', ['kns.a'], ['P'], unable('P selects it')],
    ['that a policy selects which was never announced', ['kns.a'], ['nobody'], unable('nobody selects it')],
    ['that a staged policy selects', ['kns.a'], ['S'], open],
    ['that a staged and another policy select', ['kns.a'], ['S', 'P'], unable('P selects it')],
  ])('%s', (_name, profiles, policies, verdict) => {
    const admission = new Admission();
    for (const update of [
      profile('kns.a', allow),
      profile('ksa.a.b', []),
      profile('deny', [rule('deny')]),
      profile('tcp', tcpOnly),
      profile('in', allow, []),
      profile('log', [rule('log'), ...allow]),
      policy('P', false),
      policy('S', true),
    ])
      admission.record(update);
    expect(admission.of({ profiles, tiers: policies.length > 0 ? selectedBy(...policies) : [] })).toEqual(verdict);
  });

  test('is asked about again when a policy is staged or not any more, and when a profile changes', () => {
    const admission = new Admission();
    expect(admission.record(policy('P', false))).toBe(false);
    expect(admission.record(policy('P', true))).toBe(true);
    expect(admission.record(policy('P', true))).toBe(false);
    expect(admission.record({ type: 'policyRemove', id: 'P' })).toBe(true);
    expect(admission.record(profile('kns.a', allow))).toBe(true);
    expect(admission.record({ type: 'profileRemove', id: 'kns.a' })).toBe(true);
    expect(admission.record({ type: 'profileRemove', id: 'kns.a' })).toBe(false);
  });
});

test('every host endpoint is reported until it is removed', () => {
  const admission = new Admission();
  const endpoint = { expectedIps: [], profiles: [], tiers: [], forwardTiers: [], preDnatTiers: [], untrackedTiers: [] };
  admission.record({ type: 'hostEndpointUpdate', id: 'eth0', endpoint });
  expect(admission.hostFailures()).toEqual([
    { object: 'host endpoint eth0', reason: expect.stringContaining('does not enforce policy') },
  ]);
  admission.record({ type: 'hostEndpointRemove', id: 'eth0' });
  expect(admission.hostFailures()).toEqual([]);
});
