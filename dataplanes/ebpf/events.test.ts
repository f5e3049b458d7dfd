import { expect, jest, test } from '@jest/globals';
import type { EventStream } from '#native/event-stream.ts';
import type { FlowNews } from '../observe.ts';
import { Direction, FlowEvent, Verdict } from './bpf-types.gen.ts';
import { FlowEvents, type FlowRing } from './events.ts';

/** A ring in memory: what is written before anybody reads stays in it, as in the kernel. */
class FakeRing implements FlowRing {
  readonly switched: boolean[] = [];
  readonly records: Uint8Array[] = [];
  lost = 0;
  #wake: () => void = () => {};

  readonly open = (): EventStream<Uint8Array> => {
    let isClosed = false;
    const stream: EventStream<Uint8Array> = {
      next: async () => {
        while (!isClosed) {
          const value = this.records.shift();
          if (value !== undefined) return { done: false, value };
          await new Promise<void>((resolve) => (this.#wake = resolve));
        }
        return { done: true, value: undefined };
      },
      return: async () => ({ done: true, value: undefined }),
      [Symbol.asyncIterator]: () => stream,
      [Symbol.dispose]: () => {
        isClosed = true;
        this.#wake();
      },
    };
    return stream;
  };
  readonly setEvents = (isOn: boolean): number => this.switched.push(isOn);
  readonly ruleOf = (word: number) => ({ unit: {} as never, position: 0, rule: `rule ${word}`, text: `rule ${word}` });
  readonly nameOf = (ifindex: number) => (ifindex === 7 ? 'cali7' : undefined);

  put(rule: number, more: Partial<FlowEvent> = {}): void {
    const none = new Uint8Array(16);
    this.records.push(
      FlowEvent.encode({
        time: process.hrtime.bigint(),
        source: Uint8Array.of(10, 65, 0, 1, ...none.subarray(4)),
        destination: Uint8Array.of(10, 65, 0, 2, ...none.subarray(4)),
        before: none,
        sourcePort: 1000,
        destinationPort: 80,
        beforePort: 0,
        protocol: 6,
        family: 4,
        ifindex: 7,
        direction: Direction.toPod,
        verdict: Verdict.passed,
        unit: 3,
        rule,
        ...more,
      }),
    );
    this.#wake();
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const inWords = (news: FlowNews): string =>
  news.type === 'lost' ? `${news.events} lost` : `${news.event.device} ${news.event.decidedBy}`;
/** What comes until the listener leaves after so many. */
async function take(follower: AsyncIterable<FlowNews>, count: number): Promise<string[]> {
  const words: string[] = [];
  for await (const news of follower) {
    words.push(inWords(news));
    if (words.length === count) break;
  }
  return words;
}

test('programs tell only while somebody listens: on with the first, off with the last', async () => {
  const ring = new FakeRing();
  const events = new FlowEvents(() => ring);
  const [one, two] = [events.follow(), events.follow()];
  expect(ring.switched).toEqual([true]);
  ring.put(1);
  expect(await take(one, 1)).toEqual(['cali7 rule 1']);
  expect(ring.switched).toEqual([true]);
  expect(await take(two, 1)).toEqual(['cali7 rule 1']);
  expect(ring.switched).toEqual([true, false]);
  using again = events.follow();
  ring.put(2);
  expect(await take(again, 1)).toEqual(['cali7 rule 2']);
  expect(ring.switched).toEqual([true, false, true, false]);
});

test('what an earlier listener left in the ring is not told', async () => {
  const ring = new FakeRing();
  const events = new FlowEvents(() => ring);
  ring.put(1, { time: process.hrtime.bigint() - 1n });
  const follower = events.follow();
  ring.put(2, { ifindex: 8 });
  expect(await take(follower, 1)).toEqual(['#8 rule 2']);
});

test('what found no room in the ring is told where it is missing, over the end of the numbers', async () => {
  const ring = new FakeRing();
  ring.lost = 0xffff_fffe;
  const follower = new FlowEvents(() => ring).follow();
  ring.put(1);
  await turn();
  ring.lost = 3;
  ring.put(2);
  expect(await take(follower, 3)).toEqual(['cali7 rule 1', '5 lost', 'cali7 rule 2']);
});

test('a listener that is too slow loses its own events alone, and is told how many', async () => {
  const ring = new FakeRing();
  const events = new FlowEvents(() => ring, 2);
  const [slow, fast] = [events.follow(), events.follow()];
  const read = take(fast, 6);
  for (let rule = 1; rule <= 5; rule += 1) {
    ring.put(rule);
    await turn();
  }
  const words = take(slow, 4);
  await turn();
  ring.put(6);
  expect(await words).toEqual(['cali7 rule 1', 'cali7 rule 2', '3 lost', 'cali7 rule 6']);
  expect(await read).toEqual([1, 2, 3, 4, 5, 6].map((rule) => `cali7 rule ${rule}`));
});

test('where the ring of other programs can not be opened, who follows hears of it, and who comes later is told by it', async () => {
  const [former, next] = [new FakeRing(), new FakeRing()];
  let ring = former;
  const events = new FlowEvents(() => ring);
  const followers = [events.follow(), events.follow()].map((follower) => take(follower, 2));
  former.put(1);
  await turn();
  ring = next;
  const full = jest.spyOn(next, 'open').mockImplementation(() => {
    throw new Error('ring buffer: EMFILE: too many open files');
  });
  expect(() => events.move()).not.toThrow();
  for (const follower of followers) await expect(follower).rejects.toThrow(/could not be opened: .*EMFILE.*again/);
  expect(next.switched).toEqual([false]);
  full.mockRestore();
  const later = take(events.follow(), 1);
  next.put(2);
  expect(await later).toEqual(['cali7 rule 2']);
});

test('who could not begin to follow holds nothing open', async () => {
  const ring = new FakeRing();
  jest.spyOn(ring, 'open').mockImplementationOnce(() => {
    throw new Error('EMFILE');
  });
  const events = new FlowEvents(() => ring);
  expect(() => events.follow()).toThrow('EMFILE');
  events.follow()[Symbol.dispose]();
  expect(ring.switched).toEqual([true, false]);
});

test('when the programs go all listeners have come to the end; without programs there is nothing to follow', async () => {
  const ring = new FakeRing();
  let isLoaded = true;
  const events = new FlowEvents(() => (isLoaded ? ring : undefined));
  const all = take(events.follow(), 10);
  ring.put(1);
  await turn();
  events.end();
  expect(await all).toEqual(['cali7 rule 1']);
  isLoaded = false;
  expect(() => events.follow()).toThrow(expect.objectContaining({ code: 'bad-request' }));
});

test.each([
  [{ protocol: 1, destinationPort: 8 << 8 }, { icmp: { type: 8, code: 0 } }],
  [{ protocol: 47 }, { protocol: 47 }],
  [
    { before: Uint8Array.of(10, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), beforePort: 443 },
    { asked: { address: '10.96.0.1', port: 443 } },
  ],
  [{ unit: 0, rule: 0xffff_ffff, verdict: Verdict.noBackend }, { verdict: 'no-backend' }],
] as const)('an event with %j says %j', async (fields, said) => {
  const ring = new FakeRing();
  const follower = new FlowEvents(() => ring).follow();
  ring.put(1, fields);
  for await (const news of follower) {
    if (news.type !== 'flow') throw new Error('no flow');
    const { event } = news;
    expect(event).toMatchObject(said);
    if ('unit' in fields) expect(event.decidedBy).toBeUndefined();
    if ('protocol' in fields) expect(event.destinationPort).toBeUndefined();
    break;
  }
});
