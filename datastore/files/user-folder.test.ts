/** When what a user's file gave counts as gone: at moments that a real clock and real events would seldom meet. */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import { FolderWatches } from './folder-watches.ts';
import { UserFolder } from './user-folder.ts';

const settleMs = 50;
const removalMs = 500;
const pool = 'apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: p\nspec:\n  cidr: 10.0.0.0/16\n';

let dir: string;
let clock: FakeClock;
let folder: UserFolder;
let watches: FolderWatches;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), `tt${process.pid}-user-folder-`));
  clock = new FakeClock();
  watches = new FolderWatches(
    () => ({ [Symbol.dispose]: () => {} }),
    () => {},
    () => {},
  );
  folder = new UserFolder(dir, clock, { settleMs, removalMs });
  writeFileSync(join(dir, 'a.yaml'), pool);
  await folder.scan(watches, true);
  clock.advance(60_000);
  await folder.scan(watches);
});
afterEach(() => rmSync(dir, { recursive: true }));

const given = () => [...folder.claims()].map(({ claim, leaving }) => `${claim.key.name}${leaving ? ' leaving' : ''}`);

test('an object that moves to another file is never gone, though nobody looked for long behind the first look that missed both', async () => {
  renameSync(join(dir, 'a.yaml'), join(dir, '.hidden'));
  await folder.scan(watches);
  renameSync(join(dir, '.hidden'), join(dir, 'b.yaml'));
  clock.advance(removalMs + 100);
  expect(await folder.scan(watches)).toBe(settleMs);
  expect(given()).toEqual(['p leaving']);
  clock.advance(settleMs - 1);
  await folder.scan(watches);
  expect(given()).toEqual(['p leaving']);
  clock.advance(1);
  expect(await folder.scan(watches)).toBeUndefined();
  expect(given()).toEqual(['p']);
});

test('nor when nobody looked for long behind the second look, before which it had not come back', async () => {
  renameSync(join(dir, 'a.yaml'), join(dir, '.hidden'));
  await folder.scan(watches);
  clock.advance(settleMs);
  await folder.scan(watches);
  expect(given()).toEqual(['p leaving']);
  renameSync(join(dir, '.hidden'), join(dir, 'b.yaml'));
  clock.advance(10 * removalMs);
  expect(await folder.scan(watches)).toBe(settleMs);
  expect(given()).toEqual(['p leaving']);
  clock.advance(settleMs);
  expect(await folder.scan(watches)).toBeUndefined();
  expect(given()).toEqual(['p']);
});

test('a file that changes for ever holds no removal for longer than one waits anyway', async () => {
  const write = (n: number) => writeFileSync(join(dir, 'b.yaml'), `# ${'x'.repeat(n)}\n`);
  write(0);
  await folder.scan(watches);
  rmSync(join(dir, 'a.yaml'));
  for (let n = 1; n * (settleMs - 1) < removalMs; n++) {
    write(n);
    await folder.scan(watches);
    clock.advance(settleMs - 1);
  }
  expect(given()).toEqual(['p leaving']);
  for (let n = 20; n < 24; n++) {
    write(n);
    await folder.scan(watches);
    clock.advance(settleMs - 1);
  }
  expect(given()).toEqual([]);
});

test('a file that is gone gives nothing after the longer time, not before', async () => {
  rmSync(join(dir, 'a.yaml'));
  expect(await folder.scan(watches)).toBe(settleMs);
  clock.advance(settleMs);
  expect(await folder.scan(watches)).toBe(removalMs - settleMs);
  clock.advance(removalMs - settleMs - 1);
  await folder.scan(watches);
  expect(given()).toEqual(['p leaving']);
  clock.advance(1);
  expect(await folder.scan(watches)).toBeUndefined();
  expect(given()).toEqual([]);
});
