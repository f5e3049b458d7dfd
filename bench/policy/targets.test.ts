import { expect, test } from '@jest/globals';
import type { Cell, PartResult } from './results.ts';
import { judge, targets, targetTable, type Target } from './targets.ts';

const cell = (name: string, side: string, value: number): Cell => ({
  case: name,
  side,
  figures: { ms: value },
  ratios: { 'to ptp': value },
  rounds: [],
});

const part = (...cells: readonly Cell[]): PartResult => ({
  name: 'label',
  title: '',
  method: '',
  figures: [],
  ratios: [],
  cells,
  absent: [],
});

const most: Target = { words: 'a label', part: 'label', what: { figure: 'ms' }, limit: 1, bound: 'most' };
const least: Target = { ...most, what: { ratio: 'to ptp' }, bound: 'least' };

test.each<[string, Target, readonly Cell[], string, number | undefined]>([
  ['the limit itself is good enough', most, [cell('a', 'ebpf', 1)], 'met', 1],
  ['the worst case counts', most, [cell('a', 'ebpf', 0.5), cell('b', 'ebpf', 1.2)], 'missed', 1.2],
  ['the worst is the least where more is better', least, [cell('a', 'ebpf', 2), cell('b', 'ebpf', 0.9)], 'missed', 0.9],
  ['of other dataplanes nothing is asked', most, [cell('a', 'iptables', 9), cell('a', 'ebpf', 0.2)], 'met', 0.2],
  ['nobody was measured', most, [cell('a', 'iptables', 0.1)], 'not measured', undefined],
  ['a case is missing', { ...most, cases: ['a', 'b'] }, [cell('a', 'ebpf', 0.1)], 'not measured', 0.1],
  ['a case is missing, and another is missed', { ...most, cases: ['a', 'b'] }, [cell('b', 'ebpf', 2)], 'missed', 2],
  [
    'other cases are not asked about',
    { ...most, cases: ['a'] },
    [cell('a', 'ebpf', 1), cell('b', 'ebpf', 2)],
    'met',
    1,
  ],
])('%s', (_, target, cells, outcome, worst) => {
  expect(judge(target, { parts: [part(...cells)] })).toEqual({ worst, outcome });
});

test('a row for every target, measured or not', () => {
  const [head, ...rows] = targetTable({ parts: [] });
  expect(head).toHaveLength(4);
  expect(rows.map(([words]) => words)).toEqual(targets.map(({ words }) => words));
  expect(new Set(rows.map((row) => row[3]))).toEqual(new Set(['not measured']));
});
