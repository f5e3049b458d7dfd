import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { until } from '#test/lab/until.ts';
import { keyOf, lostMaps, makerOf, othersRun, processesOf, RUN_MARK, traces } from './leftovers.mjs';

const names = () => traces(() => {}).map(keyOf);

test('a folder with our name and pid is a trace, and tells its maker', () => {
  const path = mkdtempSync(join(tmpdir(), `tt${process.pid}-`));
  try {
    expect(names()).toContain(`folder ${path}`);
    expect(makerOf({ kind: 'folder', name: path })).toBe(process.pid);
  } finally {
    rmSync(path, { recursive: true });
  }
  expect(names()).not.toContain(`folder ${path}`);
});

test('a test cluster is a trace, and tells its maker', () => {
  const cache = mkdtempSync(join(tmpdir(), 'attic-'));
  const name = `tt${process.pid}-1`;
  try {
    mkdirSync(join(cache, 'tortie/clusters', name), { recursive: true });
    const script = `import { keyOf, traces } from ${JSON.stringify(join(process.cwd(), 'scripts/leftovers.mjs'))};
      console.log(traces(() => {}).map(keyOf).join('\\n'))`;
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      env: { ...process.env, XDG_CACHE_HOME: cache },
    });
    expect(stdout.split('\n')).toContain(`cluster ${name}`);
    expect(makerOf({ kind: 'cluster', name })).toBe(process.pid);
  } finally {
    rmSync(cache, { recursive: true });
  }
});

test("other programs' folders are none", () => {
  const path = mkdtempSync(join(tmpdir(), 'attic-'));
  try {
    expect(names()).not.toContain(`folder ${path}`);
  } finally {
    rmSync(path, { recursive: true });
  }
});

describe('the maker of an object', () => {
  test.each<[string, number | undefined]>([
    ['tt4711-a', 4711],
    ['/run/netns/tt4711-a', 4711],
    ['-A tt12-cali-FORWARD -j DROP', 12],
    ['/tmp/tortie-ipam-8881-xyz', 8881],
    ['/tmp/tortie-lab-9abcde', undefined],
    ['cali0123456789a', undefined],
    ['mtt12', undefined],
  ])('%s: %s', (name, maker) => {
    expect(makerOf({ kind: 'link', name })).toBe(maker);
  });
});

test.each<[string, { id: number; type: string; pinned?: string[] }, number[]]>([
  ['a program array that nobody has is lost', { id: 7, type: 'prog_array' }, [7]],
  ['one of a program is not', { id: 1, type: 'prog_array' }, []],
  ['nor is one that a process has open', { id: 2, type: 'prog_array' }, []],
  ['nor is one with a pin', { id: 7, type: 'prog_array', pinned: ['/sys/fs/bpf/tortie_jump'] }, []],
  ['other maps are left behind by somebody', { id: 7, type: 'hash' }, []],
])('%s', (_, map, lost) => {
  expect([...lostMaps([{ id: 40, map_ids: [1, 3] }], [map], () => new Set([2]))]).toEqual(lost);
});

test('a process is found by the mark in its environment, until it is gone', async () => {
  const mark = `test-${process.pid}`;
  const child = spawn('sleep', ['30'], { env: { ...process.env, [RUN_MARK]: mark }, stdio: 'ignore' });
  try {
    await once(child, 'spawn');
    // Which is told a little before the kernel shows its environment.
    await until(() => processesOf(mark).length > 0);
    expect(processesOf(mark)).toEqual([{ kind: 'process', name: `${child.pid} (sleep 30)` }]);
    expect(othersRun('another')).toBe(true);
  } finally {
    child.kill('SIGKILL');
    await once(child, 'close');
  }
  expect(processesOf(mark)).toEqual([]);
});

test('a source that cannot be read is reported, not taken for empty', () => {
  const script = `import { traces } from ${JSON.stringify(join(process.cwd(), 'scripts/leftovers.mjs'))}; traces(console.log)`;
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    env: { PATH: '/nonexistent' },
  });
  expect(run.stdout).toContain('ip: ');
});
