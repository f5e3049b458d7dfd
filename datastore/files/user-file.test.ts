import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseUserFile } from './user-file.ts';

const pod = (name: string, namespace?: string): string =>
  `apiVersion: v1\nkind: Pod\nmetadata: {name: ${name}${namespace === undefined ? '' : `, namespace: ${namespace}`}}\n`;

test('objects without a namespace are in default, as with kubectl', () => {
  const { claims } = parseUserFile('f', `${pod('a')}---\n${pod('b', 'x')}`);
  expect(claims.map(({ key }) => key)).toEqual([
    { namespace: 'default', name: 'a' },
    { namespace: 'x', name: 'b' },
  ]);
});

test('places name document, line and item', () => {
  const list = `kind: List\napiVersion: v1\nitems:\n- ${pod('a').replaceAll('\n', '\n  ')}\n- {kind: Pod, apiVersion: v1, metadata: {name: b}}\n`;
  const { claims } = parseUserFile('f', `# first\n${pod('z')}---\n${list}`);
  expect(claims.map(({ place }) => place)).toEqual([
    'f document 1 (line 2)',
    'f document 2 (line 9), item 1',
    'f document 2 (line 13), item 2',
  ]);
});

test('what users write into uid is kept, and a resourceVersion that they copied is not', () => {
  const object = (text: string): unknown =>
    parseUserFile('f', pod('a').replace('name: a', `name: a, ${text}`)).claims[0]?.object?.metadata;
  expect(object('uid: u-1, resourceVersion: "7"')).toMatchObject({
    uid: 'u-1',
    resourceVersion: expect.stringMatching(/^file-[0-9a-f]{16}$/),
  });
});

test.each<[string, string, string, boolean]>([
  [
    'an unknown field value',
    pod('a').replace('name: a', 'name: A'),
    'f document 1 (line 1): Pod "A": metadata.name',
    true,
  ],
  [
    'a missing name',
    pod('a').replace('name: a', ''),
    'f document 1 (line 1): Pod (without a name): metadata.name: is missing',
    false,
  ],
  ['another version of a kind', pod('a').replace('v1', 'v2'), 'use apiVersion v1', true],
  ['a plain text', 'hello\n', 'f document 1 (line 1): ', false],
])('%s is a problem', (_what, text, message, complete) => {
  const file = parseUserFile('f', text);
  expect(file.problems).toMatchObject([{ source: 'f', message: expect.stringContaining(message) }]);
  expect(file.complete).toBe(complete);
});

test('any text is read, or refused with a line', () => {
  const text = `${pod('a')}---\n${pod('b', 'x')}`;
  const mangled = fc
    .tuple(fc.nat(text.length), fc.nat(8), fc.string({ maxLength: 6, unit: 'grapheme' }))
    .map(([at, cut, insert]) => text.slice(0, at) + insert + text.slice(at + cut));
  fc.assert(
    fc.property(fc.oneof(mangled, fc.string({ maxLength: 80 })), (input) => {
      try {
        for (const { object, key } of parseUserFile('f', input).claims) {
          expect(object === undefined || object.metadata.name === key.name).toBe(true);
        }
      } catch (error) {
        expect((error as Error).message).toMatch(/^document \d+, line \d+: ./);
      }
    }),
    { numRuns: 1000 },
  );
});
