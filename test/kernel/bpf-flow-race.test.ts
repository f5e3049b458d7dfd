/** What one packet says of its flow may reach no other flow, and what two CPUs make at once is one record. */
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import {
  FlowFlag,
  FlowRecord4,
  SweepContext,
  SweepCounts,
  type SweepTimeouts,
} from '#dataplanes/ebpf/bpf-types.gen.ts';
import { flowShard } from '#dataplanes/ebpf/flows/flow-maps.ts';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import { loadObject } from '#native/bpf.ts';
import { soakMs } from '#test/lab/agent-lab.ts';
import { ipv4, v4 } from '#test/lab/packets.ts';
import { FlowBed } from './bpf-flow-bed.ts';
import { addressBytes } from './classifier-bed.ts';
import { defaultTimeouts } from './ebpf-flows-bed.ts';

const budgetMs = soakMs(0.8);
jest.setTimeout(budgetMs + 180_000);
const slow = (name: string) => new URL(`../../build/bpf/${name}-slow.bpf.o`, import.meta.url).pathname;

/** The element of a flow of port `port`, with a cookie and flags. */
function element(
  port: number,
  cookie: bigint,
  flags: FlowFlag = FlowFlag.egressOk,
): { readonly key: Uint8Array; readonly value: Uint8Array } {
  const end = [
    { address: addressBytes(v4.podOne), port },
    { address: addressBytes(v4.podTwo), port: 80 },
  ];
  const none = { address: new Uint8Array(4), port: 0 };
  const value = FlowRecord4.encode({
    key: { end, protocol: 6 },
    before: none,
    sourceBefore: none,
    created: 0n,
    lastSeen: 0n,
    packets: [0n, 0n],
    bytes: [0n, 0n],
    slot: [0, 0],
    state: (cookie << 32n) | BigInt(flags),
  });
  return { key: value.slice(0, FlowRecord4.offsets.before), value };
}

test('a packet that is late changes no flow that got the element of its own', async () => {
  using object = await loadObject({ name: 'slow', elf: slow('flow') });
  const own = element(1, 11n);
  const other = element(2, 22n);
  object.map('given').set(u32Key(0), own.value);
  object.map('given').set(u32Key(1), other.value);
  expect(object.program('late_reset').testRun({ data: ipv4({ from: v4.podOne }) }).returned).toBe(0);
  expect(object.map('tortie_flow4a').get(other.key)).toEqual(other.value);
});

test('what was allowed of one flow is not noted in another that has its tuple by now', async () => {
  using object = await loadObject({ name: 'slow', elf: slow('track') });
  const own = element(1, 11n);
  const other = element(1, 22n);
  const late = () => object.program('late_allowance').testRun({ data: ipv4({ from: v4.podOne }) }).returned;
  const shards = ['a', 'b', 'c', 'd'].map((letter) => object.map(`tortie_flow4${letter}`));
  const flags = () =>
    shards.map((map) => {
      const value = map.get(own.key) as Uint8Array;
      return new DataView(value.buffer, value.byteOffset).getUint32(FlowRecord4.offsets.state, true);
    });
  object.map('given').set(u32Key(0), own.value);
  object.map('given').set(u32Key(1), other.value);
  expect(late()).toBe(0);
  expect(new Set(flags())).toEqual(new Set([FlowFlag.egressOk]));
  // The same one: in the hash that is its own.
  object.map('given').set(u32Key(1), own.value);
  expect(late()).toBe(1);
  expect(flags().filter((each) => each === (FlowFlag.egressOk | FlowFlag.ingressOk))).toHaveLength(1);
});

test('a pointer that leads nowhere is deleted, but none that was made in its place', async () => {
  using object = await loadObject({ name: 'slow', elf: slow('track') });
  const own = element(1, 11n, FlowFlag.pointer);
  const other = element(1, 22n, FlowFlag.pointer);
  const find = () => object.program('late_pointer').testRun({ data: ipv4({ from: v4.podOne }) }).returned;
  const map = object.map(`tortie_flow4${['a', 'b', 'c', 'd'][flowShard(own.key)]}`);
  object.map('given').set(u32Key(0), own.value);
  object.map('given').set(u32Key(1), other.value);
  expect(find()).toBe(0);
  expect(map.get(own.key)).toEqual(other.value);
  object.map('given').set(u32Key(1), own.value);
  expect(find()).toBe(0);
  expect(map.get(own.key)).toBeUndefined();
});

test('a sweep that is late deletes no flow that got the element of an expired one', async () => {
  const ports = Array.from({ length: 40 }, (_, i) => element(i + 1, 11n));
  const [own, other] = ports.filter(({ key }) => flowShard(key) === 0);
  if (own === undefined || other === undefined) throw new Error('no two flows of the first hash');
  using object = await loadObject({ name: 'slow', elf: slow('sweep') });
  const map = object.map('tortie_flow4a');
  new DataView(own.value.buffer).setUint32(FlowRecord4.offsets.state, FlowFlag.egressOk | FlowFlag.marked, true);
  map.set(own.key, own.value);
  object.map('given').set(u32Key(0), other.value);
  const timeouts = Object.fromEntries(
    Object.keys(defaultTimeouts).map((name) => [name, 1n]),
  ) as unknown as SweepTimeouts;
  const counts = Object.fromEntries(
    Object.keys(SweepCounts.offsets).map((name) => [name, 0n]),
  ) as unknown as SweepCounts;
  const context = SweepContext.encode({
    family: 4,
    shard: 0,
    round: 0,
    now: process.hrtime.bigint(),
    timeouts,
    counts,
  });
  expect((await object.program('tortie_sweep').run({ context })).returned).toBe(0);
  expect(map.get(own.key)).toBeUndefined();
  // Perhaps marked: the sweep may have come by its bucket afterwards.
  expect(map.get(other.key)).toBeDefined();
});

describe.each([4, 6] as const)('IPv%i', (version) => {
  let bed: FlowBed;
  beforeAll(async () => {
    bed = await FlowBed.create();
  });
  afterAll(async () => await (bed as FlowBed | undefined)?.[Symbol.asyncDispose]());
  afterEach(async () => await bed.reset());

  test('two CPUs that make and promote a flow leave one record', async () => {
    const end = Date.now() + budgetMs;
    do {
      await Promise.all([
        bed.flood(version, 'one sends udp one:5000 > away:53', 2000),
        bed.flood(version, 'one gets udp away:53 > one:5000', 2000),
      ]);
      const records = await bed.records(version);
      expect(records.map(({ map }) => map)).toEqual(['answered']);
      await bed.reset();
    } while (Date.now() < end);
  });
});
