import { describe, expect, test } from '@jest/globals';
import type { Link } from '#native/types.ts';
import type { DeviceFilters } from './device-filters.ts';
import type { HostEndpoints } from './hosts/host-endpoints.ts';
import type { LoadedDataplane } from './loaded-dataplane.ts';
import { PacketPath } from './packet-path.ts';
import { newOutcome } from './pod-cycle.ts';
import { PodEndpoints } from './pod-endpoints.ts';
import type { StackTables } from './stack-tables.ts';

/** A path over what writes down what it is asked for; netfilter's part is refused as often as `refusals` says. */
function bed(links: readonly Link[]) {
  const done: string[] = [];
  const state = { refusals: 0 };
  const nothing = () => Promise.resolve();
  const path = new PacketPath({
    host: { links: () => Promise.resolve(links), link: () => undefined },
    endpoints: new PodEndpoints(),
    filters: {
      isOnAny: () => Promise.resolve(links.length > 0),
      lookForOthers: nothing,
      takeOthersChanged: () => [],
      attachAll: () => Promise.resolve({ entered: [], stayed: links.length > 0, failures: [] }),
      detachAll: async () => void done.push('detach'),
    } as unknown as DeviceFilters,
    hosts: {
      mayBeAttached: false,
      adopt: nothing,
      enforce: () => Promise.resolve([]),
      release: nothing,
    } as unknown as HostEndpoints,
    stack: {
      hook: async (isOn: boolean) => {
        done.push(isOn ? 'hook' : 'unhook');
        if (isOn && state.refusals-- > 0) throw new Error('xtables is locked');
      },
    } as unknown as StackTables,
    program: nothing,
    log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
  });
  const loaded = {
    filters: {},
    carryFlows: async (when: string) => void done.push(`carry ${when}`),
    enter: () => done.push('enter'),
    stayEntered: () => false,
    removeOlder: () => done.push('remove'),
  } as unknown as LoadedDataplane;
  return { path, loaded, done, state };
}

const device = { name: 'cali1', index: 7 } as Link;

describe('other programs of ours come while netfilter refuses its part', () => {
  test.each([
    ['with pods', [device]],
    ['without any device that would show that packets come by us', []],
  ])('%s: packets go on to come by them, all flows are theirs, and it is tried again', async (_, links) => {
    const { path, loaded, done, state } = bed(links);
    await path.activate(loaded, true);
    done.length = 0;
    path.wait();
    state.refusals = 1;
    const outcome = newOutcome();
    await path.keep(loaded, true, outcome);
    expect(outcome.failed).toEqual([{ object: 'BPF programs', reason: 'xtables is locked' }]);
    expect([path.state, done]).toEqual(['waiting', ['carry before', 'enter', 'hook', 'carry after']]);
    const next = newOutcome();
    await path.keep(loaded, true, next);
    expect([path.state, next.failed]).toEqual(['yes', []]);
  });

  test('who was never in the path is out of it again', async () => {
    const { path, loaded, done, state } = bed([]);
    state.refusals = 1;
    await expect(path.activate(loaded, true)).rejects.toThrow('xtables is locked');
    expect([path.state, done]).toEqual(['no', ['carry before', 'enter', 'hook', 'detach']]);
  });

  test('who has left is not held in it by what was before', async () => {
    const { path, loaded, state } = bed([]);
    await path.activate(loaded, true);
    path.wait();
    await path.release(loaded);
    state.refusals = 1;
    await expect(path.activate(loaded, true)).rejects.toThrow('xtables is locked');
    expect(path.state).toBe('no');
  });
});
