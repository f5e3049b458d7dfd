/** What one pod, or somebody elsewhere, may do to others' flows: by datagrams that nobody answers, by RSTs. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { OneWayShare } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { flowMapsOf } from '#dataplanes/ebpf/flows/flow-maps.ts';
import { loadSweep, oneWayLimits, type SweepProgram } from '#dataplanes/ebpf/flows/sweep-program.ts';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import { FlowBed } from './bpf-flow-bed.ts';
import { type Case, check } from './bpf-flow-walk.ts';
import type { Version } from './classifier-bed.ts';
import { defaultTimeouts } from './ebpf-flows-bed.ts';

const sweepElf = new URL('../../dist/bpf/sweep.bpf.o', import.meta.url).pathname;
const entries = 64;
const shards = ['a', 'b', 'c', 'd'].flatMap((letter) => [`tortie_flow4${letter}`, `tortie_flow6${letter}`]);
/** Of hashes of 64 elements: 32 of all, 4 of one address. */
const { total, ofAddress } = oneWayLimits([{ shape: { maxEntries: entries } as never }]);

let bed: FlowBed;
let sweep: SweepProgram;
beforeAll(async () => {
  bed = await FlowBed.create(Object.fromEntries(shards.map((name) => [name, entries])));
  sweep = await loadSweep(
    flowMapsOf((name) => bed.map(name)),
    sweepElf,
  );
});
afterAll(async () => {
  (sweep as SweepProgram | undefined)?.[Symbol.dispose]();
  await (bed as FlowBed | undefined)?.[Symbol.asyncDispose]();
});
afterEach(async () => {
  await bed.reset();
  for (const version of [4, 6] as const) await sweepAll(version);
});

async function sweepAll(version: Version): Promise<void> {
  for (const shard of [0, 1, 2, 3]) await sweep.sweep(version, shard, defaultTimeouts, 0);
}

const isOneWay = ({ text }: { readonly text: string }): boolean => text.includes('oneWay');
const older = async (version: Version): Promise<void> =>
  await bed.patchRecords(version, ({ created }) => ({ created: created - 3_100_000_000n }));

/** Datagrams of so many flows that nobody answers, twice, 3 s apart. How many flows are kept as if they were answered. */
async function flood(version: Version, from: 'one' | 'two', count: number, firstPort = 1000): Promise<number> {
  const before = (await bed.records(version)).filter(isOneWay).length;
  const steps = Array.from({ length: count }, (_, i) => `${from} sends udp ${from}:${firstPort + i} > away:53`);
  for (const step of steps) expect(bed.run(version, step)).toBe('stack');
  await older(version);
  for (const step of steps) expect(bed.run(version, step)).toBe('stack');
  return (await bed.records(version)).filter(isOneWay).length - before;
}

function totalOf(version: Version): OneWayShare {
  const value = bed.map(`tortie_oneway${version}`).get(u32Key(0)) as Uint8Array;
  return OneWayShare.read(new DataView(value.buffer, value.byteOffset));
}

describe.each([4, 6] as const)('datagrams that nobody answers, IPv%i', (version) => {
  test("one pod's flows have their share of the table, another's have their own, and all pass", async () => {
    expect(await flood(version, 'one', 20)).toBe(ofAddress);
    expect(await flood(version, 'two', 20)).toBe(ofAddress);
    expect(totalOf(version).now).toBe(2 * ofAddress);
    // Those beyond it go on among the new ones.
    expect((await bed.records(version)).filter(({ map }) => map === 'new')).toHaveLength(2 * (20 - ofAddress));
  });

  test('answers are no part of it', async () => {
    expect(await flood(version, 'one', 20)).toBe(ofAddress);
    expect(bed.run(version, 'one sends udp one:5000 > away:53')).toBe('stack');
    expect(bed.run(version, 'one gets udp away:53 > one:5000')).toBe('passed');
    expect((await bed.records(version)).map(({ text }) => text)).toContain(
      'one:5000 > away:53 egressOk answered viaStack',
    );
  });

  test('the sweep counts anew: who ends, or is answered, makes room', async () => {
    expect(await flood(version, 'one', 20)).toBe(ofAddress);
    await sweepAll(version);
    expect(totalOf(version)).toMatchObject({ now: ofAddress });
    expect(await flood(version, 'one', 10, 2000)).toBe(0);
    const kept = (await bed.records(version)).filter(isOneWay);
    const [, port] = /one:(\d+)/.exec(kept[0]?.text ?? '') ?? [];
    expect(bed.run(version, `one gets udp away:53 > one:${port}`)).toBe('passed');
    await sweepAll(version);
    expect(totalOf(version)).toMatchObject({ now: ofAddress - 1 });
    await bed.empty(version);
    await sweepAll(version);
    expect(totalOf(version)).toMatchObject({ now: 0 });
    expect(await flood(version, 'one', 10, 3000)).toBe(ofAddress);
  });

  test('all together have half of one hash', async () => {
    const share = OneWayShare.encode({ now: total, next: 0, limit: total });
    bed.map(`tortie_oneway${version}`).set(u32Key(0), share);
    expect(await flood(version, 'one', 10)).toBe(0);
  });

  test('a flow that is translated counts with its pointer', async () => {
    bed.service(version, 17, 53, ['away:53']);
    const step = 'one sends udp one:5000 > front:53';
    expect(bed.run(version, step)).toBe('stack: udp one:5000 > away:53');
    await older(version);
    expect(bed.run(version, step)).toBe('stack: udp one:5000 > away:53');
    expect(totalOf(version).now).toBe(2);
    await sweepAll(version);
    expect(totalOf(version)).toMatchObject({ now: 2 });
  });
});

/** An established connection. */
const open = [
  'one sends tcp S one:40000 > two:80 -> pod two',
  'two sends tcp SA two:80 > one:40000 -> pod one',
  'one sends tcp A one:40000 > two:80 -> pod two',
];
const record = 'answered one:40000 > two:80 egressOk ingressOk answered established';

describe.each([4, 6] as const)('a RST of which nobody knows whether it was meant, IPv%i', (version) => {
  test.each<[string, Case]>([
    [
      'who goes on has not sent it',
      {
        way: [
          ...open,
          'two sends tcp R two:80 > one:40000 -> pod one',
          'two sends tcp PA two:80 > one:40000 -> pod one',
        ],
        records: [record],
      },
    ],
    [
      'as the opener',
      {
        way: [
          ...open,
          'one sends tcp RA one:40000 > two:80 -> pod two',
          'one sends tcp A one:40000 > two:80 -> pod two',
        ],
        records: [record],
      },
    ],
    [
      'what the other end had on its way says nothing',
      {
        way: [
          ...open,
          'two sends tcp R two:80 > one:40000 -> pod one',
          'one sends tcp A one:40000 > two:80 -> pod two',
        ],
        records: [`${record} resetOther`],
      },
    ],
    [
      'each end has its own',
      {
        way: [
          ...open,
          'two sends tcp R two:80 > one:40000 -> pod one',
          'one sends tcp R one:40000 > two:80 -> pod two',
          'two sends tcp A two:80 > one:40000 -> pod one',
        ],
        records: [`${record} resetOpener`],
      },
    ],
    [
      'to the stack, and back',
      {
        way: [
          'one sends tcp S one:40001 > away:80 -> stack',
          'one gets tcp SA away:80 > one:40001 -> passed',
          'one sends tcp A one:40001 > away:80 -> stack',
          'one gets tcp R away:80 > one:40001 -> passed',
          'one gets tcp A away:80 > one:40001 -> passed',
        ],
        records: ['answered one:40001 > away:80 egressOk answered established viaStack'],
      },
    ],
  ])('%s', async (_, row) => await check(bed, version, row));
});
