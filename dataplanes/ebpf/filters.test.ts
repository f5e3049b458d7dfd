import { expect, test } from '@jest/globals';
import type { Filter, Netlink, NetlinkOp } from '#native/types.ts';
import { attach, type AttachedState, detach, type FilterPair, ourFilter } from './filters.ts';

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

const pair: FilterPair = {
  names: { ingress: 'tortie_from_pod', egress: 'tortie_to_pod' },
  ingress: { id: 1, fd: 11 },
  egress: { id: 2, fd: 12 },
};
const nothing: AttachedState = { attached: 'no', clsact: 'unknown', others: [] };
const namesOf = (filters: readonly Filter[]) => filters.map(({ name }) => name);
const [asGuests, asHosts] = [namesOf(ours('/guest')), namesOf(ours())] as const;

/** As the kernel does it: a list for each call, in which an op that fails doesn't stop those behind it. */
class FakeKernel {
  qdisc: 'clsact' | 'ingress' | undefined;
  /** What comes behind the look at qdiscs. */
  late: 'clsact' | 'ingress' | undefined;
  refuses: string | undefined;
  readonly names = new Map<string, string>();
  readonly calls: string[][] = [];

  qdiscs = () => {
    const qdiscs = this.qdisc === undefined ? [] : [{ kind: this.qdisc, linkIndex: 7, isRoot: false }];
    this.qdisc ??= this.late;
    return Promise.resolve([{ kind: 'noqueue', linkIndex: 7, isRoot: true }, ...qdiscs]);
  };
  hasClsact = () => Promise.resolve(this.qdisc === 'clsact');
  filters = (_: number, direction: string) =>
    Promise.resolve([...this.names].filter(([place]) => place === direction).map(([, name]) => ({ name })));
  batch = (ops: readonly NetlinkOp[]) => {
    this.calls.push(ops.map(({ op }) => op));
    return Promise.resolve(ops.map((op) => this.#do(op)));
  };
  run = async (ops: readonly NetlinkOp[]) => {
    for (const result of await this.batch(ops)) if (!result.ok) throw result.error;
  };

  #do(op: NetlinkOp): { ok: true } | { ok: false; error: Error } {
    const fail = (code: string) => ({ ok: false as const, error: Object.assign(new Error(code), { code }) });
    switch (op.op) {
      case 'clsact.add':
        if (this.qdisc !== undefined) return fail('EEXIST');
        this.qdisc = 'clsact';
        return { ok: true };
      case 'clsact.del':
        this.qdisc = undefined;
        this.names.clear();
        return { ok: true };
      case 'filter.replace':
        if (this.qdisc === undefined) return fail('EINVAL');
        if (op.direction === this.refuses) return fail('ENOMEM');
        this.names.set(this.qdisc === 'ingress' ? 'ingress' : op.direction, op.name ?? '');
        return { ok: true };
      case 'filter.del':
        return this.names.delete(op.direction) ? { ok: true } : fail('ENOENT');
      default:
        return fail('EOPNOTSUPP');
    }
  }
}

interface AttachCase {
  readonly title: string;
  readonly kernel?: Partial<Pick<FakeKernel, 'qdisc' | 'late' | 'refuses'>>;
  readonly state?: Partial<AttachedState>;
  readonly throws?: object;
  readonly calls: readonly (readonly string[])[];
  readonly names?: readonly (string | undefined)[];
  readonly qdisc?: 'clsact' | 'ingress';
}

const both = ['filter.replace', 'filter.replace'];
const make = ['clsact.add', 'filter.replace'];
test.each<AttachCase>([
  {
    title: 'a qdisc comes with the first filter, which says that it is ours',
    calls: [make, ['filter.replace']],
    names: asHosts,
    qdisc: 'clsact',
  },
  {
    title: 'on a bare qdisc that was there before us filters are guests, from the first moment on',
    kernel: { qdisc: 'clsact' },
    calls: [both],
    names: asGuests,
    qdisc: 'clsact',
  },
  {
    title: 'on ours the missing one is put back',
    kernel: { qdisc: 'clsact' },
    state: { clsact: 'ours' },
    calls: [both],
    names: asHosts,
    qdisc: 'clsact',
  },
  {
    title: 'older ones are replaced without a look at qdiscs: theirs is known',
    kernel: { qdisc: 'clsact' },
    state: { attached: 'stale', clsact: 'foreign' },
    calls: [both],
    names: asGuests,
    qdisc: 'clsact',
  },
  {
    title: 'a qdisc that somebody makes meanwhile is his: the filter is named so',
    kernel: { late: 'clsact' },
    calls: [make, both],
    names: asGuests,
    qdisc: 'clsact',
  },
  {
    title: 'the qdisc `ingress` gets no filter',
    kernel: { qdisc: 'ingress' },
    throws: { code: 'INGRESS_QDISC' },
    calls: [],
    names: [],
    qdisc: 'ingress',
  },
  {
    title: 'nor keeps one if it comes meanwhile, and never has the one of the other direction',
    kernel: { late: 'ingress' },
    throws: { code: 'INGRESS_QDISC' },
    calls: [make, ['filter.del']],
    names: [],
    qdisc: 'ingress',
  },
  {
    title: 'a qdisc that gets no filter goes again',
    kernel: { refuses: 'ingress' },
    throws: { code: 'ENOMEM' },
    calls: [make, ['clsact.del']],
    names: [],
  },
  {
    title: 'one that gets the first only is known by that',
    kernel: { refuses: 'egress' },
    throws: { code: 'ENOMEM' },
    calls: [make, ['filter.replace']],
    names: asHosts.slice(0, 1),
    qdisc: 'clsact',
  },
])('$title', async ({ kernel: initial, state, throws, calls, names, qdisc }) => {
  const kernel = Object.assign(new FakeKernel(), initial);
  const attached = attach(kernel as unknown as Netlink, 7, pair, { ...nothing, ...state });
  if (throws === undefined) await attached;
  else await expect(attached).rejects.toMatchObject(throws);
  expect(kernel.calls).toEqual(calls);
  expect([...kernel.names.values()]).toEqual(names);
  expect(kernel.qdisc).toBe(qdisc);
});
