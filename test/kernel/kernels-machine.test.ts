/** How an emulated machine is watched and ended, with scripts in the emulator's place. */
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { marks } from '#test/kernels/outcome.ts';
import { VirtualMachine } from '#test/kernels/virtual-machine.ts';
import { until } from '#test/lab/until.ts';

let dir: string;
const lines: string[] = [];
const never = new AbortController().signal;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), `tt${process.pid}-kernels-`));
  lines.length = 0;
});
afterEach(() => rmSync(dir, { recursive: true }));

/** A machine whose emulator is a shell script; it leaves its pid in a file. */
function machine(script: string): VirtualMachine {
  const path = join(dir, 'emulator');
  writeFileSync(path, `#!/bin/sh\necho $$ >'${dir}/pid.part'; mv '${dir}/pid.part' '${dir}/pid'\n${script}\n`);
  chmodSync(path, 0o755);
  return new VirtualMachine(path);
}

function run(script: string, limits: { bootLimitMs?: number; runLimitMs?: number } = {}, signal = never) {
  const files = { kernel: 'vmlinuz', initrd: 'initrd', consoleFile: join(dir, 'console') };
  const spec = { ...files, bootLimitMs: 120_000, runLimitMs: 120_000, ...limits };
  return machine(script).run(spec, (line) => lines.push(line), signal);
}

/** One that was ended before it could say its pid is dead, too. */
function isAlive(): boolean {
  const file = join(dir, 'pid');
  return existsSync(file) && existsSync(`/proc/${readFileSync(file, 'utf8').trim()}`);
}

test('a machine that ends by itself: its lines come one by one', async () => {
  expect(await run(`echo '${marks.up}6.1'; echo done`)).toBe('itself');
  expect(lines).toEqual([`${marks.up}6.1`, 'done']);
});

test('the emulator gets kernel, initramfs and the file of the console', async () => {
  await run('for a; do echo "$a"; done');
  expect(lines.join(' ')).toContain(`-kernel vmlinuz -initrd initrd`);
  expect(lines).toContain(`file:${join(dir, 'console')}`);
});

test('a machine that is not up in time is ended', async () => {
  expect(await run('exec sleep 600', { bootLimitMs: 50 })).toBe('boot-limit');
  await until(() => !isAlive());
});

test('the limit of booting ends with it: then that of the tests counts', async () => {
  const script = `echo '${marks.up}6.1'; exec sleep 600`;
  expect(await run(script, { bootLimitMs: 120_000, runLimitMs: 50 })).toBe('run-limit');
  await until(() => !isAlive());
});

test('an emulator that fails is an error in its own words', async () => {
  await expect(run('echo no such machine >&2; exit 1')).rejects.toThrow(/failed \(1\): no such machine/);
});

test('an interruption ends the emulator, and is what the caller gets', async () => {
  const interruption = new AbortController();
  const running = run('exec sleep 600', {}, interruption.signal);
  await until(() => existsSync(join(dir, 'pid')));
  interruption.abort(new Error('enough'));
  await expect(running).rejects.toThrow('enough');
  await until(() => !isAlive());
});

test('none is started after an interruption', async () => {
  await expect(run('', {}, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
  expect(existsSync(join(dir, 'pid'))).toBe(false);
});
