import { describe, expect, test } from '@jest/globals';
import type { ConntrackTable } from '#native/conntrack-table.ts';
import type {
  ConntrackDumpItem,
  ConntrackEntry,
  ConntrackEvent,
  ConntrackKey,
  NewConntrackEntry,
} from '#native/conntrack-types.ts';
import { type EventSource, SourceEventStream } from '#native/event-stream.ts';
import type { Family } from '#native/types.ts';
import type { FlowExportItem } from '../flows.ts';
import { flowOfEntry } from './conntrack-entries.ts';
import { type ConntrackPort, NetfilterFlows } from './conntrack-flows.ts';

/** UDP from a pod's port to a server. */
const entry = (port: number, more: Partial<ConntrackEntry> = {}): ConntrackEntry => ({
  family: 4,
  original: { source: '10.65.0.2', destination: '192.0.2.1', protocol: 17, sourcePort: port, destinationPort: 53 },
  reply: { source: '192.0.2.1', destination: '10.65.0.2', protocol: 17, sourcePort: 53, destinationPort: port },
  zone: 0,
  zoneDirection: 'both',
  mark: 0,
  status: ['seen-reply', 'confirmed'],
  timeoutSeconds: 30,
  id: port,
  ...more,
});
const pod = { local: new Set(['10.65.0.2']) };
const elsewhere: ConntrackEntry['original'] = { source: '10.9.0.1', destination: '10.9.0.2', protocol: 17 };

/** Events that the test makes. */
class PlayedEvents implements EventSource<ConntrackEvent> {
  closed = 0;
  #waiting: ConntrackEvent[] = [];
  #wake: (() => void) | undefined;

  say(...events: ConntrackEvent[]): void {
    this.#waiting.push(...events);
    this.#wake?.();
    this.#wake = undefined;
  }

  wait(callback: () => void): void {
    if (this.#waiting.length > 0) callback();
    else this.#wake = callback;
  }

  read(): readonly ConntrackEvent[] {
    return this.#waiting.splice(0, 64);
  }

  close(): void {
    this.closed += 1;
  }
}

/** A kernel's table that answers as it is told to. */
class PlayedTable implements ConntrackTable {
  readonly calls: [string, readonly (NewConntrackEntry | ConntrackKey)[]][] = [];
  code: string | undefined;

  #outcome(): { ok: false; error: never } | undefined {
    const { code } = this;
    return code === undefined
      ? undefined
      : { ok: false, error: Object.assign(new Error(`refused: ${code}`), { code }) as never };
  }

  create(entries: readonly NewConntrackEntry[]) {
    this.calls.push(['create', entries]);
    return Promise.resolve(entries.map(() => this.#outcome() ?? { ok: true as const, replaced: [] }));
  }

  replace(entries: readonly NewConntrackEntry[]) {
    this.calls.push(['replace', entries]);
    return Promise.resolve(entries.map(() => this.#outcome() ?? { ok: true as const, replaced: [] }));
  }

  delete(keys: readonly ConntrackKey[]) {
    this.calls.push(['delete', keys]);
    return Promise.resolve(keys.map(() => this.#outcome() ?? { ok: true as const, existed: true }));
  }

  [Symbol.dispose](): void {
    this.calls.push(['dispose', []]);
  }
}

function make(
  entries: readonly ConntrackEntry[],
  items: readonly ConntrackDumpItem[] = [{ type: 'entries', entries }],
) {
  const [events, table] = [new PlayedEvents(), new PlayedTable()];
  const order: string[] = [];
  const port: ConntrackPort = {
    async *dump(family: Family) {
      order.push(`dump ${family}`);
      if (family === 4) yield* items;
    },
    openEvents() {
      order.push('listen');
      return new SourceEventStream(events);
    },
    openTable: () => table,
    readSysctl: () => undefined,
  };
  return { flows: new NetfilterFlows(port), events, table, order };
}

/** Items by their type, with the openers' ports. */
const told = (item: FlowExportItem): string =>
  'flows' in item ? `${item.type} ${item.flows.map(({ asked }) => asked.sourcePort).join(' ')}` : item.type;

async function* said(...items: FlowExportItem[]): AsyncGenerator<FlowExportItem> {
  yield* items;
}

describe('an export', () => {
  test('listens before it dumps, tells what concerns the pods, then changes in their order until the signal', async () => {
    const { flows, events, order } = make([entry(1), entry(2, { original: elsewhere, reply: elsewhere }), entry(3)]);
    const stop = new AbortController();
    const seen: string[] = [];
    for await (const item of flows.exportFlows(pod, stop.signal)) {
      seen.push(told(item));
      if (item.type === 'whole')
        events.say(
          { type: 'new', entry: entry(4) },
          { type: 'update', entry: entry(5) },
          { type: 'new', entry: entry(6, { original: elsewhere, reply: elsewhere }) },
          { type: 'destroy', entry: entry(4) },
          { type: 'new', entry: entry(4) },
        );
      if (seen.length === 5) stop.abort();
    }
    expect(order).toEqual(['listen', 'dump 4', 'dump 6']);
    expect(seen).toEqual(['flows 1 3', 'whole', 'flows 4 5', 'gone 4', 'flows 4']);
    expect(events.closed).toBe(1);
  });

  test('ends while it waits', async () => {
    const { flows, events } = make([]);
    const stop = new AbortController();
    setImmediate(() => stop.abort());
    const seen: string[] = [];
    for await (const item of flows.exportFlows(pod, stop.signal)) seen.push(told(item));
    expect(seen).toEqual(['whole']);
    expect(events.closed).toBe(1);
  });

  test('that is left closes its socket; with a signal that was given before it says nothing', async () => {
    const { flows, events } = make([entry(1)]);
    for await (const _ of flows.exportFlows(pod, new AbortController().signal)) break;
    expect(events.closed).toBe(1);
    for await (const item of flows.exportFlows(pod, AbortSignal.abort())) throw new Error(told(item));
    expect(events.closed).toBe(2);
  });

  test('says everything again after events were lost, and when a dump was interrupted', async () => {
    const { flows, events } = make(
      [],
      [{ type: 'entries', entries: [entry(1)] }, { type: 'restarted' }, { type: 'entries', entries: [entry(2)] }],
    );
    const stop = new AbortController();
    const seen: string[] = [];
    for await (const item of flows.exportFlows(pod, stop.signal)) {
      seen.push(told(item));
      if (seen.at(-1) === 'whole' && seen.length === 4) events.say({ type: 'lost' });
      if (seen.length === 9) stop.abort();
    }
    expect(seen).toEqual([
      ...['flows 1', 'again', 'flows 2', 'whole'],
      ...['again', 'flows 1', 'again', 'flows 2', 'whole'],
    ]);
  });
});

describe('an import', () => {
  const flow = flowOfEntry(entry(7));
  const items = (more: object) => said({ type: 'flows', flows: [{ ...flow, ...more }] }, { type: 'whole' });

  test.each([
    ['what netfilter sees anyway is made if it is not there', { crossesNetfilter: true }, 'create'],
    ['what it has not seen is made anew', { crossesNetfilter: false }, 'replace'],
    [
      'what it must translate is made anew, whoever has seen it',
      { crossesNetfilter: true, delivered: { ...flow.delivered, destination: '192.0.2.9' } },
      'replace',
    ],
  ] as const)('%s', async (_, more, call) => {
    const { flows, table } = make([]);
    const wholes: number[] = [];
    const report = await flows.importFlows(items(more), pod, ({ imported }) => wholes.push(imported));
    expect(report).toEqual({ imported: 1, present: 0, skipped: {}, failed: { count: 0, examples: [] } });
    expect(wholes).toEqual([1]);
    expect(table.calls.map(([name, entries]) => [name, entries.length])).toEqual([
      [call, 1],
      ['dispose', 0],
    ]);
  });

  test.each([
    ['its own entry stays', { crossesNetfilter: true }, 'EEXIST', { present: 1, failed: { count: 0 } }],
    [
      'another that can not be taken away is a failure',
      { crossesNetfilter: false },
      'EEXIST',
      { failed: { count: 1 } },
    ],
    ['a full table is one', { crossesNetfilter: true }, 'ENOMEM', { present: 0, failed: { count: 1 } }],
  ] as const)('%s', async (_, more, code, report) => {
    const { flows, table } = make([]);
    table.code = code;
    const outcome = await flows.importFlows(items(more), pod);
    expect(outcome).toMatchObject({ imported: 0, ...report });
    if (outcome.failed.count > 0)
      expect(outcome.failed.examples).toEqual([`udp 10.65.0.2 7 > 192.0.2.1 53: refused: ${code}`]);
  });

  test('what does not concern the pods, or can not be made, is skipped by reason', async () => {
    const { flows, table } = make([]);
    const others = [
      { ...flow, state: 'new' as const },
      flowOfEntry(entry(1, { original: elsewhere, reply: elsewhere })),
    ];
    expect(await flows.importFlows(said({ type: 'flows', flows: others }), pod)).toMatchObject({
      imported: 0,
      skipped: { 'nobody has answered': 1, 'no end is a pod of this node': 1 },
    });
    expect(table.calls.map(([name]) => name)).toEqual(['dispose']);
  });
});

describe('a deletion', () => {
  test('names entries by tuple and id, and counts those that were there', async () => {
    const { flows, table } = make([entry(1), entry(2)]);
    expect(await flows.delete({ port: 2 })).toEqual({ deleted: 1, failed: [] });
    expect(table.calls[0]).toMatchObject(['delete', [{ id: 2, original: { sourcePort: 2 } }]]);
  });

  test('says which ones it could not delete', async () => {
    const { flows, table } = make([entry(1)]);
    table.code = 'EBUSY';
    expect(await flows.delete({ protocol: 17 })).toEqual({
      deleted: 0,
      failed: ['udp 10.65.0.2 1 > 192.0.2.1 53: refused: EBUSY'],
    });
  });
});
