import { describe, expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import type { Family } from '#native/types.ts';
import type { Logger } from '../../logger.ts';
import { TEST_CONFIG } from '../../shared/test-config.ts';
import { FlowSweeper, type FlowSweeperDeps, sweepPauseMs } from './flow-sweeper.ts';
import { type FlowTimeouts, resolveTimeouts } from './flow-timeouts.ts';
import type { SweepResult } from './sweep-program.ts';

const timeouts = resolveTimeouts(TEST_CONFIG.flowTimeouts, () => undefined);
const result = (more: Partial<SweepResult> = {}): SweepResult => ({
  visited: 0,
  pointers: 0,
  marked: 0,
  deletedTcp: 0,
  deletedUdp: 0,
  deletedIcmp: 0,
  deletedOther: 0,
  deletedPointers: 0,
  ...more,
});

/** A program whose calls the test ends. */
class HeldProgram {
  readonly calls: string[] = [];
  readonly rounds = new Set<number>();
  most = 0;
  #now = 0;
  answer: (family: Family, shard: number) => Promise<SweepResult> = () => Promise.resolve(result());

  async sweep(family: Family, shard: number, _timeouts: FlowTimeouts, round: number): Promise<SweepResult> {
    this.rounds.add(round);
    this.calls.push(`${family}/${shard}`);
    this.#now += 1;
    this.most = Math.max(this.most, this.#now);
    try {
      return await this.answer(family, shard);
    } finally {
      this.#now -= 1;
    }
  }
}

function make() {
  const clock = new FakeClock();
  const program = new HeldProgram();
  const said: string[] = [];
  const say = (message: string): void => void said.push(message);
  const log: Logger = { debug: say, info: say, warn: say, error: say };
  const maxElements = { 4: 400, 6: 600 };
  const full: string[] = [];
  const onNearlyFull: FlowSweeperDeps['onNearlyFull'] = ({ elements, maxElements: most }, family) =>
    full.push(`IPv${family}: ${elements} of ${most}`);
  const sweeper = new FlowSweeper({ program, timeouts: () => timeouts, maxElements, onNearlyFull, clock, log });
  return { clock, program, said, full, sweeper };
}

/** All that is ready to run has run. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const all = ['4/0', '4/1', '4/2', '4/3', '6/0', '6/1', '6/2', '6/3'];

describe('the sweeper', () => {
  test('sweeps each hash every 10 s, one after the other', async () => {
    const { clock, program, sweeper } = make();
    sweeper.start();
    clock.advance(sweepPauseMs - 1);
    await settled();
    expect(program.calls).toEqual([]);
    clock.advance(1);
    await settled();
    expect(program.calls).toEqual(all);
    expect(program.rounds.size).toBe(1);
    expect(program.most).toBe(1);
    clock.advance(sweepPauseMs);
    await settled();
    expect(program.calls).toEqual([...all, ...all]);
    const [first = -1, ...later] = program.rounds;
    expect(later).toEqual([first + 1]);
    await sweeper[Symbol.asyncDispose]();
  });

  test('begins with any round, whichever pointers have their turn in it', async () => {
    const firsts = new Set<number>();
    for (let agent = 0; agent < 100; agent += 1) {
      const { clock, program, sweeper } = make();
      sweeper.start();
      clock.advance(sweepPauseMs);
      await settled();
      for (const round of program.rounds) firsts.add(round % 4);
      await sweeper[Symbol.asyncDispose]();
    }
    expect(firsts).toEqual(new Set([0, 1, 2, 3]));
  });

  test('waits for a call that takes longer than the pause', async () => {
    const { clock, program, sweeper } = make();
    const held = Promise.withResolvers<SweepResult>();
    program.answer = () => held.promise;
    sweeper.start();
    clock.advance(sweepPauseMs);
    await settled();
    clock.advance(5 * sweepPauseMs);
    await settled();
    expect(program.calls).toEqual(['4/0']);
    held.resolve(result());
    await settled();
    expect(program.calls).toEqual(all);
    await sweeper[Symbol.asyncDispose]();
  });

  test('tells of hashes that it leaves nearly full, each time', async () => {
    const { clock, program, full, sweeper } = make();
    let visited = 89;
    program.answer = (family) => Promise.resolve(result({ visited: family === 4 ? visited : 149, deletedTcp: 14 }));
    sweeper.start();
    const sweep = async () => {
      clock.advance(sweepPauseMs);
      await settled();
    };
    await sweep();
    visited = 103;
    await sweep();
    expect(full).toEqual(['IPv6: 540 of 600', 'IPv6: 540 of 600']);
    visited = 104;
    await sweep();
    expect(full.slice(2)).toEqual(['IPv4: 360 of 400', 'IPv6: 540 of 600']);
    await sweeper[Symbol.asyncDispose]();
  });

  test('adds up what it deleted, and says how full the hashes are', async () => {
    const { clock, program, sweeper } = make();
    program.answer = (family) =>
      Promise.resolve(
        family === 4
          ? result({ visited: 10, pointers: 3, deletedTcp: 1, deletedUdp: 2, deletedPointers: 1 })
          : result({ visited: 5, deletedIcmp: 1, deletedOther: 1 }),
      );
    sweeper.start();
    for (let sweep = 0; sweep < 2; sweep += 1) {
      clock.advance(sweepPauseMs);
      await settled();
    }
    expect(sweeper.stats).toMatchObject({
      4: { elements: 24, maxElements: 400, pointers: 8, deleted: { tcp: 8, udp: 16, icmp: 0, other: 0, pointer: 8 } },
      6: { elements: 12, maxElements: 600, pointers: 0, deleted: { tcp: 0, udp: 0, icmp: 8, other: 8, pointer: 0 } },
      sweeps: 2,
      failures: 0,
    });
    await sweeper[Symbol.asyncDispose]();
  });

  test('a hash that fails is said once and tried again; the others are swept all the same', async () => {
    const { clock, program, said, sweeper } = make();
    let isBroken = true;
    program.answer = (family, shard) =>
      isBroken && family === 6 && shard === 1
        ? Promise.reject(new Error('bpf.run: ENOMEM'))
        : Promise.resolve(result({ visited: 1 }));
    sweeper.start();
    for (let sweep = 0; sweep < 2; sweep += 1) {
      clock.advance(sweepPauseMs);
      await settled();
    }
    expect(program.calls).toEqual([...all, ...all]);
    expect(said).toEqual([expect.stringMatching(/IPv6 flows, hash 1: bpf\.run: ENOMEM.*tried again/)]);
    expect(sweeper.stats).toMatchObject({ failures: 2, failure: expect.stringContaining('ENOMEM') });
    isBroken = false;
    clock.advance(sweepPauseMs);
    await settled();
    expect(said).toHaveLength(2);
    expect(sweeper.stats).not.toHaveProperty('failure');
    await sweeper[Symbol.asyncDispose]();
  });

  test('stops behind the call that is under way, and comes no more', async () => {
    const { clock, program, sweeper } = make();
    const held = Promise.withResolvers<SweepResult>();
    program.answer = () => held.promise;
    sweeper.start();
    clock.advance(sweepPauseMs);
    await settled();
    let isStopped = false;
    const stopping = sweeper[Symbol.asyncDispose]().then(() => (isStopped = true));
    await settled();
    expect(isStopped).toBe(false);
    held.resolve(result());
    await stopping;
    clock.advance(5 * sweepPauseMs);
    await settled();
    expect(program.calls).toEqual(['4/0']);
  });

  test('one that is stopped in its last call tells of nothing any more', async () => {
    const { clock, program, full, sweeper } = make();
    const held = Promise.withResolvers<SweepResult>();
    program.answer = (family, shard) =>
      family === 6 && shard === 3 ? held.promise : Promise.resolve(result({ visited: 1000 }));
    sweeper.start();
    clock.advance(sweepPauseMs);
    await settled();
    expect(program.calls).toEqual(all);
    const stopping = sweeper[Symbol.asyncDispose]();
    held.resolve(result({ visited: 1000 }));
    await stopping;
    await settled();
    expect(full).toEqual([]);
  });

  test('goes on from what was said of the maps before, in the sizes of its own', async () => {
    const { clock, program, sweeper } = make();
    const deleted = { tcp: 1, udp: 2, icmp: 3, other: 4, pointer: 5 };
    const before = { elements: 190, maxElements: 200, pointers: 7, deleted };
    const figures = { sweeps: 9, failures: 2, seconds: 0.5, longestCallSeconds: 0.1 };
    sweeper.goOnFrom({ 4: before, 6: { ...before, maxElements: 300 }, ...figures });
    const kept = { elements: 190, pointers: 7, deleted };
    expect(sweeper.stats).toEqual({
      4: { ...kept, maxElements: 400 },
      6: { ...kept, maxElements: 600 },
      ...figures,
    });
    program.answer = () => Promise.resolve(result({ visited: 5, deletedTcp: 1 }));
    sweeper.start();
    clock.advance(sweepPauseMs);
    await settled();
    expect(sweeper.stats).toMatchObject({
      4: { elements: 16, maxElements: 400, deleted: { ...deleted, tcp: 5 } },
      sweeps: 10,
      failures: 2,
    });
    await sweeper[Symbol.asyncDispose]();
  });

  test('one that was stopped before its first sweep does none', async () => {
    const { clock, program, sweeper } = make();
    sweeper.start();
    await sweeper[Symbol.asyncDispose]();
    clock.advance(sweepPauseMs);
    await settled();
    expect(program.calls).toEqual([]);
  });
});
