import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { until } from '#test/lab/until.ts';
import { Bed, page } from './bed-for-tests.ts';
import { eventLine, type Answering } from './fake-api-server-for-tests.ts';
import type { KubernetesDatastore } from './kubernetes-datastore.ts';

let bed: Bed;
let store: KubernetesDatastore;
let items: object[];
let watching: Answering | undefined;
const seen: string[] = [];
let watched: Promise<void>;
const abort = { current: new AbortController() };

beforeEach(async () => {
  bed = await Bed.start();
  store = await bed.open();
  items = [];
  watching = undefined;
  seen.length = 0;
  abort.current = new AbortController();
  bed.server.script = ({ query, path }, answering) => {
    if (query.has('watch')) {
      answering.begin();
      watching = answering;
    } else if (path.endsWith('pods') || path.endsWith('policies') || path.endsWith('blocks'))
      answering.json(200, page(items, '7'));
    else answering.json(200, items[0]);
  };
});
afterEach(async () => {
  abort.current.abort();
  await bed[Symbol.asyncDispose]();
});

const good = { selector: 'all()', types: ['Ingress'], ingress: [{ action: 'Allow' }] };
const bad = { selector: 'all()', types: ['Ingress'], ingress: [{ action: 'Permit' }] };
const hopeless = { selector: 'all(', types: ['Ingress'] };

function policy(name: string, resourceVersion: string, spec: object, uid = `uid-${name}`): object {
  const metadata = { name, namespace: 'default', uid, resourceVersion };
  return { apiVersion: 'projectcalico.org/v3', kind: 'NetworkPolicy', metadata, spec };
}

async function listed(): Promise<string[]> {
  const { items } = await store.list('NetworkPolicy');
  return items.map(({ metadata, spec }) => `${metadata.name}@${metadata.resourceVersion} ${spec.ingress?.[0]?.action}`);
}

/** Follows the policies from a listing. */
async function follow(): Promise<void> {
  const { resourceVersion } = await store.list('NetworkPolicy');
  watched = (async () => {
    for await (const event of store.watch('NetworkPolicy', { resourceVersion, signal: abort.current.signal })) {
      seen.push(
        event.type === 'bookmark'
          ? `(${event.resourceVersion})`
          : `${event.type} ${event.object.metadata.name}@${event.object.metadata.resourceVersion} ${event.object.spec?.ingress?.[0]?.action}`,
      );
    }
  })();
  await until(() => watching !== undefined && seen.length > 0);
}

async function event(type: string, object: object): Promise<string | undefined> {
  const before = seen.length;
  watching?.write(eventLine(type, object));
  await until(() => seen.length > before);
  return seen.at(-1);
}

test('a policy that turns invalid keeps its last valid version: for watchers nothing happens, listings have it too', async () => {
  items = [policy('a', '5', good)];
  await follow();
  await until(() => seen.length === 1);
  expect(await event('MODIFIED', policy('a', '8', bad))).toBe('(8)');
  expect(store.problems()).toMatchObject([
    {
      source: '/apis/projectcalico.org/v3/namespaces/default/networkpolicies/a',
      objects: ['NetworkPolicy default/a'],
      effect: 'last-valid',
    },
  ]);
  expect(store.problems()[0]?.message).toMatch(/spec\.ingress\[0\]\.action.*its last valid version stays in force/);
  items = [policy('a', '8', bad)];
  expect(await listed()).toEqual(['a@5 Allow']);
  expect(await event('MODIFIED', policy('a', '9', good))).toBe('modified a@9 Allow');
  expect(store.problems()).toEqual([]);
  expect(bed.log.filter((line) => line.includes('default/a'))).toHaveLength(2); // Once when it came, once when it went.
});

test('a policy that never was valid denies; mended it is itself, and deleted it is gone', async () => {
  items = [policy('a', '5', bad)];
  await follow();
  expect(await listed()).toEqual(['a@5 Deny']);
  expect(store.problems()).toMatchObject([{ effect: 'denies', message: expect.stringContaining('it denies ingress') }]);
  expect(await event('MODIFIED', policy('a', '8', bad))).toBe('modified a@8 Deny');
  expect(await event('MODIFIED', policy('a', '9', good))).toBe('modified a@9 Allow');
  expect(await event('MODIFIED', policy('a', '10', bad))).toBe('(10)');
  expect(await event('DELETED', policy('a', '11', bad))).toMatch('deleted a');
  expect(store.problems()).toEqual([]);
});

test('a policy whose selector is broken is ignored: it comes when it is mended, and a denial ends when its selector breaks', async () => {
  await follow();
  expect(await event('ADDED', policy('a', '8', hopeless))).toBe('(8)');
  expect(store.problems()).toMatchObject([{ effect: 'ignored' }]);
  expect(await event('MODIFIED', policy('a', '9', good))).toBe('added a@9 Allow');
  expect(await event('ADDED', policy('b', '10', bad))).toBe('added b@10 Deny');
  expect(await event('MODIFIED', policy('b', '11', hopeless))).toMatch('deleted b');
  expect(await event('DELETED', policy('b', '12', hopeless))).toMatch('deleted b');
});

test("another policy's last valid version under the same name is not taken", async () => {
  items = [policy('a', '5', good)];
  await follow();
  abort.current.abort();
  await watched;
  items = [policy('a', '9', bad, 'another')];
  expect(await listed()).toEqual(['a@9 Deny']);
  expect(store.problems()).toMatchObject([{ effect: 'denies' }]);
});

test("another's listing does not change what a watch goes by: it may be older or newer", async () => {
  await follow();
  expect(await event('ADDED', policy('a', '8', good))).toBe('added a@8 Allow');
  items = [];
  expect(await listed()).toEqual([]); // From before the policy came.
  expect(await event('MODIFIED', policy('a', '9', bad))).toBe('(9)');
  expect(store.problems()).toMatchObject([{ effect: 'last-valid' }]);
  expect(await event('DELETED', policy('a', '10', bad))).toMatch('deleted a');
});

test('the end of a policy that could not be used reaches whoever has it from before', async () => {
  await follow();
  expect(await event('MODIFIED', policy('a', '8', hopeless))).toBe('(8)');
  expect(await event('DELETED', policy('a', '9', hopeless))).toMatch('deleted a');
  expect(await event('DELETED', policy('b', '10', bad))).toMatch('deleted b');
});

test('last valid versions are forgotten a minute after the last watch', async () => {
  items = [policy('a', '5', good)];
  await follow();
  await until(() => seen.length === 1);
  abort.current.abort();
  await watched;
  bed.clock.advance(61_000);
  items = [policy('a', '8', bad)];
  expect(await listed()).toEqual(['a@8 Deny']);
});

test('get gives what is in force; of what IPAM writes, never anything but what is stored', async () => {
  items = [policy('a', '5', bad)];
  expect((await store.get('NetworkPolicy', { namespace: 'default', name: 'a' }))?.spec.ingress).toEqual([
    { action: 'Deny' },
  ]);
  items = [
    { apiVersion: 'projectcalico.org/v3', kind: 'IPAMBlock', metadata: { name: 'b' }, spec: { cidr: 'nonsense' } },
  ];
  expect(await bed.failure(store.get('IPAMBlock', { name: 'b' }))).toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining('spec.cidr'),
  });
});

test('fields that nobody knows are said once for a kind, not for each object', async () => {
  items = [policy('a', '5', { ...good, colour: 'red' }), policy('b', '6', { ...good, colour: 'red' })];
  await listed();
  expect(bed.log.filter((line) => line.includes('spec.colour'))).toHaveLength(1);
});

test("a Pod's annotation that can't be used is a problem while it stands there; Pod and WorkloadEndpoint stay", async () => {
  const pod = (resourceVersion: string, prefixes: string): object => ({
    metadata: {
      name: 'web',
      namespace: 'default',
      uid: 'u',
      resourceVersion,
      annotations: { 'cni.projectcalico.org/allowedSourcePrefixes': prefixes },
    },
    spec: { nodeName: 'n', containers: [] },
    status: { podIPs: [{ ip: '10.0.0.1' }] },
  });
  items = [pod('5', 'nonsense')];
  const { resourceVersion } = await store.list('Pod');
  const problem = {
    source: '/api/v1/namespaces/default/pods/web',
    objects: ['Pod default/web'],
    message: expect.stringContaining('annotation cni.projectcalico.org/allowedSourcePrefixes must be'),
    effect: 'ignored',
  };
  expect(store.problems()).toEqual([problem]);
  const events = store.watch('Pod', { resourceVersion, signal: abort.current.signal })[Symbol.asyncIterator]();
  const next = async (type: string, object: object) => {
    watching?.write(eventLine(type, object));
    return (await events.next()).value;
  };
  await events.next();
  expect(await next('MODIFIED', pod('8', '["10.1.0.0/16"]'))).toMatchObject({ type: 'modified' });
  expect(store.problems()).toEqual([]);
  expect(await next('MODIFIED', pod('9', 'nonsense'))).toMatchObject({ type: 'modified' });
  expect(store.problems()).toEqual([problem]);
  items = [pod('9', 'nonsense')];
  const [endpoint] = (await store.list('WorkloadEndpoint')).items;
  expect(endpoint?.spec).toMatchObject({ ipNetworks: ['10.0.0.1/32'] });
  expect(await next('DELETED', pod('10', 'nonsense'))).toMatchObject({ type: 'deleted' });
  expect(store.problems()).toEqual([]);
  items = [pod('11', 'nonsense')];
  abort.current.abort();
  await events.next();
  await store.list('Pod');
  expect(store.problems()).toHaveLength(1);
  items = [];
  await store.list('Pod');
  expect(store.problems()).toEqual([]);
});
