import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import type { KindName } from '#api/kinds.ts';
import { until } from '#test/lab/until.ts';
import type { WatchEvent } from '../datastore.ts';
import { Bed, page, rawNamespace, secret } from './bed-for-tests.ts';
import { eventLine, statusBody, type Asked, type Answering, type FakeProtocol } from './fake-api-server-for-tests.ts';
import type { KubernetesDatastore } from './kubernetes-datastore.ts';

let bed: Bed;
let store: KubernetesDatastore;
beforeEach(async () => {
  bed = await Bed.start();
  store = await bed.open();
});
afterEach(async () => {
  const { said } = bed;
  await bed[Symbol.asyncDispose]();
  expect(said).not.toContain(secret);
});

const gone = statusBody(410, 'Expired', 'too old resource version');

/** A watch, its events as texts, bookmarks as their points. */
function follow(kind: KindName, resourceVersion: string) {
  const abort = new AbortController();
  const texts: string[] = [];
  const ended = (async () => {
    for await (const event of store.watch(kind, { resourceVersion, signal: abort.signal })) texts.push(textOf(event));
  })();
  const failed = bed.failure(ended).catch(() => undefined);
  return { texts, abort, ended: failed };
}

function textOf(event: WatchEvent<KindName>): string {
  return event.type === 'bookmark' ? `(${event.resourceVersion})` : `${event.type} ${event.object.metadata.name}`;
}

/** Listings are empty at 7; watches are answered by `watching`, each with its number. */
function onWatch(watching: (answering: Answering, turn: number, asked: Asked) => void): void {
  let turn = 0;
  bed.server.script = (asked, answering) => {
    if (!asked.query.has('watch')) answering.json(200, page([], '7'));
    else watching(answering, ++turn, asked);
  };
}

describe('a listing', () => {
  test('comes page by page, at the point of the first one', async () => {
    bed.server.script = ({ query }, answering) => {
      const next = query.get('continue');
      if (next === null) answering.json(200, page([rawNamespace('a', '1'), rawNamespace('b', '2')], '7', 'more'));
      else answering.json(200, page([rawNamespace('c', '3')], '9'));
    };
    const { items, resourceVersion } = await store.list('Namespace');
    expect(items.map(({ metadata }) => metadata.name)).toEqual(['a', 'b', 'c']);
    expect(resourceVersion).toBe('7');
    expect(bed.server.texts()).toEqual([
      'GET /api/v1/namespaces?limit=500',
      'GET /api/v1/namespaces?limit=500&continue=more',
    ]);
  });

  test('whose point is over between two pages (410) is asked for anew, in one piece, without what came before', async () => {
    bed.server.script = ({ query }, answering) => {
      if (query.has('continue')) answering.json(410, gone);
      else if (query.has('limit')) answering.json(200, page([rawNamespace('old', '1')], '7', 'more'));
      else answering.json(200, page([rawNamespace('a', '1'), rawNamespace('b', '2')], '9'));
    };
    const { items, resourceVersion } = await store.list('Namespace');
    expect(items.map(({ metadata }) => metadata.name)).toEqual(['a', 'b']);
    expect(resourceVersion).toBe('9');
  });

  test('of one namespace is asked for there', async () => {
    bed.server.script = (_asked, answering) => answering.json(200, page([], '7'));
    await store.list('NetworkSet', { namespace: 'x' });
    expect(bed.server.texts()).toEqual(['GET /apis/projectcalico.org/v3/namespaces/x/networksets?limit=500']);
  });

  test('keeps of a Pod what is used, shares what many have, and can be frozen no further', async () => {
    const pod = (name: string) => ({
      metadata: {
        name,
        namespace: 'default',
        uid: `uid-${name}`,
        resourceVersion: '3',
        managedFields: [{ manager: 'kubelet', fieldsV1: { 'f:status': {} } }],
        labels: { app: 'web', 'pod-template-hash': 'abc' },
        annotations: {
          'kubectl.kubernetes.io/last-applied-configuration': '{}',
          'cni.projectcalico.org/podIPs': '10.0.0.1/32',
          'kubernetes.io/config.mirror': 'hash',
        },
      },
      spec: {
        nodeName: 'n1',
        containers: [{ name: 'c', image: 'i', ports: [{ containerPort: 80, name: 'http' }], resources: {} }],
        tolerations: [],
      },
      status: { phase: 'Running', podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }], containerStatuses: [] },
    });
    bed.server.script = (_asked, answering) => answering.json(200, page([pod('a'), pod('b')], '7'));
    const [a, b] = (await store.list('Pod')).items;
    expect(a).toEqual({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: 'a',
        namespace: 'default',
        uid: 'uid-a',
        resourceVersion: '3',
        labels: { app: 'web', 'pod-template-hash': 'abc' },
        annotations: { 'cni.projectcalico.org/podIPs': '10.0.0.1/32', 'kubernetes.io/config.mirror': 'hash' },
      },
      spec: {
        nodeName: 'n1',
        hostNetwork: false,
        containers: [{ name: 'c', ports: [{ containerPort: 80, name: 'http', protocol: 'TCP' }] }],
        initContainers: [],
      },
      status: { phase: 'Running', podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }] },
    });
    expect(b?.metadata.labels).toBe(a?.metadata.labels);
    expect(b?.spec.containers).toBe(a?.spec.containers);
    expect(Object.isFrozen(a) && Object.isFrozen(a?.metadata) && Object.isFrozen(a?.spec.containers)).toBe(true);
  });

  test("keeps a block's sequence number that JavaScript would round", async () => {
    const block = `{"apiVersion":"projectcalico.org/v3","kind":"IPAMBlock","metadata":{"name":"10-0-0-0-30","resourceVersion":"3"},
      "spec":{"cidr":"10.0.0.0/30","allocations":[null,null,null,null],"unallocated":[0,1,2,3],"attributes":[],
      "deleted":false,"sequenceNumber":1700000000123456789}}`;
    bed.server.script = (_asked, answering) => answering.json(200, block);
    const read = await store.get('IPAMBlock', { name: '10-0-0-0-30' });
    expect(read?.spec.sequenceNumber).toBe(1700000000123456789n);
    if (read !== undefined) await store.update('IPAMBlock', read);
    expect(bed.server.asked.at(-1)?.body).toContain('"sequenceNumber":1700000000123456789');
  });
});

describe('a watch', () => {
  test('asks for bookmarks from its point, begins with one, and hands over what happens', async () => {
    onWatch((answering) => {
      answering.begin();
      answering.write(eventLine('ADDED', rawNamespace('a', '8')) + eventLine('MODIFIED', rawNamespace('a', '9')));
      answering.write(eventLine('BOOKMARK', { kind: 'Namespace', metadata: { resourceVersion: '20' } }));
      answering.write(eventLine('DELETED', rawNamespace('a', '21')));
    });
    const { texts } = follow('Namespace', '7');
    await until(() => texts.length === 5);
    expect(texts).toEqual(['(7)', 'added a', 'modified a', '(20)', 'deleted a']);
    const { query } = bed.server.asked[0] as Asked;
    expect(Object.fromEntries(query)).toMatchObject({ watch: '1', allowWatchBookmarks: 'true', resourceVersion: '7' });
    expect(Number(query.get('timeoutSeconds'))).toBeGreaterThanOrEqual(300);
  });

  test('whose lines come in pieces, in the middle of a letter too, is read all the same', async () => {
    const line = Buffer.from(eventLine('ADDED', rawNamespace('a', '8', { name: 'grün' })));
    onWatch((answering) => {
      answering.begin();
      void (async () => {
        for (const byte of line) {
          answering.write(String.fromCharCode(byte));
          await new Promise((resolve) => setImmediate(resolve));
        }
      })();
    });
    const { texts } = follow('Namespace', '7');
    await until(() => texts.length === 2);
  });

  test.each<[string, (answering: Answering) => void]>([
    ['ended by the server', (answering) => answering.end()],
    ['cut off', (answering) => answering.cut()],
    [
      'cut off in the middle of a line',
      (answering) => {
        answering.write(eventLine('ADDED', rawNamespace('half', '9')).slice(0, 40));
        setTimeout(() => answering.cut(), 5);
      },
    ],
    ['ended in the middle of a line', (answering) => (answering.write('{"type":"ADDED","obj'), answering.end())],
    ['broken by what is no JSON', (answering) => answering.write('<html>\n')],
    ['broken by an event without a point', (answering) => answering.write('{"type":"ADDED","object":{}}\n')],
  ])('%s is taken up from its last point, without listing', async (_what, end) => {
    let texts: readonly string[] = [];
    onWatch((answering, turn) => {
      answering.begin();
      if (turn === 1) {
        answering.write(eventLine('ADDED', rawNamespace('a', '8')));
        void until(() => texts.includes('added a')).then(() => end(answering));
      } else {
        answering.write(eventLine('ADDED', rawNamespace('b', '9')));
      }
    });
    ({ texts } = follow('Namespace', '7'));
    await until(() => texts.includes('added b'));
    expect(texts).toEqual(['(7)', 'added a', '(8)', 'added b']);
    expect(bed.server.asked.map(({ query }) => query.get('resourceVersion'))).toEqual(['7', '8']);
  });

  test('that ends again and again before anything came is a failure, after some tries with pauses', async () => {
    onWatch((answering) => {
      answering.begin();
      setTimeout(() => answering.end(), 1);
    });
    const { ended } = follow('Namespace', '7');
    expect(await ended).toMatchObject({ code: 'unavailable' });
    expect(bed.server.asked).toHaveLength(4);
  });

  test.each<[string, (answering: Answering) => void]>([
    ['as an answer', (answering) => answering.json(410, gone)],
    [
      'as an event',
      (answering) => {
        answering.begin();
        answering.write(eventLine('ERROR', gone));
      },
    ],
  ])('whose point is too old (%s) is expired', async (_how, answer) => {
    onWatch((answering) => answer(answering));
    const { ended } = follow('Namespace', '7');
    expect(await ended).toMatchObject({
      code: 'expired',
      message: expect.stringContaining('too old resource version'),
    });
  });

  test("whose server says in an event that it can't go on is a failure, and no reason to list", async () => {
    onWatch((answering) => {
      answering.begin();
      answering.write(eventLine('ERROR', statusBody(500, 'InternalError', 'etcd is away')));
    });
    expect(await follow('Namespace', '7').ended).toMatchObject({ code: 'unavailable' });
  });

  test('that breaks at one point again and again is expired: only a listing leads past it', async () => {
    onWatch((answering) => {
      answering.begin();
      answering.write(eventLine('ERROR', statusBody(500, 'InternalError', 'unable to decode watch event')));
    });
    const codes: (string | undefined)[] = [];
    for (let turn = 0; turn < 6; turn++) codes.push((await follow('Namespace', '7').ended)?.code);
    expect(codes).toEqual(['unavailable', 'unavailable', 'unavailable', 'unavailable', 'expired', 'unavailable']);
  });

  test.each<FakeProtocol>(['HTTP/2', 'HTTP/1.1 over TLS', 'HTTP/1.1'])(
    'over %s on which nothing comes any more, not even bookmarks, is taken up anew; one with bookmarks goes on',
    async (protocol) => {
      const clock = new FakeClock();
      await using bed = await Bed.start(protocol, clock);
      const store = await bed.open();
      bed.server.script = (_asked, answering) => answering.begin();
      const points: string[] = [];
      const watched = (async () => {
        for await (const event of store.watch('Namespace', { resourceVersion: '7' }))
          points.push(event.resourceVersion);
      })();
      await until(() => points.length === 1);
      for (let minute = 0; minute < 6; minute++) {
        const { size } = new Set(points);
        bed.server.watches[0]?.answering.write(
          eventLine('BOOKMARK', { metadata: { resourceVersion: String(10 + minute) } }),
        );
        await until(() => new Set(points).size > size);
        await bed.pass(60);
      }
      expect(bed.server.watches).toHaveLength(1);
      await bed.pass(300, () => bed.server.watches.length > 1);
      await until(() => bed.server.watches.length > 1);
      expect(bed.server.watches[1]?.asked.query.get('resourceVersion')).toBe('15');
      await store[Symbol.asyncDispose]();
      await watched;
    },
  );

  test('ends without an error when it is told to, whatever it was doing', async () => {
    onWatch((answering, turn) => {
      if (turn === 1) answering.begin();
    });
    for (const wait of [() => Promise.resolve(), () => until(() => bed.server.watches.length > 1)]) {
      const { abort, ended } = follow('Namespace', '7');
      await wait();
      abort.abort();
      expect(await ended).toBeUndefined();
    }
  });

  test('of a kind that is made of others is refused', async () => {
    expect(() => store.watch('WorkloadEndpoint', { resourceVersion: '7' })).toThrow(
      expect.objectContaining({ code: 'invalid' }),
    );
  });
});

describe('a kind that the cluster may do without', () => {
  const missing = '404 page not found';

  test('is empty and named while it is not served, is looked for, and read once it is', async () => {
    const clock = new FakeClock();
    await using bed = await Bed.start('HTTP/2', clock);
    const store = await bed.open();
    let isServed = false;
    bed.server.script = ({ query }, answering) => {
      if (!isServed) answering.json(404, missing);
      else if (query.has('watch')) answering.begin();
      else answering.json(200, page([], '12'));
    };
    const { items, resourceVersion } = await store.list('ClusterNetworkPolicy');
    expect(items).toEqual([]);
    expect(store.absent()).toEqual(['ClusterNetworkPolicy']);
    expect(await store.get('ClusterNetworkPolicy', { name: 'a' })).toBeUndefined();
    const watch = store.watch('ClusterNetworkPolicy', { resourceVersion })[Symbol.asyncIterator]();
    expect(await watch.next()).toMatchObject({ value: { type: 'bookmark' } });
    const next = bed.failure(watch.next());
    const before = bed.server.asked.length;
    await bed.pass(600);
    const looks = bed.server.asked.length - before;
    expect(looks).toBeGreaterThanOrEqual(6);
    expect(looks).toBeLessThanOrEqual(14);
    isServed = true;
    await bed.pass(80);
    expect(await next).toMatchObject({ code: 'expired' });
    expect((await store.list('ClusterNetworkPolicy')).resourceVersion).toBe('12');
    expect(store.absent()).toEqual([]);
    // Gone again: the watch says list again, and the list says that there is none.
    isServed = false;
    const lost = store.watch('ClusterNetworkPolicy', { resourceVersion: '12' })[Symbol.asyncIterator]();
    expect(await bed.failure(lost.next())).toMatchObject({ code: 'expired' });
    await store.list('ClusterNetworkPolicy');
    expect(store.absent()).toEqual(['ClusterNetworkPolicy']);
  });

  test('is not taken for missing because something else says 404', async () => {
    bed.server.script = (_asked, answering) => answering.json(404, '<html><h1>404 Not Found</h1></html>');
    for (const attempt of [
      () => store.list('ClusterNetworkPolicy'),
      () => store.get('ClusterNetworkPolicy', { name: 'a' }),
      () => store.watch('ClusterNetworkPolicy', { resourceVersion: '7' })[Symbol.asyncIterator]().next(),
      () => store.get('IPPool', { name: 'a' }),
    ]) {
      expect(await bed.failure(attempt())).toMatchObject({
        code: 'unavailable',
        message: expect.stringContaining('proxy'),
      });
    }
    expect(store.absent()).toEqual([]);
  });

  test('is an error where it is not optional', async () => {
    bed.server.script = (_asked, answering) => answering.json(404, missing);
    expect(await bed.failure(store.list('Tier'))).toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('apply manifests/tortie.yaml'),
    });
    expect(store.absent()).toEqual([]);
  });
});
