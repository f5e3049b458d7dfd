import { appendFileSync, readFileSync, statSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { TestFolder } from './ipam-for-tests.ts';
import { Journal, type JournalRecord } from './journal.ts';

function give(address: string, handle: string): JournalRecord {
  return { type: 'give', address, handle, sequence: '1', attributes: { pod: 'p' } };
}

const silent = () => {};

function release(address: string, handle: string): JournalRecord {
  return { type: 'release', address, handle, sequence: '1' };
}

test('a new process reads what the last one wrote, the newest record of each address', () => {
  using folder = new TestFolder();
  const path = folder.journal('n');
  using journal = new Journal(path, silent);
  journal.append([give('10.0.0.1', 'a'), give('10.0.0.2', 'b'), { type: 'intent', handle: 'c' }]);
  journal.append([release('10.0.0.1', 'a')]);
  using next = new Journal(path, silent);
  expect(next.records()).toEqual([give('10.0.0.2', 'b'), { type: 'intent', handle: 'c' }, release('10.0.0.1', 'a')]);
});

test('is empty when all is forgotten', () => {
  using folder = new TestFolder();
  using journal = new Journal(folder.journal('n'), silent);
  const records = [give('10.0.0.1', 'a'), give('10.0.0.2', 'b')];
  journal.append(records);
  for (const record of records) {
    expect(statSync(folder.journal('n')).size).toBeGreaterThan(0);
    journal.forget(record);
  }
  expect(statSync(folder.journal('n')).size).toBe(0);
  journal.append([give('10.0.0.3', 'c')]);
  expect(readFileSync(folder.journal('n'), 'utf8')).toMatch(/^\{.*\}\n$/);
});

test('forgetting an old record of an address leaves the newer one', () => {
  using folder = new TestFolder();
  using journal = new Journal(folder.journal('n'), silent);
  const old = give('10.0.0.1', 'a');
  journal.append([old]);
  journal.append([release('10.0.0.1', 'a')]);
  journal.forget(old);
  expect(journal.records()).toEqual([release('10.0.0.1', 'a')]);
});

test.each([
  ['a record that was cut off', '{"type":"give","addr'],
  ['zeros, as a file system may leave after a power failure', '\0\0\0\0'],
  ['something else', '{"type":"give","handle":"a"}\n[]\n"x"\n'],
])('reads past %s, and what is appended next is whole', (_, rest) => {
  using folder = new TestFolder();
  const path = folder.journal('n');
  {
    using journal = new Journal(path, silent);
    journal.append([give('10.0.0.1', 'a')]);
  }
  appendFileSync(path, rest);
  {
    using journal = new Journal(path, silent);
    expect(journal.records()).toEqual([give('10.0.0.1', 'a')]);
    journal.append([give('10.0.0.2', 'b')]);
  }
  using last = new Journal(path, silent);
  expect(last.records()).toEqual([give('10.0.0.1', 'a'), give('10.0.0.2', 'b')]);
});

test.each([
  ['that was cut off', '{"type":"give","addr'],
  ['of zeros', '\0\0\0\0'],
])('a last line %s is not spoken of', (_, rest) => {
  using folder = new TestFolder();
  const path = folder.journal('n');
  {
    using journal = new Journal(path, silent);
    journal.append([give('10.0.0.1', 'a')]);
  }
  appendFileSync(path, rest);
  const said: string[] = [];
  using journal = new Journal(path, (level, message) => said.push(`${level} ${message}`));
  expect(journal.records()).toHaveLength(1);
  expect(said).toEqual([]);
});

test('whole lines that are no records are said once, with their number and the first of them', () => {
  using folder = new TestFolder();
  const path = folder.journal('n');
  {
    using journal = new Journal(path, silent);
    journal.append([give('10.0.0.1', 'a')]);
  }
  appendFileSync(path, `\0\0{"type":"give"${'x'.repeat(200)}\n{"type":"give","handle":"a"}\n`);
  const said: string[] = [];
  const log = (level: string, message: string) => said.push(`${level} ${message}`);
  {
    using journal = new Journal(path, log);
    expect(journal.records()).toEqual([give('10.0.0.1', 'a')]);
  }
  expect(said).toEqual([expect.stringMatching(/^error /)]);
  expect(said[0]).toContain(path);
  expect(said[0]).toMatch(/: 2 lines are no records \(the first: "\\u0000\\u0000\{\\"type\\":\\"give\\"x+\.\.\."\)/);
  expect(said[0]?.length).toBeLessThan(500);
  using next = new Journal(path, log);
  expect(next.records()).toHaveLength(1);
  expect(said).toHaveLength(1);
});

test('stays small while something is always pending', () => {
  using folder = new TestFolder();
  using journal = new Journal(folder.journal('n'), silent);
  journal.append([give('10.0.0.1', 'pinned')]);
  for (let i = 0; i < 20_000; i++) {
    const record = give('10.0.0.2', `h${i}`);
    journal.append([record]);
    journal.forget(record);
  }
  expect(statSync(folder.journal('n')).size).toBeLessThan(1.1 * 2 ** 20);
  using next = new Journal(folder.journal('n'), silent);
  expect(next.records()).toContainEqual(give('10.0.0.1', 'pinned'));
});
