import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { CalcGraph } from './calc-graph.ts';
import { ModelDataplane } from './model-for-tests.ts';
import { referenceState } from './reference-for-tests.ts';
import { clusterOf, give, inputs, keyOf, self, type Input } from './world-for-tests.ts';

/** `SOAK_SECONDS` makes it long. */
const soakMs = Number(process.env['SOAK_SECONDS'] ?? 0) * 1000;
const bounds =
  soakMs > 0
    ? { numRuns: 1_000_000, interruptAfterTimeLimit: soakMs }
    : { numRuns: 400, interruptAfterTimeLimit: 2_000 };

const sequence = fc.array(fc.record({ input: inputs, flush: fc.boolean() }), {
  minLength: 1,
  maxLength: 80,
  size: 'max',
});

/** The last input about each object, in the order of their first. */
function last(steps: readonly Input[]): readonly Input[] {
  return [...new Map(steps.map((input) => [keyOf(input), input])).values()];
}

describe('calc, whatever comes in whatever order', () => {
  test(
    'reaches the state that follows from all objects at once, and never refers to what it has not announced',
    () => {
      fc.assert(
        fc.property(sequence, (steps) => {
          const graph = new CalcGraph(self);
          const model = new ModelDataplane();
          for (const { input, flush } of steps) {
            give(graph, input);
            if (flush) model.tell(graph.flush());
          }
          model.tell(graph.flush());
          expect(model.state()).toEqual(referenceState(clusterOf(last(steps.map(({ input }) => input))), self));
          expect(graph.flush()).toEqual([]);
        }),
        bounds,
      );
    },
    soakMs + 30_000,
  );

  test(
    'reaches the same state when it starts anew with the same objects in another order, some of them said twice',
    () => {
      fc.assert(
        fc.property(sequence, fc.infiniteStream(fc.nat()), (steps, random) => {
          const present = last(steps.map(({ input }) => input)).filter(({ isPresent }) => isPresent);
          const shuffled = [...present, ...present.slice(0, 5)]
            .map((input) => ({ input, at: random.next().value ?? 0 }))
            .toSorted((a, b) => a.at - b.at);
          const graph = new CalcGraph(self);
          const model = new ModelDataplane();
          for (const { input } of shuffled) give(graph, input);
          model.tell(graph.flush());
          expect(model.state()).toEqual(referenceState(clusterOf(present), self));
        }),
        bounds,
      );
    },
    soakMs + 30_000,
  );

  test(
    'says nothing when everything is taken back before anyone was told, and takes everything back when all goes',
    () => {
      fc.assert(
        fc.property(sequence, fc.boolean(), (steps, isTold) => {
          const graph = new CalcGraph(self);
          const model = new ModelDataplane();
          for (const { input } of steps) give(graph, input);
          if (isTold) model.tell(graph.flush());
          for (const { input } of steps.toReversed()) give(graph, { ...input, isPresent: false });
          const updates = graph.flush();
          if (!isTold) expect(updates).toEqual([]);
          model.tell(updates);
          expect(model.state()).toEqual(referenceState({}, self));
          expect(graph.stats()).toMatchObject({
            activeLocalEndpoints: 0,
            activePolicies: 0,
            activeSelectors: 0,
            policies: 0,
          });
        }),
        bounds,
      );
    },
    soakMs + 30_000,
  );
});
