import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parse } from 'yaml';
import { kindNameOf, kinds, parseAs, type KindName } from '../kinds.ts';
import { invalidDocuments, invalidRules } from '../policies.invalid.fixtures.ts';
import { validDocuments } from '../policies.valid.fixtures.ts';
import { closedPolicy, isEnforcedPolicyKind } from './closed.ts';

function raw(kind: KindName, spec: string, metadata = '{name: a}'): unknown {
  const { apiVersion, kind: yamlKind } = kinds[kind];
  return { apiVersion, kind: yamlKind, metadata: parse(metadata) as unknown, spec: parse(spec) as unknown };
}

const deny = [{ action: 'Deny' }];
const unset = { doNotTrack: false, preDNAT: false, applyOnForward: false };

describe('in place of a policy that can not be used stands', () => {
  test.each<[string, KindName, string, object]>([
    [
      'a denial in its types, with its tier, order and selectors',
      'NetworkPolicy',
      '{tier: security, order: 7, selector: has(a), serviceAccountSelector: has(b), types: [Egress], ingress: [{action: Alow}]}',
      {
        tier: 'security',
        order: 7,
        selector: 'has(a)',
        serviceAccountSelector: 'has(b)',
        types: ['Egress'],
        egress: deny,
      },
    ],
    [
      'without types a denial in the directions of its rules',
      'NetworkPolicy',
      '{egress: [{action: Alow}]}',
      { tier: 'default', types: ['Egress'], egress: deny },
    ],
    [
      'without rules a denial of ingress',
      'NetworkPolicy',
      '{performanceHints: [Fast]}',
      { tier: 'default', types: ['Ingress'], ingress: deny },
    ],
    [
      'rules that are no list count as rules',
      'NetworkPolicy',
      '{ingress: {action: Allow}, egress: x}',
      { tier: 'default', types: ['Ingress', 'Egress'], ingress: deny, egress: deny },
    ],
    [
      'types in another case are read',
      'NetworkPolicy',
      '{types: [ingress, EGRESS]}',
      { tier: 'default', types: ['Ingress', 'Egress'], ingress: deny, egress: deny },
    ],
    ['a type alone is read', 'NetworkPolicy', '{types: Egress}', { tier: 'default', types: ['Egress'], egress: deny }],
    [
      'with types that are readable in part, the directions of its rules as well',
      'NetworkPolicy',
      '{types: [Ingress, Egres], egress: [{action: Allow}]}',
      { tier: 'default', types: ['Ingress', 'Egress'], ingress: deny, egress: deny },
    ],
    [
      'with types of which none can be read, what the rules say',
      'NetworkPolicy',
      '{types: [Egres]}',
      { tier: 'default', types: ['Ingress'], ingress: deny },
    ],
    [
      'an order in quotes is read, a tier that is none is the default one',
      'NetworkPolicy',
      '{order: "12.5", tier: [a]}',
      { tier: 'default', order: 12.5, types: ['Ingress'], ingress: deny },
    ],
    [
      'where the order can not be read, the first place',
      'NetworkPolicy',
      '{order: first}',
      { tier: 'default', order: -Number.MAX_SAFE_INTEGER, types: ['Ingress'], ingress: deny },
    ],
    [
      'nulls count as absent',
      'NetworkPolicy',
      '{order: null, selector: null, types: null, ingress: null, tier: A}',
      { tier: 'default', types: ['Ingress'], ingress: deny },
    ],
    [
      'a type that is no text is not readable, whatever it has for its text',
      'NetworkPolicy',
      '{types: [{toString: 1}], egress: [{action: Deny}]}',
      { tier: 'default', types: ['Egress'], egress: deny },
    ],
    [
      'a selector that the kind has not says nothing',
      'NetworkPolicy',
      '{namespaceSelector: "((", selector: has(a), ingress: [{}]}',
      { tier: 'default', selector: 'has(a)', types: ['Ingress'], ingress: deny },
    ],
    [
      'a namespaceSelector stays',
      'GlobalNetworkPolicy',
      '{namespaceSelector: has(ns), ingress: [{}]}',
      { ...unset, tier: 'default', namespaceSelector: 'has(ns)', types: ['Ingress'], ingress: deny },
    ],
    [
      'an untracked policy stays one',
      'GlobalNetworkPolicy',
      '{doNotTrack: true, types: [Ingress, Egress]}',
      {
        ...unset,
        doNotTrack: true,
        applyOnForward: true,
        tier: 'default',
        types: ['Ingress', 'Egress'],
        ingress: deny,
        egress: deny,
      },
    ],
    [
      'a policy before translation stays one, and has ingress alone',
      'GlobalNetworkPolicy',
      '{preDNAT: true, applyOnForward: true, types: [Egress], egress: [{action: Deny}]}',
      { ...unset, preDNAT: true, applyOnForward: true, tier: 'default', types: ['Ingress'], ingress: deny },
    ],
    [
      'of two places in the way, which exclude each other, the earlier',
      'GlobalNetworkPolicy',
      '{preDNAT: true, doNotTrack: true, applyOnForward: true, ingress: [{action: Deny}]}',
      { ...unset, doNotTrack: true, applyOnForward: true, tier: 'default', types: ['Ingress'], ingress: deny },
    ],
    [
      'words for true are read',
      'GlobalNetworkPolicy',
      '{applyOnForward: "yes"}',
      { ...unset, applyOnForward: true, tier: 'default', types: ['Ingress'], ingress: deny },
    ],
    [
      'Kubernetes: the same pods and types, and no rules',
      'KubernetesNetworkPolicy',
      '{podSelector: {matchLabels: {a: b}}, policyTypes: [Egress], egress: [{ports: [{port: 0}]}]}',
      { podSelector: { matchLabels: { a: 'b' } }, policyTypes: ['Egress'] },
    ],
    [
      'Kubernetes: without types, ingress, and egress if there are such rules',
      'KubernetesNetworkPolicy',
      '{egress: [{ports: [{port: 0}]}]}',
      { podSelector: {}, policyTypes: ['Ingress', 'Egress'] },
    ],
    [
      'Kubernetes: nulls in the selector count as absent',
      'KubernetesNetworkPolicy',
      '{podSelector: {matchLabels: {a: b}, matchExpressions: null}, policyTypes: [Out]}',
      { podSelector: { matchLabels: { a: 'b' } }, policyTypes: ['Ingress'] },
    ],
    [
      'ClusterNetworkPolicy: nulls in the subject count as absent',
      'ClusterNetworkPolicy',
      '{tier: {toString: 1}, priority: 1, subject: {pods: null, namespaces: {matchLabels: null}}, ingress: [1]}',
      { tier: 'Admin', priority: 1, subject: { namespaces: {} }, ingress: [{ action: 'Deny', from: [{}] }] },
    ],
    [
      'ClusterNetworkPolicy: a denial of everything in the directions that it has rules for',
      'ClusterNetworkPolicy',
      '{tier: Baseline, priority: 5, subject: {namespaces: {}}, ingress: [], egress: [{action: Allow}]}',
      { tier: 'Baseline', priority: 5, subject: { namespaces: {} }, egress: [{ action: 'Deny', to: [{}] }] },
    ],
    [
      'ClusterNetworkPolicy: what can not be read is first',
      'ClusterNetworkPolicy',
      '{tier: Top, priority: high, subject: {pods: {podSelector: {}}}, ingress: {}, egress: [1]}',
      {
        tier: 'Admin',
        priority: 0,
        subject: { pods: { namespaceSelector: {}, podSelector: {} } },
        ingress: [{ action: 'Deny', from: [{}] }],
        egress: [{ action: 'Deny', to: [{}] }],
      },
    ],
    [
      'ClusterNetworkPolicy: a priority beyond the end is the last',
      'ClusterNetworkPolicy',
      '{tier: Admin, priority: 5000, subject: {namespaces: {}}, ingress: [{}]}',
      { tier: 'Admin', priority: 1000, subject: { namespaces: {} }, ingress: [{ action: 'Deny', from: [{}] }] },
    ],
  ])('%s (%s %s)', (_what, kind, spec, expected) => {
    expect(() => parseAs(kind, raw(kind, spec))).toThrow(); // or there is nothing to replace
    const closed = closedPolicy(kind, raw(kind, spec));
    expect(closed?.object.spec).toEqual(expected);
    expect(closed?.object.metadata).toEqual(
      kinds[kind].namespaced ? { name: 'a', namespace: 'default' } : { name: 'a' },
    );
    const { types, policyTypes, ingress, egress } = expected as Record<string, string[] | undefined>;
    const directions = types ?? policyTypes ?? [...(ingress ? ['Ingress'] : []), ...(egress ? ['Egress'] : [])];
    expect(closed?.denies).toEqual({ ingress: directions.includes('Ingress'), egress: directions.includes('Egress') });
  });

  test.each<[string, KindName, string, string?]>([
    ['a selector is wrong', 'NetworkPolicy', '{selector: "a = b"}'],
    ['a selector is no text', 'NetworkPolicy', '{selector: {a: b}}'],
    ['a selector has what belongs elsewhere', 'NetworkPolicy', '{selector: global()}'],
    ['the service accounts can not be told', 'NetworkPolicy', '{serviceAccountSelector: "&&"}'],
    ['the namespaces can not be told', 'GlobalNetworkPolicy', '{namespaceSelector: "&&"}'],
    ['the pods can not be told', 'KubernetesNetworkPolicy', '{podSelector: {matchLabels: [a]}}'],
    ['there is no subject', 'ClusterNetworkPolicy', '{tier: Admin, priority: 1, ingress: [{}]}'],
    ['there are no rules', 'ClusterNetworkPolicy', '{tier: Admin, priority: -1, subject: {namespaces: {}}}'],
    ['there is no spec', 'NetworkPolicy', 'null'],
    ['the spec is no object', 'GlobalNetworkPolicy', '[]'],
    ['the name is none', 'NetworkPolicy', '{}', '{name: A}'],
    ['the namespace is none', 'NetworkPolicy', '{order: x}', '{name: a, namespace: 7}'],
    ['there is no metadata', 'NetworkPolicy', '{order: x}', 'null'],
    ['it is staged', 'StagedNetworkPolicy', '{order: x}'],
    ['it is no policy', 'Tier', '{order: x}'],
  ])('nothing where %s (%s %s)', (_why, kind, spec, ...[metadata]) => {
    expect(closedPolicy(kind, raw(kind, spec, metadata))).toBeUndefined();
  });

  test('an object that holds itself is refused like any other', () => {
    const policy = raw('KubernetesNetworkPolicy', '{policyTypes: [Egress]}') as { spec: Record<string, unknown> };
    policy.spec['egress'] = [policy];
    expect(() => parseAs('KubernetesNetworkPolicy', policy)).toThrow(expect.objectContaining({ code: 'invalid' }));
    expect(closedPolicy('KubernetesNetworkPolicy', policy)?.denies).toEqual({ ingress: false, egress: true });
    policy.spec['podSelector'] = policy;
    expect(closedPolicy('KubernetesNetworkPolicy', policy)).toBeUndefined();
  });

  test.each([null, undefined, 'text', 7, [], {}])('nothing for %j', (value) => {
    expect(closedPolicy('NetworkPolicy', value)).toBeUndefined();
  });
});

test('every rule that is refused leaves a policy that denies its direction', () => {
  for (const [direction, rule] of invalidRules) {
    const closed = closedPolicy('NetworkPolicy', raw('NetworkPolicy', `{selector: has(a), ${direction}: [${rule}]}`));
    expect(closed?.object.spec).toMatchObject({ selector: 'has(a)', [direction]: deny });
  }
});

const endless: Record<string, unknown> = {};
endless['matchLabels'] = endless;

test('whatever is broken in a policy, its replacement is valid, denies, allows nothing, and changes with nothing but the policy', () => {
  const policies = [...validDocuments.map(([, yaml]) => yaml), ...invalidDocuments.map(([yaml]) => yaml)]
    .map((yaml) => parse(yaml) as { kind: string; apiVersion: string; spec?: Record<string, unknown> })
    .filter(({ kind, apiVersion }) => isEnforcedPolicyKind(kindNameOf(kind, apiVersion) as KindName));
  const junk = fc.oneof(
    fc.constantFrom<unknown>(null, '', 'x', 7, -1, true, [], {}, [null], ['Ingress'], [{}], { a: 1 }, 'true', '12'),
    fc.constantFrom<unknown>({ toString: 1 }, [{ toString: null, valueOf: null }], endless, NaN, Infinity, new Date(0)),
    fc.jsonValue(),
  );
  fc.assert(
    fc.property(fc.constantFrom(...policies), fc.nat(12), junk, (policy, at, value) => {
      const spec = { ...policy.spec };
      const fields = [...Object.keys(spec), 'types', 'order', 'selector', 'preDNAT', 'ingress'];
      spec[fields[at % fields.length] ?? 'types'] = value;
      const broken = { ...policy, spec };
      const kind = kindNameOf(policy.kind, policy.apiVersion) as KindName;
      const closed = closedPolicy(kind, broken);
      if (closed === undefined) {
        return;
      }
      expect(parseAs(kind, structuredClone(closed.object)).object).toEqual(closed.object);
      expect(closed.denies.ingress || closed.denies.egress).toBe(true);
      expect(JSON.stringify(closed.object.spec)).not.toMatch(/Allow|Accept|Pass/);
      expect(closedPolicy(kind, structuredClone(broken))).toEqual(closed);
    }),
    { numRuns: 2000, interruptAfterTimeLimit: 2000 },
  );
});
