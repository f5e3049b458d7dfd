import { expect, test } from '@jest/globals';
import type { DataplaneFlows, FlowExportItem, FlowScope } from '../flows.ts';
import { type Handover, LoadedFlows } from './loaded-flows.ts';

const unused = (): never => {
  throw new Error('not asked');
};
const scope: FlowScope = { local: new Set() };
const none = async function* (): AsyncGenerator<FlowExportItem> {};
const { signal } = new AbortController();

/** One over a table that has nothing, and what it said of handing over. */
function loaded(importFlows: DataplaneFlows['importFlows'] = unused): [LoadedFlows, (Handover | undefined)[]] {
  const told: (Handover | undefined)[] = [];
  const table: DataplaneFlows = { list: unused, delete: unused, exportFlows: none, importFlows };
  return [
    new LoadedFlows(
      () => table,
      (handover) => told.push(handover),
    ),
    told,
  ];
}

test('flows are being taken over as long as the import lasts, also when it fails', async () => {
  const [flows, told] = loaded(() => Promise.reject(new Error('no')));
  const importing = flows.importFlows(none(), scope);
  expect(told).toEqual(['in']);
  await expect(importing).rejects.toThrow('no');
  expect(told).toEqual(['in', undefined]);
});

test('flows are being handed over for good with the last export, not with those before', () => {
  const [flows, told] = loaded();
  flows.exportFlows(scope, signal);
  expect(told).toEqual([]);
  flows.exportFlows({ ...scope, isLeaving: true }, signal);
  expect(told).toEqual(['out']);
});

test('without maps there are no flows, and nothing is handed over', async () => {
  const told: (Handover | undefined)[] = [];
  const flows = new LoadedFlows(
    () => undefined,
    (handover) => told.push(handover),
  );
  expect(() => flows.exportFlows({ ...scope, isLeaving: true }, signal)).toThrow(
    expect.objectContaining({ code: 'NOT_LOADED' }),
  );
  await expect(flows.importFlows(none(), scope)).rejects.toMatchObject({ code: 'NOT_LOADED' });
  expect(told).toEqual([]);
});
