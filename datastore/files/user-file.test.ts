import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseUserFile, placeText } from './user-file.ts';

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
  expect(claims.map(({ file, place }) => placeText(file, place))).toEqual([
    'f document 1 (line 2)',
    'f document 2 (line 9), item 1',
    'f document 2 (line 13), item 2',
  ]);
});

test('what users write into uid is kept, and a resourceVersion that they copied is not', () => {
  const object = (text: string): unknown =>
    parseUserFile('f', pod('a').replace('name: a', `name: a, ${text}`)).claims[0]?.content.object?.metadata;
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
  [
    'a kind as Calico stores it',
    'apiVersion: crd.projectcalico.org/v1\nkind: GlobalNetworkPolicy\nmetadata: {name: a}\nspec: {}\n',
    'use apiVersion projectcalico.org/v3',
    true,
  ],
  [
    'a kind that could be either of two',
    'kind: NetworkPolicy\nmetadata: {name: a}\nspec: {}\n',
    'use apiVersion networking.k8s.io/v1 or projectcalico.org/v3',
    false,
  ],
  [
    'a namespace that is no text',
    'apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: 7}\n',
    'metadata.namespace: must be text (in YAML: in quotes) (is 7)',
    false,
  ],
  ['a plain text', 'hello\n', 'f document 1 (line 1): ', false],
])('%s is a problem', (_what, text, message, complete) => {
  const file = parseUserFile('f', text);
  const wrong = file.claims.flatMap(({ content }) => (content.object === undefined ? [content.wrong] : []));
  expect([...wrong, ...file.problems.map((problem) => problem.message)]).toEqual([expect.stringContaining(message)]);
  expect(file.complete).toBe(complete);
});

test('a List in JSON, as kubectl writes it, gives its members, each in its place', () => {
  const member = (name: string) => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name } });
  const list = { apiVersion: 'v1', kind: 'List', items: [member('a'), member('b')] };
  const { claims } = parseUserFile('f', `${JSON.stringify(member('c'))}\n---\n${JSON.stringify(list, null, 2)}\n`);
  expect(claims.map(({ key, file, place }) => [key.name, placeText(file, place)])).toEqual([
    ['c', 'f document 1 (line 1)'],
    ['a', 'f document 2 (line 3), item 1'],
    ['b', 'f document 2 (line 3), item 2'],
  ]);
  expect(parseUserFile('f', JSON.stringify({ ...list, items: null })).claims).toEqual([]);
});

test('fields that no text can have do not keep other documents from being read', () => {
  const policy = (name: string, spec: string) =>
    `apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: ${name}}\nspec: ${spec}\n`;
  const { claims } = parseUserFile(
    'f',
    [
      policy('a', '{selector: has(a), types: [{toString: 1}]}'),
      policy('b', '&b {selector: has(b), order: x, ingress: [*b]}'),
      policy('c', '{selector: has(c)}'),
    ].join('---\n'),
  );
  expect(
    claims.map(({ key, content }) => [key.name, content.object === undefined && content.replacement?.denies]),
  ).toEqual([
    ['a', { ingress: true, egress: false }],
    ['b', { ingress: true, egress: false }],
    ['c', false],
  ]);
});

test.each(['apps/v1 Deployment', 'kubeflow.org/v1 Profile', 'serving.knative.dev/v1 Service'])(
  '%s is passed over: it has nothing to do with us',
  (head) => {
    const [apiVersion, kind] = head.split(' ');
    const file = parseUserFile('f', `apiVersion: ${apiVersion}\nkind: ${kind}\nmetadata: {name: a}\n`);
    expect(file).toMatchObject({ claims: [], problems: [], complete: true });
    expect(file.remarks).toEqual([`f document 1 (line 1): ${kind} of ${apiVersion} is no kind that we read`]);
  },
);

test('any text is read, or refused with a line', () => {
  const text = `${pod('a')}---\n${pod('b', 'x')}`;
  const mangled = fc
    .tuple(fc.nat(text.length), fc.nat(8), fc.string({ maxLength: 6, unit: 'grapheme' }))
    .map(([at, cut, insert]) => text.slice(0, at) + insert + text.slice(at + cut));
  fc.assert(
    fc.property(fc.oneof(mangled, fc.string({ maxLength: 80 })), (input) => {
      try {
        for (const { content, key } of parseUserFile('f', input).claims) {
          const { object } = content;
          expect(object === undefined || object.metadata.name === key.name).toBe(true);
        }
      } catch (error) {
        expect((error as Error).message).toMatch(/^document \d+, line \d+: ./);
      }
    }),
    { numRuns: 1000 },
  );
});
