import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { systemClock } from '#api/clock.ts';
import { openFilesDatastore, type FilesDatastore } from '#datastore/files/files-datastore.ts';
import { countOf, handle } from '#datastore/objects-for-tests.ts';
import { KernelFileLock } from '#native/flock.ts';

const program = fileURLToPath(new URL('./datastore-process.ts', import.meta.url));

let dir: string;
let children: ChildProcess[];
let stores: FilesDatastore[];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tt-processes-'));
  children = [];
  stores = [];
});
afterEach(async () => {
  for (const child of children) {
    child.kill('SIGKILL');
  }
  await Promise.all(stores.map((store) => store[Symbol.asyncDispose]()));
  rmSync(dir, { recursive: true });
});

async function open(): Promise<FilesDatastore> {
  const store = await openFilesDatastore({ dir, lock: new KernelFileLock(), clock: systemClock, log: () => {} });
  stores.push(store);
  return store;
}

function start(...args: string[]): {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly ended: Promise<unknown>;
} {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', program, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return { child, output: () => text, ended: once(child, 'close') };
}

test('increments by several processes are all counted', async () => {
  const store = await open();
  await store.create('IPAMHandle', handle('counter'));
  const processes = [1, 2, 3, 4].map(() => start('increment', dir, '50'));
  for (const { child, ended } of processes) {
    await ended;
    expect(child.exitCode).toBe(0);
  }
  expect(countOf(await store.get('IPAMHandle', { name: 'counter' }))).toBe(200);
});

test('processes killed at any moment lose nothing that was acknowledged and leave nothing broken', async () => {
  const watching = await open();
  const done = new Map<string, string>();
  const revisions = new Set<string>();
  let counter = 0;
  for (let round = 0; round < 6; round++) {
    const processes = ['a', 'b'].map((name) => start('churn', dir, `${name}${round}`));
    for (const { child, output, ended } of processes) {
      while (output() === '' && child.exitCode === null) {
        await sleep(5);
      }
      await sleep(Math.random() * 120);
      child.kill('SIGKILL');
      await ended;
      expect(child.signalCode).toBe('SIGKILL');
      for (const line of output().split('\n').slice(0, -1)) {
        const [name = '', state = '', revision] = line.split(' ');
        done.set(name, state);
        if (revision !== undefined) {
          expect(revisions).not.toContain(revision);
          revisions.add(revision);
        }
      }
    }
    const before = counter;
    counter = Number(readFileSync(join(dir, '.tortie/revision'), 'latin1'));
    expect(counter).toBeGreaterThanOrEqual(Math.max(before, ...[...revisions].map(Number)));

    const store = await open();
    expect(store.problems()).toEqual([]);
    const { items } = await store.list('IPAMHandle');
    const found = new Map(items.map((item) => [item.metadata.name, String(countOf(item))]));
    for (const [name, state] of done) {
      // What was said last, or the next step, which was done but no longer said.
      const next = state === '0' ? '1' : Number(name.split('-')[2]) % 2 === 0 ? 'deleted' : '1';
      expect([state, next]).toContain(found.get(name) ?? 'deleted');
    }
    expect((await watching.list('IPAMHandle')).items.map(({ metadata }) => metadata.name).sort()).toEqual(
      [...found.keys()].sort(),
    );
    expect(watching.problems()).toEqual([]);
  }
  expect(done.size).toBeGreaterThan(10);
});
