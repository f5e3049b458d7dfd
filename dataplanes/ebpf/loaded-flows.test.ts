import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { Turns } from '#native/turns.ts';
import type { DataplaneFlows, Flow, FlowExportItem, FlowScope } from '../flows.ts';
import { LoadedFlows } from './loaded-flows.ts';

const unused = (): never => {
  throw new Error('not asked');
};
const scope: FlowScope = { local: new Set() };
const leaving: FlowScope = { ...scope, isLeaving: true };
const none = async function* (): AsyncGenerator<FlowExportItem> {};
const { signal } = new AbortController();

/** Maps with one flow, which says whose it is. */
function mapsOf(name: string, more: Partial<DataplaneFlows> = {}) {
  const flow: Flow = {
    family: 4,
    protocol: 6,
    asked: { source: name, destination: name },
    delivered: { source: name, destination: name },
    state: 'established',
    crossesNetfilter: false,
    details: [],
  };
  const flows: DataplaneFlows = {
    list: unused,
    delete: () => Promise.resolve({ deleted: 1, failed: [name] }),
    exportFlows: async function* () {
      yield { type: 'flows', flows: [flow] };
      yield { type: 'whole' };
    },
    importFlows: unused,
    ...more,
  };
  return { flows, hasAllFlows: true, carryFlows: (): Promise<void> => unused() };
}

/** Flows over maps that may be replaced in a turn, and what they said, in order. */
function bed(more: Partial<DataplaneFlows> = {}) {
  const turns = new Turns();
  const told: (string | undefined)[] = [];
  const state: { loaded: ReturnType<typeof mapsOf> | undefined } = { loaded: mapsOf('former', more) };
  const flows = new LoadedFlows({
    loaded: () => state.loaded,
    inTurn: (work) => turns.run(work),
    onHandover: (handover) => told.push(handover),
    onTold: () => told.push('told'),
  });
  return { flows, told, turns, state };
}

async function namesOf(items: AsyncIterable<FlowExportItem>): Promise<string[]> {
  const names: string[] = [];
  for await (const item of items)
    names.push(...(item.type === 'flows' ? item.flows.map(({ asked }) => asked.source) : [item.type]));
  return names;
}

test('flows are being taken over as long as the import lasts, also when it fails', async () => {
  const { flows, told } = bed({ importFlows: () => Promise.reject(new Error('no')) });
  const importing = flows.importFlows(none(), scope);
  expect(told).toEqual(['in']);
  await expect(importing).rejects.toThrow('no');
  expect(told).toEqual(['in', undefined]);
});

test('flows are being handed over for good with the last export, not with those before', async () => {
  const { flows, told } = bed();
  await namesOf(flows.exportFlows(scope, signal));
  expect(told).toEqual(['told']);
  await namesOf(flows.exportFlows(leaving, signal));
  expect(told).toEqual(['told', 'out']);
});

test('without maps there are no flows, and nothing is handed over', async () => {
  const { flows, told, state } = bed();
  state.loaded = undefined;
  for (const asked of [namesOf(flows.exportFlows(leaving, signal)), flows.importFlows(none(), scope), flows.delete({})])
    await expect(asked).rejects.toMatchObject({ code: 'NOT_LOADED' });
  expect(told).toEqual([]);
});

describe('while other maps get the place of those in use', () => {
  test.each([
    ['an export', (flows: LoadedFlows) => namesOf(flows.exportFlows(scope, signal)), ['next', 'whole']],
    ['the last export', (flows: LoadedFlows) => namesOf(flows.exportFlows(leaving, signal)), ['next', 'whole']],
    ['a deletion', (flows: LoadedFlows) => flows.delete({}), { deleted: 1, failed: ['next'] }],
  ])('%s waits until these have the flows', async (_, ask, expected) => {
    const { flows, told, turns, state } = bed();
    const gate = Promise.withResolvers<void>();
    const applying = turns.run(async () => {
      state.loaded = mapsOf('empty');
      await gate.promise;
      state.loaded = mapsOf('next');
    });
    await nextTurn();
    const asking = ask(flows);
    await nextTurn();
    expect([told, flows.areTold]).toEqual([[], false]);
    gate.resolve();
    await applying;
    expect(await asking).toEqual(expected);
  });

  test('an export takes over itself what these have not got in a turn', async () => {
    const { flows, state } = bed();
    const carried: string[] = [];
    state.loaded = {
      ...mapsOf('next'),
      hasAllFlows: false,
      carryFlows: (when?: string) => Promise.resolve(void carried.push(String(when))),
    };
    expect(await namesOf(flows.exportFlows(scope, signal))).toEqual(['next', 'whole']);
    expect(carried).toEqual(['before']);
  });
});

test('while flows stand in former maps, from where they would be carried in again, none is deleted, and it is said why', async () => {
  const asked: string[] = [];
  const { flows, state } = bed();
  const next = mapsOf('next', { delete: () => Promise.resolve({ deleted: asked.push('next'), failed: [] }) });
  state.loaded = { ...next, hasAllFlows: false };
  expect(await flows.delete({ port: 80 })).toEqual({
    deleted: 0,
    failed: [expect.stringMatching(/^nothing is deleted yet: .*former.*"tortie status".*Ask again then$/)],
  });
  expect(asked).toEqual([]);
  state.loaded = next;
  expect(await flows.delete({ port: 80 })).toEqual({ deleted: 1, failed: [] });
});

test('that flows were deleted in maps that others have taken the place of is said: some may have been carried before', async () => {
  const gate = Promise.withResolvers<{ deleted: number; failed: string[] }>();
  const { flows, state } = bed({ delete: () => gate.promise });
  const deleting = flows.delete({ port: 80 });
  await nextTurn();
  state.loaded = mapsOf('next');
  gate.resolve({ deleted: 3, failed: ['the map is closed'] });
  expect(await deleting).toEqual({
    deleted: 3,
    failed: ['the map is closed', expect.stringMatching(/other BPF maps.*may have been carried.*Ask again$/)],
  });
});

test('flows are being told from the turn of an export until its end, be it early or a failure', async () => {
  const { flows, told } = bed();
  const [one, two] = [flows.exportFlows(scope, signal), flows.exportFlows(scope, signal)];
  expect(flows.areTold).toBe(false);
  await Promise.all([one.next(), two.next()]);
  await one.return();
  expect([flows.areTold, told]).toEqual([true, []]);
  await namesOf(two);
  expect([flows.areTold, told]).toEqual([false, ['told']]);
  const failing = bed({
    exportFlows: async function* () {
      yield* none();
      throw new Error('the map is closed');
    },
  });
  await expect(namesOf(failing.flows.exportFlows(scope, signal))).rejects.toThrow('closed');
  expect([failing.flows.areTold, failing.told]).toEqual([false, ['told']]);
});
