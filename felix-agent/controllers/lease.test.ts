import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import type { Clock } from '#api/clock.ts';
import { DatastoreError } from '#datastore/errors.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { ManualClock } from '#ipam/ipam-for-tests.ts';
import { LeaderLease, leaseTimes } from './lease.ts';

const silent = pino({ level: 'silent' });
const key = { namespace: 'kube-system', name: 'tortie-controllers' };

/** One process: its clock may be wrong by some time. */
class Process {
  readonly lease: LeaderLease;
  readonly #clock: ManualClock;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  leads = false;

  constructor(
    store: MemoryDatastore,
    clock: ManualClock,
    identity: string,
    options: { skewMs?: number; nodes?: number } = {},
  ) {
    const { skewMs = 0, nodes = 2 } = options;
    this.#clock = clock;
    const own: Clock = {
      now: () => this.#clock.now() + skewMs,
      sleep: (ms, signal) => this.#clock.sleep(ms, signal),
      after: (ms, action) => this.#clock.after(ms, action),
    };
    this.lease = new LeaderLease({
      datastore: store,
      clock: own,
      log: silent,
      identity,
      nodes: () => nodes,
      random: () => 0,
    });
    this.#running = this.lease.run(async (signal) => {
      this.leads = true;
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      this.leads = false;
    }, this.#stop.signal);
  }

  /** Ends it cleanly. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('stop'));
    await this.#running;
  }
}

let store: MemoryDatastore;
let clock: ManualClock;
let processes: Process[];

beforeEach(() => {
  clock = new ManualClock();
  store = new MemoryDatastore({ clock });
  processes = [];
});
afterEach(async () => {
  await Promise.all(processes.map((one) => one.stop()));
  await store[Symbol.asyncDispose]();
});

function run(identity: string, options: { skewMs?: number; nodes?: number } = {}): Process {
  const made = new Process(store, clock, identity, options);
  processes.push(made);
  return made;
}

/** Time goes on, second by second; never two lead. */
async function pass(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 1_000) {
    clock.advance(1_000);
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    expect(processes.filter(({ leads }) => leads).length).toBeLessThanOrEqual(1);
  }
}

const leaders = () => processes.flatMap(({ leads }, index) => (leads ? [index] : []));

describe('the lease', () => {
  test('is held by one, who keeps it', async () => {
    for (const name of ['a', 'b', 'c']) run(name);
    await pass(20_000);
    const [first] = leaders();
    await pass(300_000);
    expect(leaders()).toEqual([first]);
    expect(processes.map(({ lease }) => lease.holder)).toEqual(Array.from({ length: 3 }, () => 'abc'[first ?? 0]));
  });

  test('goes to another at once when it is handed back', async () => {
    const first = run('a');
    await pass(2_000);
    run('b');
    await pass(2_000);
    await first.stop();
    await pass(11_000);
    expect(leaders()).toEqual([1]);
  });

  test.each([0, 3_600_000, -3_600_000])(
    'of a dead process is taken when it has not changed for long (clock %d ms off)',
    async (skewMs) => {
      run('a');
      await pass(2_000);
      run('b', { skewMs });
      await pass(15_000);
      // It can't write any more, and never learns of it.
      store.beforeNext('update', () => new Promise<void>(() => {}), { kind: 'Lease' });
      await pass(leaseTimes.giveUp + leaseTimes.renew);
      expect(processes[0]?.leads).toBe(false);
      await pass(leaseTimes.duration + 30_000);
      expect(leaders()).toEqual([1]);
    },
  );

  test('is given up in time when the API server is away, and taken again when it is back', async () => {
    run('a');
    await pass(2_000);
    for (let failure = 0; failure < 20; failure++) {
      store.failNext('update', new DatastoreError('unavailable', 'connection refused'), { kind: 'Lease' });
    }
    await pass(leaseTimes.renew + leaseTimes.retry);
    expect(leaders()).toEqual([0]);
    expect(processes[0]?.lease.failure).toContain('connection refused');
    await pass(leaseTimes.giveUp);
    expect(leaders()).toEqual([]);
    await pass(200_000);
    expect(leaders()).toEqual([0]);
    expect(processes[0]?.lease.failure).toBeUndefined();
  });

  test('a renewal whose answer was lost loses nothing', async () => {
    run('a');
    await pass(2_000);
    store.failNext('update', new DatastoreError('unavailable', 'reset'), { kind: 'Lease', when: 'after' });
    await pass(60_000);
    expect(leaders()).toEqual([0]);
  });

  test('that somebody deletes or overwrites is lost', async () => {
    run('a');
    await pass(2_000);
    await store.delete('Lease', key);
    await pass(leaseTimes.renew + 1_000);
    expect(processes[0]?.leads).toBe(false);
    await pass(11_000);
    expect(leaders()).toEqual([0]);
    const lease = await store.get('Lease', key);
    if (lease === undefined) throw new Error('no lease');
    await store.update('Lease', { ...lease, spec: { ...lease.spec, holderIdentity: 'somebody else' } });
    await pass(leaseTimes.renew + 1_000);
    expect(leaders()).toEqual([]);
  });

  test('costs who does not lead the less the more nodes there are', async () => {
    run('a', { nodes: 500 });
    await pass(11_000);
    run('b', { nodes: 500 });
    let looks = 0;
    const get = store.get.bind(store);
    store.get = (kind, of) => {
      looks += kind === 'Lease' ? 1 : 0;
      return get(kind, of);
    };
    await pass(2_000_000);
    expect(looks).toBeLessThanOrEqual(3);
    expect(leaders()).toEqual([0]);
  });
});
