/** The table as data: nothing is forgotten, and every line can be read. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { questionsOf } from './line.ts';
import type { Expectation, Row } from './row.ts';
import { rows } from './rows/index.ts';
import { bothFamilies } from './runner.ts';

/** Facts that the table must have rows for: Calico's, those of its eBPF dataplane, and those of Cilium's. */
const facts = { core: 40, ebpf: 40, cilium: 40 } as const;

/** The names of a file's tests that are neither skipped nor made of a table. */
const testNames = (source: string): readonly string[] =>
  [...source.matchAll(/^\s*(?:it|test)\(\s*(['"`])((?:\\.|(?!\1).)*)\1/gms)].map(([, , text = '']) =>
    text.replaceAll(/\\(.)/g, '$1'),
  );

const expectationsOf = (row: Row): readonly Expectation[] =>
  row.phases.flatMap(({ do: actions = [], expect: expected = {} }) => [
    ...actions.flatMap((action) => ('sabotage' in action ? [action.until] : [])),
    ...bothFamilies.map((family) => (typeof expected === 'function' ? expected(family) : expected)),
  ]);

describe('the behaviour table', () => {
  it.each(Object.entries(facts))('has a row for each fact of %s', (group, count) => {
    const sources = new Set(rows.flatMap(({ source }) => source));
    const numbers = Array.from({ length: count }, (_, index) => `${group} ${index + 1}`);
    expect(numbers.filter((number) => !sources.has(number))).toEqual([]);
  });

  it('has each name once', () => {
    const names = rows.map(({ name }) => name);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  });

  it('has lines that can be read', () => {
    for (const row of rows) {
      for (const { reaches = [], refused = [], nothing = [] } of expectationsOf(row)) {
        for (const line of [...reaches, ...refused, ...nothing]) expect(questionsOf(line).length).toBeGreaterThan(0);
      }
    }
  });

  it('has something to look at in every row that can be run', () => {
    const idle = rows.filter((row) => {
      const does = row.phases.some(({ do: actions = [] }) => actions.some((action) => 'act' in action));
      const looks = expectationsOf(row).some((expected) => Object.keys(expected).length > 0);
      const lacks = (row.needs ?? []).some((need) => typeof need === 'object');
      return !lacks && !does && !looks && row.provedBy === undefined;
    });
    expect(idle.map(({ name }) => name)).toEqual([]);
  });

  it.each(
    rows.flatMap(({ name, phases, provedBy }) => (provedBy === undefined ? [] : [{ name, phases, ...provedBy }])),
  )('has its proof where it says: $name', ({ file, test, phases }) => {
    expect(phases).toEqual([]);
    expect(testNames(readFileSync(join(import.meta.dirname, '../..', file), 'utf8'))).toContain(test);
  });
});

describe('a line of the table', () => {
  it('asks every sender and every receiver on every port, and nobody itself', () => {
    const texts = questionsOf('a,b > b,c tcp,udp 80,90').map(({ text }) => text);
    expect(texts).toHaveLength(3 * 4);
    expect(texts).not.toContain('b > b tcp 80');
  });

  it('names ports, addresses, sizes and as whom one is seen', () => {
    expect(questionsOf('a@stranger:4000 > outside@edge16 udp 53 of 9 bytes as node1')).toMatchObject([
      { source: 'stranger', sourcePort: 4000, destination: 'edge16', number: 53, bytes: 9, seenAs: 'node1' },
    ]);
  });

  it('has more than one who may answer, and whom a Service chooses', () => {
    expect(questionsOf('a > b|c@shop tcp 88')).toMatchObject([
      { to: 'b', orElse: ['c'], destination: 'shop', number: 88 },
    ]);
  });

  it.each(['a to b', 'a > b gopher', 'a >b', 'a > b tcp x'])('%j is none', (line) => {
    expect(() => questionsOf(line)).toThrow(/no line|no protocol/);
  });
});
