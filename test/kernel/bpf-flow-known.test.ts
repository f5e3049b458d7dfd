import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { flowConstants, Hop, HopKind } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { sourceKey, u32Key } from '#dataplanes/ebpf/keys.ts';
import { FlowBed } from './bpf-flow-bed.ts';
import { type Pod, namesOf, pods } from './bpf-flow-names.ts';
import { type Case, check } from './bpf-flow-walk.ts';
import type { Version } from './classifier-bed.ts';

/*
 * The short way of packets whose flow is known (established.h). That it was taken shows where a device's sources are taken away: only the long way
 * asks for them.
 */
let bed: FlowBed;
const versions = [4, 6] as const;
beforeAll(async () => {
  bed = await FlowBed.create();
});
afterAll(async () => await (bed as FlowBed | undefined)?.[Symbol.asyncDispose]());
afterEach(async () => {
  for (const pod of pods) setSource(pod, true);
  hopOfTwo(bed, hopInPool);
  for (const version of versions) for (const [i, pod] of pods.entries()) bed.address(version, pod, way(i + 1));
  await bed.reset();
});

const { hopInPool, hopShaped, podShaped } = flowConstants;
const way = (hop: number) => ({ class: hop, hop });
const nowhere = { class: 2, hop: 0 };
const noAddress = { address4: new Uint8Array(4), address6: new Uint8Array(16) };

function setSource(pod: Pod, isAllowed: boolean): void {
  const ifindex = bed.devices.get(pod)?.ifindex ?? 0;
  for (const version of versions) {
    const key = sourceKey(ifindex, `${namesOf[version][pod]}/${version === 4 ? 32 : 128}`);
    if (isAllowed) bed.map('tortie_sources').set(key, u32Key(1));
    else bed.map('tortie_sources').delete(key);
  }
}

const hopOfTwo = (on: FlowBed, flags: number) => {
  const ifindex = on.devices.get('two')?.ifindex ?? 0;
  on.set('tortie_hops', 2, Hop.encode({ kind: HopKind.pod, flags, ifindex, slot: 2 }));
};
const withoutSources = () => {
  for (const pod of pods) setSource(pod, false);
};
/** The flows of `local`, `datagrams` and `stack` are known. */
const local = [
  'one sends tcp S one:40000 > two:80 -> pod two',
  'two sends tcp SA two:80 > one:40000 -> pod one',
  'one sends tcp A one:40000 > two:80 -> pod two',
  'two sends tcp A two:80 > one:40000 -> pod one',
];
const datagrams = [
  'one sends udp one:5000 > two:53 -> pod two',
  'two sends udp two:53 > one:5000 -> pod one',
  'one sends udp one:5000 > two:53 -> pod two',
];
const stack = [
  'one sends tcp S one:40001 > away:80 -> stack',
  'one gets tcp SA away:80 > one:40001 -> passed',
  'one sends tcp A one:40001 > away:80 -> stack',
];

describe.each(versions)('IPv%i', (version) => {
  test.each<[string, Case]>([
    [
      'packets of a known flow, both ways',
      {
        way: [
          ...local,
          withoutSources,
          'one sends tcp A one:40000 > two:80 -> pod two',
          'two sends tcp PA two:80 > one:40000 -> pod one',
          'one sends tcp S one:40000 > two:80 -> dropped: spoofed-source',
        ],
      },
    ],
    [
      'datagrams, too',
      {
        way: [
          ...datagrams,
          withoutSources,
          'one sends udp one:5000 > two:53 -> pod two',
          'two sends udp two:53 > one:5000 -> pod one',
        ],
      },
    ],
    [
      'to the stack',
      {
        way: [...stack, withoutSources, 'one sends tcp A one:40001 > away:80 -> stack'],
      },
    ],
    [
      'what is translated goes the long way',
      {
        way: [
          (on) => on.service(version, 6, 80, ['away:8080']),
          'one sends tcp S one:40002 > front:80 -> stack: tcp S one:40002 > away:8080',
          'one gets tcp SA away:8080 > one:40002 -> passed: tcp SA front:80 > one:40002',
          'one sends tcp A one:40002 > front:80 -> stack: tcp A one:40002 > away:8080',
          'one gets tcp A away:8080 > one:40002 -> passed: tcp A front:80 > one:40002',
        ],
      },
    ],
    [
      'flows that were there before the receiver’s device had a qdisc keep their way to the last packet, a new one goes by it',
      {
        way: [
          ...local,
          (on) => {
            on.patchSlot('two', { flags: podShaped });
            hopOfTwo(on, hopInPool | hopShaped);
          },
          'one sends tcp PA one:40000 > two:80 -> pod two',
          'one sends error one > two about tcp A two:80 > one:40000 -> pod two',
          'one sends tcp FA one:40000 > two:80 -> pod two',
          'two sends tcp FA two:80 > one:40000 -> pod one',
          'one sends tcp S one:40000 > two:80 -> stack',
          'one sends tcp S one:40003 > two:80 -> stack',
        ],
      },
    ],
    [
      'a slot that names no address: the long way',
      {
        way: [
          ...local,
          (on) => on.patchSlot('one', noAddress),
          withoutSources,
          'one sends tcp A one:40000 > two:80 -> dropped: spoofed-source',
        ],
      },
    ],
    [
      'nobody else sends in the name of an end',
      {
        way: [...local, 'two sends tcp A one:40000 > two:80 -> dropped: spoofed-source'],
      },
    ],
    [
      'the address has left the receiver: not there any more, whatever the record says',
      {
        way: [
          ...local,
          (on) => {
            on.patchSlot('two', noAddress);
            on.address(version, 'two', nowhere);
          },
          'one sends tcp A one:40000 > two:80 -> stack',
        ],
      },
    ],
    [
      'the record names slots that are others now: the way that the addresses say, and the right ones are noted',
      {
        way: [
          ...local,
          async (on) => await on.patchRecords(version, ({ slot }) => ({ slot: [slot[1] ?? 0, slot[0] ?? 0] })),
          'one sends tcp A one:40000 > two:80 -> pod two',
          withoutSources,
          'one sends tcp A one:40000 > two:80 -> pod two',
          'two sends tcp A two:80 > one:40000 -> pod one',
        ],
      },
    ],
    [
      "the receiver's device is gone, and its number perhaps another's that nobody has announced",
      {
        way: [
          ...local,
          (on) => on.announce('two', false),
          'one sends tcp A one:40000 > two:80 -> stack',
          (on) => on.announce('two'),
          'one sends tcp A one:40000 > two:80 -> pod two',
        ],
      },
    ],
    [
      "the slot is another device's: nothing passes in its name",
      {
        way: [
          ...local,
          withoutSources,
          (on) => on.patchSlot('one', { ifindex: on.devices.get('two')?.ifindex ?? 0 }),
          'one sends tcp A one:40000 > two:80 -> dropped: spoofed-source',
        ],
      },
    ],
  ])('%s', async (_, row) => await check(bed, version, row));

  /** A packet in the midst of everything above, and what is known afterwards; with slots that name addresses, and without. */
  async function outcome(packet: string, isShort: boolean): Promise<unknown> {
    await bed.reset();
    if (!isShort) for (const pod of pods) bed.patchSlot(pod, noAddress);
    for (const line of [...local, ...datagrams, ...stack]) bed.run(version, line.slice(0, line.indexOf(' -> ')));
    // And a fragment behind it, which passes if that was the first.
    const later = `${packet.replace(/ \S+=\d+$| options$| stranger$/, '')} later=9`;
    const said = [packet, packet, later].map((each) => bed.run(version, each));
    const records = await bed.records(version);
    return {
      packet,
      said,
      records: records.map(({ map, text, packets: counted, bytes }) => ({ map, text, counted, bytes })),
    };
  }

  test('is what the long way is', async () => {
    for (const packet of packets(version)) {
      const long = await outcome(packet, false);
      expect(await outcome(packet, true)).toEqual(long);
    }
  });
});

/** Of the flows, with whatever makes a packet unusual. */
function packets(version: Version): string[] {
  const flags = ['A', 'PA', 'FA', 'R', 'RA', 'S', 'SA', 'F'];
  const unusual = ['ttl=1', 'ttl=2', 'options', 'first=9', 'later=9', 'size=0', 'size=1400', 'size=1600', 'stranger'];
  const out = ['one sends tcp A one:40000 > two:80', 'two sends tcp A two:80 > one:40000'];
  const all = [
    ...out,
    'one sends udp one:5000 > two:53',
    'two sends udp two:53 > one:5000',
    'one sends tcp A one:40001 > away:80',
    'one gets tcp A away:80 > one:40001',
    'one gets from node tcp A away:80 > one:40001',
    // To the other end of a flow between pods, by the stack.
    'two gets tcp A one:40000 > two:80',
    'two gets udp one:5000 > two:53',
  ];
  return [
    ...all.flatMap((packet) =>
      packet.includes(' tcp ') ? flags.map((set) => packet.replace(' A ', ` ${set} `)) : [packet],
    ),
    ...all.flatMap((packet) => unusual.map((word) => `${packet} ${word}`)),
    ...(version === 4 ? [] : out.map((packet) => `${packet} ttl=255`)),
  ];
}
