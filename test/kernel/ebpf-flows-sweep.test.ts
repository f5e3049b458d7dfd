import { describe, expect, test } from '@jest/globals';
import { FlowFlag } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { FlowBed, flowRecord, frontend, nsPerSecond, shortTimeouts } from './ebpf-flows-bed.ts';

const { answered, established, finOpener, finOther, resetOpener, resetOther, marked, oneWay } = FlowFlag;
const up = answered | established;

/** Protocol, flags, and the seconds without a packet after which it is over. */
const table: readonly (readonly [string, number, number, number, string])[] = [
  ['TCP that the opener has not confirmed', 6, answered, 20, 'deletedTcp'],
  ['established TCP', 6, up, 36, 'deletedTcp'],
  ['TCP with one FIN', 6, up | finOpener, 36, 'deletedTcp'],
  ['TCP with both FINs', 6, up | finOpener | finOther, 16, 'deletedTcp'],
  ['TCP after a reset', 6, up | resetOpener, 24, 'deletedTcp'],
  ['TCP after a reset by the other end', 6, up | resetOther, 24, 'deletedTcp'],
  ['TCP after both FINs and a reset', 6, up | finOpener | finOther | resetOther, 24, 'deletedTcp'],
  ['UDP', 17, answered, 28, 'deletedUdp'],
  ['UDP that nobody answers', 17, oneWay, 28, 'deletedUdp'],
  ['SCTP', 132, answered, 32, 'deletedOther'],
  ['another protocol', 47, answered, 32, 'deletedOther'],
];

describe.each([4, 6] as const)('the sweep of IPv%i flows', (family) => {
  test.each([...table, ['ICMP', family === 4 ? 1 : 58, answered, 10, 'deletedIcmp'] as const])(
    '%s is marked when its time is over, and deleted by the next sweep',
    async (_, protocol, flags, seconds, kind) => {
      using bed = await FlowBed.make();
      const putYoung = () => bed.put(flowRecord(family, protocol, flags, seconds - 5));
      let [young, report, began] = [putYoung(), {}, 0];
      // Once more if it has grown old before it was looked at.
      do {
        began = performance.now();
        young = putYoung();
        report = await bed.sweep(family, shortTimeouts);
      } while (performance.now() - began > 4_000);
      expect(report).toMatchObject({ visited: 1, marked: 0, [kind]: 0 });
      expect(bed.flagsOf(family, young.record.key)! & marked).toBe(0);
      const old = bed.put(flowRecord(family, protocol, flags, seconds + 5));
      expect(await bed.sweep(family, shortTimeouts)).toMatchObject({ visited: 1, marked: 1, [kind]: 0 });
      expect(bed.flagsOf(family, old.record.key)! & marked).toBe(marked);
      expect(await bed.sweep(family, shortTimeouts)).toMatchObject({ visited: 1, marked: 0, [kind]: 1 });
      expect(bed.flagsOf(family, old.record.key)).toBeUndefined();
      expect(await bed.sweep(family, shortTimeouts)).toMatchObject({ visited: 0, [kind]: 0 });
    },
  );

  test('nothing is over before it is as old as a flow must be, whatever its own time', async () => {
    using bed = await FlowBed.make();
    bed.put(flowRecord(family, 17, answered, 8));
    const short = { ...shortTimeouts, creation: 100 * nsPerSecond, udp: 1 };
    expect(await bed.sweep(family, short)).toMatchObject({ visited: 1, marked: 0 });
    expect(await bed.sweep(family, { ...short, creation: 1 })).toMatchObject({ marked: 1 });
  });

  test('a packet between two sweeps saves a flow', async () => {
    using bed = await FlowBed.make();
    const { record } = bed.put(flowRecord(family, 17, answered, 30));
    expect(await bed.sweep(family, shortTimeouts)).toMatchObject({ marked: 1 });
    bed.touch(family, record.key);
    expect(await bed.sweep(family, shortTimeouts)).toMatchObject({ visited: 1, marked: 0, deletedUdp: 0 });
    expect(bed.flagsOf(family, record.key)! & marked).toBe(0);
  });

  test('a mark whose reason is gone is taken off', async () => {
    using bed = await FlowBed.make();
    const { record } = bed.put(flowRecord(family, 17, answered, 30));
    await bed.sweep(family, shortTimeouts);
    expect(await bed.sweep(family, { ...shortTimeouts, udp: shortTimeouts.generic })).toMatchObject({
      deletedUdp: 0,
    });
    expect(bed.flagsOf(family, record.key)! & marked).toBe(0);
  });

  test('a time in the future is now', async () => {
    using bed = await FlowBed.make();
    bed.put(flowRecord(family, 17, answered, -100));
    expect(await bed.sweep(family, { ...shortTimeouts, creation: 0, udp: 0 })).toMatchObject({
      visited: 1,
      marked: 0,
    });
  });

  test('a pointer stays while its record is there, and goes in two steps when that is gone', async () => {
    using bed = await FlowBed.make();
    const { record, pointer } = bed.put(flowRecord(family, 17, answered, 0, { before: frontend[family] }));
    expect(await bed.sweep(family, shortTimeouts)).toMatchObject({ visited: 2, pointers: 1, marked: 0 });
    bed.mapOf(family, record.key).delete(record.key);
    expect(await bed.sweep(family, shortTimeouts)).toMatchObject({
      visited: 1,
      pointers: 1,
      marked: 1,
      deletedPointers: 0,
    });
    expect(await bed.sweep(family, shortTimeouts)).toMatchObject({ deletedPointers: 1, deletedUdp: 0 });
    expect(bed.flagsOf(family, pointer!.key)).toBeUndefined();
  });

  test('a pointer whose record is another flow by now goes, too; one whose record comes back stays', async () => {
    using bed = await FlowBed.make();
    const translated = flowRecord(family, 17, answered, 0, { before: frontend[family] });
    const { record, pointer } = bed.put(translated);
    bed.put({ ...flowRecord(family, 17, answered, 0), cookie: 8 });
    expect(await bed.sweep(family, shortTimeouts)).toMatchObject({ marked: 1 });
    bed.mapOf(family, record.key).set(record.key, record.value);
    expect(await bed.sweep(family, shortTimeouts)).toMatchObject({ visited: 2, marked: 0, deletedPointers: 0 });
    expect(bed.flagsOf(family, pointer!.key)! & marked).toBe(0);
  });

  test('a pointer without its record is found by one of four rounds, and deleted by the next', async () => {
    using bed = await FlowBed.make();
    const { record, pointer } = bed.put(flowRecord(family, 17, answered, 0, { before: frontend[family] }));
    bed.mapOf(family, record.key).delete(record.key);
    const sweep = async (round: number) => await bed.sweep(family, shortTimeouts, round);
    for (const round of [4, 5, 6])
      expect(await sweep(round)).toMatchObject({ visited: 1, pointers: 1, marked: 0, deletedPointers: 0 });
    expect(await sweep(7)).toMatchObject({ marked: 1 });
    expect(await sweep(8)).toMatchObject({ deletedPointers: 1 });
    expect(bed.flagsOf(family, pointer!.key)).toBeUndefined();
  });

  test('a hash that does not exist is refused', async () => {
    using bed = await FlowBed.make();
    await expect(bed.sweeper.sweep(family, 4, shortTimeouts, 0)).rejects.toMatchObject({ code: 'SWEEP_REFUSED' });
  });
});

test('a pointer finds its record whichever of the ends is the smaller, and in whichever hash it is', async () => {
  using bed = await FlowBed.make();
  for (let port = 1; port <= 100; port += 1) {
    const [low, high] = [
      { address: '10.0.0.1', port },
      { address: '10.200.0.1', port: 80 },
    ];
    const before = { address: port % 3 === 0 ? '9.0.0.1' : '250.0.0.1', port: 443 };
    const [opener, other] = port % 2 === 0 ? [low, high] : [high, low];
    bed.put(flowRecord(4, 6, up, 0, { opener, other: { ...other, port: 80 + port }, before: { ...before, port } }));
  }
  const all = await bed.sweep(4);
  expect(all).toMatchObject({ visited: 200, pointers: 100, marked: 0 });
});
