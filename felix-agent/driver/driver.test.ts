import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { FakeClock } from '#api/fake-clock.ts';
import type { DataplaneUpdate } from '#dataplanes/messages.ts';
import { Driver } from './driver.ts';
import { until } from '#test/lab/until.ts';
import { FakeDataplane } from './fake-dataplane.ts';

const silent = pino({ level: 'silent' });
const endpoint = (id: string, mac = '02:00:00:00:00:01'): DataplaneUpdate => ({
  type: 'workloadEndpointUpdate',
  id,
  endpoint: {
    ifaceName: `cali-${id}`,
    mac,
    ipv4Nets: ['10.0.0.1/32'],
    ipv6Nets: [],
    allowedSourcePrefixes: [],
    tiers: [],
    profiles: [],
  },
});

let clock: FakeClock;
let driver: Driver;
let dataplane: FakeDataplane;

beforeEach(() => {
  clock = new FakeClock();
  driver = new Driver(clock, silent);
  dataplane = new FakeDataplane();
});
afterEach(() => driver[Symbol.asyncDispose]());

describe('the driver', () => {
  test('logs a failure when it comes, when its reason changes and when it is gone, not at each try', async () => {
    const lines: string[] = [];
    const log = pino({}, { write: (line: string) => void lines.push((JSON.parse(line) as { msg: string }).msg) });
    await using logged = new Driver(clock, log);
    logged.add(dataplane);
    for (const reason of ['no room', 'no room', 'no memory', undefined, undefined]) {
      dataplane.failing = reason === undefined ? [] : [{ object: 'set a', reason }];
      await logged.settled();
    }
    expect(lines).toEqual([
      'could not program: no room',
      'could not program: no memory',
      'could not be programmed before, and is not failing any more',
    ]);
  });

  test('applies updates that come together in one cycle', async () => {
    driver.add(dataplane);
    for (let index = 0; index < 20; index++) driver.push([endpoint(`e${index}`)]);
    await driver.settled();
    expect(dataplane.updates).toHaveLength(20);
    expect(dataplane.applies).toBeLessThanOrEqual(2);
  });

  test('applies with an update that is pushed at once what its change says in the turn after it', async () => {
    driver.add(dataplane);
    await driver.settled();
    const toldAtApply: number[] = [];
    const apply = dataplane.apply.bind(dataplane);
    dataplane.apply = (request) => {
      toldAtApply.push(dataplane.updates.length);
      return apply(request);
    };
    driver.push([endpoint('asks-at-once')]);
    setImmediate(() => driver.push([endpoint('of-the-same-change')]));
    await until(() => toldAtApply.length > 0);
    expect(toldAtApply[0]).toBe(2);
  });

  test('what is said of Services is news to those who program them, and to nobody else', async () => {
    const other = new FakeDataplane('other');
    dataplane.programsServices = true;
    driver.add(dataplane);
    driver.add(other);
    other.failing = [{ object: 'set a', reason: 'no room' }];
    dataplane.failing = [{ object: 'endpoint e', reason: 'no memory' }];
    await driver.settled();
    const [applies, retries] = [other.applies, dataplane.retries.length];
    driver.push([{ type: 'serviceRemove', id: 'default/web' }]);
    await until(() => dataplane.retries.length > retries);
    await turn();
    expect(dataplane.retries.slice(retries)).toEqual([false]);
    expect(other.applies).toBe(applies);
    expect(other.updates).toContainEqual({ type: 'serviceRemove', id: 'default/web' });
    expect(driver.failures().map(({ object }) => object)).toEqual(['endpoint e', 'set a']);
  });

  test('where nobody programs Services there is no cycle for them', async () => {
    driver.add(dataplane);
    await driver.settled();
    let cycles = 0;
    driver.onCycle(() => cycles++);
    driver.push([{ type: 'serviceRemove', id: 'default/web' }]);
    await turn();
    expect(cycles).toBe(0);
  });

  test('news is applied at once, and what failed keeps its time', async () => {
    driver.add(dataplane);
    dataplane.failing = [{ object: 'set a', reason: 'no room' }];
    await driver.settled();
    dataplane.retries.length = 0;
    for (let count = 0; count < 9; count++) {
      clock.advance(10);
      driver.push([endpoint(`e${count}`)]);
      await driver.programmed(`e${count}`, never());
    }
    expect(dataplane.retries).toEqual(Array.from({ length: 9 }, () => false));
    clock.advance(10);
    await until(() => dataplane.retries.length > 9);
    expect(dataplane.retries.at(-1)).toBe(true);
    // The second pause is twice as long, whatever came in the first.
    clock.advance(199);
    await turn();
    expect(dataplane.retries).toHaveLength(10);
    clock.advance(1);
    await until(() => dataplane.retries.length === 11);
  });

  test('whoever waits for a cycle, joins or was disturbed has everything tried again', async () => {
    driver.add(dataplane);
    await driver.settled();
    dataplane.retries.length = 0;
    dataplane.disturb();
    await until(() => dataplane.retries.length === 1);
    await turn();
    await driver.settled();
    driver.add(new FakeDataplane('second'));
    await until(() => dataplane.retries.length === 3);
    expect(dataplane.retries).toEqual([true, true, true]);
  });

  test('answers for an endpoint as it was said last: what came during the apply, too', async () => {
    driver.add(dataplane);
    await driver.settled();
    driver.push([endpoint('e')]);
    const gate = Promise.withResolvers<void>();
    dataplane.gate = gate.promise;
    let answeredAfter = 0;
    const waiting = driver.programmed('e', AbortSignal.timeout(60_000)).then(() => (answeredAfter = dataplane.applies));
    const before = dataplane.applies;
    await until(() => dataplane.applies === before + 1);
    driver.push([endpoint('e', '02:00:00:00:00:02')]);
    gate.resolve();
    await waiting;
    expect(answeredAfter).toBe(before + 2);
  });

  test('puts what comes during an apply into the next cycle, and answers only then', async () => {
    driver.add(dataplane);
    await driver.settled();
    const gate = Promise.withResolvers<void>();
    dataplane.gate = gate.promise;
    driver.push([endpoint('first')]);
    await turn();
    const appliesBefore = dataplane.applies;
    driver.push([endpoint('second')]);
    let answered = false;
    const second = driver.programmed('second', never()).then(() => (answered = true));
    dataplane.gate = Promise.resolve();
    expect(answered).toBe(false);
    gate.resolve();
    await second;
    expect(dataplane.applies).toBe(appliesBefore + 1);
  });

  test('tells a programmer that joins late everything, endpoints last', async () => {
    driver.push([endpoint('e'), { type: 'hostUpdate', node: 'n', host: { ipv4: '192.0.2.1' } }, { type: 'inSync' }]);
    driver.push([endpoint('gone')]);
    driver.push([{ type: 'workloadEndpointRemove', id: 'gone' }]);
    driver.add(dataplane);
    expect(dataplane.updates.map(({ type }) => type)).toEqual(['hostUpdate', 'workloadEndpointUpdate', 'inSync']);
  });

  test('tries again what failed, with growing pauses, and stops when it works', async () => {
    driver.add(dataplane);
    dataplane.failing = [{ object: 'route 10.0.0.0/26', reason: 'EIO' }];
    await driver.settled();
    const pauses: number[] = [];
    for (let round = 0; round < 4; round++) {
      await until(() => clock.nextInMs !== undefined);
      const pauseMs = clock.nextInMs ?? 0;
      pauses.push(pauseMs);
      const applies = dataplane.applies;
      clock.advance(pauseMs);
      await until(() => dataplane.applies > applies);
    }
    expect(pauses).toEqual([100, 200, 400, 800]);
    dataplane.failing = [];
    clock.advance(60_000);
    await driver.settled();
    expect(driver.failures()).toEqual([]);
    expect(clock.pending).toBe(0);
  });

  test('keeps an endpoint waiting while it fails, and names the reason when the time is up', async () => {
    driver.add(dataplane);
    dataplane.failing = [{ object: 'endpoint e', endpoint: 'e', reason: 'the set is full' }];
    driver.push([endpoint('e')]);
    const abort = new AbortController();
    const waiting = driver.programmed('e', abort.signal);
    await driver.settled();
    abort.abort();
    await expect(waiting).rejects.toThrow('endpoint e is not in the kernel: the set is full');
  });

  test('answers for one endpoint although another fails', async () => {
    driver.add(dataplane);
    dataplane.failing = [{ object: 'endpoint bad', endpoint: 'bad', reason: 'no' }];
    driver.push([endpoint('bad'), endpoint('good')]);
    await driver.programmed('good', never());
  });

  test('applies when a programmer was disturbed, but not for one that has left', async () => {
    driver.add(dataplane);
    await driver.settled();
    const applies = dataplane.applies;
    dataplane.disturb();
    await driver.settled();
    expect(dataplane.applies).toBeGreaterThan(applies);
    await driver.remove(dataplane);
    const last = dataplane.applies;
    dataplane.disturb();
    await driver.settled();
    expect(dataplane.applies).toBe(last);
  });

  test('whoever waits for a cycle gets an answer although changes never end, and when the driver stops', async () => {
    driver.add(dataplane);
    driver.onCycle(() => driver.push([endpoint('again', `02:00:00:00:00:${dataplane.applies % 90}`)]));
    await driver.settled();
    const applies = dataplane.applies;
    await driver.settled();
    expect(dataplane.applies).toBeLessThanOrEqual(applies + 2);
    const waiting = driver.settled();
    await driver[Symbol.asyncDispose]();
    await waiting;
    await driver.settled();
  });

  test('says how long a cycle that does not end has taken', async () => {
    driver.add(dataplane);
    await driver.settled();
    expect(driver.cycleMs).toBe(0);
    const gate = Promise.withResolvers<void>();
    dataplane.gate = gate.promise;
    const settled = driver.settled();
    clock.advance(60_000);
    expect(driver.cycleMs).toBe(60_000);
    gate.resolve();
    await settled;
    expect(driver.cycleMs).toBe(0);
  });

  test('a programmer that throws does not stop the others, and answers for no endpoint', async () => {
    const broken = new FakeDataplane('broken');
    broken.apply = () => Promise.reject(new Error('defect'));
    driver.add(broken);
    driver.add(dataplane);
    driver.push([endpoint('e')]);
    const abort = new AbortController();
    const waiting = driver.programmed('e', abort.signal);
    await driver.settled();
    expect(dataplane.applies).toBeGreaterThan(0);
    abort.abort();
    await expect(waiting).rejects.toThrow('defect');
  });
});

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}

function never(): AbortSignal {
  return new AbortController().signal;
}
