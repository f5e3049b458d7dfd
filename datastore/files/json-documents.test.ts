import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseAllDocuments } from 'yaml';
import { readJsonDocuments } from './json-documents.ts';

describe('a file that is all JSON', () => {
  test.each([
    ['one object', '{"a": 1}', [{ raw: { a: 1 }, line: 1 }]],
    ['blank lines before it', '\n\n{"a": 1}\n', [{ raw: { a: 1 }, line: 3 }]],
    [
      'an object over several lines, and another',
      '{\n"a":\n1}\n---\n{"b": 2}\n',
      [
        { raw: { a: 1 }, line: 1 },
        { raw: { b: 2 }, line: 5 },
      ],
    ],
    [
      'a separator first, an empty document, one last',
      '---\n{"a": 1}\n---\n\n---\n{"b": 2}\n---\n',
      [
        { raw: { a: 1 }, line: 2 },
        { raw: { b: 2 }, line: 6 },
      ],
    ],
    [
      'line ends of other systems',
      '{"a": 1}\r\n---\r\n{"b": 2}\r\n',
      [
        { raw: { a: 1 }, line: 1 },
        { raw: { b: 2 }, line: 3 },
      ],
    ],
  ])('%s', (_, text, documents) => {
    expect([...readJsonDocuments(text)]).toEqual(documents);
  });

  test.each([
    ['YAML', 'a: 1'],
    ['YAML after JSON', '{"a": 1}\n---\na: 1'],
    ['a flow mapping that is no JSON', '{a: 1}'],
    ['JSON with a comment', '{"a": 1} # one'],
    ['a list', '{"a": 1}\n---\n[1]'],
    ['broken JSON', '{"a": 1'],
    ['nothing', ''],
  ])('%s is left to the YAML reader', (_, text) => {
    expect([...readJsonDocuments(text)].at(-1)).toBeUndefined();
  });

  test('says what the YAML reader says', () => {
    const object = fc.dictionary(fc.string({ minLength: 1 }), fc.jsonValue({ noUnicodeString: true }), {
      minKeys: 1,
      maxKeys: 3,
    });
    fc.assert(
      fc.property(fc.array(object, { minLength: 1, maxLength: 4 }), fc.boolean(), (objects, isPretty) => {
        const text = objects.map((value) => JSON.stringify(value, undefined, isPretty ? 2 : 0)).join('\n---\n');
        const byYaml = parseAllDocuments(text, { merge: true });
        fc.pre(Array.isArray(byYaml) && byYaml.every(({ errors }) => errors.length === 0));
        expect([...readJsonDocuments(text)].map((document) => document?.raw)).toEqual(
          (byYaml as { toJS(): unknown }[]).map((document) => document.toJS()),
        );
      }),
      { numRuns: 200 },
    );
  });
});
