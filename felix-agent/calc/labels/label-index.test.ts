import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseSelector, type Selector } from '#api/selector/selector.ts';
import { LabelIndex, type LabelRecord, type LabelSources } from './label-index.ts';

interface Thing {
  readonly name: string;
}

const labels = fc.record(
  { a: fc.constantFrom('x', 'y'), b: fc.constantFrom('x', 'y'), constructor: fc.constant('x') },
  { requiredKeys: [] },
) as fc.Arbitrary<LabelRecord>;
const layerIds = ['ns1', 'ns2'];
const texts = [
  'all()',
  "a == 'x'",
  "a == 'x' || b == 'y'",
  "a in {'x','y'} && b != 'x'",
  'has(b)',
  '!has(a)',
  "b contains 'y' && has(a)",
  'has(constructor)',
  "!(a == 'y' && has(b))",
];
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      item: fc.constantFrom(0, 1, 2),
      own: labels,
      over: fc.option(fc.constantFrom('x', 'y'), { nil: undefined }),
      parents: fc.subarray(layerIds),
    }),
  },
  fc.record({ item: fc.constantFrom(0, 1, 2) }),
  {
    weight: 2,
    arbitrary: fc.record({ layer: fc.constantFrom(...layerIds), labels: fc.option(labels, { nil: undefined }) }),
  },
  fc.record({ selector: fc.nat(texts.length - 1), isPresent: fc.boolean() }),
);

/** The label that counts: over, own, then the parents in order. */
function effective({ own, over, parents }: LabelSources, layers: ReadonlyMap<string, LabelRecord>): LabelRecord {
  return Object.assign({}, ...parents.map((id) => layers.get(id)).toReversed(), own, over?.labels) as LabelRecord;
}

test('the index tells of every pair that begins or ceases to match, and of no other', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
      const things: readonly Thing[] = [{ name: '0' }, { name: '1' }, { name: '2' }];
      const selectors: readonly { readonly text: string; readonly selector: Selector }[] = texts.map((text) => ({
        text,
        selector: parseSelector(text),
      }));
      const matches = new Set<string>();
      const pair = (selector: { readonly text: string }, thing: Thing) => `${selector.text} ${thing.name}`;
      const index = new LabelIndex<(typeof selectors)[number], Thing>({
        started: (selector, thing) => {
          expect(matches.has(pair(selector, thing))).toBe(false);
          matches.add(pair(selector, thing));
        },
        stopped: (selector, thing) => expect(matches.delete(pair(selector, thing))).toBe(true),
      });
      const items = new Map<Thing, LabelSources>();
      const layers = new Map<string, LabelRecord>();
      const active = new Set<(typeof selectors)[number]>();
      for (const action of steps) {
        if ('own' in action) {
          const { own, over, parents } = action;
          const sources: LabelSources = {
            own,
            parents,
            ...(over === undefined ? {} : { over: { id: `over ${over}`, labels: { a: over } } }),
          };
          items.set(things[action.item]!, sources);
          index.setItem(things[action.item]!, sources);
        } else if ('item' in action) {
          items.delete(things[action.item]!);
          index.removeItem(things[action.item]!);
        } else if ('layer' in action) {
          if (action.labels === undefined) layers.delete(action.layer);
          else layers.set(action.layer, action.labels);
          index.setLayer(action.layer, action.labels);
        } else {
          const selector = selectors[action.selector]!;
          if (action.isPresent && !active.has(selector)) {
            active.add(selector);
            index.addSelector(selector, selector.selector);
          } else if (!action.isPresent && active.delete(selector)) {
            // The listener isn't told.
            for (const thing of index.itemsOf(selector)) matches.delete(pair(selector, thing));
            index.removeSelector(selector);
          }
        }
        const expected = [...active].flatMap((selector) =>
          [...items]
            .filter(([, sources]) => selector.selector.evaluate(effective(sources, layers)))
            .map(([thing]) => pair(selector, thing)),
        );
        expect([...matches].sort()).toEqual(expected.sort());
        for (const thing of things) {
          expect([...index.selectorsOf(thing)].map((selector) => pair(selector, thing)).sort()).toEqual(
            expected.filter((text) => text.endsWith(` ${thing.name}`)).sort(),
          );
        }
      }
    }),
    { numRuns: 300, interruptAfterTimeLimit: 2_000 },
  );
});
