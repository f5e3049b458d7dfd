import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseJson } from '#api/sequence.ts';
import { readPage } from './page.ts';

const head = '{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7","continue":"more"},"items":[';
const seen = (text: string) => readPage(text, (raw) => raw);

test('a page is the same as what JSON.parse reads, whatever stands in its objects', () => {
  // Texts that look like the seam between two objects, within strings and as objects within objects.
  const seam = fc.constantFrom('},{"metadata":{', '"items":[', ']}', '{"metadata":{}}', '\\"', 'x');
  const nested = fc.record({
    metadata: fc.dictionary(seam, seam, { maxKeys: 2 }),
    list: fc.array(fc.object({ maxDepth: 1 })),
  });
  const object = fc.record({
    metadata: fc.record({ name: seam }),
    spec: fc.record({ parts: fc.array(nested, { maxLength: 3 }), text: seam }),
  });
  fc.assert(
    fc.property(fc.array(object, { maxLength: 5 }), fc.boolean(), (items, isCustom) => {
      const text = isCustom
        ? `${JSON.stringify({ apiVersion: 'a/v1', items, kind: 'L', metadata: { resourceVersion: '7', continue: 'more' } })}\n`
        : `${head}${items.map((item) => JSON.stringify(item)).join(',')}]}\n`;
      expect(seen(text)).toEqual({ items: parseJson(JSON.stringify(items)), resourceVersion: '7', next: 'more' });
    }),
    { numRuns: 300, interruptAfterTimeLimit: 2_000 },
  );
});

test.each([
  ['items that are null', '{"metadata":{"resourceVersion":"7"},"items":null}', { items: [], resourceVersion: '7' }],
  ['no items', `${head}]}`, { items: [], resourceVersion: '7', next: 'more' }],
  ['spaces everywhere', '{ "metadata": { "resourceVersion": "7" }, "items": [ { "a": 1 } ] }', { items: [{ a: 1 }] }],
  ['what is no listing', '{"kind":"Status"}', { items: [], resourceVersion: undefined }],
])('%s', (_what, text, page) => {
  expect(seen(text)).toMatchObject(page);
});

test.each(['', `${head}{"metadata":{"name":"a"`, `${head}{"metadata":{"name":"a"}},{"metadata":{"na`, `${head}{}`])(
  'an answer that was cut short is no page: %p',
  (text) => {
    expect(() => seen(text)).toThrow(SyntaxError);
  },
);
