import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '#api/fake-clock.ts';
import { Credentials } from './credentials.ts';

const secret = 'sEcReT-0123456789';
let dir: string;
let path: string;
let clock: FakeClock;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), `tt${process.pid}-cred-`));
  path = join(dir, 'kubeconfig');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function config(user: object, cluster: object = {}): string {
  return JSON.stringify({
    'current-context': 'c',
    contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
    clusters: [{ name: 'k', cluster: { server: 'https://10.0.0.1:6443', ...cluster } }],
    users: [{ name: 'u', user }],
  });
}

function open(text: string): Credentials {
  writeFileSync(path, text);
  clock = new FakeClock();
  return new Credentials({ kubeconfig: path, environment: {}, serviceAccountDir: dir }, clock);
}

const base64 = (text: string) => Buffer.from(text).toString('base64');

describe('a kubeconfig', () => {
  test.each<[string, object, string | undefined]>([
    ['a token', { token: secret }, `Bearer ${secret}`],
    ['name and password', { username: 'me', password: secret }, `Basic ${base64(`me:${secret}`)}`],
    ['nothing', {}, undefined],
  ])('with %s', async (_what, user, authorization) => {
    const credentials = open(config(user));
    expect(credentials.server.href).toBe('https://10.0.0.1:6443/');
    expect((await credentials.identity()).authorization).toBe(authorization);
  });

  test('with certificates: as data or as files beside it, read again now and then; data wins', async () => {
    for (const name of ['ca', 'cert', 'key']) writeFileSync(join(dir, name), `${name} 1`);
    const credentials = open(
      config(
        { 'client-certificate': 'cert', 'client-key': 'key', 'client-key-data': base64('key in it') },
        { 'certificate-authority': 'ca', 'tls-server-name': 'kubernetes' },
      ),
    );
    expect((await credentials.identity()).tls).toEqual({
      ca: 'ca 1',
      cert: 'cert 1',
      key: 'key in it',
      sources: `certificate authority: ${join(dir, 'ca')}; client certificate: ${join(dir, 'cert')}`,
      serverName: 'kubernetes',
      rejectUnauthorized: true,
    });
    writeFileSync(join(dir, 'cert'), 'cert 2');
    clock.advance(10_000);
    expect((await credentials.identity()).tls.cert).toBe('cert 2');
    // Gone for the moment, also if it is asked for because it was refused.
    rmSync(join(dir, 'ca'));
    clock.advance(10_000);
    expect((await credentials.identity()).tls.ca).toBe('ca 1');
    credentials.renew();
    expect((await credentials.identity()).tls.ca).toBe('ca 1');
    expect(credentials.notTaken).toEqual([
      expect.stringMatching(/certificate authority: .*ENOENT.*what was read before is used/),
    ]);
    writeFileSync(join(dir, 'ca'), 'ca 2');
    expect((await credentials.identity()).tls.ca).toBe('ca 2');
    expect(credentials.notTaken).toEqual([]);
  });

  test('with an exec plugin: it is asked once until it is refused, and told what to answer', async () => {
    const script = `echo x >> ${join(dir, 'asked')}; case $KUBERNETES_EXEC_INFO in *client.authentication.k8s.io/v1*) ;; *) exit 1;; esac
      echo '{"status":{"token":"${secret}"}}'`;
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'sh', args: ['-c', script] };
    const credentials = open(config({ exec }));
    for (let turn = 0; turn < 3; turn++) {
      const both = await Promise.all([credentials.identity(), credentials.identity()]);
      expect(both.map(({ authorization }) => authorization)).toEqual([`Bearer ${secret}`, `Bearer ${secret}`]);
    }
    credentials.renew();
    await credentials.identity();
    expect(readFileSync(join(dir, 'asked'), 'utf8')).toBe('x\nx\n');
  });

  test.each([
    ['fails', 'echo why it failed >&2; exit 1', 'why it failed'],
    ['prints what is no JSON', `echo ${secret}`, 'something other than JSON'],
  ])('with an exec plugin that %s: an error without what it printed', async (_what, script, words) => {
    const credentials = open(config({ exec: { command: 'sh', args: ['-c', script] } }));
    const error = await credentials.identity().catch((thrown: unknown) => thrown);
    expect(String(error)).toContain(words);
    expect(String(error)).not.toContain(secret);
  });

  test.each<[string, string, string]>([
    ['is no YAML', `a: b: ${secret}: [`, 'it is no YAML'],
    ['has no current context', '{}', 'current-context'],
    ['names no server', config({}, { server: 'nonsense' }), 'server must be https'],
    ['wants a proxy', config({}, { 'proxy-url': 'http://p' }), 'proxy-url is not supported'],
    ['wants impersonation', config({ as: 'root' }), 'impersonation'],
    ['has an auth-provider', config({ 'auth-provider': { name: 'oidc', config: { 'id-token': secret } } }), 'oidc'],
    ['names a file that is not there', config({ tokenFile: 'none' }), 'none'],
    ['has a token that is none', config({ token: `${secret}\nx: y` }), 'no token'],
  ])('that %s is refused, naming file and reason and no secret', (_what, text, words) => {
    const attempt = () => open(text);
    expect(attempt).toThrow(expect.objectContaining({ code: 'unavailable', message: expect.stringContaining(words) }));
    expect(attempt).toThrow(path);
    expect(attempt).not.toThrow(secret);
  });

  const replace = (text: string) => {
    writeFileSync(path, text);
    utimesSync(path, 1, 1);
  };

  test.each<[string, () => void, RegExp]>([
    ['nothing', () => rmSync(path), /ENOENT/],
    ['something broken', () => replace(`a: b: ${secret}: [`), /it is no YAML/],
    ['what wants a proxy', () => replace(config({ token: secret }, { 'proxy-url': 'http://p' })), /proxy-url is not/],
    [
      'one with an auth-provider',
      () => replace(config({ 'auth-provider': { name: 'oidc' } })),
      /oidc is not supported/,
    ],
    [
      'one for another server',
      () => replace(config({ token: 'new' }, { server: `https://me:${secret}@10.0.0.2:6443` })),
      /https:\/\/10\.0\.0\.2:6443.*https:\/\/10\.0\.0\.1:6443.*restart/,
    ],
  ])('that is replaced by %s changes nothing and says so, until it is good again', async (_what, change, words) => {
    const credentials = open(config({ token: secret }));
    expect(credentials.notTaken).toEqual([]);
    change();
    for (let turn = 0; turn < 2; turn++) {
      credentials.renew();
      expect((await credentials.identity()).authorization).toBe(`Bearer ${secret}`);
      expect(credentials.notTaken).toEqual([expect.stringMatching(words)]);
    }
    expect(credentials.notTaken[0]).toContain(path);
    expect(credentials.notTaken[0]).toContain('what was read before is used');
    expect(credentials.notTaken[0]).not.toContain(secret);
    replace(config({ token: 'new' }));
    credentials.renew();
    expect(credentials.notTaken).toEqual([]);
    expect((await credentials.identity()).authorization).toBe('Bearer new');
  });

  test('whose token file can not be read any more says so, until it can or another is named', async () => {
    writeFileSync(join(dir, 'token'), secret);
    const credentials = open(config({ tokenFile: 'token' }));
    rmSync(join(dir, 'token'));
    credentials.renew();
    expect((await credentials.identity()).authorization).toBe(`Bearer ${secret}`);
    expect(credentials.notTaken).toEqual([expect.stringMatching(/token file .*ENOENT.*what was read before is used/)]);
    writeFileSync(join(dir, 'token'), 'new');
    expect((await credentials.identity()).authorization).toBe('Bearer new');
    expect(credentials.notTaken).toEqual([]);
    rmSync(join(dir, 'token'));
    credentials.renew();
    await credentials.identity();
    expect(credentials.notTaken).toHaveLength(1);
    replace(config({ token: 'newer' }));
    credentials.renew();
    expect((await credentials.identity()).authorization).toBe('Bearer newer');
    expect(credentials.notTaken).toEqual([]);
  });
});

describe("a pod's service account", () => {
  const environment = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' };

  test('has its token and authority as files, the server in the environment', async () => {
    mkdirSync(join(dir, 'sa'));
    writeFileSync(join(dir, 'sa', 'token'), `${secret}\n`);
    writeFileSync(join(dir, 'sa', 'ca.crt'), 'authority');
    const source = { kubeconfig: undefined, environment, serviceAccountDir: join(dir, 'sa') };
    const credentials = new Credentials(source, new FakeClock());
    expect(credentials.server.host).toBe('[fd00::1]');
    expect(await credentials.identity()).toMatchObject({ authorization: `Bearer ${secret}`, tls: { ca: 'authority' } });
  });

  test.each([
    ['no environment', {}],
    ['no files', environment],
  ])('%s: an error that names the setting', (_what, environment) => {
    const source = { kubeconfig: undefined, environment, serviceAccountDir: dir };
    expect(() => new Credentials(source, new FakeClock())).toThrow(/service account.*--kubeconfig \(KUBECONFIG\)/);
  });
});
