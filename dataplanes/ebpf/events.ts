import ipaddr from 'ipaddr.js';
import { messageOf } from '#api/errors.ts';
import type { EventStream } from '#native/event-stream.ts';
import type { FlowEvent, FlowEventSource, FlowFollower, FlowNews } from '../observe.ts';
import { directionTexts, FlowEvent as EventRecord, verdictTexts } from './bpf-types.gen.ts';
import type { RuleAt } from './classifier/compiled-units.ts';

/** Where the events come from, while the programs are loaded. */
export interface FlowRing {
  /** Opens the ring for reading. */
  readonly open: () => EventStream<Uint8Array>;
  /** Whether programs write into it. */
  readonly setEvents: (isOn: boolean) => void;
  /** How many events found no room since the ring was made (32 bits). */
  readonly lost: number;
  /** What stands at an index of the rule words, now. */
  readonly ruleOf: (word: number) => RuleAt | undefined;
  readonly nameOf: (ifindex: number) => string | undefined;
}

/** Protocols whose ports stand in an event's port fields. */
const withPorts: ReadonlySet<number> = new Set([6, 17, 132]);
const icmp = { 4: 1, 6: 58 } as const;

/**
 * Hands what programs tell of flows to all who follow. Programs tell nothing while nobody does. Rule words become names as soon as they are read,
 * since their numbers are used again; what a listener doesn't take in time is counted and left out.
 */
export class FlowEvents implements FlowEventSource {
  readonly verdicts = Object.values(verdictTexts);
  readonly #ring: () => FlowRing | undefined;
  readonly #room: number;
  readonly #followers = new Set<Follower>();
  #stream: EventStream<Uint8Array> | undefined;

  /** `room`: events that wait for one listener, at most. */
  constructor(ring: () => FlowRing | undefined, room = 10_000) {
    this.#ring = ring;
    this.#room = room;
  }

  follow(): FlowFollower {
    const ring = this.#ring();
    if (ring === undefined)
      throw Object.assign(new Error('the BPF programs are not loaded: there is nothing to follow yet'), {
        code: 'bad-request',
      });
    if (this.#stream === undefined) this.#begin(ring);
    const follower = new Follower(this.#room, () => this.#leave(follower));
    this.#followers.add(follower);
    return follower;
  }

  /** Other programs, with a ring of their own: who follows is told by these from now on, or hears why not. Never throws. */
  move(): void {
    if (this.#stream === undefined) return;
    this.#stream[Symbol.dispose]();
    this.#stream = undefined;
    const ring = this.#ring();
    try {
      if (ring === undefined) this.end();
      else this.#begin(ring);
    } catch (error) {
      this.#fail(
        new Error(
          `the BPF maps got other sizes, and the ring with the events of flows could not be opened: ${messageOf(error)}. Ask again to follow them further`,
          { cause: error },
        ),
      );
    }
  }

  /** The programs are going: nobody is told any more. */
  end(): void {
    for (const follower of this.#followers) follower[Symbol.dispose]();
  }

  #begin(ring: FlowRing): void {
    const stream = ring.open();
    this.#stream = stream;
    ring.setEvents(true);
    const since = process.hrtime.bigint();
    void this.#read(ring, stream, since).catch((error: unknown) => {
      if (this.#stream === stream) this.#fail(error);
    });
  }

  #fail(error: unknown): void {
    for (const follower of this.#followers) follower.fail(error);
  }

  /** What is older than `since` was left by who listened before: its numbers may mean something else by now. */
  async #read(ring: FlowRing, stream: EventStream<Uint8Array>, since: bigint): Promise<void> {
    let { lost } = ring;
    for await (const bytes of stream) {
      // All that was lost was so while this record was waiting, or before.
      const missing = (ring.lost - lost) >>> 0;
      lost = (lost + missing) >>> 0;
      const record = EventRecord.read(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
      if (missing > 0) this.#tell({ type: 'lost', events: missing });
      if (record.time < since) continue;
      this.#tell({ type: 'flow', event: eventOf(record, ring) });
    }
  }

  #tell(news: FlowNews): void {
    for (const follower of this.#followers) follower.push(news);
  }

  #leave(follower: Follower): void {
    if (!this.#followers.delete(follower) || this.#followers.size > 0) return;
    this.#ring()?.setEvents(false);
    this.#stream?.[Symbol.dispose]();
    this.#stream = undefined;
  }
}

/** One listener's events that it hasn't taken yet. */
class Follower implements FlowFollower {
  readonly #room: number;
  readonly #onEnd: () => void;
  #waiting: FlowNews[] = [];
  #lost = 0;
  #isEnded = false;
  #failure: { readonly error: unknown } | undefined;
  #wake: () => void = () => {};

  constructor(room: number, onEnd: () => void) {
    this.#room = room;
    this.#onEnd = onEnd;
  }

  push(news: FlowNews): void {
    if (news.type === 'lost') this.#lost += news.events;
    else if (this.#waiting.length >= this.#room) this.#lost += 1;
    else {
      if (this.#lost > 0) this.#waiting.push({ type: 'lost', events: this.#lost });
      this.#lost = 0;
      this.#waiting.push(news);
    }
    this.#wake();
  }

  fail(error: unknown): void {
    this.#failure = { error };
    this[Symbol.dispose]();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<FlowNews, void, undefined> {
    try {
      for (;;) {
        const waiting = this.#waiting;
        this.#waiting = [];
        yield* waiting;
        if (this.#waiting.length > 0) continue;
        if (this.#failure !== undefined) throw this.#failure.error;
        if (this.#isEnded) return;
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      this[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#onEnd();
    this.#wake();
  }
}

function eventOf(record: EventRecord, { ruleOf, nameOf }: FlowRing): FlowEvent {
  const { protocol, ifindex, verdict, direction, sourcePort, destinationPort, beforePort } = record;
  const family = record.family === 4 ? 4 : 6;
  const rule = record.unit === 0 ? undefined : ruleOf(record.rule);
  const addressOf = (bytes: Uint8Array) =>
    ipaddr.fromByteArray([...bytes.subarray(0, family === 4 ? 4 : 16)]).toString();
  return {
    time: Date.now() - Number((process.hrtime.bigint() - record.time) / 1_000_000n),
    verdict: verdictTexts[verdict] ?? `unknown (${verdict})`,
    direction: directionTexts[direction],
    device: nameOf(ifindex) ?? `#${ifindex}`,
    family,
    protocol,
    source: addressOf(record.source),
    destination: addressOf(record.destination),
    ...(withPorts.has(protocol) ? { sourcePort, destinationPort } : {}),
    ...(protocol === icmp[family] ? { icmp: { type: destinationPort >> 8, code: destinationPort & 0xff } } : {}),
    ...(beforePort === 0 ? {} : { asked: { address: addressOf(record.before), port: beforePort } }),
    ...(rule?.rule === undefined ? {} : { rule: rule.rule }),
    ...(record.unit === 0 ? {} : { decidedBy: rule?.text ?? 'a rule that is no more' }),
  };
}
