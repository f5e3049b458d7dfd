import { describe, expect, test } from '@jest/globals';
import type { DataplaneConfig } from '../../messages.ts';
import type { PolicyInfo, RuleInfo } from '../../policy.ts';
import { context, peer, ruleInfo } from './everything-for-tests.ts';
import { policyChainName, profileChainName } from './names.ts';
import { policyChain, profileChain } from './policy-chains.ts';
import type { TableName } from './types.ts';

const ID = 'NetworkPolicy default/web';
const actions: readonly RuleInfo['action'][] = ['allow', 'deny', 'pass', 'log'];
const policy = (more: Partial<PolicyInfo> = {}): PolicyInfo => ({
  tier: 'security',
  staged: false,
  ingress: actions.map((action, index) => ruleInfo({ id: `${ID} ingress ${index}`, action, protocol: 6 })),
  egress: [],
  ...more,
});
const texts = (
  table: TableName,
  config: Partial<DataplaneConfig> = {},
  more: Partial<PolicyInfo> = {},
  id = ID,
): string[] => policyChain(id, policy(more), 'ingress', table, context(4, config)).rules.map(({ text }) => text);
const note = (index: number): string => `-m comment --comment "${ID} ingress ${index}"`;
const LOG = '-j LOG --log-prefix "calico-packet: " --log-level 5';

describe('the rules of a policy', () => {
  test('allow and pass go to the chains that mark, deny drops, log goes on', () => {
    expect(texts('filter')).toEqual([
      `-p 6 ${note(0)} -g cali-allow`,
      `-p 6 ${note(1)} -j DROP`,
      `-p 6 ${note(2)} -g cali-pass`,
      `-p 6 ${note(3)} ${LOG}`,
    ]);
  });

  test.each([
    ['filter', '-j REJECT'],
    ['mangle', '-j DROP'],
    ['raw', '-j DROP'],
  ] as const)('filterDenyAction reject: %s', (table, target) => {
    expect(texts(table, { filterDenyAction: 'reject' })[1]).toBe(`-p 6 ${note(1)} ${target}`);
  });

  test('a log rule with a rate counts what matched, not what was written', () => {
    const logged = policyChain(
      ID,
      policy(),
      'ingress',
      'filter',
      context(4, { logRate: { rate: '10/minute', burst: 3 } }),
    );
    expect(logged.rules.slice(3)).toEqual([
      { text: `-p 6 ${note(3)}`, rule: `${ID} ingress 3` },
      { text: `-p 6 -m limit --limit 10/minute --limit-burst 3 ${LOG}` },
    ]);
  });

  test('staged, they are counted and end the walk, and nothing is written', () => {
    expect(texts('filter', { filterDenyAction: 'reject' }, { staged: true })).toEqual([
      ...[0, 1, 2].map((index) => `-p 6 ${note(index)} -j RETURN`),
      `-p 6 ${note(3)}`,
    ]);
  });

  test('the one rule that says that all matched carries the RuleId', () => {
    const ports = Array.from({ length: 40 }, (_, n) => ({ min: n, max: n }));
    const rule = ruleInfo({ protocol: 6, source: peer({ ports }), destination: peer({ ports, portSets: ['n:x'] }) });
    const { rules } = policyChain(ID, policy({ ingress: [rule, rule] }), 'ingress', 'filter', context(6));
    expect(rules.filter(({ rule }) => rule !== undefined).map(({ text }) => text.slice(-14))).toEqual(
      ['-g cali-allow', '-g cali-allow'].map((target) => ` ${target}`),
    );
    expect(rules).toHaveLength(2 * (1 + 3 + 4 + 1));
  });

  test('a rule of the other family is not there', () => {
    expect(texts('filter', {}, { ingress: [ruleInfo({ ipVersion: 6 })] })).toEqual([]);
  });

  test('the chain is of one direction', () => {
    const { name, rules } = policyChain(ID, policy(), 'egress', 'filter', context(4));
    expect([name, rules]).toEqual([policyChainName('egress', ID), []]);
    expect(policyChainName('egress', ID)).not.toBe(policyChainName('ingress', ID));
  });
});

describe('logPrefix', () => {
  test.each([
    { template: 'x', expected: 'x: ' },
    { template: '', expected: ': ' },
    { template: '%t %k %n %p', expected: 'security np web default/web: ' },
    { template: '%t|%t|%t|%t|%t', expected: 'security_security_security_: ' },
    { template: '100% %z', expected: '100_ _z: ' },
    { template: '%k %p', id: 'GlobalNetworkPolicy deny-all', expected: 'gnp deny-all: ' },
    { template: '%k %n', id: 'FutureKind a', expected: 'FutureKind a: ' },
  ])('$template writes "$expected"', ({ template, id, expected }) => {
    const log = texts('filter', { logPrefix: template }, {}, id)[3];
    expect(/--log-prefix "(.*)" /.exec(log ?? '')?.[1]).toBe(expected);
    expect(expected.length).toBeLessThanOrEqual(29);
  });
});

test('names that would end a comment or look like a hash of ours are made harmless', () => {
  const id = 'NetworkPolicy a"b\\c\n--comment cali:AAAAAAAAAAAAAAAA';
  expect(texts('filter', {}, { ingress: [ruleInfo({ id })] })).toEqual([
    '-m comment --comment "NetworkPolicy a_b_c_--comment cali_AAAAAAAAAAAAAAAA" -g cali-allow',
  ]);
  const long = texts('filter', {}, { ingress: [ruleInfo({ id: 'x'.repeat(300) })] });
  expect(long).toEqual([`-m comment --comment "${'x'.repeat(255)}" -g cali-allow`]);
});

test('a profile is rendered as a policy is', () => {
  const profile = { ingress: [], egress: [ruleInfo({ id: 'Profile kns.default egress 0', action: 'deny' })] };
  expect(profileChain('kns.default', profile, 'egress', 'filter', context(6, { filterDenyAction: 'reject' }))).toEqual({
    name: profileChainName('egress', 'kns.default'),
    rules: [
      {
        text: '-m comment --comment "Profile kns.default egress 0" -j REJECT',
        rule: 'Profile kns.default egress 0',
      },
    ],
  });
});
