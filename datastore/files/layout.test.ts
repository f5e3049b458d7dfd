import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { ObjectKey } from '#api/meta.ts';
import { fileOf, isUserFile } from './layout.ts';

test.each<[ObjectKey, string]>([
  [{ name: 'pool-a' }, 'pool-a.json'],
  [{ name: '10-65-0-0-26' }, '10-65-0-0-26.json'],
  [{ namespace: 'default', name: 'web.1' }, 'default_web.1.json'],
  [{ name: 'default_web.1' }, 'default%5Fweb.1.json'],
  [{ name: '..' }, '%2E..json'],
  [{ name: '../../etc/passwd' }, '%2E.%2F..%2Fetc%2Fpasswd.json'],
  [{ namespace: 'a', name: '.b' }, 'a_%2Eb.json'],
  [{ name: 'Übel\n' }, '%C3%9Cbel%0A.json'],
])('the file of %j is %s', (key, file) => {
  expect(fileOf(key)).toBe(file);
});

test('different keys have different files, which are in the folder, visible, and short enough for any file system', () => {
  const part = fc.oneof(
    fc.string({ minLength: 1, maxLength: 300 }),
    fc.stringMatching(/^[ab_.%/-]{1,6}$/),
    fc.constant('x'.repeat(253)),
  );
  const key = fc.record({ namespace: fc.option(part, { nil: undefined }), name: part });
  fc.assert(
    fc.property(key, key, (one, other) => {
      const file = fileOf(one);
      expect(file).toMatch(/^[A-Za-z0-9%_-][A-Za-z0-9%_.-]*\.json$/);
      expect(Buffer.byteLength(file)).toBeLessThanOrEqual(255);
      expect(file === fileOf(other)).toBe(JSON.stringify(one) === JSON.stringify(other));
    }),
    { numRuns: 2000 },
  );
});

test.each(['a.yaml', 'a.yml', 'a.b.json', '-.yaml'])("%s is a users' file", (name) => {
  expect(isUserFile(name)).toBe(true);
});

test.each(['.yaml', '.a.yaml', 'a.yaml~', 'a.yaml.swp', 'a.txt', 'yaml', '#a.yaml#'])(
  "%s is no users' file",
  (name) => {
    expect(isUserFile(name)).toBe(false);
  },
);
