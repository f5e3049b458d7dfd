import { expect, test } from '@jest/globals';
import { validDocuments } from '../policies.valid.fixtures.ts';
import { parse } from 'yaml';
import { kindNameOf, kinds, parseAs, type KindName } from '../kinds.ts';
import { knownFields, unknownFields } from './known-fields.ts';

const known = knownFields(kinds.KubernetesNetworkPolicy.schema);

test.each<[object, string[]]>([
  [{ metadata: { name: 'a', labels: { any: 'thing' } }, spec: { policyTypes: ['Ingress'] } }, []],
  [
    { spec: { ingress: [{ from: [{ podSelector: {} }, { podSelektor: {} }] }] } },
    ['spec.ingress[0].from[1].podSelektor'],
  ],
  [{ sepc: {}, spec: { podSelector: { matchLabels: { free: 'key' }, x: { y: 1 } } } }, ['sepc', 'spec.podSelector.x']],
  [{ spec: null, metadata: 'text' }, []],
])('of %j the schema does not know %j', (value, paths) => {
  expect(unknownFields(value, known)).toEqual(paths);
});

test('agrees with the parser, whose list is made in another way', () => {
  for (const [, yaml] of validDocuments) {
    const raw = parse(yaml) as { kind: string; apiVersion: string; spec: object };
    const kind = kindNameOf(raw.kind, raw.apiVersion) as KindName;
    const fields = knownFields(kinds[kind].schema);
    expect(unknownFields(raw, fields)).toEqual(parseAs(kind, raw).unknownFields);
    const more = { ...raw, spec: { ...raw.spec, foreign: [{ a: 1 }] } };
    expect(unknownFields(more, fields)).toEqual(parseAs(kind, more).unknownFields);
  }
});
