import { describe, expect, test } from '@jest/globals';
import { readDump, type ConntrackDumpSocket } from './conntrack-dump.ts';
import type { ConntrackRows } from './conntrack-rows.ts';
import type { ConntrackDumpItem } from './conntrack-types.ts';

type Chunk = Awaited<ReturnType<ConntrackDumpSocket['read']>>;

/** A UDP entry's row, told apart by its id. */
function row(id: number): ConntrackRows {
  const values: (string | number | undefined)[] = Array<undefined>(32).fill(undefined);
  const tuple = ['10.0.0.1', '10.0.0.2', 17, 1, 2];
  values.splice(0, 2, 1, 4);
  values.splice(2, tuple.length, ...tuple);
  values.splice(9, tuple.length, ...tuple);
  values.splice(16, 7, 0, 0, 0, 8, 30, id, 0);
  return values;
}

const part = (state: Chunk['state'], ...ids: number[]): Chunk => ({ rows: ids.flatMap(row), state });

/** A kernel that answers with these dumps, one after the other; the last again and again. */
class PlayedSocket implements ConntrackDumpSocket {
  started = 0;
  closed = 0;
  readonly #dumps: readonly (readonly Chunk[])[];
  #left: Chunk[] = [];

  constructor(dumps: readonly (readonly Chunk[])[]) {
    this.#dumps = dumps;
  }

  start(): void {
    if (this.#left.length > 0) throw new Error('a dump is under way');
    this.#left = [...(this.#dumps[Math.min(this.started, this.#dumps.length - 1)] ?? [])];
    this.started += 1;
  }

  read(): Promise<Chunk> {
    const chunk = this.#left.shift();
    return chunk ? Promise.resolve(chunk) : Promise.reject(new Error('read beyond the end'));
  }

  close(): void {
    this.closed += 1;
  }
}

const idsOf = (item: ConntrackDumpItem): string =>
  item.type === 'restarted' ? item.type : item.entries.map(({ id }) => id).join(' ');

describe('a dump', () => {
  test.each<[string, Chunk[][], string[]]>([
    ['of nothing has no items', [[part('end')]], []],
    ['comes in arrays, in order', [[part('more', 1, 2), part('more', 3), part('end', 4)]], ['1 2', '3', '4']],
    ['skips arrays of nothing', [[part('more'), part('end', 1)]], ['1']],
    [
      'that is interrupted is begun anew after saying so, when the kernel is through with it',
      [[part('more', 1), part('more'), part('interrupted', 2)], [part('end', 3)]],
      ['1', 'restarted', '3'],
    ],
    [
      'is begun anew as often as it takes',
      [[part('interrupted')], [part('interrupted')], [part('end', 3)]],
      ['restarted', 'restarted', '3'],
    ],
  ])('%s', async (_, dumps, items) => {
    const socket = new PlayedSocket(dumps);
    const seen: string[] = [];
    for await (const item of readDump(socket, 4)) seen.push(idsOf(item));
    expect(seen).toEqual(items);
    expect(socket).toMatchObject({ started: dumps.length, closed: 1 });
  });

  test('that is interrupted every time fails with EINTR in the end', async () => {
    const socket = new PlayedSocket([[part('interrupted', 1)]]);
    let restarts = 0;
    const reading = (async () => {
      for await (const item of readDump(socket, 4)) restarts += item.type === 'restarted' ? 1 : 0;
    })();
    await expect(reading).rejects.toMatchObject({ code: 'EINTR', object: 'conntrack.dump', syscall: 'recvmsg' });
    expect(restarts).toBe(39);
    expect(socket).toMatchObject({ started: 40, closed: 1 });
  });

  test('that fails, or is left, closes its socket', async () => {
    const failing = new PlayedSocket([[part('more', 1)]]);
    const reading = (async () => {
      for await (const _ of readDump(failing, 4));
    })();
    await expect(reading).rejects.toThrow('read beyond the end');
    expect(failing.closed).toBe(1);
    const left = new PlayedSocket([[part('more', 1), part('end', 2)]]);
    for await (const _ of readDump(left, 4)) break;
    expect(left.closed).toBe(1);
  });
});
