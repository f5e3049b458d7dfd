import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { KernelFileLock } from '#native/flock.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tt-flock-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const openFiles = (): number => readdirSync('/proc/self/fd').length;

/** A process that has the lock until it is told to end. */
async function holder(path: string): Promise<{ end(): Promise<void>; kill(): Promise<void> }> {
  const child = spawn('flock', [path, 'sh', '-c', 'echo locked; cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  // With its pipes: others count descriptors.
  const exit = once(child, 'close');
  await once(child.stdout, 'data');
  return {
    end: async () => {
      child.stdin.end();
      await exit;
    },
    kill: async () => {
      // The whole group: flock's child inherits the lock.
      process.kill(-child.pid!, 'SIGKILL');
      await exit;
    },
  };
}

/** Has it been settled, after everything that can happen without others has happened? */
async function isPending(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol('pending');
  for (let i = 0; i < 20; i++) await setImmediate();
  return (await Promise.race([promise, Promise.resolve(pending)])) === pending;
}

describe('file lock', () => {
  test('only one has it at a time within the process, in order of the calls', async () => {
    const locks = new KernelFileLock();
    const path = join(folder, 'order');
    const log: string[] = [];
    await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        using _held = await locks.acquire(path);
        log.push(`+${i}`);
        await setImmediate();
        log.push(`-${i}`);
      }),
    );
    expect(log).toEqual(Array.from({ length: 50 }, (_, i) => [`+${i}`, `-${i}`]).flat());
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('two objects and two names of one file exclude each other', async () => {
    const path = join(folder, 'alias');
    const first = await new KernelFileLock().acquire(path);
    symlinkSync(path, join(folder, 'alias-link'));
    const second = new KernelFileLock().acquire(join(folder, 'alias-link'));
    expect(await isPending(second)).toBe(true);
    first[Symbol.dispose]();
    (await second)[Symbol.dispose]();
  });

  test('it waits for another process, and gets the lock when that ends', async () => {
    const path = join(folder, 'process');
    const other = await holder(path);
    const mine = new KernelFileLock().acquire(path);
    expect(await isPending(mine)).toBe(true);
    await other.end();
    (await mine)[Symbol.dispose]();
  });

  test('it gets the lock when its holder is killed', async () => {
    const path = join(folder, 'killed');
    const other = await holder(path);
    const mine = new KernelFileLock().acquire(path);
    expect(await isPending(mine)).toBe(true);
    await other.kill();
    (await mine)[Symbol.dispose]();
  });

  test('many waiters leave the worker threads to others', async () => {
    const locks = new KernelFileLock();
    const others = await Promise.all(Array.from({ length: 8 }, (_, i) => holder(join(folder, `pool-${i}`))));
    const waiting = others.flatMap((_, i) => Array.from({ length: 4 }, () => locks.acquire(join(folder, `pool-${i}`))));
    expect(await isPending(Promise.race(waiting))).toBe(true);
    // Uses libuv's pool, whose threads would all be taken.
    expect(await readFile('/proc/self/comm', 'utf8')).not.toBe('');
    await Promise.all(others.map((other) => other.end()));
    await Promise.all(
      waiting.map(async (lock) => {
        (await lock)[Symbol.dispose]();
      }),
    );
  });

  test('a process that waits can exit', async () => {
    const path = join(folder, 'exit');
    using _mine = await new KernelFileLock().acquire(path);
    const script = `import { KernelFileLock } from './native/flock.ts';
      void new KernelFileLock().acquire(${JSON.stringify(path)});
      setImmediate(() => process.exit(3));`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' });
    expect(await once(child, 'exit')).toEqual([3, null]);
  });

  test('another process is kept out until it is released', async () => {
    const path = join(folder, 'out');
    const mine = await new KernelFileLock().acquire(path);
    const other = holder(path);
    expect(await isPending(other)).toBe(true);
    mine[Symbol.dispose]();
    await (await other).end();
  });

  test('releasing twice is harmless and no descriptor is left', async () => {
    const locks = new KernelFileLock();
    const before = openFiles();
    for (let i = 0; i < 200; i++) {
      const lock = await locks.acquire(join(folder, 'leak'));
      lock[Symbol.dispose]();
      lock[Symbol.dispose]();
    }
    expect(openFiles()).toBe(before);
  });

  test('a folder that is missing is ENOENT, and the next one in the queue has its turn', async () => {
    const locks = new KernelFileLock();
    const before = openFiles();
    const path = join(folder, 'missing/lock');
    const [first, second] = await Promise.allSettled([locks.acquire(path), locks.acquire(path)]);
    expect(first).toMatchObject({ status: 'rejected', reason: { code: 'ENOENT' } });
    expect(second).toMatchObject({ status: 'rejected', reason: { code: 'ENOENT' } });
    expect(openFiles()).toBe(before);
  });
});
