import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseWithoutManagedFields } from './managed-fields.ts';

const entry = {
  manager: 'kubelet',
  operation: 'Update',
  apiVersion: 'v1',
  time: '2026-11-21T00:00:00Z',
  fieldsType: 'FieldsV1',
  fieldsV1: { 'f:status': { 'f:conditions': { '.': {}, 'k:{"type":"Ready"}': { '.': {}, 'f:status': {} } } } },
  subresource: 'status',
};
const pod = {
  metadata: { name: 'web', resourceVersion: '7', managedFields: [entry, { ...entry, manager: 'kubectl' }] },
  spec: { containers: [{ name: 'web', ports: [{ containerPort: 80 }] }] },
};
const rest = { name: 'web', resourceVersion: '7' };

test("a Pod is read without managedFields, as the API server's encoder writes it", () => {
  expect(parseWithoutManagedFields(JSON.stringify(pod))).toEqual({ ...pod, metadata: rest });
});

test.each([
  ['a bracket in a name', [{ manager: 'x]' }]],
  ['a name that ends like the list', [{ manager: 'x]},' }]],
  ['a field that ends like the list', [{ fieldsV1: { 'f:x]},': { '.': {} } } }]],
  ['a list in the list, which no version of Kubernetes has', [{ fieldsV1: { 'f:x': [1] }, manager: 'x' }]],
])('what can not be cut out for sure is read whole: %s', (_, managedFields) => {
  const object = { ...pod, metadata: { ...rest, managedFields } };
  expect(parseWithoutManagedFields(JSON.stringify(object))).toEqual(object);
});

test('text that is no JSON throws as ever', () => {
  expect(() => parseWithoutManagedFields(JSON.stringify(pod).slice(0, -1))).toThrow(SyntaxError);
  expect(() => parseWithoutManagedFields('{"metadata":{"managedFields":[')).toThrow(SyntaxError);
});

/** Without any field of that name. */
function stripped(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(stripped);
  const fields = Object.entries(value).filter(([name]) => name !== 'managedFields');
  return fields.map(([name, member]) => [name, stripped(member)]);
}

test('nothing but lists of that name is ever lost, whatever stands in the object and in the list', () => {
  const nasty = fc.array(
    fc.constantFrom(']', '}', '{', '[', ',', '"', '\\', ':', 'managedFields', '"managedFields":[', ']},"', 'x', 'f:'),
    { maxLength: 6 },
  );
  const text = nasty.map((parts) => parts.join(''));
  const tree = fc.letrec((tie) => ({
    node: fc.oneof(
      { maxDepth: 3 },
      text,
      fc.constant(null),
      fc.dictionary(text, tie('node'), { maxKeys: 3 }),
      fc.array(tie('node'), { maxLength: 3 }),
    ),
  })).node;
  const objects = fc.record({
    metadata: fc.record({ name: text, annotations: fc.dictionary(text, text, { maxKeys: 2 }) }),
    managedFields: fc.option(fc.array(tree, { maxLength: 3 }), { nil: undefined }),
    spec: tree,
  });
  fc.assert(
    fc.property(objects, ({ metadata, managedFields, spec }) => {
      const object = { metadata: { ...metadata, managedFields }, spec };
      const text = JSON.stringify(object);
      expect(stripped(parseWithoutManagedFields(text))).toEqual(stripped(JSON.parse(text)));
    }),
    { numRuns: 20_000, interruptAfterTimeLimit: 2_000 },
  );
});
