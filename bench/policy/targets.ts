import type { Table } from '../lib/report.ts';
import type { Cell, PolicyResults } from './results.ts';

/** What a figure of the eBPF dataplane is to be. */
export interface Target {
  /** For people. */
  readonly words: string;
  readonly part: string;
  /** Every one of these cases must be so; undefined: every case of the part. */
  readonly cases?: readonly string[];
  /** A figure's key, or a ratio's title. */
  readonly what: { readonly figure: string } | { readonly ratio: string };
  readonly limit: number;
  /** `most`: no more than the limit; `least`: no less. */
  readonly bound: 'most' | 'least';
}

/** Of what a target asks: met by all of its cases, missed by one, or not known of all. */
export type Outcome = 'met' | 'missed' | 'not measured';

/** The targets of the dataplane: docs/performance.md. */
export const targets: readonly Target[] = [
  {
    words: 'connect p50 with 10,000 rules, to 10 rules',
    part: 'connect',
    cases: ['10,000 rules'],
    what: { ratio: 'p50 to 10 rules' },
    limit: 1.1,
    bound: 'most',
  },
  ...["another node's pod: other role", "this node's pod: other role", "this node's pod: other policies"].map(
    (name): Target => ({
      words: `label change, ${name}, p50 ms`,
      part: 'label',
      cases: [name],
      what: { figure: 'p50Ms' },
      limit: 1,
      bound: 'most',
    }),
  ),
  {
    words: 'start with 1,000 pods, ms',
    part: 'start',
    cases: ['1,000 remote pods, restart', '1,000 remote pods, first start'],
    what: { figure: 'readyMs' },
    limit: 1500,
    bound: 'most',
  },
  { words: 'ADD p50, to iptables', part: 'add', what: { ratio: 'p50 to iptables' }, limit: 1.1, bound: 'most' },
  {
    words: 'sweep of 1,000,000 flows, % of a core',
    part: 'sweep',
    // All at once, deleted, is left out: a million flows end once.
    cases: ['nothing over', '2 % marked', '2 % deleted', 'half of them pointers', 'all marked'],
    what: { figure: 'corePercent' },
    limit: 5,
    bound: 'most',
  },
  ...(['same node', 'across nodes'] as const).flatMap((name): Target[] => [
    {
      words: `${name}: TCP throughput, to ptp`,
      part: 'tcp',
      cases: [name],
      what: { ratio: 'Gbit/s to ptp' },
      limit: 1,
      bound: 'least',
    },
    {
      words: `${name}: TCP_RR p50, to ptp`,
      part: 'tcp',
      cases: [name],
      what: { ratio: 'RR p50 to ptp' },
      limit: 1,
      bound: 'most',
    },
  ]),
];

/** What a target's worst case is, and whether that is good enough. */
export function judge(
  { part, cases, what, limit, bound }: Target,
  results: Pick<PolicyResults, 'parts'>,
): { readonly worst: number | undefined; readonly outcome: Outcome } {
  const cells = (results.parts.find(({ name }) => name === part)?.cells ?? []).filter(({ side }) => side === 'ebpf');
  const wanted: readonly (Cell | undefined)[] =
    cases === undefined ? cells : cases.map((name) => cells.find((cell) => cell.case === name));
  const values = wanted.flatMap((cell) => {
    const value = 'figure' in what ? cell?.figures[what.figure] : cell?.ratios[what.ratio];
    return value === undefined || Number.isNaN(value) ? [] : [value];
  });
  if (values.length === 0) return { worst: undefined, outcome: 'not measured' };
  const worst = bound === 'most' ? Math.max(...values) : Math.min(...values);
  const isMet = bound === 'most' ? worst <= limit : worst >= limit;
  if (!isMet) return { worst, outcome: 'missed' };
  return { worst, outcome: values.length === wanted.length ? 'met' : 'not measured' };
}

/** Rows of targets, for people. */
export function targetTable(results: Pick<PolicyResults, 'parts'>): Table {
  return [
    ['eBPF', 'target', 'found', ''],
    ...targets.map((target) => {
      const { worst, outcome } = judge(target, results);
      const digits = target.limit >= 100 ? 0 : 2;
      return [
        target.words,
        `at ${target.bound} ${target.limit}`,
        worst === undefined ? '' : worst.toFixed(digits),
        outcome,
      ];
    }),
  ];
}
