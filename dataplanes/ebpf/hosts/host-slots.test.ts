import { beforeEach, expect, test } from '@jest/globals';
import { AfterFlush } from '../after-flush.ts';
import { flowConstants, HostSlot, mapShapes } from '../bpf-types.gen.ts';
import { FakeArray, FakeMap } from '../fake-map.ts';
import { u32Key, u64Value } from '../keys.ts';
import { HostSlots, PODS, PODS_DEVICE } from './host-slots.ts';

const numbers = (first: number): number[] => Array.from({ length: flowConstants.hostUnits }, (_, at) => first + at);
const ethernet = { flags: 0, mac: Uint8Array.of(2, 0, 0, 0, 0, 1) };

let slots: FakeMap;
let hosts: FakeArray;
let afterFlush: AfterFlush;
let table: HostSlots;

beforeEach(() => {
  slots = new FakeMap(mapShapes.tortie_hslots, 2);
  hosts = new FakeArray(mapShapes.tortie_hosts, 4);
  afterFlush = new AfterFlush();
  table = new HostSlots({ slots, hosts }, afterFlush);
});

const slot = (index: number): HostSlot => {
  const bytes = hosts.value(index);
  return HostSlot.read(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
};
const settle = async (): Promise<void> => {
  afterFlush.beginFlush().done();
  await afterFlush.settle(() => Promise.resolve());
};

test('a device has one slot, in which its numbers change', () => {
  const index = table.store(7, ethernet, numbers(1));
  expect(slots.get(u32Key(7))).toEqual(u64Value(7, index));
  expect(slot(index)).toMatchObject({ ifindex: 7, unit: numbers(1), ...ethernet });
  expect(table.store(7, ethernet, numbers(50))).toBe(index);
  expect(slot(index).unit).toEqual(numbers(50));
});

test('a device that has another address gets another slot, and the former one is free after a grace period', async () => {
  const index = table.store(7, ethernet, numbers(1));
  const other = { flags: 0, mac: Uint8Array.of(2, 0, 0, 0, 0, 2) };
  expect(table.store(7, other, numbers(1))).not.toBe(index);
  expect(slot(index)).toMatchObject(ethernet);
  table.store(8, ethernet, numbers(1));
  expect(() => table.store(PODS, PODS_DEVICE, numbers(1))).toThrow(expect.objectContaining({ code: 'BPF_MAP_FULL' }));
  await settle();
  expect(table.store(PODS, PODS_DEVICE, numbers(1))).toBe(index);
});

test("pods' devices have a slot that no element names", () => {
  table.store(PODS, PODS_DEVICE, numbers(1));
  expect(slots.size).toBe(0);
  expect(table.ifindexes).toEqual([PODS]);
  table.release(PODS);
  expect(table.ifindexes).toEqual([]);
});

test('a full map is said, and costs no slot', () => {
  table.store(7, ethernet, numbers(1));
  table.store(8, ethernet, numbers(1));
  expect(() => table.store(9, ethernet, numbers(1))).toThrow(
    expect.objectContaining({
      code: 'BPF_MAP_FULL',
      message: expect.stringContaining('nothing is judged on the device'),
    }),
  );
  table.release(7);
  expect(slots.get(u32Key(7))).toBeUndefined();
  expect(table.store(9, ethernet, numbers(1))).toBe(3);
});
