import { describe, expect, test } from '@jest/globals';
import { KeyedMutex } from './keyed-mutex.ts';

/** Starts work that notes when it began and ended; `end` ends it. */
function work(log: string[], name: string, lock: Promise<Disposable>): { end: () => void; done: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = lock.then(async (held) => {
    using _ = held;
    log.push(`${name} begins`);
    await promise;
    log.push(`${name} ends`);
  });
  return { end: resolve, done };
}

const turns = async () => {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
};

describe('the locks of one process', () => {
  test('one key is held by one at a time, in order of arrival; other keys do not wait', async () => {
    const locks = new KeyedMutex();
    const log: string[] = [];
    const [a, b, c, other] = ['a', 'b', 'c']
      .map((name) => work(log, name, locks.acquire('k')))
      .concat([work(log, 'other', locks.acquire('l'))]);
    await turns();
    expect(log).toEqual(['a begins', 'other begins']);
    for (const { end, done } of [a, b, c, other].filter((one) => one !== undefined)) {
      end();
      await done;
    }
    expect(log.filter((line) => !line.startsWith('other'))).toEqual([
      'a begins',
      'a ends',
      'b begins',
      'b ends',
      'c begins',
      'c ends',
    ]);
  });

  test('the node is shared by many, or taken by one; who comes after the one who waits for it waits too', async () => {
    const locks = new KeyedMutex();
    const log: string[] = [];
    const first = work(log, 'add 1', locks.shareNode());
    const second = work(log, 'add 2', locks.shareNode());
    const alone = work(log, 'gc', locks.takeNode());
    const late = work(log, 'add 3', locks.shareNode());
    await turns();
    expect(log).toEqual(['add 1 begins', 'add 2 begins']);
    first.end();
    await first.done;
    await turns();
    expect(log.at(-1)).toBe('add 1 ends');
    second.end();
    await second.done;
    await turns();
    expect(log.at(-1)).toBe('gc begins');
    alone.end();
    await alone.done;
    await turns();
    expect(log.at(-1)).toBe('add 3 begins');
    late.end();
    await late.done;
  });

  test('letting go twice lets nobody else in', async () => {
    const locks = new KeyedMutex();
    const held = await locks.takeNode();
    held[Symbol.dispose]();
    const next = await locks.takeNode();
    held[Symbol.dispose]();
    let entered = false;
    void locks.shareNode().then(() => (entered = true));
    await turns();
    expect(entered).toBe(false);
    next[Symbol.dispose]();
    await turns();
    expect(entered).toBe(true);
  });
});
