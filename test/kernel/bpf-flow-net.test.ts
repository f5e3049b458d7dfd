import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { FlowFlag, flowConstants, type RunState } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { type Case, check } from './bpf-flow-walk.ts';
import { NetBed } from './bpf-net-bed.ts';
import { namesOf } from './bpf-flow-names.ts';

/*
 * What pods send by an uplink, past the stack.
 *
 *   one --[tortie_pod_out]--> net (uplink) --> away            (`router` is behind side)
 */
let bed: NetBed;

beforeAll(async () => {
  bed = await NetBed.create();
});
afterAll(async () => await (bed as NetBed | undefined)?.[Symbol.asyncDispose]());
beforeEach(async () => await bed.reset());

const tcp = 6;
const udp = 17;

interface NetCase extends Case {
  readonly run?: Partial<RunState>;
}

const on =
  (change: (it: NetBed) => void): Case['way'][number] =>
  (it) =>
    change(it as NetBed);

describe.each([4, 6] as const)('IPv%i', (version) => {
  /** From here on `away` has this hop; 0: none. */
  const awayIs = (hop: number) => on((it) => it.address(version, 'away', { class: 0, hop }));
  test.each<[string, NetCase]>([
    [
      'a connection to elsewhere, and what follows',
      {
        legs: { 'one ingress': 'deny' },
        way: [
          'one sends tcp S one:5 > away:80 -> net',
          'one sends tcp S one:5 > away:80 -> net',
          'net in tcp SA away:80 > one:5 -> pod one',
          'one sends tcp A one:5 > away:80 -> net',
          'one sends tcp PA one:5 > away:80 -> net',
          'one sends tcp PA one:5 > away:80 -> net',
          'one sends tcp FA one:5 > away:80 -> net',
        ],
        records: ['answered one:5 > away:80 egressOk answered established finOpener byNet'],
      },
    ],
    [
      'datagrams, echoes and what has no ports',
      {
        way: [
          'one sends udp one:5 > away:53 -> net',
          'one sends udp one:5 > away:53 -> net',
          'one sends ping 7 one > away -> net',
          'one sends gre one > away -> net',
          'one sends sctp one:5 > away:6 -> net',
        ],
      },
    ],
    [
      'where others have programs at the uplink’s ingress, all goes by the stack',
      {
        way: [
          'one sends tcp S one:5 > away:80 -> net',
          'net in tcp SA away:80 > one:5 -> pod one',
          'one sends tcp A one:5 > away:80 -> net',
          'one sends tcp A one:5 > away:80 -> net', // The short way.
          on((it) => it.shared('uplink')),
          'one sends tcp A one:5 > away:80 -> stack',
          'net in tcp A away:80 > one:5 -> stack',
          'one sends tcp S one:6 > away:80 -> stack',
          'one sends tcp S one:7 > router:80 -> net',
          on((it) => it.uplink('uplink')),
          'one sends tcp A one:5 > away:80 -> net',
          'net in tcp A away:80 > one:5 -> pod one',
          'one sends tcp A one:6 > away:80 -> stack',
        ],
      },
    ],
    [
      'policy refuses',
      {
        legs: { 'one egress': 'deny' },
        way: ['one sends tcp S one:5 > away:80 -> dropped: policy'],
        records: [],
      },
    ],
    [
      'what stays the stack’s: the node, its groups, the midst of a connection, messages without a flow',
      {
        way: [
          'one sends tcp S one:5 > node:80 -> stack',
          'one sends udp one:5353 > all:5353 -> stack',
          'one sends tcp A one:6 > away:80 -> stack',
          // (A router's advertisement to no group, in IPv6 no error either.)
          `one sends icmp ${version === 4 ? 9 : 200} one > away -> stack`,
          'one sends udp one:7 > away:53 stranger -> dropped: other-host',
        ],
        records: [
          'new one:5 > node:80 egressOk viaStack',
          'new one:5353 > all:5353 egressOk viaStack',
          'new one:6 > away:80 egressOk viaStack',
        ],
      },
    ],
    [
      'a flow that begins with options, or a fragment, is the stack’s as a whole',
      {
        way: [
          'one sends udp one:5 > away:53 options -> stack',
          'one sends udp one:5 > away:53 -> stack',
          'one sends udp one:6 > away:53 first=7 -> stack',
          'one sends udp one > away later=7 -> stack',
          'one sends udp one:6 > away:53 -> stack',
        ],
        records: ['new one:5 > away:53 egressOk viaStack', 'new one:6 > away:53 egressOk viaStack'],
      },
    ],
    [
      'of a flow by the net: options by the stack, fragments not',
      {
        way: [
          'one sends udp one:5 > away:53 -> net',
          'one sends udp one:5 > away:53 options -> stack',
          'one sends udp one:5 > away:53 first=7 -> net',
          'one sends udp one > away later=7 -> net',
          'one sends udp one:5 > away:53 -> net',
        ],
        records: ['new one:5 > away:53 egressOk byNet'],
      },
    ],
    [
      'too long for the device: the stack says so to the sender',
      {
        way: [
          'one sends udp one:5 > away:53 -> net',
          'one sends udp one:5 > away:53 size=1600 -> stack',
          'net in udp away:53 > one:5 -> pod one',
          'one sends udp one:5 > away:53 size=1600 -> stack',
          'one sends udp one:5 > away:53 size=1400 -> net',
          'one sends udp one:6 > away:53 size=1600 -> stack',
        ],
        records: ['answered one:5 > away:53 egressOk answered byNet', 'new one:6 > away:53 egressOk viaStack'],
      },
    ],
    [
      'the hop limit is used up',
      {
        way: [
          'one sends udp one:5 > away:53 ttl=1 -> back (hop-limit): error away > one about udp one:5 > away:53',
          'one sends udp one:5 > away:53 ttl=2 -> net',
          'net in udp away:53 > one:5 -> pod one',
          'one sends udp one:5 > away:53 ttl=1 -> back (hop-limit): error away > one about udp one:5 > away:53',
        ],
      },
    ],
    [
      'a device without programs: the stack, also when it had some, packet by packet',
      {
        way: [
          on((it) => it.uplink('uplink', {}, false)),
          'one sends tcp S one:5 > away:80 -> stack',
          'one sends tcp S one:5 > router:80 -> net',
          on((it) => it.uplink('uplink')),
          'one sends tcp S one:5 > away:80 -> stack',
          'one sends udp one:6 > away:80 -> net',
          'net in udp away:80 > one:6 -> pod one',
          'one sends udp one:6 > away:80 -> net',
          on((it) => it.uplink('uplink', {}, false)),
          'one sends udp one:6 > away:80 -> stack',
        ],
        records: [
          'new one:5 > away:80 egressOk viaStack',
          'new one:5 > router:80 egressOk byNet',
          'answered one:6 > away:80 egressOk answered byNet',
        ],
      },
    ],
    [
      'while flows are handed over, all new ones are the stack’s',
      {
        run: { adopting: flowConstants.handoverOut },
        way: [
          'one sends tcp S one:5 > away:80 -> stack',
          on((it) => it.runState({ adopting: flowConstants.handoverIn })),
          'one sends udp one:5 > away:53 -> stack',
        ],
      },
    ],
    [
      'a shaped pod’s are the stack’s',
      {
        way: [
          on((it) => it.patchSlot('one', { flags: flowConstants.podShaped })),
          'one sends tcp S one:5 > away:80 -> stack',
        ],
      },
    ],
    [
      'what was opened from outside, answered',
      {
        legs: { 'one egress': 'deny' },
        way: [
          'net in tcp S away:5 > one:80 -> pod one',
          'one sends tcp SA one:80 > away:5 -> net',
          'net in tcp A away:5 > one:80 -> pod one',
          'one sends tcp PA one:80 > away:5 -> net',
          'one sends udp one:80 > away:5 -> dropped: policy',
        ],
      },
    ],
    [
      'a host endpoint’s policy for what is forwarded out by the uplink',
      {
        run: { forwardEgress: 1 },
        way: [
          on((it) => it.uplink('uplink', { 'forward out': 'deny 80' })),
          'one sends tcp S one:5 > away:80 -> dropped: policy',
          'one sends tcp S one:5 > away:22 -> net',
          'one sends tcp S one:5 > router:80 -> net',
        ],
      },
    ],
    [
      'an address that moves here: its own leg is judged, too, where nothing goes the short way',
      {
        way: [
          'one sends gre one > away -> net',
          awayIs(2),
          on((it) => it.policy({ 'two ingress': 'deny' })),
          'one sends gre one > away -> two refuses: policy',
          on((it) => it.policy()),
          'one sends gre one > away -> pod two',
          awayIs(0),
          'one sends gre one > away -> net',
        ],
        records: ['new one:0 > away:0 egressOk ingressOk byNet'],
      },
    ],
    [
      'an ICMP error of the pod’s, and one about what is unknown',
      {
        way: [
          'one sends udp one:5 > away:53 -> net',
          'one sends error one > away about udp away:53 > one:5 -> net',
          'one sends error one > away about udp away:53 > one:6 -> dropped: unrelated-icmp',
        ],
      },
    ],
    [
      'a Service whose backend is elsewhere',
      {
        way: [
          on((it) => it.service(version, tcp, 80, ['away:8080'])),
          'one sends tcp S one:5 > front:80 -> net: tcp S one:5 > away:8080',
          'net in tcp SA away:8080 > one:5 -> pod one: tcp SA front:80 > one:5',
          'one sends tcp A one:5 > front:80 -> net: tcp A one:5 > away:8080',
          'one sends tcp PA one:5 > front:80 options -> stack: tcp PA one:5 > away:8080',
        ],
        records: ['answered one:5 > away:8080 egressOk answered established destination byNet'],
      },
    ],
  ])('%s', async (_, { run, ...what }) => {
    if (run !== undefined) bed.runState(run);
    await check(bed, version, what);
  });

  test('an address that moves here: what goes the short way notices', async () => {
    const step = 'one sends udp one:5 > router:53';
    expect(bed.run(version, step)).toBe('net');
    bed.run(version, 'net in at side udp router:53 > one:5');
    expect([bed.run(version, step), bed.run(version, step)]).toEqual(['net', 'net']);
    const to = `${namesOf[version]['router']}/${version === 4 ? 32 : 128}`;
    const route = async (device: string) =>
      await bed.netns.exec('ip', `-${version}`, 'route', 'replace', to, 'dev', device);
    bed.address(version, 'router', { class: 0, hop: 2 });
    bed.policy({ 'two ingress': 'deny' });
    try {
      await route('two');
      // Ways are looked up once in a tick of the clock.
      await sleep(50);
      expect(bed.run(version, step)).toBe('two refuses: policy');
      bed.policy();
      expect([bed.run(version, step), bed.run(version, step)]).toEqual(['pod two', 'pod two']);
      expect((await bed.records(version)).map(({ text }) => text)).toEqual([
        'one:5 > router:53 egressOk ingressOk answered byNet',
      ]);
    } finally {
      await route('side');
      bed.address(version, 'router', { class: 0, hop: 0 });
    }
  });

  test('a way that is remembered is not that of a longer packet, nor one by what is no uplink any more', () => {
    const step = 'one sends udp one:5 > router:53';
    bed.run(version, step);
    bed.run(version, 'net in at side udp router:53 > one:5');
    const sizes = ['', ' size=1600', '', ' size=1400', ' size=1500', ' size=1400'];
    expect(sizes.map((size) => bed.run(version, `${step}${size}`))).toEqual([
      'net',
      'stack',
      'net',
      'net',
      'stack',
      'net',
    ]);
    bed.uplink('side', {}, false);
    expect(bed.run(version, step)).toBe('stack');
    bed.shared('side');
    expect(bed.run(version, step)).toBe('stack');
    bed.uplink('side');
    expect(bed.run(version, step)).toBe('net');
  });

  test('a way that is remembered is that of packets with any ECN bits, not with another DSCP', async () => {
    const step = 'one sends udp one:5 > router:53';
    bed.run(version, step);
    bed.run(version, 'net in at side udp router:53 > one:5');
    const map = bed.map(`tortie_route${version}`);
    /** What is remembered, on each CPU, but for when. */
    const [now, size] = version === 4 ? [40, 80] : [64, 104];
    const remembered = async (trafficClass: number): Promise<readonly string[]> => {
      for (const { key, value } of await map.entries()) map.set(key, new Uint8Array(value.length));
      expect(bed.run(version, `${step} class=${trafficClass}`)).toBe('net');
      return (await map.entries()).flatMap(({ value }) =>
        Array.from({ length: map.cpus }, (_, cpu) => value.slice(cpu * map.valueStride, cpu * map.valueStride + size))
          .filter((one) => one.some((byte) => byte !== 0))
          .map((one) => Buffer.from(one.fill(0, now, now + 8)).toString('hex')),
      );
    };
    const first = await remembered(0x88);
    expect(first).toHaveLength(1);
    for (const ecn of [1, 2, 3]) expect(await remembered(0x88 + ecn)).toEqual(first);
    expect(await remembered(0x48)).not.toEqual(first);
  });

  test('an answer to an address that has moved here is a flow of its own', async () => {
    bed.run(version, 'net in udp away:5 > one:53');
    expect(bed.run(version, 'one sends udp one:53 > away:5')).toBe('net');
    bed.address(version, 'away', { class: 0, hop: 2 });
    try {
      bed.policy({ 'two ingress': 'deny' });
      // (The long way: a record without a slot of its own end.)
      await bed.patchRecords(version, () => ({ slot: [0, 0] }));
      expect(bed.run(version, 'one sends udp one:53 > away:5')).toBe('two refuses: policy');
      bed.policy();
      expect(bed.run(version, 'one sends udp one:53 > away:5')).toBe('pod two');
      expect((await bed.records(version)).map(({ text }) => text)).toEqual(['one:53 > away:5 egressOk ingressOk']);
    } finally {
      bed.address(version, 'away', { class: 0, hop: 0 });
    }
  });

  describe('the node’s own Service flows', () => {
    const asked = (it: NetBed, protocol: number, backend: string): void =>
      it.translated(
        version,
        protocol,
        ['node:5', backend],
        { other: 'front:80' },
        FlowFlag.ofHost | FlowFlag.viaStack | FlowFlag.ingressOk,
      );
    test.each<[string, NetCase]>([
      [
        'a pod’s answer comes from the Service, by the uplink',
        {
          way: [
            on((it) => asked(it, tcp, 'two:8080')),
            'two sends tcp SA two:8080 > node:5 -> uplink: tcp SA front:80 > node:5',
            'net in given tcp SA front:80 > node:5 -> stack',
            'two sends tcp PA two:8080 > node:5 -> uplink: tcp PA front:80 > node:5',
          ],
          records: ['answered node:5 > two:8080 ingressOk answered viaStack destination ofHost'],
        },
      ],
      [
        'its ICMP error, too',
        {
          way: [
            on((it) => asked(it, udp, 'two:53')),
            'two sends error two > node about udp node:5 > two:53 -> uplink: error front > node about udp node:5 > front:80',
          ],
        },
      ],
      [
        'without an uplink the stack has it, translated',
        {
          way: [
            on((it) => it.uplink('uplink', {}, false)),
            on((it) => asked(it, udp, 'two:53')),
            'two sends udp two:53 > node:5 -> stack: udp front:80 > node:5',
          ],
        },
      ],
      [
        'other answers to the node are the stack’s',
        {
          way: ['two gets from node tcp S node:5 > two:80 -> passed', 'two sends tcp SA two:80 > node:5 -> stack'],
        },
      ],
    ])('%s', async (_, what) => await check(bed, version, what));
  });

  test('a pod that is its own backend, where the node has no address of the family', () => {
    bed.service(version, tcp, 80, ['one:8080']);
    bed.runState({ host4: new Uint8Array(4), host6: new Uint8Array(16) });
    expect(bed.run(version, 'one sends tcp S one:5 > front:80')).toBe('back (no-backend): tcp RA front:80 > one:5');
    bed.runState();
    expect(bed.run(version, 'one sends tcp S one:5 > front:80')).toBe('pod one: tcp S node:5 > one:8080');
  });

  test('in the midst of a connection to a Service: told so, unless flows are handed over', () => {
    bed.service(version, tcp, 80, ['two:8080']);
    const step = 'one sends tcp PA one:5 > front:80';
    expect(bed.run(version, step)).toBe('back (mid-flow): tcp R front:80 > one:5');
    expect(bed.run(version, 'one sends tcp R one:5 > front:80')).toBe('dropped: mid-flow');
    bed.runState({ adopting: flowConstants.handoverOut });
    expect(bed.run(version, step)).toBe('dropped: mid-flow');
    bed.runState({ adopting: flowConstants.handoverIn });
    expect(bed.run(version, step)).toBe('stack');
  });

  test('a connection to a Service that begins when all have been handed over is netfilter’s from its first packet', async () => {
    bed.service(version, tcp, 80, ['two:8080']);
    bed.runState({ adopting: flowConstants.handoverOut });
    expect(bed.run(version, 'one sends tcp S one:6 > front:80')).toBe('stack');
    expect(await bed.records(version)).toEqual([]);
  });
});

describe.each([4, 6] as const)('full maps, IPv%i', (version) => {
  test('a handshake that finds no place by an uplink is told of as the pod’s', async () => {
    const shards = ['a', 'b', 'c', 'd'].map((letter) => `tortie_flow${version}${letter}`);
    await using small = await NetBed.create(Object.fromEntries(shards.map((name) => [name, 1])));
    await small.reset();
    for (const name of shards) {
      const map = small.map(name);
      map.set(new Uint8Array(map.shape.keySize).fill(200), new Uint8Array(map.shape.valueSize));
    }
    expect(small.run(version, 'net in tcp S away:5 > one:80')).toBe('pod one');
    expect(small.run(version, 'one sends tcp SA one:80 > away:5')).toBe('net');
    expect(small.run(version, 'net in tcp A away:5 > one:80')).toBe('one refuses: conntrack-full');
    await small.empty(version);
    expect(small.run(version, 'net in tcp A away:5 > one:80')).toBe('pod one');
  });
});
