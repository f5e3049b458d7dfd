import { expect, test } from '@jest/globals';
import { parsedObject, said } from './convert.fixtures.ts';
import {
  convertProfile,
  defaultAllowProfile,
  namespaceProfileId,
  profileOfNamespace,
  profileOfServiceAccount,
  serviceAccountProfileId,
} from './profiles.ts';

test("a namespace's profile allows all and gives its labels and its name", () => {
  const profile = profileOfNamespace(
    parsedObject('Namespace', {}, { name: 'shop', labels: { env: 'prod', 'projectcalico.org/name': 'other' } }),
  );
  expect({ ...profile, ingress: profile.ingress.map(said), egress: profile.egress.map(said) }).toEqual({
    id: 'kns.shop',
    labels: { 'pcns.env': 'prod', 'pcns.projectcalico.org/name': 'shop' },
    ingress: [{ id: 'Profile kns.shop ingress 0', action: 'allow' }],
    egress: [{ id: 'Profile kns.shop egress 0', action: 'allow' }],
    problems: [],
  });
  expect(profile.id).toBe(namespaceProfileId('shop'));
});

test("a service account's profile gives labels and has no rules", () => {
  const account = parsedObject('ServiceAccount', {}, { name: 'db.main', namespace: 'shop', labels: { role: 'db' } });
  expect(profileOfServiceAccount(account)).toEqual({
    id: 'ksa.shop.db.main',
    labels: { 'pcsa.role': 'db', 'pcsa.projectcalico.org/name': 'db.main' },
    ingress: [],
    egress: [],
    problems: [],
  });
  expect(serviceAccountProfileId('shop', 'db.main')).toBe('ksa.shop.db.main');
});

test('a service account of which nothing is known yet still gives its name', () => {
  expect(profileOfServiceAccount({ metadata: { name: 'a', namespace: 'b' } }).labels).toEqual({
    'pcsa.projectcalico.org/name': 'a',
  });
});

test('the default profile allows all and gives no labels', () => {
  expect(defaultAllowProfile).toMatchObject({
    id: 'projectcalico-default-allow',
    labels: {},
    ingress: [{ id: 'Profile projectcalico-default-allow ingress 0', action: 'allow' }],
    egress: [{ id: 'Profile projectcalico-default-allow egress 0', action: 'allow' }],
  });
});

test("a Profile object's rules and labels are its own", () => {
  const profile = convertProfile(
    parsedObject(
      'Profile',
      {
        ingress: [
          { action: 'Allow', protocol: 'TCP', source: { selector: 'has(a)' } },
          { action: 'Allow', protocol: 'TCP', http: { methods: ['GET'] } },
          { action: 'Deny' },
        ],
        labelsToApply: { zone: 'x' },
      },
      { name: 'hosts' },
    ),
  );
  expect({ ...profile, ingress: profile.ingress.map(said) }).toEqual({
    id: 'hosts',
    labels: { zone: 'x' },
    ingress: [
      { id: 'Profile hosts ingress 0', action: 'allow', protocol: 6, source: { sets: ['has(a)'] } },
      { id: 'Profile hosts ingress 2', action: 'deny' },
    ],
    egress: [],
    problems: [expect.stringContaining('ingress rule 1')],
  });
});
