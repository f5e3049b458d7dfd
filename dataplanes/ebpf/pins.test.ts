import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { BpfMap } from '#native/bpf.ts';
import { pinAllOver } from './pins.ts';

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tortie-pins-'));
  for (const name of ['a', 'b']) writeFileSync(join(dir, name), 'old');
});
afterEach(() => rmSync(dir, { recursive: true }));

/** Pins are files here. `refused`: of this one they aren't made. */
const mapsOf = (names: readonly string[], refused?: string): ReadonlyMap<string, BpfMap> =>
  new Map(
    names.map((name) => [
      name,
      {
        pin: (path) => {
          if (name === refused) throw Object.assign(new Error('no room'), { code: 'ENOSPC' });
          writeFileSync(path, 'new', { flag: 'wx' });
        },
      } as BpfMap,
    ]),
  );

const contents = (): Record<string, string> =>
  Object.fromEntries(
    readdirSync(dir, { recursive: true, withFileTypes: true }).map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return [path.slice(dir.length + 1), entry.isDirectory() ? '' : readFileSync(path, 'utf8')];
    }),
  );

test('new pins take the places of those before, which are kept behind what was put aside earlier', () => {
  mkdirSync(join(dir, 'former-9'));
  // Of one that was killed.
  writeFileSync(join(dir, 'b-new'), 'half');
  pinAllOver(dir, mapsOf(['a', 'b', 'c']), ['a']);
  expect(contents()).toEqual({ a: 'new', b: 'new', c: 'new', 'former-9': '', 'former-10': '', 'former-10/a': 'old' });
});

test.each<[string, string | undefined, readonly string[]]>([
  ['the first', 'a', ['a', 'b']],
  ['the last', 'c', ['a', 'b']],
  ['to put aside what is gone, behind another', undefined, ['a', 'gone']],
])('all stay as they are when it fails with %s', (_, refused, kept) => {
  const before = contents();
  expect(() => pinAllOver(dir, mapsOf(['a', 'b', 'c'], refused), kept)).toThrow(/no room|ENOENT/);
  expect(contents()).toEqual(before);
});
