import { expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
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

test('what a killed agent has set going on the kernel ends before the next agent begins', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'tortie-lock-'));
  try {
    const wanted = settings(join(dir, 'run'), join(dir, 'state'));
    const code = `
      const { lockNode } = await import('${new URL('node-lock.ts', import.meta.url).href}');
      const { KernelFileLock } = await import('#native/flock.ts');
      const { systemCommandRunner } = await import('#native/command-runner.ts');
      await lockNode(${JSON.stringify(wanted)}, new KernelFileLock(), { warn() {} });
      void systemCommandRunner.run('sh', ['-c', 'while [ ! -e ${dir}/go ]; do sleep 0.05; done; sleep 0.3; echo done >${dir}/change'], { changes: true });
      process.stdout.write('going');
      setInterval(() => {}, 1000);`;
    const root = new URL('..', import.meta.url).pathname;
    const agent = spawn(process.execPath, ['--input-type=module', '-e', code], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(agent.stdout, 'data');
    agent.kill('SIGKILL');
    await once(agent, 'exit');
    expect(existsSync(join(dir, 'change'))).toBe(false);
    const next = lockNode(wanted, new KernelFileLock(), silent);
    writeFileSync(join(dir, 'go'), '');
    using _next = await next;
    expect(readFileSync(join(dir, 'change'), 'utf8')).toBe('done\n');
  } finally {
    rmSync(dir, { recursive: true });
  }
});
