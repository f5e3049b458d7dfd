import { describe, expect, test } from '@jest/globals';
import type { DataplaneUpdate, WorkloadEndpointInfo } from '../messages.ts';
import { ConntrackFlush } from './conntrack-flush.ts';
import { LocalBlocks } from './local-blocks.ts';

const route = (dst: string, type: 'localBlock' | 'borrowed' | 'remoteBlock'): DataplaneUpdate => ({
  type: 'routeUpdate',
  route: { dst, type, nodeName: 'here' },
});
const endpoint = (address: string, mac = '0a:58:00:00:00:01'): WorkloadEndpointInfo =>
  ({ ifaceName: 'cali1', mac, ipv4Nets: [`${address}/32`], ipv6Nets: [] }) as unknown as WorkloadEndpointInfo;

const update = (id: string, info: WorkloadEndpointInfo): DataplaneUpdate => ({
  type: 'workloadEndpointUpdate',
  id,
  endpoint: info,
});
const removal = (id: string): DataplaneUpdate => ({ type: 'workloadEndpointRemove', id });

function bed() {
  const calls: (readonly string[])[] = [];
  const flush = new ConntrackFlush({
    deleteOf: async (addresses) => {
      calls.push([...addresses].sort());
    },
  });
  return { flush, calls };
}

describe('addresses of this node', () => {
  test('are those of its blocks, but for what is borrowed, and what the node itself has', () => {
    const blocks = new LocalBlocks();
    blocks.record(route('10.65.0.0/30', 'localBlock'));
    blocks.record(route('10.65.0.2/32', 'borrowed'));
    blocks.record(route('10.65.9.0/30', 'remoteBlock'));
    blocks.record(route('fd65::/127', 'localBlock'));
    expect(blocks.addresses(new Set(['10.65.0.0']))).toEqual(['10.65.0.1', '10.65.0.3', 'fd65::', 'fd65::1']);
    blocks.record({ type: 'routeRemove', dst: '10.65.0.0/30' });
    blocks.record({ type: 'routeRemove', dst: 'fd65::/127' });
    expect(blocks.addresses(new Set())).toEqual([]);
  });

  test('are not those of networks that are larger than a block can be', () => {
    const blocks = new LocalBlocks();
    for (const dst of ['10.0.0.0/8', 'fd00::/64']) blocks.record(route(dst, 'localBlock'));
    expect(blocks.addresses(new Set())).toEqual([]);
  });
});

const noDevices = async () => [];

describe('connections of pods that went while no agent ran', () => {
  test('are forgotten, once: of all addresses that are nobody’s', async () => {
    const { flush, calls } = bed();
    flush.record(route('10.65.0.0/30', 'localBlock'));
    flush.record(update('one', endpoint('10.65.0.1')));
    await flush.addUnheld(async () => [{ address: '10.65.0.0/32' }]);
    expect(flush.isDue).toBe(true);
    expect(flush.pending).toEqual(new Set());
    flush.begin();
    await flush.run();
    expect(calls).toEqual([['10.65.0.2', '10.65.0.3']]);
    expect(flush.isDue).toBe(false);
    await flush.addUnheld(noDevices);
    expect(flush.isDue).toBe(false);
    // Another dataplane was in force, and didn't tell.
    flush.skip();
    await flush.addUnheld(noDevices);
    expect(flush.isDue).toBe(true);
  });

  test('who gets such an address waits for it', async () => {
    const { flush, calls } = bed();
    flush.record(route('10.65.0.2/31', 'localBlock'));
    await flush.addUnheld(noDevices);
    flush.record(update('two', endpoint('10.65.0.2')));
    expect(flush.pending).toEqual(new Set(['two']));
    flush.begin();
    await flush.run();
    expect(calls).toEqual([['10.65.0.2', '10.65.0.3']]);
    expect(flush.pending).toEqual(new Set());
  });

  test('what could not be asked is asked again', async () => {
    const { flush } = bed();
    flush.record(route('10.65.0.2/31', 'localBlock'));
    await flush.addUnheld(() => Promise.reject(new Error('no netlink')));
    expect(flush.takeFailure()).toBe('no netlink');
    await flush.addUnheld(noDevices);
    expect(flush.isDue).toBe(true);
  });
});

test('a deletion that had to wait for another leaves alone what became due after its cycle: packets of it still make entries', async () => {
  const calls: (readonly string[])[] = [];
  const gate = Promise.withResolvers<void>();
  const flush = new ConntrackFlush({
    deleteOf: async (addresses) => {
      calls.push(addresses);
      await gate.promise;
    },
  });
  for (const [id, address] of [
    ['one', '10.65.0.1'],
    ['two', '10.65.0.2'],
    ['three', '10.65.0.3'],
  ] as const)
    flush.record(update(id, endpoint(address)));
  const runs: Promise<void>[] = [];
  for (const id of ['one', 'two']) {
    flush.record(removal(id));
    flush.begin();
    runs.push(flush.run());
  }
  flush.record(removal('three'));
  flush.begin(); // Its cycle has begun, and the sets still have its address.
  gate.resolve();
  await Promise.all(runs);
  expect(calls).toEqual([['10.65.0.1'], ['10.65.0.2']]);
  expect(flush.isDue).toBe(true);
  await flush.run();
  expect(calls.at(-1)).toEqual(['10.65.0.3']);
  expect(flush.isDue).toBe(false);
});

test('a deletion that failed is no failure any more when the next one has done it', async () => {
  const results = [new Error('no memory'), undefined];
  const flush = new ConntrackFlush({
    deleteOf: async () => {
      const error = results.shift();
      if (error !== undefined) throw error;
    },
  });
  flush.record(update('one', endpoint('10.65.0.1')));
  flush.record(removal('one'));
  flush.begin();
  await Promise.all([flush.run(), flush.run()]);
  expect([flush.takeFailure(), flush.isDue]).toEqual([undefined, false]);
});
