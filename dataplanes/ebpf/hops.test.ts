import { beforeEach, expect, test } from '@jest/globals';
import { AfterFlush } from './after-flush.ts';
import { flowConstants, Hop, mapShapes } from './bpf-types.gen.ts';
import { FakeArray } from './fake-map.ts';
import { Hops } from './hops.ts';

const { hopInPool, hopNatOutgoing, hopShaped } = flowConstants;

let records: FakeArray;
let inForce: Map<string, number>;
let hops: Hops;

beforeEach(() => {
  records = new FakeArray(mapShapes.tortie_hops, 8);
  inForce = new Map();
  hops = new Hops(records, (net, hop) => void inForce.set(net, hop), { move: () => {} }, new AfterFlush());
});

const flags = (net: string): number => {
  const bytes = records.value(inForce.get(net) ?? 0);
  return Hop.read(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)).flags;
};

test('pods, blocks and pools are masqueraded by the pool that has them, whichever is said first', () => {
  hops.set('pod', '10.65.0.3/32', { kind: 'pod', ifindex: 7, slot: 1 });
  hops.set('other', '10.66.0.3/32', { kind: 'pod', ifindex: 8, slot: 2 });
  expect(flags('10.65.0.3/32')).toBe(0);
  hops.setMasqueraded(['10.65.0.0/16', 'fd65::/64']);
  hops.set('pool', '10.65.0.0/16', { kind: 'pool' });
  hops.set('pool', '10.66.0.0/16', { kind: 'pool' });
  hops.set('pod', 'fd65::3/128', { kind: 'pod', ifindex: 7, slot: 1 });
  expect(Object.fromEntries([...inForce.keys()].map((net) => [net, flags(net)]))).toEqual({
    '10.65.0.3/32': hopNatOutgoing,
    '10.66.0.3/32': 0,
    '10.65.0.0/16': hopInPool | hopNatOutgoing,
    '10.66.0.0/16': hopInPool,
    'fd65::3/128': hopNatOutgoing,
  });
  hops.setMasqueraded([]);
  expect([flags('10.65.0.3/32'), flags('10.65.0.0/16'), flags('fd65::3/128')]).toEqual([0, hopInPool, 0]);
});

test('a pool larger than the pod is asked, not one inside of a block', () => {
  hops.setMasqueraded(['10.65.0.0/24']);
  hops.set('route', '10.65.0.0/16', { kind: 'pool' });
  expect(flags('10.65.0.0/16')).toBe(hopInPool);
});

test('a shaped device is said besides', () => {
  hops.setMasqueraded(['10.65.0.0/16']);
  hops.set('pod', '10.65.0.3/32', { kind: 'pod', ifindex: 7, slot: 1 });
  hops.set('pod', '10.65.0.3/32', { kind: 'pod', ifindex: 7, slot: 1, isShaped: true });
  expect(flags('10.65.0.3/32')).toBe(hopNatOutgoing | hopShaped);
});
