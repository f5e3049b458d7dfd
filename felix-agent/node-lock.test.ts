import { expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { KernelFileLock } from '#native/flock.ts';
import { lockNode } from './node-lock.ts';

const silent = pino({ level: 'silent' });
const settings = (runDir: string, stateDir: string) => ({ nodeName: 'node1', runDir, stateDir, bpffs: '/nowhere' });

test.each([
  ['two directories', 'run', 'state'],
  ['one directory for both', 'one', 'one'],
])('locks %s, which are for root alone, until it is let go', async (_what, runName, stateName) => {
  const dir = mkdtempSync(join(tmpdir(), 'tortie-lock-'));
  try {
    const wanted = settings(join(dir, runName), join(dir, stateName));
    const first = await lockNode(wanted, new KernelFileLock(), silent);
    expect(statSync(wanted.stateDir).mode & 0o777).toBe(0o700);
    let isHeld = false;
    const second = lockNode(wanted, new KernelFileLock(), silent).then((lock) => {
      isHeld = true;
      return lock;
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(isHeld).toBe(false);
    first[Symbol.dispose]();
    (await second)[Symbol.dispose]();
  } finally {
    rmSync(dir, { recursive: true });
  }
});
