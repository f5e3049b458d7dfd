import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { parseSelector } from './selector.ts';

/**
 * A selector written another way: as its meaning (a function over a Map) together with one of its many spellings. Nothing of the
 * parser or the tree is used.
 */
interface Model {
  readonly spelling: string;
  readonly meaning: (labels: ReadonlyMap<string, string>) => boolean;
}

const seed = Date.now() & 0x7fffffff;
const bounded = { seed, interruptAfterTimeLimit: 2000, numRuns: 3000 };

const blank = fc.constantFrom('', ' ', '\t', '  ');
const gap = fc.constantFrom(' ', '\t ', '  ');
const key = fc.constantFrom('a', 'b', 'in', 'not', 'x/y.z-_1', 'all', 'has');
const value = fc.constantFrom('', 'a', 'b', 'ab', 'ba', "'", '"', 'a b', '&&', 'é');
const quote = fc.constantFrom('"', "'");

function quoted(text: string, preferred: string): string {
  const mark = text.includes(preferred) ? (preferred === '"' ? "'" : '"') : preferred;
  return `${mark}${text}${mark}`;
}

const binary = fc
  .record({
    key,
    value,
    quote,
    before: gap,
    after: blank,
    operator: fc.constantFrom('==', '!=', 'contains', 'starts with', 'startswith', 'ends \t with'),
  })
  .map(({ key, value, quote, before, after, operator }): Model => ({
    spelling: `${key}${before}${operator}${after}${quoted(value, quote)}`,
    meaning: (labels) => {
      const actual = labels.get(key);
      if (operator === '!=') {
        return !labels.has(key) || actual !== value;
      }
      if (actual === undefined) {
        return false;
      }
      if (operator === '==') {
        return actual === value;
      }
      if (operator === 'contains') {
        return actual.split(value).length > 1 || value === '';
      }
      return operator.startsWith('starts')
        ? actual.slice(0, value.length) === value
        : actual.slice(actual.length - value.length) === value && value.length <= actual.length;
    },
  }));

const membership = fc
  .record({
    key,
    values: fc.array(value, { maxLength: 4 }),
    quote,
    space: blank,
    negated: fc.boolean(),
    comma: fc.boolean(),
  })
  .map(({ key, values, quote, space, negated, comma }): Model => {
    const list = values.map((item) => `${space}${quoted(item, quote)}${space}`).join(',');
    return {
      spelling: `${key} ${negated ? `not${space}in` : 'in'}${space}{${list}${comma && values.length > 0 ? ',' : ''}${space}}`,
      meaning: (labels) => {
        const found = labels.has(key) && values.some((item) => item === labels.get(key));
        return found !== negated;
      },
    };
  });

const has = fc.record({ key, space: blank }).map(({ key, space }): Model => ({
  spelling: `has(${space}${key}${space})`,
  meaning: (labels) => labels.has(key),
}));
const everything = fc
  .constantFrom('all()', 'all( )', 'global()')
  .map((spelling): Model => ({ spelling, meaning: () => true }));

const { selector } = fc.letrec<{ selector: Model; tight: Model; term: Model }>((tie) => ({
  // `tight` binds at least as strongly as &&'s operands must.
  term: fc.oneof({ depthSize: 'small' }, binary, membership, has, everything, tie('tight')),
  tight: fc.oneof(
    fc.tuple(blank, tie('selector'), blank).map(([before, inner, after]) => ({
      ...inner,
      spelling: `(${before}${inner.spelling}${after})`,
    })),
    fc.tuple(fc.integer({ min: 1, max: 3 }), blank, tie('term')).map(([count, space, inner]) => ({
      spelling: `${`!${space}`.repeat(count)}${inner.spelling}`,
      meaning: (labels: ReadonlyMap<string, string>) => inner.meaning(labels) !== (count % 2 === 1),
    })),
  ),
  selector: fc
    .tuple(fc.array(fc.array(tie('term'), { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 }), blank)
    .map(([groups, space]) => ({
      spelling: groups
        .map((group) => group.map((model) => model.spelling).join(`${space}&&${space}`))
        .join(`${space}||${space}`),
      meaning: (labels: ReadonlyMap<string, string>) =>
        groups.some((group) => !group.some((model) => !model.meaning(labels))),
    })),
}));

const someLabels = fc.array(fc.tuple(key, value), { maxLength: 5 });

describe(`selectors (seed ${seed})`, () => {
  test('mean what a naive evaluator says, however they are spelled, and so does their canonical text', () => {
    fc.assert(
      fc.property(
        selector,
        fc.array(someLabels, { minLength: 1, maxLength: 4 }),
        ({ spelling, meaning }, endpoints) => {
          const parsed = parseSelector(spelling);
          const again = parseSelector(parsed.text);
          expect(again.text).toBe(parsed.text);
          expect(again.tree).toEqual(parsed.tree);
          for (const labels of endpoints) {
            const map = new Map<string, string>(labels);
            const expected = meaning(map);
            expect(parsed.evaluate(Object.fromEntries(map))).toBe(expected);
            expect(parsed.evaluate((name) => map.get(name))).toBe(expected);
          }
        },
      ),
      bounded,
    );
  });

  test('arbitrary text is a selector or a SelectorError', () => {
    const shards = [
      'has(',
      'all()',
      'a',
      ' in ',
      ' not in ',
      '{',
      '}',
      '(',
      ')',
      '!',
      '==',
      '!=',
      '&&',
      '||',
      '"x"',
      "'",
      '"',
    ];
    const soup = fc.array(fc.constantFrom(...shards, ' contains ', ' starts ', 'with', ',', '\n', '='), {
      maxLength: 60,
    });
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary', maxLength: 200 }),
          soup.map((parts) => parts.join('')),
        ),
        (text) => {
          try {
            const { text: canonical } = parseSelector(text);
            expect(parseSelector(canonical).text).toBe(canonical);
          } catch (error) {
            expect((error as { code?: unknown }).code).toBe('bad-selector');
          }
        },
      ),
      bounded,
    );
  });

  test.each(['(', '!', '{', 'a', '"', ' ', 'a in {', 'has('])(
    '100,000 characters of %j end soon and in order',
    (shard) => {
      expect(() => parseSelector(shard.repeat(Math.ceil(100_000 / shard.length)).concat('\n'))).toThrow(
        expect.objectContaining({ code: 'bad-selector' }),
      );
    },
  );
});
