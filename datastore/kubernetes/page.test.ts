import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseJson } from '#api/sequence.ts';
import { readPage, type Page } from './page.ts';

const head = '{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7","continue":"more"},"items":[';

/** The page, its text cut into pieces of so many bytes. */
async function read(text: string, size = 7): Promise<Page<unknown>> {
  const bytes = Buffer.from(text);
  async function* pieces(): AsyncGenerator<Buffer> {
    for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size));
  }
  return readPage(pieces(), (raw) => raw);
}

test('a page is the same as what JSON.parse reads, whatever stands in its objects and however it comes', async () => {
  // Texts that look like the seam between two objects, within strings and as objects within objects.
  const seam = fc.constantFrom(
    '},{"metadata":{',
    '},{"apiVersion":',
    '"items":[',
    ']}',
    '{"metadata":{}}',
    '\\"',
    'ü😀',
  );
  const nested = fc.record({
    metadata: fc.dictionary(seam, seam, { maxKeys: 2 }),
    list: fc.array(fc.object({ maxDepth: 1 })),
  });
  const fields = {
    metadata: fc.record({ name: seam }),
    spec: fc.record({ parts: fc.array(nested, { maxLength: 3 }), text: seam }),
  };
  const page = fc.oneof(
    // Kubernetes' own kinds, and custom resources, which are sorted by field.
    fc.array(fc.record(fields), { maxLength: 5 }).map((items) => ({ items, isCustom: false })),
    fc
      .array(fc.record({ apiVersion: fc.constant('a/v1'), ...fields }), { maxLength: 5 })
      .map((items) => ({ items, isCustom: true })),
  );
  await fc.assert(
    fc.asyncProperty(page, fc.integer({ min: 1, max: 200 }), async ({ items, isCustom }, size) => {
      const metadata = { resourceVersion: '7', continue: 'more' };
      const text = isCustom
        ? `${JSON.stringify({ apiVersion: 'a/v1', items, kind: 'L', metadata })}\n`
        : `${head}${items.map((item) => JSON.stringify(item)).join(',')}]}\n`;
      expect(await read(text, size)).toEqual({
        items: parseJson(JSON.stringify(items)),
        resourceVersion: '7',
        next: 'more',
      });
    }),
    { numRuns: 300, interruptAfterTimeLimit: 2_000 },
  );
});

test.each([
  ['items that are null', '{"metadata":{"resourceVersion":"7"},"items":null}', { items: [], resourceVersion: '7' }],
  ['no items', `${head}]}`, { items: [], resourceVersion: '7', next: 'more' }],
  ['spaces everywhere', '{ "metadata": { "resourceVersion": "7" }, "items": [ { "a": 1 } ] }', { items: [{ a: 1 }] }],
  ['objects that begin differently', `${head}{"a":1},{"b":2},{"a":3}]}`, { items: [{ a: 1 }, { b: 2 }, { a: 3 }] }],
  ['one object', '{"kind":"Pod","metadata":{"resourceVersion":"7"}}', { items: [], resourceVersion: undefined }],
  ['what is no listing', '{"kind":"Status"}', { items: [], resourceVersion: undefined }],
])('%s', async (_what, text, page) => {
  expect(await read(text)).toMatchObject(page);
});

test.each(['', `${head}{"metadata":{"name":"a"`, `${head}{"metadata":{"name":"a"}},{"metadata":{"na`, `${head}{}`])(
  'an answer that was cut short is no page: %p',
  async (text) => {
    await expect(read(text)).rejects.toThrow(SyntaxError);
  },
);
