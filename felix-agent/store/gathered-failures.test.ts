import { expect, test } from '@jest/globals';
import type { KindName } from '#api/kinds.ts';
import { gatheredFailures } from './gathered-failures.ts';

const failing = (why: (kind: KindName) => string, ...kinds: KindName[]) =>
  kinds.map((kind) => ({ kind, failure: `can't read ${kind} objects: ${why(kind)}` }));
const away = (kind: KindName) => `list ${kind} objects: no answer from the API server https://a:6443: ECONNREFUSED`;

test('a failure that is alone is said as it is', () => {
  expect(gatheredFailures([])).toEqual([]);
  expect(gatheredFailures(failing(away, 'Pod'))).toEqual([`can't read Pod objects: ${away('Pod')}`]);
});

test('what fails alike is one line, whatever was tried', () => {
  const watch = (kind: KindName) => away(kind).replace('list', 'watch');
  expect(gatheredFailures([...failing(away, 'Pod', 'Node'), ...failing(watch, 'Tier', 'IPPool', 'Profile')])).toEqual([
    "can't read objects of 5 kinds (Pod, Node, Tier, 2 more): no answer from the API server https://a:6443: ECONNREFUSED",
  ]);
});

test('kinds that may not be read are one line', () => {
  const forbidden = (verb: string, resource: string, group: string) => (kind: KindName) =>
    `${verb} ${kind} objects: ${resource} is forbidden: User "system:node" cannot ${verb} resource "${resource.split('.')[0]}" in API group "${group}" at the cluster scope (HTTP 403 Forbidden)`;
  const one = failing(forbidden('list', 'nodes', ''), 'Node');
  expect(gatheredFailures(one)).toEqual(one.map(({ failure }) => failure));
  expect(
    gatheredFailures([...one, ...failing(forbidden('watch', 'tiers.projectcalico.org', 'projectcalico.org'), 'Tier')]),
  ).toEqual([
    'can\'t read objects of 2 kinds (Node, Tier): forbidden: User "system:node" cannot read them at the cluster scope (HTTP 403 Forbidden)',
  ]);
});

test('missing kinds are one line, and another reason is another line', () => {
  const missing = (plural: string) => (kind: KindName) =>
    `list ${kind} objects: the API server does not serve ${plural} of projectcalico.org/v3; apply manifests/tortie.yaml`;
  expect(
    gatheredFailures([
      ...failing(missing('tiers'), 'Tier'),
      ...failing(missing('ippools'), 'IPPool'),
      ...failing((kind) => `list ${kind} objects: forbidden`, 'Pod'),
    ]),
  ).toEqual([
    "can't read objects of 2 kinds (Tier, IPPool): the API server does not serve this kind of projectcalico.org/v3; apply manifests/tortie.yaml",
    "can't read Pod objects: list Pod objects: forbidden",
  ]);
});
