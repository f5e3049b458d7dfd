/** The behaviour table: every row on every combination of dataplane and family, by real packets. */
import { afterAll, beforeAll, describe, it } from '@jest/globals';
import { Bed } from './bed.ts';
import { capabilitiesOf, combinations } from './combinations.ts';
import type { Need } from './row.ts';
import { rows } from './rows/index.ts';
import { bothFamilies, runRow, type RowResult } from './runner.ts';

const timeoutMs = 120_000;
const tables = await Promise.all(
  combinations.map(async (combination) => ({
    combination,
    capabilities: await capabilitiesOf(combination),
  })),
);

describe.each(tables)('$combination.name', ({ combination, capabilities }) => {
  let bed: Bed;
  beforeAll(async () => {
    bed = await Bed.start(combination);
  }, timeoutMs);
  afterAll(() => bed[Symbol.asyncDispose](), timeoutMs);

  /** Why the row can't be run here. */
  const missing = (needs: readonly Need[]): readonly string[] =>
    needs.flatMap((need) => {
      if (typeof need === 'object') return [need.lacks];
      const isOther = need === 'otherVariant' || need === 'otherDataplane';
      const has = isOther ? combination[need] !== undefined : capabilities[need];
      return has ? [] : [`the dataplane has not: ${need}`];
    });

  for (const row of rows) {
    const reasons = missing(row.needs ?? []);
    const test = reasons.length === 0 ? it : it.skip;
    const name = `[${row.source.join(', ')}] ${row.name}${reasons.length === 0 ? '' : ` (skipped: ${reasons.join('; ')})`}`;
    // One run serves both families; each is a result of its own.
    let result: Promise<RowResult> | undefined;
    for (const family of bothFamilies) {
      test(
        `${name}: ${family}`,
        async () => {
          result ??= runRow(bed, row);
          const failure = (await result)[family];
          if (failure !== undefined) throw failure;
        },
        timeoutMs,
      );
    }
  }
});
