import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { converted, parsedObject } from './convert.fixtures.ts';
import { builtInTiers, comparePolicies, compareTiers, convertTier, missingTier } from './tiers.ts';

describe('a Tier', () => {
  const named = (name: string, spec: object) => convertTier(parsedObject('Tier', spec, { name }));
  test.each([
    ['a', { order: 5 }, { name: 'a', order: 5, defaultAction: 'deny', exists: true }],
    ['a', {}, { name: 'a', order: Infinity, defaultAction: 'deny', exists: true }],
    ['a', { defaultAction: 'Pass' }, { name: 'a', order: Infinity, defaultAction: 'pass', exists: true }],
    ['default', {}, { name: 'default', order: 1_000_000, defaultAction: 'deny', exists: true }],
    ['kube-admin', {}, { name: 'kube-admin', order: 1_000, defaultAction: 'pass', exists: true }],
    ['kube-baseline', {}, { name: 'kube-baseline', order: 10_000_000, defaultAction: 'pass', exists: true }],
  ])('%s %j', (name, spec, expected) => {
    expect(named(name, spec)).toEqual(expected);
  });

  test('that exists without an object is as its object would be', () => {
    expect(builtInTiers).toEqual(builtInTiers.map(({ name }) => named(name, {})));
  });
});

test('tiers are in order of their orders, then names; without order late, and missing ones last', () => {
  const tier = (name: string, order: number) => ({ name, order, defaultAction: 'deny', exists: true }) as const;
  const sorted = [
    tier('z', -1),
    tier('B', 5),
    tier('a', 5),
    ...builtInTiers,
    tier('x', Infinity),
    tier('y', Infinity),
    missingTier('a'),
    missingTier('b'),
  ];
  expect(sorted.toReversed().sort(compareTiers)).toEqual(sorted);
});

test('policies are in order of their orders, then of the text name/namespace/kind', () => {
  const policy = (kind: 'NetworkPolicy' | 'StagedNetworkPolicy', name: string, namespace: string, order?: number) =>
    converted(kind, { order }, { name, namespace });
  const sorted = [
    policy('NetworkPolicy', 'z', 'z', -5),
    policy('NetworkPolicy', 'z', 'z', 0.5),
    converted('GlobalNetworkPolicy', { order: 1 }, { name: 'a' }),
    policy('NetworkPolicy', 'a', 'a', 1),
    policy('StagedNetworkPolicy', 'a', 'a', 1),
    policy('NetworkPolicy', 'a', 'b', 1),
    policy('NetworkPolicy', 'b', 'a', 1),
    converted('KubernetesNetworkPolicy', {}, { name: 'a' }),
    policy('NetworkPolicy', 'a-b', 'z'),
    policy('NetworkPolicy', 'a.b', 'z'),
    converted('GlobalNetworkPolicy', {}, { name: 'a' }),
    policy('NetworkPolicy', 'a', 'a-b'),
    policy('NetworkPolicy', 'a', 'a'),
    policy('NetworkPolicy', 'a0', 'a'),
    policy('NetworkPolicy', 'b', 'a'),
  ];
  const seed = Date.now() & 0x7fffffff;
  fc.assert(
    fc.property(fc.shuffledSubarray(sorted, { minLength: sorted.length }), (shuffled) => {
      expect(shuffled.sort(comparePolicies).map(({ id, order }) => [order, id])).toEqual(
        sorted.map(({ id, order }) => [order, id]),
      );
    }),
    { seed, numRuns: 200 },
  );
});
