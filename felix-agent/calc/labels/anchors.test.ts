import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseSelector } from '#api/selector/selector.ts';
import { anchorLists, cheapest, mentionedKeys } from './anchors.ts';

const listsOf = (text: string) =>
  anchorLists(parseSelector(text).tree).map((list) =>
    list.map(({ key, value }) => (value === undefined ? key : `${key}=${value}`)),
  );

describe('the anchors of a selector', () => {
  test.each([
    ["a == 'x'", [['a=x']]],
    ["a in {'x', 'y'}", [['a=x', 'a=y']]],
    ["has(a) && b == 'x'", [['a'], ['b=x']]],
    ["a starts with 'x' || b == 'y'", [['a', 'b=y']]],
    ["(a == 'x' && has(b)) || c == 'z'", [['a=x', 'c=z']]],
    ["a == 'x' || b != 'y'", []],
    ["a == 'x' && b != 'y'", [['a=x']]],
    ['all()', []],
    ['!has(a)', []],
    ["!(a == 'x')", []],
    ["a not in {'x'}", []],
  ])('%s: %j', (text, expected) => {
    expect(listsOf(text)).toEqual(expected);
  });

  test('a list of values that is too long is the key alone', () => {
    const values = Array.from({ length: 100 }, (_, index) => `'v${index}'`).join(', ');
    expect(listsOf(`a in {${values}}`)).toEqual([['a']]);
  });

  test('values are preferred to keys, and an app to a namespace', () => {
    const text =
      "has(x) && projectcalico.org/orchestrator == 'k8s' && projectcalico.org/namespace == 'n' && app == 'web'";
    expect(cheapest(anchorLists(parseSelector(text).tree))).toEqual([{ key: 'app', value: 'web' }]);
  });

  test('all keys that a selector looks at are known', () => {
    expect([...mentionedKeys(parseSelector("!(a == 'x') && (has(b) || c not in {'y'}) && all()").tree)]).toEqual([
      'a',
      'b',
      'c',
    ]);
  });

  test('whatever a selector selects carries an anchor of each of its lists', () => {
    const term = fc.constantFrom(
      "a == 'x'",
      "a in {'x', 'y'}",
      'has(b)',
      "b contains 'x'",
      '!has(a)',
      "b != 'x'",
      'all()',
    );
    const text = fc.letrec<{ node: string }>((tie) => ({
      node: fc.oneof(
        { maxDepth: 3 },
        term,
        fc.tuple(tie('node'), tie('node')).map(([a, b]) => `(${a} && ${b})`),
        fc.tuple(tie('node'), tie('node')).map(([a, b]) => `(${a} || ${b})`),
        tie('node').map((a) => `!(${a})`),
      ),
    })).node;
    const labels = fc.record(
      { a: fc.constantFrom('x', 'y', 'z'), b: fc.constantFrom('x', 'xy', 'z') },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(text, labels, (selectorText, own) => {
        const selector = parseSelector(selectorText);
        const record = own as Record<string, string>;
        fc.pre(selector.evaluate(record));
        for (const list of anchorLists(selector.tree)) {
          expect(list.some(({ key, value }) => (value === undefined ? key in record : record[key] === value))).toBe(
            true,
          );
        }
      }),
      { numRuns: 500, interruptAfterTimeLimit: 2_000 },
    );
  });
});
