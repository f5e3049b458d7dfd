import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  closeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PlacedFiles } from './placed-files.ts';

let dir: string;
let path: string;
let files: PlacedFiles;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), `tt${process.pid}-placed-`));
  mkdirSync(join(dir, 'bin'));
  path = join(dir, 'bin/portmap');
  files = new PlacedFiles(join(dir, 'state/record.json'));
});
afterEach(() => rmSync(dir, { recursive: true }));

describe('a file', () => {
  test('comes whole, with its mode whatever the umask, and nothing else comes with it', () => {
    const before = process.umask(0o077);
    try {
      expect(files.place(path, 'one', 0o755)).toBe(true);
    } finally {
      process.umask(before);
    }
    expect(readFileSync(path, 'utf8')).toBe('one');
    expect(statSync(path).mode & 0o777).toBe(0o755);
    expect(readdirSync(join(dir, 'bin'))).toEqual(['portmap']);
  });

  test('that is as it should be is not written again', () => {
    files.place(path, 'one', 0o755);
    utimesSync(path, 1, 1);
    expect(files.place(path, 'one', 0o755)).toBe(false);
    expect(statSync(path).mtimeMs).toBe(1000);
    expect(files.place(path, 'one', 0o644)).toBe(true);
  });

  test('that is replaced stays what it was for whoever has it open: a program goes on running', () => {
    files.place(path, 'one', 0o755);
    const open = openSync(path, 'r');
    files.place(path, 'two', 0o755);
    const bytes = Buffer.alloc(3);
    readSync(open, bytes);
    closeSync(open);
    expect([bytes.toString(), readFileSync(path, 'utf8')]).toEqual(['one', 'two']);
  });

  test('replaces what a run that was cut off has left half', () => {
    writeFileSync(join(dir, 'bin/.portmap.tortie-tmp'), 'hal', { mode: 0o400 });
    files.place(path, 'whole', 0o755);
    expect(readFileSync(path, 'utf8')).toBe('whole');
    expect(readdirSync(join(dir, 'bin'))).toEqual(['portmap']);
  });
});

describe('whose a file is', () => {
  test('ours as long as it is what we wrote, also for the next process', () => {
    expect(files.owner(path)).toBe('absent');
    files.place(path, 'one', 0o755);
    expect(new PlacedFiles(join(dir, 'state/record.json')).owner(path)).toBe('ours');
    writeFileSync(path, "somebody's");
    expect(files.owner(path)).toBe('foreign');
  });

  test('not ours because it has our content: a link, or a file that we never placed', () => {
    writeFileSync(path, 'one');
    expect(files.owner(path)).toBe('foreign');
    files.place(path, 'one', 0o755);
    rmSync(path);
    writeFileSync(join(dir, 'elsewhere'), 'one');
    symlinkSync(join(dir, 'elsewhere'), path);
    expect(files.owner(path)).toBe('foreign');
  });

  test.each([
    ['before it was renamed', 'one'],
    ['after it was renamed', 'two'],
  ])('ours after a replacement that was cut off %s', (_when, content) => {
    files.place(path, 'one', 0o755);
    // What the record holds while the file is being replaced.
    const record = join(dir, 'state/record.json');
    const { [path]: [one] = [] } = JSON.parse(readFileSync(record, 'utf8')) as Record<string, string[]>;
    files.place(path, 'two', 0o755);
    const { [path]: [two] = [] } = JSON.parse(readFileSync(record, 'utf8')) as Record<string, string[]>;
    writeFileSync(record, JSON.stringify({ [path]: [one, two] }));
    writeFileSync(path, content);
    expect(files.owner(path)).toBe('ours');
  });
});

describe('removing', () => {
  test('takes ours, and with the last one the record', () => {
    files.place(path, 'one', 0o755);
    files.place(join(dir, 'bin/loopback'), 'lo', 0o755);
    expect(files.paths()).toHaveLength(2);
    expect([files.remove(path), files.remove(join(dir, 'bin/loopback'))]).toEqual(['ours', 'ours']);
    expect(readdirSync(join(dir, 'bin'))).toEqual([]);
    expect(existsSync(join(dir, 'state/record.json'))).toBe(false);
  });

  test('leaves what somebody has changed, and forgets it', () => {
    files.place(path, 'one', 0o755);
    writeFileSync(path, "somebody's");
    expect(files.remove(path)).toBe('foreign');
    expect(readFileSync(path, 'utf8')).toBe("somebody's");
    expect(files.paths()).toEqual([]);
  });

  test('of what is gone is success', () => {
    files.place(path, 'one', 0o755);
    rmSync(path);
    expect(files.remove(path)).toBe('absent');
  });
});

test('a file that can never be written, tried for days, makes the record no longer', () => {
  files.place(path, 'one', 0o755);
  rmSync(join(dir, 'bin'), { recursive: true });
  const record = () => readFileSync(join(dir, 'state/record.json'), 'utf8');
  expect(() => files.place(path, 'two', 0o755)).toThrow(path);
  const first = record();
  for (let times = 0; times < 3; times++) expect(() => files.place(path, 'two', 0o755)).toThrow(path);
  expect(record()).toBe(first);
});

describe("an error names the file and has the system's words", () => {
  test('a directory that is not there', () => {
    const missing = join(dir, 'missing/portmap');
    expect(() => files.place(missing, 'x', 0o755)).toThrow(
      expect.objectContaining({ code: 'ENOENT', message: expect.stringContaining(`can't write ${missing}: ENOENT`) }),
    );
  });

  test.each(['{', '[]', '{"relative":["x"]}', '{"/a":"x"}'])('a record that is damaged: %s', (text) => {
    mkdirSync(join(dir, 'state'));
    writeFileSync(join(dir, 'state/record.json'), text);
    expect(() => files.paths()).toThrow(expect.objectContaining({ code: 'bad-record' }));
  });
});
