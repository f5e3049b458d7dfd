import { describe, expect, test } from '@jest/globals';
import type { PolicyKind } from './convert.ts';
import { converted, said } from './convert.fixtures.ts';

describe('a field that nobody knows', () => {
  test.each<[kind: PolicyKind, direction: 'ingress' | 'egress', rule: object, field: string]>([
    ['NetworkPolicy', 'egress', { action: 'Allow', destination: { domains: ['a.example'] } }, 'destination.domains'],
    ['NetworkPolicy', 'ingress', { action: 'Allow', prtocol: 'TCP' }, 'prtocol'],
    ['GlobalNetworkPolicy', 'ingress', { action: 'Allow', protocol: 'ICMP', icmp: { tpye: 8 } }, 'icmp.tpye'],
    [
      'GlobalNetworkPolicy',
      'ingress',
      { action: 'Allow', source: { serviceAccounts: { name: 'a' } } },
      'source.serviceAccounts.name',
    ],
    ['StagedNetworkPolicy', 'ingress', { action: 'Allow', source: { net: '10.0.0.0/8' } }, 'source.net'],
    ['KubernetesNetworkPolicy', 'ingress', { form: [{ podSelector: {} }] }, 'form'],
    [
      'KubernetesNetworkPolicy',
      'ingress',
      { from: [{ podSelector: { matchLabel: { a: 'b' } } }] },
      'from[0].podSelector.matchLabel',
    ],
    [
      'KubernetesNetworkPolicy',
      'egress',
      { to: [{ ipBlock: { cidr: '10.0.0.0/8', excpt: ['10.1.0.0/16'] } }] },
      'to[0].ipBlock.excpt',
    ],
    ['KubernetesNetworkPolicy', 'ingress', { ports: [{ port: 80, endport: 90 }] }, 'ports[0].endport'],
    [
      'ClusterNetworkPolicy',
      'egress',
      { action: 'Accept', to: [{ namespaces: {} }], protocols: [{ tcp: { destinationPorts: [80] } }] },
      'protocols[0].tcp.destinationPorts',
    ],
  ])('makes an allowing rule of a %s (%s) be left out: %j', (kind, direction, rule, field) => {
    const policy = converted(kind, specOf(kind, direction, rule));
    expect(policy[direction]).toEqual([]);
    expect(policy.problems).toEqual([expect.stringContaining(`${direction} rule 0 (allow)`)]);
    expect(policy.problems[0]).toContain(`left out: ${field} is unknown`);
  });

  test('makes a passing rule a denial: it would keep more from the rules after it than it says', () => {
    const policy = converted('NetworkPolicy', { ingress: [{ action: 'Pass', source: { zone: 'a' } }] });
    expect(policy.ingress.map(said)).toEqual([{ id: 'NetworkPolicy ns/p ingress 0', action: 'deny' }]);
    expect(policy.problems).toHaveLength(1);
  });

  test.each(['Deny', 'Log'] as const)('changes nothing in a rule that says %s', (action) => {
    const source = { nets: ['10.0.0.0/8'] };
    const policy = converted('NetworkPolicy', { ingress: [{ action, source: { ...source, zone: 'a' } }] });
    expect(policy.ingress.map(said)).toEqual(
      converted('NetworkPolicy', { ingress: [{ action, source }] }).ingress.map(said),
    );
    expect(policy.problems).toEqual([]);
  });

  test('says nothing where keys are free, or beside the rules', () => {
    const policy = converted('NetworkPolicy', {
      hint: 'x',
      ingress: [{ action: 'Allow', metadata: { annotations: { a: 'b' } } }],
    });
    expect(policy.ingress).toHaveLength(1);
    const kubernetes = converted('KubernetesNetworkPolicy', {
      ingress: [{ from: [{ podSelector: { matchLabels: { anything: 'goes' } } }] }],
    });
    expect(kubernetes.ingress).toHaveLength(1);
  });
});

function specOf(kind: PolicyKind, direction: 'ingress' | 'egress', rule: object): object {
  const head = kind === 'ClusterNetworkPolicy' ? { tier: 'Admin', priority: 1, subject: { namespaces: {} } } : {};
  const types = kind === 'KubernetesNetworkPolicy' ? { policyTypes: ['Ingress', 'Egress'] } : {};
  return { ...head, ...types, [direction]: [rule] };
}
