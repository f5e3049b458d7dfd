import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { Bed, secret } from './bed-for-tests.ts';
import { statusBody, type Script } from './fake-api-server-for-tests.ts';
import type { KubernetesDatastore } from './kubernetes-datastore.ts';

const key = { namespace: 'default', name: 'a' };
const annotations = { 'cni.projectcalico.org/podIP': '10.0.0.1/32' };
const pod = (uid: string, has: object) => ({ kind: 'Pod', metadata: { ...key, uid, annotations: has } });
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

function answers(...scripts: readonly Script[]): void {
  let index = 0;
  bed.server.script = (asked, answering) => scripts[Math.min(index++, scripts.length - 1)]?.(asked, answering);
}
const cut: Script = (_asked, answering) => answering.cut();
const says =
  (status: number, body: unknown): Script =>
  (_asked, answering) =>
    answering.json(status, body);
const conflict = says(409, statusBody(409, 'Conflict', 'modified', { name: 'a' }));

test('patches carry what they expect of the object, and the content types that the API knows', async () => {
  answers(says(200, {}));
  await store.annotatePod(key, annotations, { uid: 'u', resourceVersion: '7' });
  await store.annotateNode('n', { 'projectcalico.org/a': 'b', 'projectcalico.org/c': null });
  await store.reportNetworkAvailable('n', 'TortieIsUp', 'it is up');
  const time = new Date(bed.clock.now()).toISOString().replace('.000Z', 'Z');
  expect(bed.server.asked.map(({ path, headers, body }) => [path, headers['content-type'], JSON.parse(body)])).toEqual([
    [
      '/api/v1/namespaces/default/pods/a/status',
      'application/merge-patch+json',
      { metadata: { uid: 'u', resourceVersion: '7', annotations } },
    ],
    [
      '/api/v1/nodes/n/status',
      'application/merge-patch+json',
      { metadata: { annotations: { 'projectcalico.org/a': 'b', 'projectcalico.org/c': null } } },
    ],
    [
      '/api/v1/nodes/n/status',
      'application/strategic-merge-patch+json',
      {
        status: {
          conditions: [
            {
              type: 'NetworkUnavailable',
              status: 'False',
              reason: 'TortieIsUp',
              message: 'it is up',
              lastHeartbeatTime: time,
              lastTransitionTime: time,
            },
          ],
        },
      },
    ],
  ]);
});

test('a patch whose answer is lost is repeated: it says the same', async () => {
  answers(cut, says(200, {}));
  await store.annotatePod(key, annotations, { uid: 'u' });
  expect(bed.server.texts()).toEqual(Array(2).fill('PATCH /api/v1/namespaces/default/pods/a/status'));
});

test.each([
  ['what is there is what was wanted: done', pod('u', { ...annotations, other: 'x' }), undefined],
  ['something else is there', pod('u', {}), 'conflict'],
  ['another pod is there', pod('other', annotations), 'conflict'],
])('a repeated patch that meets its own first try as a conflict looks: %s', async (_what, found, code) => {
  answers(cut, conflict, says(200, found));
  const patching = store.annotatePod(key, annotations, { uid: 'u', resourceVersion: '7' });
  if (code === undefined) await patching;
  else expect(await bed.failure(patching)).toMatchObject({ code });
});

test('a uid that is another is a conflict, though the API calls it invalid', async () => {
  const causes = [{ field: 'metadata.uid' }, { field: 'metadata.uid' }];
  answers(says(422, statusBody(422, 'Invalid', 'field is immutable', { name: 'a', causes })));
  expect(await bed.failure(store.annotatePod(key, annotations, { uid: 'u' }))).toMatchObject({ code: 'conflict' });
});
