import { beforeEach, expect, test } from '@jest/globals';
import { AfterFlush } from '../after-flush.ts';
import { flowConstants, HostSlot, mapShapes } from '../bpf-types.gen.ts';
import { FakeArray, FakeMap } from '../fake-map.ts';
import { u32Key, u64Value } from '../keys.ts';
import { HostSlots, PODS, PODS_DEVICE } from './host-slots.ts';

const numbers = (first: number): number[] => Array.from({ length: flowConstants.hostUnits }, (_, at) => first + at);
const ethernet = { ...PODS_DEVICE, mac: Uint8Array.of(2, 0, 0, 0, 0, 1) };
/** What a slot says of it. */
const said = { mac: ethernet.mac, masquerade4: ethernet.masquerade4, masquerade6: ethernet.masquerade6, flags: 0 };
const { hostDirect, hostShared, hostWithoutEthernet } = flowConstants;

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
  expect(slot(index)).toMatchObject({ ifindex: 7, unit: numbers(1), ...said });
  expect(table.store(7, ethernet, numbers(50))).toBe(index);
  expect(slot(index).unit).toEqual(numbers(50));
});

test('a device that has another address gets another slot, and the former one is free after a grace period', async () => {
  const index = table.store(7, ethernet, numbers(1));
  const other = { ...ethernet, mac: Uint8Array.of(2, 0, 0, 0, 0, 2) };
  expect(table.store(7, other, numbers(1))).not.toBe(index);
  expect(slot(index)).toMatchObject(said);
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

test('uplinks are said as long as they are, in the slot they have and in the next one', () => {
  table.setDirect(new Set([7]));
  const index = table.store(7, { ...ethernet, hasEthernet: false }, numbers(1));
  table.store(8, ethernet, numbers(1));
  expect(slot(index).flags).toBe(hostDirect | hostWithoutEthernet);
  table.setDirect(new Set([7, 8]));
  expect(slot(2).flags).toBe(hostDirect);
  table.setDirect(new Set([8]));
  expect([slot(index).flags, slot(2).flags]).toEqual([hostWithoutEthernet, hostDirect]);
  table.setDirect(new Set([8]), new Set([8]));
  expect(slot(2).flags).toBe(hostDirect | hostShared);
  table.setDirect(new Set([8]));
  expect(slot(2).flags).toBe(hostDirect);
});

test('another address to masquerade by is another slot: nobody sees half of it', () => {
  const index = table.store(7, ethernet, numbers(1));
  const masquerade4 = Uint8Array.of(192, 0, 2, 1);
  const next = table.store(7, { ...ethernet, masquerade4 }, numbers(1));
  expect(next).not.toBe(index);
  expect(slot(next)).toMatchObject({ masquerade4, ifindex: 7 });
});

test('a device that changes when there is no room for that is judged by its new units all the same', () => {
  const index = table.store(7, ethernet, numbers(1));
  table.store(8, ethernet, numbers(1));
  table.store(PODS, PODS_DEVICE, numbers(1));
  const other = { ...ethernet, mac: Uint8Array.of(2, 0, 0, 0, 0, 2) };
  expect(() => table.store(7, other, numbers(50))).toThrow(expect.objectContaining({ code: 'BPF_MAP_FULL' }));
  expect(slot(index)).toMatchObject({ unit: numbers(50), ...said });
});

test('a device that changes when there is no room for that is no uplink until there is: its address may be gone', async () => {
  table.setDirect(new Set([7]));
  const index = table.store(7, ethernet, numbers(1));
  table.store(8, ethernet, numbers(1));
  table.store(PODS, PODS_DEVICE, numbers(1));
  const other = { ...ethernet, masquerade4: Uint8Array.of(192, 0, 2, 1) };
  expect(() => table.store(7, other, numbers(1))).toThrow(expect.objectContaining({ code: 'BPF_MAP_FULL' }));
  table.setDirect(new Set([7, 8]));
  expect([slot(index).flags, slot(2).flags]).toEqual([0, hostDirect]);
  expect(table.store(7, ethernet, numbers(1))).toBe(index);
  expect(slot(index).flags).toBe(hostDirect);
  expect(() => table.store(7, other, numbers(1))).toThrow();
  table.release(8);
  await settle();
  expect(slot(table.store(7, other, numbers(1)))).toMatchObject({ flags: hostDirect, masquerade4: other.masquerade4 });
});
