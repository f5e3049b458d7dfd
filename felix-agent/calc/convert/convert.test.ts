import { describe, expect, test } from '@jest/globals';
import { convertPolicy, policyKinds } from './convert.ts';
import { converted, parsedObject } from './convert.fixtures.ts';

const least = { ClusterNetworkPolicy: { tier: 'Admin', priority: 1, subject: { namespaces: {} } } };

test.each(policyKinds)('the least %s is converted, under the name of its kind', (kind) => {
  const policy = converted(kind, kind in least ? least.ClusterNetworkPolicy : {});
  expect(policy).toMatchObject({ kind, name: 'p', problems: [], staged: kind.startsWith('Staged') });
  expect(policy.id).toBe(policy.namespace === undefined ? `${kind} p` : `${kind} ns/p`);
});

describe('the staged deletion of a policy has no effect:', () => {
  test.each(['StagedNetworkPolicy', 'StagedGlobalNetworkPolicy', 'StagedKubernetesNetworkPolicy'] as const)(
    '%s',
    (kind) => {
      expect(convertPolicy(kind, parsedObject(kind, { stagedAction: 'Delete' }))).toBeUndefined();
    },
  );
});

test('every rule has an id of its own, in either direction', () => {
  const peers = [{ podSelector: {} }, { namespaceSelector: {} }, { ipBlock: { cidr: '10.0.0.0/8' } }];
  const ports = [{ port: 80 }, { port: 53, protocol: 'UDP' }];
  const policy = converted('KubernetesNetworkPolicy', {
    ingress: Array.from({ length: 12 }, () => ({ from: peers, ports })),
    egress: [{ to: peers }, { ports }, {}],
  });
  const ids = [...policy.ingress, ...policy.egress].map(({ id }) => id);
  expect(ids).toHaveLength(12 * 6 + 3 + 2 + 1);
  expect(new Set(ids).size).toBe(ids.length);
});

test('one object converted twice gives equal results, with equal ids of sets', () => {
  const object = parsedObject('GlobalNetworkPolicy', {
    selector: 'a == "b"',
    egress: [{ action: 'Deny', protocol: 'TCP', destination: { nets: ['10.0.0.0/8', '11.0.0.0/8'], ports: ['http'] } }],
  });
  expect(convertPolicy('GlobalNetworkPolicy', object)).toEqual(convertPolicy('GlobalNetworkPolicy', object));
});
