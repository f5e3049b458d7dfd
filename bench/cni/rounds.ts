import type { Lab } from '#test/lab/lab.ts';
import { median, quantile, type Table } from '../lib/report.ts';
import type { Timing } from '../lib/exec-timer.ts';
import { Containers, shortName, sides, timeCalls, type Side } from './side.ts';

const verbs = ['ADD', 'DEL'] as const;

/** What was measured, per side and verb. */
export interface RoundData {
  readonly p50Ms: number;
  readonly p95Ms: number;
  /** The called program's own and its helpers', per call. */
  readonly cpuMs: number;
  readonly totalMs?: number;
}

/** One call at a time, the sides in turn: first every ADD, then every DEL. */
export async function sequentialRounds(
  lab: Lab,
  rounds: number,
): Promise<{ table: Table; data: Record<string, RoundData> }> {
  const containers = new Containers(lab);
  const both = sides(lab, containers);
  const collected = new Map<string, Timing[]>();
  const helperMs = new Map<string, number>();
  try {
    for (let round = 0; round < rounds; round++) {
      for (const side of both) await containers.create(shortName(side), round);
    }
    for (const verb of verbs) {
      for (let round = 0; round < rounds; round++) {
        for (const side of inTurn(both, round)) {
          const before = side.helperCpuMs();
          const { timings } = await timeCalls(lab, side, verb, [round], 1);
          const key = `${side.name} ${verb}`;
          collected.set(key, [...(collected.get(key) ?? []), ...timings]);
          helperMs.set(key, (helperMs.get(key) ?? 0) + side.helperCpuMs() - before);
        }
      }
    }
  } finally {
    await containers.removeAll();
  }
  const data: Record<string, RoundData> = {};
  for (const [key, timings] of collected) data[key] = summarize(timings, helperMs.get(key) ?? 0);
  return { table: toTable(data), data };
}

/** `count` calls, `concurrency` at a time; medians over the rounds of each round's total. */
export async function parallelRound(
  lab: Lab,
  count: number,
  concurrency: number,
  rounds: number,
): Promise<{ table: Table; data: Record<string, RoundData> }> {
  const collected = new Map<string, { timings: Timing[]; totals: number[]; helperMs: number }>();
  for (let round = 0; round < rounds; round++) {
    const containers = new Containers(lab);
    const both = sides(lab, containers);
    const numbers = Array.from({ length: count }, (_, index) => 10_000 + index);
    try {
      for (const side of both) for (const number of numbers) await containers.create(shortName(side), number);
      for (const verb of verbs) {
        for (const side of inTurn(both, round)) {
          const before = side.helperCpuMs();
          const { timings, totalMs } = await timeCalls(lab, side, verb, numbers, concurrency);
          const key = `${side.name} ${verb}`;
          const entry = collected.get(key) ?? { timings: [], totals: [], helperMs: 0 };
          entry.timings.push(...timings);
          entry.totals.push(totalMs);
          entry.helperMs += side.helperCpuMs() - before;
          collected.set(key, entry);
        }
      }
    } finally {
      await containers.removeAll();
    }
  }
  const data: Record<string, RoundData> = {};
  for (const [key, { timings, totals, helperMs }] of collected) {
    data[key] = { ...summarize(timings, helperMs), totalMs: median(totals) };
  }
  return { table: toTable(data), data };
}

/** Who goes first changes from round to round. */
function inTurn(both: readonly [Side, Side], round: number): readonly Side[] {
  return round % 2 === 0 ? both : both.toReversed();
}

function summarize(timings: readonly Timing[], helperMs: number): RoundData {
  const walls = timings.map(({ wallMs }) => wallMs);
  const own = timings.reduce((sum, { cpuMs }) => sum + cpuMs, 0);
  return { p50Ms: median(walls), p95Ms: quantile(walls, 0.95), cpuMs: (own + helperMs) / timings.length };
}

function toTable(data: Readonly<Record<string, RoundData>>): Table {
  const header = ['', 'p50 ms', 'p95 ms', 'CPU ms a call', 'all, ms', 'p50 to ptp'];
  const rows = Object.entries(data).map(([key, { p50Ms, p95Ms, cpuMs, totalMs }]) => {
    const verb = key.split(' ')[1] ?? '';
    const ratio = p50Ms / (data[`ptp ${verb}`]?.p50Ms ?? Number.NaN);
    return [key, p50Ms.toFixed(2), p95Ms.toFixed(2), cpuMs.toFixed(2), totalMs?.toFixed(0) ?? '', ratio.toFixed(2)];
  });
  return [header, ...rows];
}
