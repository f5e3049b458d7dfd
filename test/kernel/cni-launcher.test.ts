/** The launcher against servers that behave, misbehave or aren't there. It needs no namespace: what it prints is all it does. */
import { afterEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CniRequest } from '#cni/deps.ts';
import { decodeRequest, encodeAnswer, MAX_STDIN_BYTES } from '#cni/protocol.ts';
import { CNI_VERSIONS } from '#cni/versions.ts';
import { exec } from '../lab/exec.ts';
import { launcher } from './cni-testbed.ts';

describe('launcher', () => {
  let dir: string | undefined;
  let server: Server | undefined;
  const sockets = new Set<Socket>();
  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    await new Promise<void>((resolve) => {
      if (server === undefined) resolve();
      else server.close(() => resolve());
    });
    server = undefined;
    if (dir !== undefined) rmSync(dir, { recursive: true });
    dir = undefined;
  });

  /** A server that does what it likes with a connection and the bytes of the whole request. */
  const serve = async (handle: (socket: Socket, request: () => Promise<Buffer>) => void): Promise<string> => {
    dir ??= mkdtempSync(join(tmpdir(), `tortie-launcher-${process.pid}-`));
    const path = join(dir, 's.sock');
    const made = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      handle(socket, () => {
        const chunks: Buffer[] = [];
        socket.on('data', (chunk: Buffer) => chunks.push(chunk));
        return new Promise((resolve) => {
          socket.on('end', () => resolve(Buffer.concat(chunks)));
        });
      });
    });
    await new Promise<void>((resolve) => {
      made.listen(path, resolve);
    });
    server = made;
    return path;
  };
  /** One that answers, and keeps the last request. */
  const echo = async (stdout: string, exitCode: 0 | 1 = 0) => {
    const seen: { request?: CniRequest } = {};
    const path = await serve((socket, request) => {
      void request().then((bytes) => {
        if (bytes.length > 0) seen.request = decodeRequest(bytes);
        socket.end(encodeAnswer({ exitCode, stdout }));
      });
    });
    return { path, seen };
  };
  const run = (verb: string, input: string, env: Readonly<Record<string, string>> = {}) =>
    exec(launcher, [], { input, env: { CNI_COMMAND: verb, ...env } });

  test('passes environment and input on, and the answer back', async () => {
    const { path, seen } = await echo('{"cniVersion":"1.0.0"}\n');
    const input = JSON.stringify({ socket: path, name: 'nét \u{1f408}' });
    const done = await run('ADD', input, { CNI_ARGS: 'A=1;B=2', CNI_NETNS: '', NOT_CNI: 'x' });
    expect(done).toEqual({ status: 0, stdout: '{"cniVersion":"1.0.0"}\n', stderr: '' });
    expect(seen.request?.stdin).toBe(input);
    expect(seen.request?.env).toEqual({
      CNI_COMMAND: 'ADD',
      CNI_ARGS: 'A=1;B=2',
      CNI_NETNS: '',
      PATH: process.env['PATH'],
    });
  });

  test('a large request and a large answer arrive whole', async () => {
    const { path, seen } = await echo(`{"a":"${'x'.repeat(3_000_000)}"}`, 1);
    const input = JSON.stringify({ socket: path, pad: 'y'.repeat(1_000_000) });
    const done = await run('ADD', input, { CNI_ARGS: 'z'.repeat(100_000) });
    expect([done.status, done.stdout.length, seen.request?.stdin]).toEqual([1, 3_000_008, input]);
  });

  test.each<readonly [string, (socket: Socket, request: () => Promise<Buffer>) => void, RegExp]>([
    ['hangs up at once', (socket) => socket.destroy(), /went away without an answer/],
    [
      'dies after the request',
      (socket, request) => void request().then(() => socket.destroy()),
      /went away without an answer/,
    ],
    [
      'dies in its answer',
      (socket, request) => void request().then(() => socket.end('0{"cniVersion":"1.')),
      /in the middle of its answer/,
    ],
    [
      'speaks another language',
      (socket, request) => void request().then(() => socket.end('HTTP/1.1 400 {}')),
      /in the middle of its answer/,
    ],
  ])('an agent that %s is code 11', async (_what, handle, message) => {
    const path = await serve(handle);
    const done = await run('ADD', JSON.stringify({ cniVersion: '0.4.0', socket: path, pad: 'y'.repeat(900_000) }));
    expect(done.status).toBe(1);
    expect(JSON.parse(done.stdout)).toEqual({ cniVersion: '0.4.0', code: 11, msg: expect.stringMatching(message) });
    expect(JSON.parse(done.stdout).msg).toContain(path);
  });

  test('an answer that comes before the request was read counts', async () => {
    const path = await serve((socket) => socket.end('1{"code":7}', () => socket.destroy()));
    expect(await run('ADD', JSON.stringify({ socket: path, pad: 'y'.repeat(1_000_000) }))).toMatchObject({
      status: 1,
      stdout: '{"code":7}',
    });
  });

  test.each([
    ['ADD', { code: 11, msg: expect.stringContaining('/nowhere/cni.sock: No such file or directory') }],
    ['DEL', { code: 11, msg: expect.stringContaining('tortie agent') }],
    ['CHECK', { code: 11 }],
    ['GC', { code: 11 }],
    ['STATUS', { code: 50 }],
    ['nonsense', { code: 11 }],
  ])('without an agent %s fails as it should', async (verb, error) => {
    const done = await run(verb, '{"cniVersion":"1.1.0","socket":"/nowhere/cni.sock"}');
    expect(done.status).toBe(1);
    expect(JSON.parse(done.stdout)).toMatchObject({ cniVersion: '1.1.0', ...error });
  });

  test('without an agent VERSION is answered', async () => {
    const done = await run('VERSION', '{"cniVersion":"0.4.0","socket":"/nowhere/cni.sock"}');
    expect(done.status).toBe(0);
    expect(JSON.parse(done.stdout)).toEqual({ cniVersion: '0.4.0', supportedVersions: CNI_VERSIONS });
  });

  test('nobody listens on a socket file that was left behind', async () => {
    dir = mkdtempSync(join(tmpdir(), `tortie-launcher-${process.pid}-`));
    const path = join(dir, 'file');
    writeFileSync(path, '');
    expect(JSON.parse((await run('ADD', JSON.stringify({ socket: path }))).stdout)).toMatchObject({
      code: 11,
      msg: expect.stringContaining('Connection refused'),
    });
  });

  test('run by hand it says what it is, without waiting for input', async () => {
    const done = await exec(launcher, [], { env: { CNI_COMMAND: '' } });
    expect(JSON.parse(done.stdout)).toMatchObject({ code: 4, msg: expect.stringContaining('container runtime') });
  });

  test.each([
    ['too much input', () => [' '.repeat(MAX_STDIN_BYTES + 1), {}] as const, 7],
    [
      'a socket path that no socket can have',
      () => [JSON.stringify({ socket: `/${'a'.repeat(200)}` }), {}] as const,
      7,
    ],
    [
      'too many variables',
      () => ['{}', { CNI_A: 'a'.repeat(120_000), CNI_B: 'b'.repeat(120_000), CNI_C: 'c'.repeat(120_000) }] as const,
      4,
    ],
  ])('%s is refused', async (_what, make, code) => {
    const { path } = await echo('');
    const [input, env] = make();
    const done = await run('ADD', input === '{}' ? JSON.stringify({ socket: path }) : input, env);
    expect(JSON.parse(done.stdout)).toMatchObject({ code });
  });

  test('a node that is not there is named', async () => {
    const done = await run('ADD', '{"cniVersion":"1.0.0","standalone":true,"node":"/no/such/\\"node"}');
    expect(JSON.parse(done.stdout)).toEqual({
      cniVersion: '1.0.0',
      code: 5,
      msg: expect.stringContaining('/no/such/"node'),
    });
  });

  test.each<readonly [string, (path: string) => string]>([
    ['escapes', (path) => `{"\\u0073ock\\u0065t":${JSON.stringify(path).replaceAll('/', '\\/')}}`],
    [
      'a nested key of that name before',
      (path) => `{"a":{"socket":"/x","b":["}","\\"socket\\""]},"socket":${JSON.stringify(path)}}`,
    ],
    ['a nested key of that name after', (path) => `{"socket":${JSON.stringify(path)},"a":[{"socket":"/x"}]}`],
    ['a value of that text', (path) => `{"a":"socket","b":"\\\\","socket" : ${JSON.stringify(path)} }`],
    ['the last of two', (path) => `{"socket":"/x","socket":${JSON.stringify(path)}}`],
    [
      'standalone as text, or nested',
      (path) => `{"standalone":"true","a":{"standalone":true},"socket":${JSON.stringify(path)}}`,
    ],
  ])('finds the socket in spite of %s', async (_what, conf) => {
    const { path } = await echo('{"found":true}');
    expect(await run('ADD', conf(path))).toMatchObject({ status: 0, stdout: '{"found":true}' });
  });

  test('finds what JSON.parse finds', async () => {
    const { path } = await echo('{"found":true}');
    const key = fc.constantFrom('socket', 'sock', 'a', 'standalone ', 'so"cket');
    const conf = fc.tuple(
      fc.dictionary(key, fc.jsonValue({ maxDepth: 3 }), { maxKeys: 4 }),
      fc.integer({ min: 0, max: 3 }),
      fc.boolean(),
    );
    await fc.assert(
      fc.asyncProperty(conf, async ([value, indent, isThere]) => {
        const text = JSON.stringify(
          { ...value, ...(isThere ? { socket: path } : { socket: '/nowhere' }), after: value },
          undefined,
          indent,
        );
        const done = await run('ADD', text);
        expect(done.stdout.includes('found')).toBe(isThere);
      }),
      { numRuns: 60 },
    );
  });
});
