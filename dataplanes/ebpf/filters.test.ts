import { expect, test } from '@jest/globals';
import type { Filter, Netlink, NetlinkOp } from '#native/types.ts';
import { detach, ourFilter } from './filters.ts';

const ours = (suffix = ''): readonly Filter[] =>
  (['ingress', 'egress'] as const).map(
    (direction) =>
      ({ ...ourFilter, direction, name: `tortie_${direction === 'ingress' ? 'from' : 'to'}_pod${suffix}` }) as Filter,
  );
const others: readonly Filter[] = [{ direction: 'egress', priority: 7, handle: 1, name: 'theirs' } as Filter];

/** A device with these filters, and what is done to it, a list for each step. */
function device(filters: readonly Filter[]) {
  const steps: string[][] = [];
  const note = (ops: readonly NetlinkOp[]): void => void steps.push(ops.map(({ op }) => op));
  const host = {
    filters: (_: number, direction: string) =>
      Promise.resolve(steps.length > 0 ? [] : filters.filter((filter) => filter.direction === direction)),
    run: async (ops: readonly NetlinkOp[]) => note(ops),
    batch: async (ops: readonly NetlinkOp[]) => {
      note(ops);
      return ops.map(() => ({ ok: true }));
    },
  } as unknown as Netlink;
  return { host, steps };
}

test.each<[string, readonly Filter[], readonly (readonly string[])[]]>([
  ['ours alone on our qdisc go with it, in one step: a kill leaves all or nothing', ours(), [['clsact.del']]],
  ['a qdisc that was there before us stays', ours('/guest'), [['filter.del', 'filter.del']]],
  ['so do filters of others, with their qdisc', [...ours('/guest'), ...others], [['filter.del', 'filter.del']]],
  [
    'our qdisc goes when others have left it meanwhile',
    [...ours(), ...others],
    [['filter.del', 'filter.del'], ['clsact.del']],
  ],
  ['nothing is done where nothing of ours is', others, []],
])('%s', async (_, filters, expected) => {
  const { host, steps } = device(filters);
  expect(await detach(host, 7)).toBe(expected.length > 0);
  expect(steps).toEqual(expected);
});
