import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parse } from 'yaml';
import { kindNameOf, parseAs, type KindMap } from '#api/kinds.ts';
import { validDocuments } from '#api/policies.valid.fixtures.ts';
import { closedPolicy } from '#api/policy/closed.ts';
import { convertPolicy, policyKinds, type PolicyKind } from './convert.ts';
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

describe('whatever stands in a policy', () => {
  const policies = validDocuments.flatMap(([, yaml]) => {
    const raw = parse(yaml) as { kind: string; apiVersion: string; spec: object };
    const kind = policyKinds.find((each) => each === kindNameOf(raw.kind, raw.apiVersion));
    return kind === undefined ? [] : [{ kind, raw }];
  });
  const junk = fc.oneof(
    fc.constantFrom<unknown>(null, '', 0, -1, true, [], {}, [null], 'global()', '80:90', '0.0.0.0/0', { toString: 1 }),
    fc.jsonValue(),
  );
  /** One of the valid policies, with one or two of its fields, at any depth, replaced. */
  const mangled = fc
    .tuple(fc.constantFrom(...policies), fc.array(fc.tuple(fc.nat(), junk), { minLength: 1, maxLength: 2 }))
    .map(([{ kind, raw }, changes]) => {
      const copy = structuredClone(raw);
      for (const [at, value] of changes) {
        const places = placesIn(copy.spec);
        const place = places[at % places.length];
        if (place !== undefined) place.of[place.key] = structuredClone(value);
      }
      return { kind, raw: copy };
    });

  test('it is converted with an id for each rule, or its replacement denies in the directions that it tells', () => {
    const seed = Date.now() & 0x7fffffff;
    fc.assert(
      fc.property(mangled, ({ kind, raw }) => {
        const valid = parsed(kind, raw);
        if (valid !== undefined) {
          const policy = convertPolicy(kind, valid);
          const ids = policy === undefined ? [] : [...policy.ingress, ...policy.egress].map(({ id }) => id);
          expect(new Set(ids).size).toBe(ids.length);
          return;
        }
        const closed = closedPolicy(kind, raw);
        if (closed === undefined) return;
        const policy = convertPolicy(kind, closed.object as KindMap[typeof kind]);
        for (const direction of ['ingress', 'egress'] as const) {
          expect(policy?.[`${direction}Type`]).toBe(closed.denies[direction]);
          expect(policy?.[direction].filter(({ action }) => action !== 'deny')).toEqual([]);
          // Without a rule, only the end of the tier default is known to deny.
          const denies = policy?.tier === 'default' || policy?.[direction].length === 1;
          expect(denies || !closed.denies[direction]).toBe(true);
        }
      }),
      { seed, numRuns: 1500, interruptAfterTimeLimit: 2000 },
    );
  });
});

interface Place {
  readonly of: Record<string, unknown>;
  readonly key: string;
}

function placesIn(value: unknown): Place[] {
  if (typeof value !== 'object' || value === null) return [];
  const of = value as Record<string, unknown>;
  return Object.keys(of).flatMap((key) => [{ of, key }, ...placesIn(of[key])]);
}

function parsed<K extends PolicyKind>(kind: K, raw: unknown): KindMap[K] | undefined {
  try {
    return parseAs(kind, raw).object;
  } catch (error) {
    expect(error).toMatchObject({ code: 'invalid' });
    return undefined;
  }
}
