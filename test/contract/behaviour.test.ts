/**
 * The behaviour table: every row on every combination of dataplane and family, by real packets. A row runs on all combinations at the
 * same time, each in a lab of its own: most of a row is waiting. TT_COMBINATION=name leaves the others out, for work on one.
 */
import { afterAll, beforeAll, describe, it } from '@jest/globals';
import { Bed } from './bed.ts';
import { capabilitiesOf, combinations, type Combination } from './combinations.ts';
import type { Need, Row } from './row.ts';
import { rows } from './rows/index.ts';
import { bothFamilies, runRow, type RowResult } from './runner.ts';

const timeoutMs = 300_000;
const chosen = combinations.filter(({ name }) => (process.env['TT_COMBINATION'] ?? name) === name);
const capabilities = new Map(
  await Promise.all(chosen.map(async (combination) => [combination, await capabilitiesOf(combination)] as const)),
);
const beds = new Map<Combination, Promise<Bed>>();

beforeAll(async () => {
  for (const combination of chosen) beds.set(combination, Bed.start(combination));
  // One that can't start fails its own rows.
  await Promise.allSettled(beds.values());
}, timeoutMs);
afterAll(async () => {
  for (const started of await Promise.allSettled(beds.values())) {
    if (started.status === 'fulfilled') await started.value[Symbol.asyncDispose]();
  }
}, timeoutMs);

/** Why the row can't be run on the combination; empty when it can. */
function missing(combination: Combination, needs: readonly Need[] = []): readonly string[] {
  return needs.flatMap((need) => {
    if (typeof need === 'object') return [need.lacks];
    const isOther = need === 'otherVariant' || need === 'otherDataplane';
    const has = isOther ? combination[need] !== undefined : capabilities.get(combination)?.[need] === true;
    return has ? [] : [`the dataplane has not: ${need}`];
  });
}

async function runOn(combination: Combination, row: Row): Promise<RowResult> {
  const bed = await beds.get(combination);
  if (bed === undefined) throw new Error(`${combination.name} was not started`);
  return runRow(bed, row);
}

for (const row of rows.filter(({ provedBy }) => provedBy === undefined)) {
  describe(`[${row.source.join(', ')}] ${row.name}`, () => {
    // One run serves both families; each is a result of its own.
    let results: ReadonlyMap<Combination, Promise<RowResult>> | undefined;
    const able = chosen.filter((combination) => missing(combination, row.needs).length === 0);
    const start = () => {
      results ??= new Map(able.map((combination) => [combination, runOn(combination, row)]));
      return results;
    };
    // Rows are done one after the other on each bed.
    afterAll(() => Promise.allSettled([...(results?.values() ?? [])]), timeoutMs);

    for (const combination of chosen) {
      const reasons = missing(combination, row.needs);
      const test = reasons.length === 0 ? it : it.skip;
      for (const family of bothFamilies) {
        const skipped = reasons.length === 0 ? '' : ` (skipped: ${reasons.join('; ')})`;
        test(
          `${combination.name}, ${family}${skipped}`,
          async () => {
            const failure = (await start().get(combination))?.[family];
            if (failure !== undefined) throw failure;
          },
          timeoutMs,
        );
      }
    }
  });
}
