import { describe, expect, test } from '@jest/globals';
import type { FlowDeletion } from '../flows.ts';
import type { DataplaneUpdate } from '../messages.ts';
import { type FormerFlowMaps, FormerFlows } from './former-flows.ts';
import { newOutcome } from './pod-cycle.ts';
import { PodEndpoints } from './pod-endpoints.ts';

const address = '10.65.0.1';

const announced = (id: string, mac: string): DataplaneUpdate => ({
  type: 'workloadEndpointUpdate',
  id,
  endpoint: {
    ifaceName: `cali${id}`,
    mac,
    ipv4Nets: [`${address}/32`],
    ipv6Nets: [],
    allowedSourcePrefixes: [],
    tiers: [],
    profiles: [],
  },
});

const done: FlowDeletion = { deleted: 1, failed: [] };

/** Maps of which each deletion is written down, and ends as is said. */
function mapsOf(hasAllFlows: boolean, end: () => Promise<FlowDeletion> = () => Promise.resolve(done)) {
  const deletions: (readonly string[] | undefined)[] = [];
  const flows = {
    delete: ({ addresses }: { readonly addresses?: readonly string[] }) => {
      deletions.push(addresses);
      return end();
    },
  };
  return { flows, filters: { adopted: false }, hasAllFlows, deletions };
}

/** One that has been told of a pod which is gone, and over which maps. */
function bed(maps: FormerFlowMaps) {
  const endpoints = new PodEndpoints();
  const state = { loaded: maps };
  const ended: (() => void)[] = [];
  const flows = new FormerFlows({
    host: { addresses: () => Promise.resolve([]) },
    conntrack: { deleteOf: () => Promise.resolve(0) },
    endpoints,
    loaded: () => state.loaded,
    onDone: () => {
      for (const each of ended.splice(0)) each();
    },
  });
  const say = (update: DataplaneUpdate): void => {
    endpoints.record(update);
    flows.record(update);
  };
  say({ type: 'inSync' });
  say(announced('gone', '0a:58:00:00:00:01'));
  say({ type: 'workloadEndpointRemove', id: 'gone' });
  return {
    flows,
    state,
    say,
    /** When a deletion that nobody has waited for has ended. */
    deleted: () => new Promise<void>((resolve) => void ended.push(resolve)),
    /** What an apply does, and what it reports. */
    cycle: async (state: 'no' | 'waiting' | 'yes' = 'yes') => {
      const outcome = newOutcome();
      flows.begin();
      await flows.forget(state, outcome);
      return outcome.failed.map(({ object }) => object);
    },
  };
}

describe('flows of a pod that is gone, while other maps get the place of those in use', () => {
  test('are forgotten in these when they have them, and not before', async () => {
    const gate = Promise.withResolvers<FlowDeletion>();
    const former = mapsOf(true, () => gate.promise);
    const { flows, state, cycle, deleted } = bed(former);
    const both = deleted().then(deleted);
    expect([await cycle(), await cycle()]).toEqual([[], []]); // The second waits for the first.
    const next = mapsOf(false);
    state.loaded = next;
    gate.resolve({ deleted: 0, failed: ['IPv4 flows in tortie_flow4a: the map is closed'] });
    await both;
    expect([former.deletions, next.deletions]).toEqual([[[address]], []]);
    expect(flows.pending).toEqual(new Set(['gone']));
    next.hasAllFlows = true;
    const third = deleted();
    // What failed there is no failure here.
    expect(await cycle()).toEqual([]);
    await third;
    expect(next.deletions).toEqual([[address]]);
    expect(flows.pending).toEqual(new Set());
  });

  test('are forgotten in these, too, where they were in the former ones: they may have been copied before', async () => {
    const gate = Promise.withResolvers<FlowDeletion>();
    const { flows, state, cycle, deleted } = bed(mapsOf(true, () => gate.promise));
    const first = deleted();
    await cycle();
    const next = mapsOf(true);
    state.loaded = next;
    gate.resolve(done);
    await first;
    expect(flows.pending).toEqual(new Set(['gone']));
    const second = deleted();
    expect(await cycle()).toEqual([]);
    await second;
    expect(next.deletions).toEqual([[address]]);
    expect(flows.pending).toEqual(new Set());
  });

  test('wait in silence for the flows to be taken over, but for who has the address now', async () => {
    const next = mapsOf(false);
    const { flows, say, cycle } = bed(next);
    expect(await cycle('waiting')).toEqual([]);
    expect(flows.pending).toEqual(new Set(['gone']));
    say(announced('next', '0a:58:00:00:00:02'));
    expect(await cycle('waiting')).toEqual(['flows of pods that are gone', 'endpoint next']);
    expect(next.deletions).toEqual([]);
    next.hasAllFlows = true;
    expect(await cycle()).toEqual([]);
    expect(next.deletions).toEqual([[address]]);
    expect(flows.pending).toEqual(new Set());
  });
});

test('what could not be deleted is said once, and tried again', async () => {
  const results: FlowDeletion[] = [{ deleted: 0, failed: ['no memory'] }, done];
  const maps = mapsOf(true, () => Promise.resolve(results.shift() ?? done));
  const { flows, cycle, deleted } = bed(maps);
  const first = deleted();
  expect(await cycle()).toEqual([]);
  await first;
  expect(await cycle()).toEqual(['flows of pods that are gone']);
  const second = deleted();
  expect(await cycle()).toEqual([]);
  await second;
  expect(flows.pending).toEqual(new Set());
});
