import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createServer } from 'node:net';
import { pino } from 'pino';
import { FakeClock } from '#api/fake-clock.ts';
import { HealthAggregator, healthService } from './health.ts';
import { eventually } from '#test/lab/agent-lab.ts';
import { freePort } from '#test/lab/free-ports.ts';
import { ConfiguredServer } from '../http/configured-server.ts';

const silent = pino({ level: 'silent' });
let clock: FakeClock;
let health: HealthAggregator;

beforeEach(() => {
  clock = new FakeClock();
  health = new HealthAggregator(clock);
});

describe('health', () => {
  test('readiness has every reason of every part, as they are when it is asked', () => {
    const reasons = ['one', 'two'];
    health.register('a', () => reasons);
    health.register('b', () => ['three']);
    expect(health.readiness()).toEqual({ ok: false, reasons: ['one', 'two', 'three'] });
    reasons.pop();
    expect(health.readiness()).toEqual({ ok: false, reasons: ['one', 'three'] });
  });

  test('a part that is silent for longer than its beat is dead until it reports again', () => {
    const reporter = health.register('loop', () => [], { beatMs: 1_000 });
    clock.advance(1_000);
    expect(health.liveness().ok).toBe(true);
    clock.advance(4_000);
    expect(health.liveness()).toEqual({ ok: false, reasons: ['loop: silent for 5 s'] });
    reporter.beat();
    expect(health.liveness().ok).toBe(true);
  });
});

describe('the health server', () => {
  let server: ConfiguredServer;
  let port: number;
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return { status: response.status, text: await response.text() };
  };

  beforeEach(async () => {
    port = await freePort();
    server = new ConfiguredServer(healthService(health), silent, clock);
  });
  afterEach(() => server[Symbol.asyncDispose]());

  test('answers 503 with the reasons, then 200', async () => {
    let reasons = ['no dataplane'];
    health.register('agent', () => reasons);
    await server.configure({ enabled: true, host: '127.0.0.1', port });
    expect(await get('/readiness')).toEqual({ status: 503, text: 'no dataplane\n' });
    reasons = [];
    expect(await get('/readiness')).toEqual({ status: 200, text: 'ok\n' });
    expect((await get('/liveness')).status).toBe(200);
    expect((await get('/')).status).toBe(404);
  });

  test('stops when it is switched off', async () => {
    await server.configure({ enabled: true, host: '127.0.0.1', port });
    await server.configure({ enabled: false, host: '127.0.0.1', port });
    await expect(get('/liveness')).rejects.toThrow();
  });

  test('names the address that it cannot take, and takes it when it is free', async () => {
    const squatter = createServer();
    await new Promise<void>((resolve) => {
      squatter.listen(port, '127.0.0.1', resolve);
    });
    await server.configure({ enabled: true, host: '127.0.0.1', port });
    expect(server.failure).toContain(`can't listen on 127.0.0.1:${port}`);
    await new Promise((resolve) => {
      squatter.close(resolve);
    });
    clock.advance(5_000);
    await eventually(
      async () => (await get('/liveness').catch(() => undefined))?.status === 200,
      () => server.failure,
    );
    expect(server.failure).toBeUndefined();
  });
});
