import { describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { errorOf } from './kinds.fixtures.ts';
import { kindNameOf, kinds, kindsMeant, parseAs, parseObject, type KindName } from './kinds.ts';
import { invalidDocuments, invalidRules } from './policies.invalid.fixtures.ts';
import { validDocuments, validRules } from './policies.valid.fixtures.ts';
import { builtInTiers, tierSettings } from './v3/tier.ts';

function withRule(direction: string, rule: string): string {
  return `apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {${direction}: [${rule}]}\n`;
}

describe('what users write', () => {
  test.each(validDocuments)('is taken, with nothing left over: %s', (title, yaml) => {
    const raw = parse(yaml) as { readonly kind: string; readonly apiVersion: string };
    const parsed = parseObject(raw);
    expect(parsed.kind).toBe(kindNameOf(raw.kind, raw.apiVersion));
    expect(parsed.unknownFields).toEqual(title.includes('not known yet') ? ['spec.egress[0].to[0].planets'] : []);
    expect(parseAs(parsed.kind, structuredClone(parsed.object)).object).toEqual(parsed.object);
  });

  test.each(validRules)('is taken as a rule: %s %s', (direction, rule) => {
    expect(parseObject(parse(withRule(direction, rule))).unknownFields).toEqual([]);
  });
});

describe('what nobody can mean', () => {
  // By what is wrong with them: some are too long for a title.
  test.each(invalidDocuments.map(([yaml, path, message]) => [path, message, yaml]))('%s %s', (path, message, yaml) => {
    const { code, issues } = errorOf(() => parseObject(parse(yaml)));
    expect(code).toBe('invalid');
    expect(issues).toEqual([{ path, message: expect.stringContaining(message) }]);
  });

  test.each(invalidRules.map(([direction, rule, path, message]) => [direction, path, message, rule]))(
    '%s%s %s',
    (direction, path, message, rule) => {
      const { issues } = errorOf(() => parseObject(parse(withRule(direction, rule))));
      expect(issues).toEqual([{ path: `spec.${direction}[0]${path}`, message: expect.stringContaining(message) }]);
    },
  );

  test('is said of all rules at once', () => {
    const { issues } = errorOf(() =>
      parseObject(
        parse(withRule('ingress', '{action: Allow, protocol: 0}, {action: Deny}, {action: Deny, ipVersion: 5}')),
      ),
    );
    expect(issues.map(({ path }) => path)).toEqual(['spec.ingress[0].protocol', 'spec.ingress[2].ipVersion']);
  });
});

describe('a field that no schema knows', () => {
  test.each([
    ['KubernetesNetworkPolicy', '{ingress: [{form: [{podSelector: {}}]}]}', 'spec.ingress[0].form'],
    ['NetworkPolicy', '{ingress: [{action: Allow, source: {net: [10.0.0.0/8]}}]}', 'spec.ingress[0].source.net'],
    ['GlobalNetworkPolicy', '{selecter: all()}', 'spec.selecter'],
  ] as const)(
    'is listed in a policy, since misspelt it may let through what it should not: %s %s',
    (kind, spec, field) => {
      const { apiVersion, kind: yamlKind } = kinds[kind];
      const raw = { apiVersion, kind: yamlKind, metadata: { name: 'a' }, spec: parse(spec) as object };
      expect(parseObject(raw).unknownFields).toEqual([field]);
    },
  );
});

describe('two kinds of one name', () => {
  const np = (apiVersion: string): unknown => ({
    apiVersion,
    kind: 'NetworkPolicy',
    metadata: { name: 'a' },
    spec: {},
  });

  test('are told apart by their apiVersion, and each keeps its own', () => {
    for (const [apiVersion, kind] of [
      ['projectcalico.org/v3', 'NetworkPolicy'],
      ['networking.k8s.io/v1', 'KubernetesNetworkPolicy'],
    ] as const) {
      const parsed = parseObject(np(apiVersion));
      expect(parsed.kind).toBe(kind);
      expect(parsed.object).toMatchObject({ kind: 'NetworkPolicy', apiVersion });
    }
  });

  test('are both named when neither is meant', () => {
    expect(errorOf(() => parseObject(np('extensions/v1beta1'))).message).toBe(
      'NetworkPolicy "a": kind NetworkPolicy of extensions/v1beta1 is not supported; use apiVersion networking.k8s.io/v1 or projectcalico.org/v3',
    );
  });

  test("have the program's own name in errors", () => {
    expect(errorOf(() => parseAs('KubernetesNetworkPolicy', np('projectcalico.org/v3'))).message).toBe(
      'KubernetesNetworkPolicy "a": apiVersion: must be networking.k8s.io/v1 (is projectcalico.org/v3)',
    );
  });
});

describe('the kinds that an object may be meant to be of', () => {
  test.each<[string | undefined, string | undefined, readonly KindName[]]>([
    ['NetworkPolicy', 'projectcalico.org/v3', ['NetworkPolicy']],
    ['NetworkPolicy', 'projectcalico.org/v4', ['NetworkPolicy']],
    ['NetworkPolicy', 'crd.projectcalico.org/v1', ['NetworkPolicy']],
    ['NetworkPolicy', 'networking.k8s.io/v1beta1', ['KubernetesNetworkPolicy']],
    ['NetworkPolicy', 'extensions/v1beta1', ['KubernetesNetworkPolicy']],
    ['NetworkPolicy', undefined, ['KubernetesNetworkPolicy', 'NetworkPolicy']],
    ['NetworkPolicy', 'example.com/v1', []],
    ['KubernetesNetworkPolicy', 'networking.k8s.io/v1', []],
    ['Service', 'v1', ['Service']],
    ['Service', 'v2', ['Service']],
    ['Service', 'serving.knative.dev/v1', []],
    [undefined, 'v1', []],
  ])('%s of %s: %j', (kind, apiVersion, expected) => {
    expect(kindsMeant(kind, apiVersion)).toEqual(expected);
  });
});

describe('defaults', () => {
  test('of policies are those of Calico, and nothing is filled in that its author left open', () => {
    const spec = (kind: KindName): unknown =>
      (
        parseAs(kind, { apiVersion: kinds[kind].apiVersion, kind, metadata: { name: 'a' }, spec: {} }).object as {
          spec?: unknown;
        }
      ).spec;
    expect(spec('NetworkPolicy')).toEqual({ tier: 'default' });
    expect(spec('GlobalNetworkPolicy')).toEqual({
      tier: 'default',
      doNotTrack: false,
      preDNAT: false,
      applyOnForward: false,
    });
    expect(spec('StagedNetworkPolicy')).toEqual({ tier: 'default', stagedAction: 'Set' });
    expect(spec('StagedKubernetesNetworkPolicy')).toEqual({ stagedAction: 'Set', podSelector: {} });
  });

  test("of Kubernetes' ports are TCP", () => {
    const { spec } = parseAs(
      'KubernetesNetworkPolicy',
      parse(
        'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {ingress: [{ports: [{port: 80}]}]}',
      ),
    ).object;
    expect(spec).toEqual({ podSelector: {}, ingress: [{ ports: [{ protocol: 'TCP', port: 80 }] }] });
  });

  test.each([
    ['security', {}, { order: Infinity, defaultAction: 'Deny' }],
    ['security', { order: 5, defaultAction: 'Pass' }, { order: 5, defaultAction: 'Pass' }],
    ['default', {}, { order: 1_000_000, defaultAction: 'Deny' }],
    ['kube-admin', {}, { order: 1_000, defaultAction: 'Pass' }],
    ['kube-baseline', {}, { order: 10_000_000, defaultAction: 'Pass' }],
  ])('of the tier %s with %j are %j', (name, spec, expected) => {
    const tier = parseAs('Tier', { apiVersion: 'projectcalico.org/v3', kind: 'Tier', metadata: { name }, spec }).object;
    expect(tierSettings(tier)).toEqual(expected);
    expect([...builtInTiers.keys()].sort()).toEqual(['default', 'kube-admin', 'kube-baseline']);
  });
});
