/** An API server that is away for an hour, with all kinds of the agent reading from it. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { FakeClock } from '#api/fake-clock.ts';
import { Bed, page, rawNamespace } from '#datastore/kubernetes/bed-for-tests.ts';
import { eventLine, statusBody, type Answering } from '#datastore/kubernetes/fake-api-server-for-tests.ts';
import { until } from '#test/lab/until.ts';
import { ObjectStore, watchedKinds } from './object-store.ts';

let bed: Bed;
let clock: FakeClock;
let store: ObjectStore;
let lines: Record<string, unknown>[];
let point: number;
let namespaces: Answering | undefined;

beforeEach(async () => {
  clock = new FakeClock();
  bed = await Bed.start('HTTP/2', clock);
  point = 7;
  bed.server.script = ({ path, query }, answering) => {
    if (!query.has('watch')) {
      const items = path.endsWith('/namespaces') ? [rawNamespace('a', '5')] : [];
      answering.json(200, page(items, String(point)));
      return;
    }
    answering.begin();
    if (path.endsWith('/namespaces')) namespaces = answering;
  };
  lines = [];
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  store = new ObjectStore(await bed.open(), pino(sink), clock);
  store.start();
  await store.synced();
  await until(() => bed.server.watches.length === kindCount);
});
afterEach(async () => {
  await store[Symbol.asyncDispose]();
  await bed[Symbol.asyncDispose]();
});

const kindCount = watchedKinds.length - 1; // WorkloadEndpoints are made of Pods.

const listings = () => bed.server.asked.filter(({ query }) => !query.has('watch')).length;

test('away for an hour: everything stays, a few lines, no growth; back again: taken up without listing', async () => {
  const before = listings();
  await bed.server.vanish();
  await bed.pass(60);
  expect(store.failures()).toEqual([expect.stringContaining(`${kindCount} kinds`)]);
  const { pending } = clock;
  await bed.pass(3_600);
  expect(clock.pending).toBeLessThanOrEqual(pending + 1);
  expect(store.of('Namespace').get({ name: 'a' })).toBeDefined();
  expect(store.hasSynced).toBe(true);
  // One at the beginning, and after 1, 3, 7, 15, 30, 45 and 60 minutes at most.
  expect(lines.length).toBeGreaterThanOrEqual(4);
  expect(lines.length).toBeLessThanOrEqual(9);
  expect(lines[0]).toMatchObject({ level: 40, reasons: [expect.stringContaining(`${kindCount} kinds`)] });

  await bed.server.listen();
  lines.length = 0;
  await bed.pass(20, () => bed.server.watches.length === kindCount);
  await until(() => bed.server.watches.length === kindCount && store.failures().length === 0);
  expect(listings()).toBe(before);
  expect(lines).toMatchObject([{ level: 30, msg: 'the datastore is read again' }]);
  expect(Number(lines[0]?.['awayMs'])).toBeGreaterThanOrEqual(3_600_000);
  namespaces?.write(eventLine('ADDED', rawNamespace('b', '8')));
  await until(() => store.of('Namespace').size === 2);
}, 900_000);

test('back with a history that is too old: each kind lists once more, and only what differs is told', async () => {
  const changes: string[] = [];
  store.of('Namespace').onChange(({ name }) => changes.push(name));
  const before = listings();
  await bed.server.vanish();
  await bed.pass(60);
  const { script } = bed.server;
  const refused = new Set<string>();
  bed.server.script = (asked, answering) => {
    if (asked.query.get('resourceVersion') === '7') {
      refused.add(asked.path);
      answering.json(410, statusBody(410, 'Expired', 'too old'));
    } else script(asked, answering);
  };
  point = 99;
  await bed.server.listen();
  await bed.pass(
    30,
    () => bed.server.watches.filter(({ asked }) => asked.query.get('resourceVersion') === '99').length === kindCount,
  );
  expect(refused.size).toBe(kindCount);
  expect(listings()).toBe(before + kindCount);
  expect(changes).toEqual([]);
});

test('a short break is not worth a line', async () => {
  bed.server.cutAll();
  await bed.pass(60, () => bed.server.watches.length === kindCount);
  expect(store.failures()).toEqual([]);
  expect(lines).toEqual([]);
});

test('one kind that can not be read: its name and why, while the others go on', async () => {
  const { script } = bed.server;
  bed.server.script = (asked, answering) =>
    asked.path.endsWith('/tiers')
      ? answering.json(403, statusBody(403, 'Forbidden', 'no', { name: '' }))
      : script(asked, answering);
  bed.server.cutAll();
  await bed.pass(60, () => lines.length > 0);
  expect(lines[0]).toMatchObject({ reasons: [expect.stringContaining('watch Tier objects: no')] });
});
