/** Rules of policies as a whole, tiers and host endpoints. */
import { builtInTiers } from '#api/v3/tier.ts';
import { filled, given, isTrue } from './cel.ts';
import { policies, stagedPolicies } from './policy-kinds.ts';
import type { CrdRule } from './rules.ts';

/** A staged deletion has no rules that could be wrong. */
const kept = '(has(self.stagedAction) && self.stagedAction == "Delete")';

function unlessDeleted(row: Omit<CrdRule, 'kinds' | 'at'>): readonly CrdRule[] {
  return [
    { kinds: ['GlobalNetworkPolicy'], at: 'spec', ...row },
    { kinds: ['StagedGlobalNetworkPolicy'], at: 'spec', ...row, rule: `${kept} || ${row.rule}` },
  ];
}

function* specRules(): Generator<CrdRule> {
  yield {
    kinds: policies,
    at: 'spec.types',
    rule: 'self.all(type, self.exists_one(other, other == type))',
    message: 'must not have a direction twice',
    breaks: ['Ingress', 'Ingress'],
  };
  yield* unlessDeleted({
    rule: `!${isTrue('self.doNotTrack')} || !${isTrue('self.preDNAT')}`,
    message: 'must not be true with doNotTrack',
    fieldPath: '.preDNAT',
    breaks: { doNotTrack: true, preDNAT: true, applyOnForward: true },
  });
  yield* unlessDeleted({
    rule: `${isTrue('self.applyOnForward')} || !${isTrue('self.preDNAT')}`,
    message: 'must be true with preDNAT',
    fieldPath: '.applyOnForward',
    breaks: { preDNAT: true },
  });
  yield* unlessDeleted({
    rule: `${isTrue('self.applyOnForward')} || ${isTrue('self.preDNAT')} || !${isTrue('self.doNotTrack')}`,
    message: 'must be true with doNotTrack',
    fieldPath: '.applyOnForward',
    breaks: { doNotTrack: true },
  });
  yield* unlessDeleted({
    rule: `!${isTrue('self.preDNAT')} || !${filled('self.egress')}`,
    message: 'must have no rules with preDNAT, which is for ingress only',
    fieldPath: '.egress',
    breaks: { preDNAT: true, applyOnForward: true, egress: [{ action: 'Allow' }] },
  });
  yield* unlessDeleted({
    rule: `!${isTrue('self.preDNAT')} || !has(self.types) || !("Egress" in self.types)`,
    message: 'must not have Egress with preDNAT, which is for ingress only',
    fieldPath: '.types',
    breaks: { preDNAT: true, applyOnForward: true, types: ['Egress'] },
  });
  const onlyOne = { stagedAction: 'Delete' };
  for (const [field, value] of [
    ['selector', 'has(a)'],
    ['serviceAccountSelector', 'has(a)'],
    ['types', ['Ingress']],
    ['ingress', [{ action: 'Allow' }]],
    ['egress', [{ action: 'Allow' }]],
    ['performanceHints', ['AssumeNeededOnEveryNode']],
  ] as const) {
    yield {
      kinds: stagedPolicies,
      at: 'spec',
      rule: `!${kept} || !${filled(`self.${field}`)}`,
      message: 'must not be given when stagedAction is Delete',
      fieldPath: `.${field}`,
      breaks: { ...onlyOne, [field]: value },
    };
  }
  yield {
    kinds: stagedPolicies,
    at: 'spec',
    rule: `!${kept} || !has(self.order) || self.order == 0.0`,
    message: 'must not be given when stagedAction is Delete',
    fieldPath: '.order',
    breaks: { ...onlyOne, order: 10 },
  };
  yield {
    kinds: ['StagedGlobalNetworkPolicy'],
    at: 'spec',
    rule: `!${kept} || !${filled('self.namespaceSelector')}`,
    message: 'must not be given when stagedAction is Delete',
    fieldPath: '.namespaceSelector',
    breaks: { ...onlyOne, namespaceSelector: 'has(a)' },
  };
  for (const field of ['doNotTrack', 'preDNAT', 'applyOnForward']) {
    yield {
      kinds: ['StagedGlobalNetworkPolicy'],
      at: 'spec',
      rule: `!${kept} || !${isTrue(`self.${field}`)}`,
      message: 'must not be given when stagedAction is Delete',
      fieldPath: `.${field}`,
      breaks: { ...onlyOne, [field]: true },
    };
  }
}

function* tierRules(): Generator<CrdRule> {
  yield {
    kinds: ['Tier'],
    at: '',
    rule: 'self.metadata.name.size() <= 63 && !self.metadata.name.contains(".")',
    message: "must be a DNS label: at most 63 of a-z, 0-9 and '-', starting and ending with a letter or digit",
    // A rule about the name can only point at the object: it is no part of the schema.
    breaks: { metadata: { name: 'a.b' } },
  };
  for (const [name, { order, defaultAction }] of builtInTiers) {
    yield {
      kinds: ['Tier'],
      at: '',
      rule: `self.metadata.name != ${JSON.stringify(name)} || !${given('self.spec.order')} || self.spec.order == ${order}.0`,
      message: `must be ${order} in the tier ${name}`,
      fieldPath: '.spec.order',
      breaks: { metadata: { name }, spec: { order: order + 1 } },
    };
    yield {
      kinds: ['Tier'],
      at: '',
      rule: `self.metadata.name != ${JSON.stringify(name)} || !${given('self.spec.defaultAction')} || self.spec.defaultAction == ${JSON.stringify(defaultAction)}`,
      message: `must be ${defaultAction} in the tier ${name}`,
      fieldPath: '.spec.defaultAction',
      breaks: { metadata: { name }, spec: { defaultAction: defaultAction === 'Deny' ? 'Pass' : 'Deny' } },
    };
  }
}

export const policyRules: readonly CrdRule[] = [
  ...specRules(),
  ...tierRules(),
  {
    kinds: ['HostEndpoint'],
    at: 'spec',
    rule: `${filled('self.interfaceName')} || ${filled('self.expectedIPs')}`,
    message: 'must be given, or expectedIPs must',
    fieldPath: '.interfaceName',
    breaks: { node: 'node-1' },
  },
  {
    kinds: ['HostEndpoint'],
    at: 'spec.expectedIPs[]',
    limits: { maxLength: 39 },
    rule: 'isIP(self)',
    message: 'must be an IP address',
    breaks: '10.0.0.0/8',
  },
  {
    kinds: ['StagedKubernetesNetworkPolicy'],
    at: 'spec',
    rule: `!${kept} || !${filled('self.policyTypes')}`,
    message: 'must not be given when stagedAction is Delete',
    fieldPath: '.policyTypes',
    breaks: { stagedAction: 'Delete', policyTypes: ['Ingress'] },
  },
];
