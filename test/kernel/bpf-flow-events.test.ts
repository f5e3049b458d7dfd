import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import {
  classifierConstants,
  directionTexts,
  FlowEvent,
  RuleHits,
  verdictTexts,
} from '#dataplanes/ebpf/bpf-types.gen.ts';
import { openBpfRing } from '#native/bpf.ts';
import { FlowBed } from './bpf-flow-bed.ts';
import { namesOf } from './bpf-flow-names.ts';
import { addressBytes, type Version } from './classifier-bed.ts';

/** What is told of flows: events, and hits of rules. */
let bed: FlowBed;
beforeAll(async () => {
  bed = await FlowBed.create();
});
afterAll(async () => await (bed as FlowBed | undefined)?.[Symbol.asyncDispose]());
afterEach(async () => await bed.reset());

/** An event in words: `from-pod passed one:5000 > two:53 by unit 1`. */
function inWords(version: Version, bytes: Uint8Array): string {
  const event = FlowEvent.read(new DataView(bytes.buffer, bytes.byteOffset));
  const name = (address: Uint8Array): string => {
    const text = address.subarray(0, version === 4 ? 4 : 16).join();
    return Object.entries(namesOf[version]).find(([, value]) => addressBytes(value).join() === text)?.[0] ?? text;
  };
  const before = event.beforePort === 0 ? '' : ` asked for ${name(event.before)}:${event.beforePort}`;
  const by = event.rule === classifierConstants.ruleIndexNone ? 'no rule' : `unit ${event.unit} rule ${event.rule}`;
  return [
    `${directionTexts[event.direction]} ${verdictTexts[event.verdict]}`,
    `${name(event.source)}:${event.sourcePort} > ${name(event.destination)}:${event.destinationPort}${before}`,
    `by ${by}`,
  ].join(' ');
}

let last = 9000;
/** The events that the steps make. A last one, of a packet of our own, ends them. */
async function told(version: Version, steps: readonly string[]): Promise<string[]> {
  bed.runState({ events: 1 });
  using ring = openBpfRing(bed.map('tortie_events'));
  for (const step of steps) bed.run(version, step);
  bed.policy();
  last += 1;
  bed.run(version, `two gets udp away:${last} > two:9`);
  const found: string[] = [];
  for await (const record of ring) {
    const words = inWords(version, record);
    if (words.includes(`away:${last}`)) break;
    found.push(words);
  }
  return found;
}

const hits = (rule: number): number => {
  const place = bed.array('tortie_hits').value(rule);
  return Number(RuleHits.read(new DataView(place.buffer, place.byteOffset)).packets);
};

describe.each([4, 6] as const)('IPv%i', (version) => {
  test('a new flow is told by both legs, once; what is refused each time', async () => {
    expect(
      await told(version, [
        'one sends udp one:5000 > two:53',
        'one sends udp one:5000 > two:53',
        'two sends udp two:53 > one:5000',
        'one gets tcp S away:1 > one:80',
      ]),
    ).toEqual([
      'from-pod passed one:5000 > two:53 by unit 1 rule 0',
      'to-pod passed one:5000 > two:53 by unit 1 rule 0',
      'to-pod passed away:1 > one:80 by unit 1 rule 0',
    ]);
    bed.policy({ 'one egress': 'deny', 'two ingress': 'deny' });
    expect(
      await told(version, [
        'one sends udp one:1 > two:2',
        'one sends udp one:1 > two:2',
        'two gets udp away:1 > two:2',
      ]),
    ).toEqual([
      'from-pod policy one:1 > two:2 by unit 2 rule 1',
      'from-pod policy one:1 > two:2 by unit 2 rule 1',
      'to-pod policy away:1 > two:2 by unit 2 rule 1',
    ]);
  });

  test('a SYN that is judged again is no news unless it is refused', async () => {
    bed.run(version, 'one sends tcp S one:40000 > two:80');
    expect(await told(version, ['one sends tcp S one:40000 > two:80'])).toEqual([]);
    bed.policy({ 'two ingress': 'deny' });
    expect(await told(version, ['one sends tcp S one:40000 > two:80'])).toEqual([
      'to-pod policy one:40000 > two:80 by unit 2 rule 1',
    ]);
  });

  test("a Service's flow says what was asked for; the node's says that no rule was", async () => {
    bed.service(version, 17, 53, ['away:5353']);
    expect(await told(version, ['one sends udp one:5000 > front:53', 'one gets from node udp node:1 > one:2'])).toEqual(
      [
        'from-pod passed one:5000 > away:5353 asked for front:53 by unit 1 rule 0',
        'to-pod passed node:1 > one:2 by no rule',
      ],
    );
  });

  test('what is dropped for another reason than policy is told as it came', async () => {
    bed.service(version, 17, 53, []);
    expect(await told(version, ['one sends udp one:5000 > front:53', 'one sends udp away:1 > two:53'])).toEqual([
      'from-pod no-backend one:5000 > front:53 by no rule',
      'from-pod spoofed-source away:1 > two:53 by no rule',
    ]);
  });

  test('nobody is told while nobody reads', async () => {
    bed.runState({ events: 0 });
    bed.run(version, 'one sends udp one:5001 > two:53');
    expect(await told(version, [])).toEqual([]);
  });

  test('rules count the first packets of flows', () => {
    const before = hits(0);
    for (const port of [1, 2, 2, 2]) bed.run(version, `one sends udp one:${port} > away:53`);
    expect(hits(0) - before).toBe(2);
  });

  test('packets and bytes of a flow are counted for each end, once', async () => {
    for (const step of [
      'one sends tcp S one:40000 > away:80',
      'one gets tcp SA away:80 > one:40000 size=100',
      'one sends tcp A one:40000 > away:80',
      'one sends udp one:1 > two:2',
      'two sends udp two:2 > one:1',
      'one sends udp one:1 > two:2',
    ])
      bed.run(version, step);
    const size = version === 4 ? 34 : 54;
    expect((await bed.records(version)).map(({ packets, bytes }) => ({ packets, bytes }))).toEqual([
      { packets: [2, 1], bytes: [2 * (size + 24), size + 24] },
      { packets: [2, 1], bytes: [2 * (size + 36), size + 120] },
    ]);
  });
});

describe.each([4, 6] as const)('full maps, IPv%i', (version) => {
  let small: FlowBed;
  const shards = ['a', 'b', 'c', 'd'].map((letter) => `tortie_flow${version}${letter}`);
  beforeAll(async () => {
    small = await FlowBed.create(Object.fromEntries(shards.map((name) => [name, 2])));
  });
  afterAll(async () => await (small as FlowBed | undefined)?.[Symbol.asyncDispose]());
  afterEach(async () => await small.reset());

  /** Elements of no flow, so that each hash has `left` places. */
  function fill(left: number): void {
    for (const name of shards) {
      const map = small.map(name);
      for (let i = 0; i < 2 - left; i += 1)
        map.set(new Uint8Array(map.shape.keySize).fill(i + 200), new Uint8Array(map.shape.valueSize));
    }
  }

  /** The same for hashes that have something already. */
  async function fillUp(): Promise<void> {
    for (const name of shards) {
      const map = small.map(name);
      for (let i = (await map.entries()).length; i < 2; i += 1)
        map.set(new Uint8Array(map.shape.keySize).fill(i + 200), new Uint8Array(map.shape.valueSize));
    }
  }

  test('an answer that can not be remembered is dropped, and passes once there is room', async () => {
    fill(0);
    expect(small.run(version, 'one sends udp one:5000 > two:53')).toBe('pod two');
    expect(small.run(version, 'two sends udp two:53 > one:5000')).toBe('dropped: conntrack-full');
    expect(small.run(version, 'one sends udp one:5000 > two:53')).toBe('pod two');
    await small.empty(version);
    expect(small.run(version, 'two sends udp two:53 > one:5000')).toBe('pod one');
  });

  test('what is established goes on while there is no room for anybody else', async () => {
    const established = [
      ['one sends tcp A one:40000 > two:80', 'pod two'],
      ['two sends tcp A two:80 > one:40000', 'pod one'],
    ] as const;
    small.run(version, 'one sends tcp S one:40000 > two:80');
    small.run(version, 'two sends tcp SA two:80 > one:40000');
    for (const [words, way] of established) expect(small.run(version, words)).toBe(way);
    await fillUp();
    expect(small.run(version, 'one sends tcp S one:40001 > two:80')).toBe('pod two');
    expect(small.run(version, 'two sends tcp SA two:80 > one:40001')).toBe('pod one');
    expect(small.run(version, 'one sends tcp A one:40001 > two:80')).toBe('dropped: conntrack-full');
    for (const [words, way] of established) expect(small.run(version, words)).toBe(way);
  });

  test('a record without room for its pointer takes none', async () => {
    small.service(version, 17, 53, ['two:5353']);
    // Of many flows some have pointer and record in the same hash, where there is room for one.
    let dropped = 0;
    for (let port = 1; port <= 24; port += 1) {
      await small.empty(version);
      fill(1);
      expect(small.run(version, `one sends udp one:${port} > front:53`)).toMatch(/^pod two/);
      const answer = small.run(version, `two sends udp two:5353 > one:${port}`);
      if (answer === 'dropped: conntrack-full') {
        dropped += 1;
        const found = await small.records(version);
        expect(found.filter(({ text }) => text.startsWith(`one:${port} `)).map(({ map }) => map)).toEqual(['new']);
      } else expect(answer).toBe(`pod one: udp front:53 > one:${port}`);
    }
    expect(dropped).toBeGreaterThan(0);
    expect(dropped).toBeLessThan(24);
  });
});
