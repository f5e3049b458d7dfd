import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from '@jest/globals';
import { type KernelIdentity, runningKernel, softirqRefusal } from './softirqs.ts';

const lock = 'CONFIG_PREEMPT_RT_NEEDS_BH_LOCK';
const rt = '#1 SMP PREEMPT_RT Debian 6.18.2-1 (2026-01-05)';
const built = (...lines: string[]) => ({
  path: '/proc/config.gz',
  text: ['CONFIG_PREEMPT_LAZY=y', 'CONFIG_PREEMPT_RT=y', ...lines, 'CONFIG_PREEMPT_COUNT=y', ''].join('\n'),
});
const off = built(`# ${lock} is not set`);

type Kernel = Omit<KernelIdentity, 'config'> & { config: ReturnType<KernelIdentity['config']> };
const kernel = (told: Partial<Kernel>): KernelIdentity => {
  const { config, ...rest } = { release: '6.18.2-rt-amd64', version: rt, realtime: undefined, config: off, ...told };
  return { ...rest, config: () => config };
};

test.each<[string, Partial<Kernel>]>([
  [
    'that is not PREEMPT_RT, whatever else it is',
    { version: '#1 SMP PREEMPT_DYNAMIC Debian 6.18.2-1', realtime: '0\n' },
  ],
  ['before 6.18: softirqs of a CPU wait for each other', { release: '6.12.57+deb13-rt-amd64', config: built() }],
  ['before 6.18, whose configuration is not told', { release: '6.1.0-40-rt-amd64', config: undefined }],
  ['that was built so that they wait', { config: built(`${lock}=y`) }],
])('a kernel is taken %s', (_, told) => {
  expect(softirqRefusal(kernel(told))).toBeUndefined();
});

test.each<[string, Partial<Kernel>, string]>([
  ['PREEMPT_RT as it is by default since 6.18', {}, `/proc/config.gz has ${lock} not set`],
  ['PREEMPT_RT that only /sys/kernel/realtime tells of', { version: '#1 SMP', realtime: '1\n' }, `${lock} not set`],
  ['an older one that has the choice of newer ones', { release: '6.12.0-99.rt.el10.x86_64' }, `${lock} not set`],
  ['a newer one that has no choice any more', { release: '7.3.0-rt', config: built() }, `does not have ${lock}`],
  ['one that calls the option otherwise', { config: built(`${lock}_X=y`) }, `does not have ${lock}`],
  ['one whose configuration is not told', { config: undefined }, '/boot/config-6.18.2-rt-amd64'],
  ['one whose version can not be read', { release: 'mine', config: undefined }, `built with ${lock}`],
])('a kernel is refused that is %s', (_, told, words) => {
  const refusal = softirqRefusal(kernel(told));
  expect(refusal).toContain('one packet may interrupt the work on another');
  expect(refusal).toContain(words);
});

test.each([
  ['/proc/config.gz', (text: string) => gzipSync(text)],
  [`/boot/config-${release()}`, (text: string) => text],
  [`/lib/modules/${release()}/config`, (text: string) => text],
  [`/proc/1/root/boot/config-${release()}`, (text: string) => text],
])('the configuration of the running kernel is found in %s', (path, write) => {
  const root = mkdtempSync(join(tmpdir(), 'softirqs-'));
  try {
    expect(runningKernel(root).config()).toBeUndefined();
    mkdirSync(dirname(root + path), { recursive: true });
    writeFileSync(root + path, write(off.text));
    expect(runningKernel(root).config()).toEqual({ path, text: off.text });
  } finally {
    rmSync(root, { recursive: true });
  }
});
