import { describe, expect, test } from '@jest/globals';
import type { DataplaneFlows, FlowExportItem, FlowImportReport } from '#dataplanes/flows.ts';
import { pino } from 'pino';
import { FlowTakeOver } from './flow-take-over.ts';

const silentLog = pino({ level: 'silent' });
const report: FlowImportReport = { imported: 0, present: 0, skipped: {}, failed: { count: 0, examples: [] } };

/** What happens, in order. */
function pair(exporting: (signal: AbortSignal) => AsyncIterable<FlowExportItem>) {
  const seen: string[] = [];
  const unused = (): never => {
    throw new Error('nobody asks for this');
  };
  const base = { list: unused, delete: unused, exportFlows: unused, importFlows: unused };
  const from: DataplaneFlows = { ...base, exportFlows: (_, signal) => exporting(signal) };
  const to: DataplaneFlows = {
    ...base,
    importFlows: async (items, { local, isLeaving }, onWhole) => {
      seen.push(`import for ${[...local].join()}${isLeaving === true ? ', the last' : ''}`);
      for await (const { type } of items) {
        seen.push(type);
        if (type === 'whole') onWhole?.(report);
      }
      seen.push('end');
      return report;
    },
  };
  return { from, to, seen };
}

const pods = (): ReadonlySet<string> => new Set(['10.65.0.2']);

async function* untilAborted(signal: AbortSignal): AsyncGenerator<FlowExportItem> {
  yield { type: 'whole' };
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  yield { type: 'flows', flows: [] };
}

describe('flows of the dataplane that leaves', () => {
  test('are carried whole before the other enters, then changes; once more, and no longer, before the first leaves', async () => {
    const { from, to, seen } = pair(untilAborted);
    const took = ['import for 10.65.0.2', 'whole', 'flows', 'end'];
    {
      await using takeOver = new FlowTakeOver(from, to, pods, silentLog);
      await takeOver.begin();
      expect(seen).toEqual(['import for 10.65.0.2', 'whole']);
      await takeOver.beforeRelease();
      expect(seen.splice(0)).toEqual([...took, 'import for 10.65.0.2, the last', ...took.slice(1)]);
    }
    expect(seen).toEqual([]);
  });

  test('are carried once more, with what is told last, before it leaves, where changes are not told', async () => {
    const { from, to, seen } = pair(async function* (): AsyncGenerator<FlowExportItem> {
      yield { type: 'whole' };
    });
    await using takeOver = new FlowTakeOver(from, to, pods, silentLog);
    await takeOver.begin();
    await takeOver.beforeRelease();
    expect(seen.filter((what) => what !== 'end')).toEqual([
      'import for 10.65.0.2',
      'whole',
      'import for 10.65.0.2, the last',
      'whole',
    ]);
  });

  test('that can not be told stop nothing, and neither does a dataplane without flows', async () => {
    const { from, to } = pair(() => {
      throw new Error('no events');
    });
    await using takeOver = new FlowTakeOver(from, to, pods, silentLog);
    await takeOver.begin();
    await takeOver.beforeRelease();
    await using nothing = new FlowTakeOver(undefined, to, pods, silentLog);
    await nothing.begin();
  });
});
