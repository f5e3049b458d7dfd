import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FakeClock } from '#api/fake-clock.ts';
import { until } from '#test/lab/until.ts';
import { handle } from '../objects-for-tests.ts';
import { Bed, page, rawNamespace, secret } from './bed-for-tests.ts';
import { statusBody, type FakeProtocol, type Script } from './fake-api-server-for-tests.ts';
import { selfSigned } from './certificate-for-tests.ts';
import { Wire } from './wire-for-tests.ts';

const stored = { ...handle('a'), metadata: { name: 'a', uid: 'u', resourceVersion: '5' } };

describe.each<FakeProtocol>(['HTTP/2', 'HTTP/1.1 over TLS', 'HTTP/1.1'])('over %s', (protocol) => {
  let bed: Bed;
  beforeEach(async () => {
    bed = await Bed.start(protocol);
  });
  afterEach(async () => {
    const { said } = bed;
    await bed[Symbol.asyncDispose]();
    expect(said).not.toContain(secret);
    expect(said).not.toContain('Bearer');
  });

  /** Answers one after another; the last one stays. */
  const answers = (...scripts: readonly Script[]) => {
    let index = 0;
    bed.server.script = (asked, answering) => scripts[Math.min(index++, scripts.length - 1)]?.(asked, answering);
  };
  const says =
    (status: number, body: unknown, headers?: Record<string, string>): Script =>
    (_asked, answering) =>
      answering.json(status, body, headers);

  test('who we are and what we ask for goes out as the API wants it', async () => {
    answers(says(200, stored));
    const store = await bed.open();
    expect((await store.get('IPAMHandle', { name: 'a' }))?.metadata.resourceVersion).toBe('5');
    expect(bed.server.texts()).toEqual(['GET /apis/projectcalico.org/v3/ipamhandles/a']);
    expect(bed.server.asked[0]?.headers['authorization']).toBe(`Bearer ${secret}`);
    expect(bed.log).toEqual([expect.stringContaining(protocol === 'HTTP/2' ? 'by HTTP/2' : 'by HTTP/1.1')]);
  });

  test.each<[number, string, string, Readonly<Record<string, unknown>> | undefined]>([
    [404, 'NotFound', 'not-found', { name: 'a' }],
    [409, 'Conflict', 'conflict', { name: 'a' }],
    [409, 'AlreadyExists', 'already-exists', { name: 'a' }],
    [410, 'Expired', 'expired', undefined],
    [422, 'Invalid', 'invalid', { name: 'a' }],
    [400, 'BadRequest', 'invalid', undefined],
    [403, 'Forbidden', 'unavailable', { name: 'a' }],
    [401, 'Unauthorized', 'unavailable', undefined],
    [500, 'InternalError', 'unavailable', undefined],
    [404, 'NotFound', 'unavailable', undefined],
  ])('status %i %s is %s, with verb, object and the words of the API', async (status, reason, code, details) => {
    answers(says(status, statusBody(status, reason, 'said by the server', details)));
    const error = await bed.failure((await bed.open()).create('IPAMHandle', handle('a')));
    expect(error).toMatchObject({ name: 'DatastoreError', code });
    expect(error.message).toMatch(/^create IPAMHandle a: /);
    expect(error.message).toContain(
      status === 404 && details === undefined ? 'apply manifests/tortie.yaml' : 'said by the server',
    );
    expect(bed.server.asked).toHaveLength(1);
  });

  test('an answer that is no API server is told as it is', async () => {
    answers(says(404, '404 page not found'));
    const error = await bed.failure((await bed.open()).list('IPPool'));
    expect(error).toMatchObject({ code: 'unavailable' });
    expect(error.message).toContain('does not serve ippools of projectcalico.org/v3');
  });

  test.each([
    ['by header', { 'retry-after': '3' }, undefined],
    ['by details', {}, { retryAfterSeconds: 3 }],
  ])('who is told to come back later (%s) does, also with a write', async (_how, headers, details) => {
    answers(says(429, statusBody(429, 'TooManyRequests', 'slowly', details), headers), says(201, stored));
    const store = await bed.open();
    const before = bed.clock.now();
    expect((await store.create('IPAMHandle', handle('a'))).metadata.uid).toBe('u');
    expect(bed.clock.now() - before).toBeGreaterThanOrEqual(3000);
    expect(bed.server.asked).toHaveLength(2);
  });

  test('tries are bounded, and so is the time that a server may ask for', async () => {
    answers(says(429, statusBody(429, 'TooManyRequests', 'slowly')));
    const store = await bed.open();
    expect(await bed.failure(store.get('IPPool', { name: 'a' }))).toMatchObject({ code: 'unavailable' });
    expect(bed.server.asked).toHaveLength(4);
    answers(says(429, statusBody(429, 'TooManyRequests', 'much later'), { 'retry-after': '3600' }));
    expect(await bed.failure(store.get('IPPool', { name: 'a' }))).toMatchObject({ code: 'unavailable' });
    expect(bed.server.asked).toHaveLength(5);
  });

  test.each([500, 502, 503, 504])('after %i a read is tried again, a write is not', async (status) => {
    answers(says(status, statusBody(status, 'Bad', 'etcd is away')), says(200, stored));
    const store = await bed.open();
    expect(await store.get('IPAMHandle', { name: 'a' })).toBeDefined();
    answers(says(status, statusBody(status, 'Bad', 'etcd is away')), says(200, stored));
    bed.server.asked.length = 0;
    expect(await bed.failure(store.create('IPAMHandle', handle('a')))).toMatchObject({ code: 'unavailable' });
    expect(bed.server.asked).toHaveLength(1);
  });

  test('an answer that is lost: a read is repeated, a write is said to be possibly done and never repeated', async () => {
    const cut: Script = (_asked, answering) => answering.cut();
    answers(cut, says(200, stored));
    const store = await bed.open();
    expect(await store.get('IPAMHandle', { name: 'a' })).toBeDefined();
    for (const write of [
      () => store.create('IPAMHandle', handle('a')),
      () => store.update('IPAMHandle', { ...handle('a'), metadata: { name: 'a', resourceVersion: '5' } }),
      () => store.delete('IPAMHandle', { name: 'a' }),
    ]) {
      answers(cut, says(200, stored));
      bed.server.asked.length = 0;
      const error = await bed.failure(write());
      expect(error).toMatchObject({ code: 'unavailable' });
      expect(error.message).toContain('it may have been done');
      expect(bed.server.asked).toHaveLength(1);
    }
  });

  test('an answer that ends in the middle is no answer', async () => {
    const half: Script = (_asked, answering) => {
      answering.begin();
      answering.write('{"kind":"List","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"na');
      setTimeout(() => answering.cut(), 5);
    };
    answers(half, says(200, page([rawNamespace('a', '1')], '7')));
    const store = await bed.open();
    expect((await store.list('Namespace')).items).toHaveLength(1);
  });

  test('a refused token that has been replaced in its file meanwhile is read anew, without a restart', async () => {
    const file = join(bed.dir, 'token');
    writeFileSync(file, `${secret}-old\n`);
    bed.server.script = ({ headers }, answering) =>
      headers['authorization'] === `Bearer ${secret}-new`
        ? answering.json(200, stored)
        : answering.json(401, statusBody(401, 'Unauthorized', 'Unauthorized'));
    const store = await bed.open({ tokenFile: file });
    expect(await bed.failure(store.get('IPAMHandle', { name: 'a' }))).toMatchObject({ code: 'unavailable' });
    expect(bed.server.asked).toHaveLength(1); // The same token isn't tried twice.
    writeFileSync(file, `${secret}-new\n`);
    expect(await store.create('IPAMHandle', handle('a'))).toBeDefined();
    expect(bed.server.asked).toHaveLength(3);
  });

  test('a token file that is replaced is read before the old token is refused', async () => {
    const file = join(bed.dir, 'token');
    writeFileSync(file, `${secret}-old`);
    answers(says(200, stored));
    const store = await bed.open({ tokenFile: file });
    await store.get('IPAMHandle', { name: 'a' });
    writeFileSync(file, `${secret}-new`);
    bed.clock.advance(60_000);
    await store.get('IPAMHandle', { name: 'a' });
    writeFileSync(file, '');
    bed.clock.advance(60_000);
    await store.get('IPAMHandle', { name: 'a' });
    expect(bed.server.asked.map(({ headers }) => String(headers['authorization']).split('-').at(-1))).toEqual([
      'old',
      'new',
      'new',
    ]);
  });

  test('a kubeconfig that is replaced is read anew when its credentials are refused', async () => {
    bed.server.script = ({ headers }, answering) =>
      headers['authorization'] === `Bearer ${secret}-new`
        ? answering.json(200, stored)
        : answering.json(401, statusBody(401, 'Unauthorized', 'Unauthorized'));
    const store = await bed.open({ token: `${secret}-old` });
    writeFileSync(bed.kubeconfig, bed.server.kubeconfig({ token: `${secret}-new` }));
    utimesSync(bed.kubeconfig, 1, 1);
    expect(await store.get('IPAMHandle', { name: 'a' })).toBeDefined();
  });

  test('a 401 says too why a replaced kubeconfig is not followed, until it is good again', async () => {
    bed.server.script = ({ headers }, answering) =>
      headers['authorization'] === `Bearer ${secret}-new`
        ? answering.json(200, stored)
        : answering.json(401, statusBody(401, 'Unauthorized', 'said by the server'));
    const store = await bed.open({ token: `${secret}-old` });
    const failure = () => bed.failure(store.get('IPAMHandle', { name: 'a' }));
    const plain = await failure();
    expect(plain.message).not.toContain(bed.kubeconfig);
    writeFileSync(bed.kubeconfig, bed.server.kubeconfig({ 'auth-provider': { name: 'oidc' } }));
    utimesSync(bed.kubeconfig, 1, 1);
    const { code, message } = await failure();
    expect(code).toBe('unavailable');
    expect(message).toMatch(/^get IPAMHandle a: said by the server \(HTTP 401 Unauthorized\); /);
    expect(message).toContain(`read kubeconfig ${bed.kubeconfig} again: user tester: auth-provider oidc is not`);
    writeFileSync(bed.kubeconfig, bed.server.kubeconfig({ token: `${secret}-other` }));
    utimesSync(bed.kubeconfig, 2, 2);
    expect(await failure()).toMatchObject({ message: plain.message });
    writeFileSync(bed.kubeconfig, bed.server.kubeconfig({ token: `${secret}-new` }));
    utimesSync(bed.kubeconfig, 3, 3);
    expect(await store.get('IPAMHandle', { name: 'a' })).toBeDefined();
  });

  test('a 401 says too why the credential plugin gave no other credentials', async () => {
    bed.server.script = (_asked, answering) =>
      answering.json(401, statusBody(401, 'Unauthorized', 'said by the server'));
    const broken = join(bed.dir, 'broken');
    const script = `if [ -e ${broken} ]; then echo the vault is sealed >&2; exit 1; fi; echo '{"status":{"token":"${secret}"}}'`;
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'sh', args: ['-c', script] };
    const store = await bed.open({ exec });
    expect((await bed.failure(store.get('IPAMHandle', { name: 'a' }))).message).not.toContain('plugin');
    bed.server.script = (_asked, answering) => {
      writeFileSync(broken, '');
      answering.json(401, statusBody(401, 'Unauthorized', 'said by the server'));
    };
    const { message } = await bed.failure(store.get('IPAMHandle', { name: 'a' }));
    expect(message).toMatch(/said by the server \(HTTP 401 Unauthorized\)/);
    expect(message).toMatch(/credential plugin of user tester failed: .*the vault is sealed/);
  });

  test('a server that is away: no reason to refuse opening; each request says so; it is found again', async () => {
    answers(says(200, stored));
    const store = await bed.open();
    await bed.server.vanish();
    const error = await bed.failure(store.get('IPAMHandle', { name: 'a' }));
    expect(error).toMatchObject({ code: 'unavailable' });
    expect(error.message).toMatch(
      /get IPAMHandle a: no answer from the API server https?:\/\/127.0.0.1:\d+: .*ECONNREFUSED/,
    );
    await bed.server.listen();
    bed.clock.advance(1_000);
    expect(await store.get('IPAMHandle', { name: 'a' })).toBeDefined();
  });

  test('an answer that takes too long is given up', async () => {
    const clock = new FakeClock();
    await using slow = await Bed.start(protocol, clock);
    slow.server.script = () => {};
    const store = await slow.open();
    const getting = slow.failure(store.get('IPPool', { name: 'a' }));
    await until(() => slow.server.asked.length === 1);
    clock.advance(30_000);
    expect(await getting).toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('nothing within 30 s'),
    });
    expect(slow.server.asked).toHaveLength(1);
  });

  test('no more than 50 requests are under way at once', async () => {
    const waiting: (() => void)[] = [];
    bed.server.script = (_asked, answering) => void waiting.push(() => answering.json(200, stored));
    const store = await bed.open();
    const all = Promise.all(Array.from({ length: 120 }, () => store.get('IPAMHandle', { name: 'a' })));
    let most = 0;
    for (let left = 120; left > 0;) {
      await until(() => waiting.length >= Math.min(50, left));
      await new Promise((resolve) => setTimeout(resolve, 5));
      most = Math.max(most, waiting.length);
      for (const answer of waiting.splice(0, 10)) {
        answer();
        left--;
      }
    }
    await all;
    expect(most).toBe(50);
  });
});

describe('one HTTP/2 connection', () => {
  test('carries everything at once', async () => {
    await using bed = await Bed.start();
    bed.server.script = (_asked, answering) => answering.json(200, stored);
    const store = await bed.open();
    await Promise.all(Array.from({ length: 40 }, () => store.get('IPAMHandle', { name: 'a' })));
    expect(bed.server.connections).toBe(1);
  });

  test('that is told to go away is followed by another; what is under way on it is answered', async () => {
    await using bed = await Bed.start();
    let answer = () => {};
    bed.server.script = ({ path }, answering) => {
      if (path.endsWith('/slow')) answer = () => answering.json(200, { ...stored, metadata: { name: 'slow' } });
      else answering.json(200, stored);
    };
    const store = await bed.open();
    await store.get('IPAMHandle', { name: 'a' });
    const slow = store.get('IPAMHandle', { name: 'slow' });
    await until(() => bed.server.asked.length === 2);
    bed.server.goAway();
    await until(() => (void store.get('IPAMHandle', { name: 'a' }).catch(() => {}), bed.server.connections === 2));
    answer();
    expect((await slow)?.metadata.name).toBe('slow');
  });

  test('over a wire that has died without a word is given up after 45 s, and only then', async () => {
    const clock = new FakeClock();
    await using bed = await Bed.start('HTTP/2', clock);
    bed.server.script = ({ query }, answering) => {
      if (query.has('watch')) answering.begin();
      else answering.json(200, page([], '7'));
    };
    await using wire = await Wire.to(bed.server.url);
    const store = await bed.open({ token: secret }, wire.url);
    const { resourceVersion } = await store.list('Namespace');
    const watch = store.watch('Namespace', { resourceVersion })[Symbol.asyncIterator]();
    expect(await watch.next()).toMatchObject({ value: { type: 'bookmark' } });
    const resumed = watch.next();
    // While it is alive, pings are answered.
    for (let turn = 0; turn < 2; turn++) {
      clock.advance(30_000);
      await until(() => (clock.nextInMs ?? 0) > 15_000); // The answer's time is 15 s: it has come.
    }
    expect(bed.server.connections).toBe(1);
    wire.die();
    clock.advance(30_000);
    clock.advance(14_000);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(bed.server.connections).toBe(1);
    clock.advance(1_000);
    await until(() => clock.nextInMs !== undefined && clock.nextInMs < 1_000); // A short pause, then again.
    clock.advance(1_000);
    expect(await resumed).toMatchObject({ value: { type: 'bookmark', resourceVersion: '7' } });
    expect(bed.server.connections).toBe(2);
  });

  test('that takes no new requests any more, and whose wire has died, holds no watch for ever', async () => {
    const clock = new FakeClock();
    await using bed = await Bed.start('HTTP/2', clock);
    bed.server.script = (_asked, answering) => answering.begin();
    await using wire = await Wire.to(bed.server.url);
    const store = await bed.open({ token: secret }, wire.url);
    const watch = store.watch('Namespace', { resourceVersion: '7' })[Symbol.asyncIterator]();
    await watch.next();
    const resumed = watch.next();
    bed.server.goAway();
    await new Promise((resolve) => setTimeout(resolve, 20));
    wire.die();
    await bed.pass(300, () => bed.server.connections === 2);
    await resumed;
    expect(bed.server.connections).toBe(2);
  });

  test('goes on while new certificates are no good; without one, the message names their file', async () => {
    await using bed = await Bed.start();
    bed.server.script = (_asked, answering) => answering.json(200, stored);
    const ca = join(bed.dir, 'ca.crt');
    writeFileSync(ca, bed.server.certificate);
    const config = JSON.parse(bed.server.kubeconfig({ token: secret })) as { clusters: object[] };
    config.clusters = [{ name: 'fake', cluster: { server: bed.server.url, 'certificate-authority': ca } }];
    const byFile = await bed.openWith(JSON.stringify(config));
    await byFile.get('IPAMHandle', { name: 'a' });
    writeFileSync(ca, selfSigned().cert);
    bed.clock.advance(60_000);
    await byFile.get('IPAMHandle', { name: 'a' });
    bed.server.cutAll();

    await new Promise((resolve) => setTimeout(resolve, 20));
    bed.clock.advance(60_000);
    const error = await bed.failure(byFile.get('IPAMHandle', { name: 'a' }));
    expect(error.message).toContain(`certificate authority: ${ca}`);
  });
});
