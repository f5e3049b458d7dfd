import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { unmountBpffs } from '#native/bpf.ts';
import { prepareBpffs } from './bpffs.ts';

test('nothing is mounted over a directory with something in it', () => {
  const parent = mkdtempSync(join(tmpdir(), 'tortie-bpffs-'));
  const mounts = (): boolean => readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${parent} `);
  try {
    writeFileSync(join(parent, 'kept'), '');
    expect(prepareBpffs(join(parent, 'tortie'))).toContain(`would hide what is in it (kept, ...)`);
    expect(mounts()).toBe(false);
  } finally {
    if (mounts()) unmountBpffs(parent);
    rmSync(parent, { recursive: true });
  }
});
