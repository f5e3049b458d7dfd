import type { CalcGraph } from '#agent/calc/calc-graph.ts';
import type { DataplaneUpdate } from '#dataplanes/messages.ts';
import { quantile } from '../lib/report.ts';

/** Times of changes, in microseconds. */
export interface Spread {
  readonly p50: number;
  readonly p99: number;
}

/** One change after the other; `prepare` isn't timed, the change and its flush are. */
export function repeat(times: number, prepare: (round: number) => () => void, graph: CalcGraph): Spread {
  const took: number[] = [];
  for (let round = 0; round < times; round++) {
    const change = prepare(round);
    const began = performance.now();
    change();
    graph.flush();
    took.push((performance.now() - began) * 1000);
  }
  return { p50: quantile(took, 0.5), p99: quantile(took, 0.99) };
}

/** What lives on the heap, and how long it took to find out. Needs `--expose-gc`. */
export function heapUsed(): { readonly bytes: number; readonly ms: number } {
  const began = performance.now();
  if (globalThis.gc === undefined) throw new Error('run with --expose-gc');
  globalThis.gc();
  globalThis.gc();
  return { bytes: process.memoryUsage().heapUsed, ms: performance.now() - began };
}

/** A benchmark that measures nothing must not go unnoticed. */
export function mustSay(updates: readonly DataplaneUpdate[], type: DataplaneUpdate['type']): void {
  if (!updates.some((update) => update.type === type)) throw new Error(`no ${type} among ${updates.length} messages`);
}
