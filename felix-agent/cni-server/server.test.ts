import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { CniRequest } from '#cni/deps.ts';
import { PROTOCOL_LINE } from '#cni/protocol.ts';
import { CniServer } from './server.ts';
import { until } from '#test/lab/until.ts';

let dir: string;
let server: CniServer;
let calls: CniRequest[];
/** What the handler waits for before it answers. */
let gate: Promise<void>;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'tortie-cni-server-'));
  calls = [];
  gate = Promise.resolve();
  const answer = async (request: CniRequest) => {
    calls.push(request);
    await gate;
    return { exitCode: 0, stdout: `{"answers":"${request.env['CNI_COMMAND']}"}` } as const;
  };
  server = new CniServer(dir, answer, pino({ level: 'silent' }));
  await server.listen();
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true });
});

function send(bytes: string): { socket: Socket; answer: Promise<string> } {
  const socket = connect(join(dir, 'cni.sock'));
  const answer = new Promise<string>((resolve) => {
    let text = '';
    socket.on('data', (data) => (text += data.toString()));
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
  });
  socket.end(bytes);
  return { socket, answer };
}

const call = (verb: string) => `${PROTOCOL_LINE}CNI_COMMAND=${verb}\0CNI_CONTAINERID=c1\0\0{"name":"n"}`;

describe('the CNI server', () => {
  test('hands over environment and standard input, and answers status and output', async () => {
    expect(await send(call('STATUS')).answer).toBe('0{"answers":"STATUS"}');
    expect(calls).toEqual([{ env: { CNI_COMMAND: 'STATUS', CNI_CONTAINERID: 'c1' }, stdin: '{"name":"n"}' }]);
  });

  test('is for root alone', () => {
    expect(statSync(join(dir, 'cni.sock')).mode & 0o777).toBe(0o600);
  });

  test('closes on what is no request, and goes on serving', async () => {
    expect(await send('GET / HTTP/1.1\r\n\r\n').answer).toBe('');
    expect(calls).toEqual([]);
    expect(await send(call('STATUS')).answer).not.toBe('');
  });

  test('undoes an ADD whose caller is gone before the answer', async () => {
    const open = Promise.withResolvers<void>();
    gate = open.promise;
    const { socket } = send(call('ADD'));
    await until(() => calls.length === 1);
    socket.destroy();
    // Some turns of the event loop, in which the server hears of it; after a pause a timer comes before all news.
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    open.resolve();
    await until(() => calls.length === 2);
    expect(calls.map(({ env }) => env['CNI_COMMAND'])).toEqual(['ADD', 'DEL']);
    expect(calls[1]?.env['CNI_CONTAINERID']).toBe('c1');
  });

  test('a DEL whose caller is gone is not undone', async () => {
    const open = Promise.withResolvers<void>();
    gate = open.promise;
    const { socket } = send(call('DEL'));
    await until(() => calls.length === 1);
    socket.destroy();
    open.resolve();
    await server[Symbol.asyncDispose]();
    expect(calls).toHaveLength(1);
  });

  test('a caller that never ends its request does not keep it from closing', async () => {
    const socket = connect(join(dir, 'cni.sock'));
    const gone = new Promise((resolve) => socket.on('error', () => {}).on('close', resolve));
    await new Promise((resolve) => socket.write(PROTOCOL_LINE, resolve));
    await server[Symbol.asyncDispose]();
    await gone;
    expect(calls).toEqual([]);
  });

  test('ends what is under way before it closes', async () => {
    const open = Promise.withResolvers<void>();
    gate = open.promise;
    const { answer } = send(call('ADD'));
    await until(() => calls.length === 1);
    const closed = server[Symbol.asyncDispose]();
    open.resolve();
    await closed;
    expect(await answer).toBe('0{"answers":"ADD"}');
  });
});
