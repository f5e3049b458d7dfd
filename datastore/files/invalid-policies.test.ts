import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '#api/clock.ts';
import type { KindMap } from '#api/kinds.ts';
import { networkPolicy } from '../objects-for-tests.ts';
import { openFilesDatastore, type FilesDatastore } from './files-datastore.ts';
import { ProcessLocalLock } from './lock-for-tests.ts';

type EnforcedKind = 'NetworkPolicy' | 'KubernetesNetworkPolicy' | 'GlobalNetworkPolicy' | 'ClusterNetworkPolicy';

let dir: string;
let lock: ProcessLocalLock;
let logged: string[];
let stores: FilesDatastore[];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tt-policies-'));
  lock = new ProcessLocalLock();
  logged = [];
  stores = [];
});
afterEach(async () => {
  await Promise.all(stores.map((store) => store[Symbol.asyncDispose]()));
  rmSync(dir, { recursive: true });
});

async function open(): Promise<FilesDatastore> {
  const log = (level: string, message: string): void => void logged.push(`${level}: ${message}`);
  const store = await openFilesDatastore({ dir, lock, clock: systemClock, log, settleMs: 10, removalMs: 100 });
  stores.push(store);
  return store;
}

function put(file: string, ...documents: string[]): void {
  writeFileSync(join(dir, file), documents.join('---\n'));
}

/** Calico's NetworkPolicy `default/web`. */
function policy(spec: string): string {
  return `apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: web}\nspec: ${spec}\n`;
}

const good = policy('{selector: has(web), order: 5, ingress: [{action: Allow}]}');
const bad = policy('{selector: has(web), order: 5, ingress: [{action: Permit}]}');
const hopeless = policy('{selector: "has(web", ingress: [{action: Permit}]}');

async function specs<K extends EnforcedKind>(store: FilesDatastore, kind: K): Promise<readonly KindMap[K]['spec'][]> {
  return (await store.list(kind)).items.map(({ spec }) => spec);
}

/** Waits until there is a problem with this effect (none: no problem at all); the test's own time limit ends a wait in vain. */
async function untilEffect(store: FilesDatastore, effect?: string): Promise<void> {
  while (
    store
      .problems()
      .map((problem) => problem.effect)
      .join() !== (effect ?? '')
  ) {
    await sleep(5);
  }
}

const denied = { tier: 'default', selector: 'has(web)', order: 5, types: ['Ingress'], ingress: [{ action: 'Deny' }] };
const wrong = 'spec.ingress[0].action: must be one of Allow, Deny, Log, Pass (is Permit)';

describe('a policy that can not be used', () => {
  test('is replaced by a denial when nothing better is known, and the problem says of what', async () => {
    put('a.yaml', bad);
    const store = await open();
    expect(await specs(store, 'NetworkPolicy')).toEqual([denied]);
    expect(store.problems()).toEqual([
      {
        source: `${dir}/a.yaml`,
        objects: ['NetworkPolicy default/web'],
        message: `${dir}/a.yaml document 1 (line 1): NetworkPolicy "web": ${wrong}; until it is mended it denies ingress of what its selector selects`,
        effect: 'denies',
      },
    ]);
    expect(logged).toEqual([`warn: ${store.problems()[0]?.message}`]);
  });

  test('has uid and resourceVersion like any other, the same in every process, and is found by get', async () => {
    put('a.yaml', bad);
    const [one, two] = [await open(), await open()];
    const key = { namespace: 'default', name: 'web' };
    const first = await one.get('NetworkPolicy', key);
    expect(first?.metadata).toEqual({
      ...key,
      uid: expect.stringMatching(/^[0-9a-f-]{36}$/),
      resourceVersion: expect.stringMatching(/^file-[0-9a-f]{16}$/),
    });
    expect(await two.get('NetworkPolicy', key)).toEqual(first);
  });

  test('keeps its last valid version in force if there was one, until it is mended', async () => {
    put('a.yaml', good);
    const store = await open();
    const before = await specs(store, 'NetworkPolicy');
    for (const text of [bad, hopeless]) {
      put('a.yaml', text);
      await untilEffect(store, 'last-valid');
      expect(await specs(store, 'NetworkPolicy')).toEqual(before);
      expect(store.problems()[0]?.message).toMatch(/; its last valid version stays in force$/);
    }
    put('a.yaml', good.replace('order: 5', 'order: 6'));
    await untilEffect(store);
    expect(await specs(store, 'NetworkPolicy')).toMatchObject([{ order: 6 }]);
  });

  test('is ignored when its selector can not be used', async () => {
    put('a.yaml', hopeless);
    const store = await open();
    expect(await specs(store, 'NetworkPolicy')).toEqual([]);
    expect(store.problems()).toMatchObject([
      { effect: 'ignored', message: expect.stringMatching(/; it is ignored: its name or its selector can't be used$/) },
    ]);
  });

  test('follows its file: other denials, none, and the policy itself, each seen by watchers', async () => {
    put('a.yaml', bad);
    const store = await open();
    const { resourceVersion } = await store.list('NetworkPolicy');
    const seen: string[] = [];
    const watching = (async () => {
      for await (const event of store.watch('NetworkPolicy', { resourceVersion })) {
        if (event.type === 'bookmark') continue;
        seen.push(`${event.type} ${JSON.stringify(event.object.spec.types)}`);
        if (seen.length === 5) {
          return;
        }
      }
    })();
    put('a.yaml', policy('{selector: has(web), types: [Egress], ingress: [{action: Permit}]}'));
    while (seen.length < 1) await sleep(5);
    put('a.yaml', hopeless);
    await untilEffect(store, 'ignored');
    put('a.yaml', bad);
    await untilEffect(store, 'denies');
    put('a.yaml', good);
    await untilEffect(store);
    rmSync(join(dir, 'a.yaml'));
    await watching;
    expect(seen).toEqual([
      'modified ["Egress"]',
      'deleted ["Egress"]',
      'added ["Ingress"]',
      'modified undefined',
      'deleted undefined',
    ]);
    expect(store.problems()).toEqual([]);
  });

  test('goes with its file, and a restart knows nothing of a version that was valid before', async () => {
    put('a.yaml', good);
    const store = await open();
    put('a.yaml', bad);
    await untilEffect(store, 'last-valid');
    const restarted = await open();
    expect(restarted.problems()).toMatchObject([{ effect: 'denies' }]);
    expect(await specs(restarted, 'NetworkPolicy')).toEqual([denied]);
    const { resourceVersion } = await restarted.list('NetworkPolicy');
    rmSync(join(dir, 'a.yaml'));
    for await (const event of restarted.watch('NetworkPolicy', { resourceVersion })) {
      if (event.type === 'bookmark') continue;
      expect(event.type).toBe('deleted');
      break;
    }
    expect(await specs(restarted, 'NetworkPolicy')).toEqual([]);
    expect(restarted.problems()).toEqual([]);
  });

  test('stays as it was when it stands in a second place as well', async () => {
    put('a.yaml', bad);
    const store = await open();
    put('b.yaml', good);
    await untilEffect(store, 'denies,denies');
    expect(await specs(store, 'NetworkPolicy')).toEqual([denied]);
    expect(store.problems()[1]?.message).toMatch(
      /a\.yaml .* and in .*b\.yaml .*: neither is in force, and what its selector selects is denied;/,
    );
    rmSync(join(dir, 'a.yaml'));
    await untilEffect(store);
    expect(await specs(store, 'NetworkPolicy')).toMatchObject([{ ingress: [{ action: 'Allow' }] }]);
  });

  test('of ours is in force before what a file says', async () => {
    put('a.yaml', bad.replace('web', 'other'));
    const store = await open();
    await store.create('NetworkPolicy', networkPolicy('web'));
    put('b.yaml', bad);
    await untilEffect(store, 'denies,ignored,last-valid');
    expect(await store.get('NetworkPolicy', { namespace: 'default', name: 'web' })).toMatchObject({
      spec: { types: ['Ingress'] },
    });
    expect(store.problems()[1]?.message).toMatch(/; it is ignored: Tortie has one of its own$/);
  });
});

test.each<[EnforcedKind, string, string, object]>([
  [
    'GlobalNetworkPolicy',
    'apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: a}\nspec: {preDNAT: true, ingress: []}\n',
    'ingress',
    { preDNAT: true, applyOnForward: true, ingress: [{ action: 'Deny' }] },
  ],
  [
    'KubernetesNetworkPolicy',
    'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {egress: [{ports: [{port: x_x}]}]}\n',
    'ingress and egress',
    { podSelector: {}, policyTypes: ['Ingress', 'Egress'] },
  ],
  [
    'ClusterNetworkPolicy',
    'apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: a}\nspec: {tier: Admin, priority: 3, subject: {namespaces: {}}, egress: [{action: Allow, to: []}]}\n',
    'egress',
    { tier: 'Admin', priority: 3, egress: [{ action: 'Deny', to: [{}] }] },
  ],
])('a %s is replaced as well', async (kind, text, directions, spec) => {
  put('a.yaml', text);
  const store = await open();
  expect(await specs(store, kind)).toMatchObject([spec]);
  expect(store.problems()).toMatchObject([
    { effect: 'denies', message: expect.stringContaining(`it denies ${directions} of what its selector selects`) },
  ]);
});

test.each([
  [
    'a staged policy',
    'apiVersion: projectcalico.org/v3\nkind: StagedNetworkPolicy\nmetadata: {name: a}\nspec: {order: x}\n',
  ],
  ['what is no policy', 'apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: a}\nspec: {order: x}\n'],
])('%s is ignored, since it denies nothing', async (_what, text) => {
  put('a.yaml', text);
  const store = await open();
  expect(store.problems()).toMatchObject([{ effect: 'ignored', message: expect.stringMatching(/; it is ignored$/) }]);
});

test('policies of one name in files are two, if one is of Kubernetes', async () => {
  const kubernetes = 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\n';
  put('a.yaml', good, kubernetes);
  const store = await open();
  expect(store.problems()).toEqual([]);
  expect(await specs(store, 'NetworkPolicy')).toMatchObject([{ selector: 'has(web)' }]);
  expect(await specs(store, 'KubernetesNetworkPolicy')).toEqual([{ podSelector: {} }]);
  put('a.yaml', good, kubernetes.replace('networking.k8s.io/v1', 'networking.k8s.io/v1beta1'));
  await untilEffect(store, 'last-valid');
  expect(store.problems()[0]).toMatchObject({
    objects: ['KubernetesNetworkPolicy default/web'],
    message: expect.stringContaining('use apiVersion networking.k8s.io/v1 or projectcalico.org/v3'),
  });
  expect(await specs(store, 'KubernetesNetworkPolicy')).toEqual([{ podSelector: {} }]);
});
