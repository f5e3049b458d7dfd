import { describe, expect, test } from '@jest/globals';
import { markdownOf, withFigures } from './markdown.ts';
import { plotOf } from './plot.ts';
import { absentOf, Collected, tableOf, type PartResult } from './results.ts';

const p50 = { key: 'p50', title: 'p50 us', digits: 1 };

function part(collected: Collected): PartResult {
  const to = (cell: { readonly case: string }) => ({ case: cell.case, side: 'ptp' });
  return {
    name: 'connect',
    title: 'Connect',
    method: 'In turn.',
    figures: [p50],
    ratios: ['to ptp'],
    cells: collected.cells([{ title: 'to ptp', figure: 'p50', to }]),
    absent: [{ side: 'ebpf', reason: 'not yet' }],
  };
}

function threeRounds(): Collected {
  const collected = new Collected();
  for (const [round, [plain, ours]] of [
    [10, 20],
    [100, 110],
    [1000, 4000],
  ].entries()) {
    collected.add(round, { case: 'same node', side: 'ptp' }, { p50: plain ?? 0 });
    collected.add(round, { case: 'same node', side: 'iptables' }, { p50: ours ?? 0 });
  }
  return collected;
}

describe('what a run has found', () => {
  test('figures are medians over the rounds, ratios medians of what each round gives', () => {
    const [ptp, iptables] = threeRounds().cells([
      { title: 'to ptp', figure: 'p50', to: (cell) => ({ case: cell.case, side: 'ptp' }) },
    ]);
    expect(ptp).toMatchObject({ figures: { p50: 100 }, ratios: { 'to ptp': 1 } });
    // 2, 1.1 and 4: the ratio of the medians would be 1.1.
    expect(iptables).toMatchObject({ figures: { p50: 110 }, ratios: { 'to ptp': 2 } });
  });

  test('a round that only one of the two was measured in makes no ratio', () => {
    const collected = new Collected();
    collected.add(0, { case: 'a', side: 'iptables' }, { p50: 5 });
    collected.add(1, { case: 'a', side: 'ptp' }, { p50: 5 });
    expect(part(collected).cells.map(({ ratios }) => ratios)).toEqual([{}, { 'to ptp': 1 }]);
  });

  test('rows by case and side; who was not measured is named with the reason', () => {
    expect(absentOf(part(threeRounds()))).toEqual(['ebpf: not yet']);
    expect(tableOf(part(threeRounds()))).toEqual([
      ['', 'side', 'p50 us', 'to ptp'],
      ['same node', 'ptp', '100.0', '1.00'],
      ['same node', 'iptables', '110.0', '2.00'],
    ]);
  });
});

describe('what is published of it', () => {
  const conditions = {
    machine: 'Linux 6.18, 2 x CPU',
    cpus: 2,
    memoryGib: 24,
    date: '2026-01-02',
    iptables: 'iptables v1.8.9',
    load: [0.1, 1.2],
    busy: [0.01, 0.02],
    stolen: 0,
  };

  test('conditions, method, plot and table, between the marks, again and again', () => {
    const results = { conditions, quiet: true, rounds: 3, parts: [part(threeRounds())] };
    const figures = markdownOf(results, (name) => `performance/${name}.svg`);
    expect(figures).toContain('others used 1 % and 2 % of the CPUs before and after');
    expect(figures).toContain('![Connect](performance/connect.svg)');
    expect(figures).toContain('\n\nNot measured: ebpf: not yet.');
    expect(figures).toContain('|-|-|-:|-:|\n| same node | ptp | 100.0 | 1.00 |');
    const marks = (text: string) =>
      `before\n<!-- made by bench/policy-docs.ts: begin -->\n${text}\n<!-- made by bench/policy-docs.ts: end -->\nafter\n`;
    expect(withFigures(marks('old'), figures)).toBe(marks(figures));
    expect(() => withFigures('no marks', figures)).toThrow('no place');
  });

  test('a plot has a bar for each cell, none above its scale', () => {
    const svg = plotOf({ ...part(threeRounds()), title: 'a < b & c' });
    const heights = [...svg.matchAll(/height="([\d.]+)" fill="#(?:9a9a9a|4878a8)"/g)].map((match) => Number(match[1]));
    // Two squares of the legend, and the bars: 100 and 110 of 200.
    expect(heights).toEqual([10, 10, 102, 112.2]);
    expect(svg).toContain('a &lt; b &amp; c: p50 us');
  });
});
