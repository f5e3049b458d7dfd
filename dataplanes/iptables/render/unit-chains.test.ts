import { describe, expect, test } from '@jest/globals';
import type { PolicyInfo } from '../../policy.ts';
import { testHostEndpoint } from '../../shared/test-config.ts';
import { context, tier } from './everything-for-tests.ts';
import { policyChainName, profileChainName, unitOf } from './names.ts';
import type { PolicyUnit } from './types.ts';
import { dispatchChains, unitChains } from './unit-chains.ts';
import { hostUses, unitUses } from './uses.ts';

const policy = (staged: boolean): PolicyInfo => ({ tier: 'x', staged, ingress: [], egress: [] });
const known = {
  policies: new Map([
    ['a', policy(false)],
    ['b', policy(false)],
    ['s', policy(true)],
  ]),
  profiles: new Set(['kns', 'ksa']),
};
const rulesOf = (lists: Omit<PolicyUnit, 'id'>, direction: 'to' | 'from' = 'to', config = {}): string[] => {
  const [to, from] = unitChains(unitOf(lists), known, context(4, config));
  return (direction === 'to' ? to : from).rules.map(({ text }) => text);
};

const CLEAR = '-j MARK --set-xmark 0x0/0x30000';
const CLEAR_PASS = '-j MARK --set-xmark 0x0/0x20000';
const ACCEPTED = '-m mark --mark 0x10000/0x10000 -j RETURN';
const unlessPassed = (about: string, target: string): string =>
  `-m mark --mark 0x0/0x20000 -m comment --comment "tier ${about}" ${target}`;
const jump = (name: string, id: string, direction: 'ingress' | 'egress' = 'ingress'): string =>
  unlessPassed(`${name}: ${id}`, `-j ${policyChainName(direction, id)}`);
const NO_PROFILE = '-m comment --comment "no profile allows it" -j DROP';

describe('to a pod', () => {
  test('each policy while none has passed the packet on, the end of the tier, then the profiles', () => {
    const tiers = [
      tier(['a', 'b'], { name: 'one' }),
      tier(['s'], { name: 'two' }),
      tier(['b', 's'], { name: 'three' }),
    ];
    expect(rulesOf({ tiers, profiles: ['kns', 'ksa'] })).toEqual([
      CLEAR,
      jump('one', 'a'),
      ACCEPTED,
      jump('one', 'b'),
      ACCEPTED,
      unlessPassed('one: no policy allows it', '-j DROP'),
      CLEAR_PASS,
      jump('two', 's'),
      CLEAR_PASS,
      jump('three', 'b'),
      ACCEPTED,
      jump('three', 's'),
      unlessPassed('three: no policy allows it', '-j DROP'),
      `-m comment --comment "profile kns" -j ${profileChainName('ingress', 'kns')}`,
      ACCEPTED,
      `-m comment --comment "profile ksa" -j ${profileChainName('ingress', 'ksa')}`,
      ACCEPTED,
      NO_PROFILE,
    ]);
  });

  test('a tier that passes by default, and one without a policy of the direction', () => {
    const tiers = [tier(['a'], { name: 'one', defaultAction: 'pass' }), tier([], { egress: ['b'] })];
    expect(rulesOf({ tiers, profiles: [] })).toEqual([CLEAR, jump('one', 'a'), ACCEPTED, NO_PROFILE]);
  });

  test('filterDenyAction reject: the end of a tier and of the profiles', () => {
    const rules = rulesOf({ tiers: [tier(['a'])], profiles: [] }, 'to', { filterDenyAction: 'reject' });
    expect(rules.slice(3)).toEqual([
      unlessPassed('default: no policy allows it', '-j REJECT'),
      NO_PROFILE.replace('DROP', 'REJECT'),
    ]);
  });

  test('what was never announced denies', () => {
    expect(rulesOf({ tiers: [tier(['a', 'nobody'])], profiles: ['kns', 'none', 'ksa'] })).toEqual([
      CLEAR,
      unlessPassed('default: nobody is not known', '-j DROP'),
      `-m comment --comment "profile kns" -j ${profileChainName('ingress', 'kns')}`,
      ACCEPTED,
      '-m comment --comment "profile none is not defined" -j DROP',
    ]);
  });
});

describe('from a pod', () => {
  const VXLAN = '-p 17 -m multiport --dports 4790 -m comment --comment "VXLAN from a pod" -j DROP';
  const IPIP = '-p 4 -m comment --comment "IP in IP from a pod" -j DROP';
  const rest = [
    CLEAR,
    jump('default', 'a', 'egress'),
    ACCEPTED,
    unlessPassed('default: no policy allows it', '-j DROP'),
    NO_PROFILE,
  ];

  test.each([
    { settings: {}, first: [VXLAN, IPIP] },
    { settings: { allowVxlanFromWorkloads: true }, first: [IPIP] },
    { settings: { allowIpipFromWorkloads: true }, first: [VXLAN] },
    { settings: { allowVxlanFromWorkloads: true, allowIpipFromWorkloads: true }, first: [] },
  ])('encapsulated packets are dropped unless the settings allow them: $settings', ({ settings, first }) => {
    const lists = { tiers: [tier([], { egress: ['a'] })], profiles: [] };
    expect(rulesOf(lists, 'from', { ...settings, vxlanPort: 4790 })).toEqual([...first, ...rest]);
  });
});

describe('dispatch', () => {
  const units = [unitOf({ tiers: [], profiles: ['kns'] }), unitOf({ tiers: [], profiles: ['ksa'] })];

  test.each([
    { allowInvalid: false, invalid: ['-m conntrack --ctstate INVALID -j DROP'] },
    { allowInvalid: true, invalid: [] },
  ])(
    'known connections, then each unit by its set, then a drop (allowInvalid $allowInvalid)',
    ({ allowInvalid, invalid }) => {
      const chains = dispatchChains(units, context(6, { allowInvalid }));
      const ids = units.map(({ id }) => id).sort();
      expect(chains.map(({ name, rules }) => [name, rules.map(({ text }) => text)])).toEqual(
        (
          [
            ['cali-from-wl-dispatch', 'src,src', 'fu'],
            ['cali-to-wl-dispatch', 'dst,dst', 'tu'],
          ] as const
        ).map(([name, dimensions, chain]) => [
          name,
          [
            '-m conntrack --ctstate RELATED,ESTABLISHED -g cali-allow',
            ...invalid,
            ...ids.map((id) => `-m set --match-set cali60u-${id} ${dimensions} -g cali-${chain}-${id}`),
            '-m comment --comment "unknown pod device or address" -j DROP',
          ],
        ]),
      );
    },
  );

  test('the order in which units are known changes nothing', () => {
    expect(dispatchChains(units.toReversed(), context(4))).toEqual(dispatchChains(units, context(4)));
  });
});

describe('uses', () => {
  const list = (uses: ReturnType<typeof unitUses>): string[] =>
    uses.map(({ table, direction, kind, id }) => `${table} ${direction} ${kind} ${id}`).sort();

  test('a unit uses its policies and profiles in filter, by direction', () => {
    expect(list(unitUses({ tiers: [tier(['a'], { egress: ['b'] })], profiles: ['kns'] }))).toEqual([
      'filter egress policy b',
      'filter egress profile kns',
      'filter ingress policy a',
      'filter ingress profile kns',
    ]);
  });

  test('a host endpoint uses each kind of policy in its table', () => {
    const endpoint = testHostEndpoint({
      tiers: [tier(['normal'])],
      forwardTiers: [tier(['forward'])],
      preDnatTiers: [tier(['early'], { egress: [] })],
      untrackedTiers: [tier(['untracked'])],
      profiles: ['p'],
    });
    expect(list(hostUses(endpoint))).toEqual([
      'filter egress policy forward',
      'filter egress policy normal',
      'filter egress profile p',
      'filter ingress policy forward',
      'filter ingress policy normal',
      'filter ingress profile p',
      'mangle egress policy normal',
      'mangle egress profile p',
      'mangle ingress policy early',
      'raw egress policy untracked',
      'raw ingress policy untracked',
    ]);
  });
});
