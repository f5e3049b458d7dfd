import { describe, expect, test } from '@jest/globals';
import { readdirSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { openConntrackEvents } from '#native/conntrack-events.ts';
import { openConntrackTable } from '#native/conntrack-table.ts';
import type { ConntrackEntry, ConntrackEvent } from '#native/conntrack-types.ts';
import type { EventStream } from '#native/event-stream.ts';
import { createNetns } from '#test/lab/netns.ts';
import { writeSysctls } from '#native/netns.ts';
import { eventually, RouterLab, routerFamilies, servicePort, udpEntry } from './native-conntrack-lab.ts';

/** Takes events until one matches; the test's time limit ends it when none does. */
async function until(
  events: EventStream<ConntrackEvent>,
  wanted: (event: ConntrackEvent) => boolean,
): Promise<ConntrackEvent[]> {
  const seen: ConntrackEvent[] = [];
  for await (const event of keepOpen(events)) {
    seen.push(event);
    if (wanted(event)) return seen;
  }
  throw new Error(`the stream ended after ${JSON.stringify(seen)}`);
}

/** Leaving a loop over this leaves the stream open. */
async function* keepOpen(events: EventStream<ConntrackEvent>): AsyncGenerator<ConntrackEvent> {
  for (;;) {
    const { done, value } = await events.next();
    if (done === true) return;
    yield value;
  }
}

const isOf =
  (type: ConntrackEvent['type'], sourcePort?: number) =>
  (event: ConntrackEvent): boolean =>
    event.type === type &&
    (sourcePort === undefined || (event.type !== 'lost' && event.entry.original.sourcePort === sourcePort));

describe.each(routerFamilies)('events of IPv$family', (row) => {
  test('tell a TCP connection’s life in order, with its translation', async () => {
    await using lab = await RouterLab.start();
    await lab.translate(row);
    using events = openConntrackEvents(lab.ref);
    const stream = await lab.client.stream(row.service, 10, { port: servicePort });
    await eventually(async () => (await stream.progress()).answered > 3);
    expect((await stream.stop()).failure).toBeNull();
    const states = (seen: readonly ConntrackEvent[]): string[] =>
      seen.flatMap((event) =>
        event.type !== 'lost' && event.entry.tcp && event.entry.original.destination === row.service
          ? [`${event.type} ${event.entry.tcp.state}`]
          : [],
      );
    const hasEnded = (event: ConntrackEvent): boolean =>
      event.type === 'update' && ['time-wait', 'close'].includes(event.entry.tcp?.state ?? '');
    const seen = await until(events, hasEnded);
    using table = openConntrackTable(lab.ref);
    const entries = await lab.serviceEntries(row, 6);
    await table.delete(entries);
    // It may have ended by itself by now.
    const { entry: ended } = seen.at(-1) as { readonly entry: ConntrackEntry };
    seen.push(...(await until(events, isOf('destroy', ended.original.sourcePort))));
    const life = states(seen);
    expect(life.slice(0, 3)).toEqual(['new syn-sent', 'update syn-recv', 'update established']);
    const last = seen.at(-1);
    expect(last).toMatchObject({
      type: 'destroy',
      entry: { original: { destination: row.service }, nat: { destination: { address: row.server } } },
    });
    const { id } = (last as { readonly entry: ConntrackEntry }).entry;
    expect(seen.flatMap((event) => (event.type !== 'lost' && event.entry.tcp ? [event.entry.id] : []))).toEqual(
      life.map(() => id),
    );
  });

  test('tell a UDP flow’s life in order', async () => {
    await using lab = await RouterLab.start();
    await lab.translate(row);
    using events = openConntrackEvents(lab.ref);
    const stream = await lab.client.stream(row.service, 10, { protocol: 'udp', port: servicePort });
    const isAnswered = (event: ConntrackEvent): boolean =>
      event.type === 'update' && event.entry.status.includes('seen-reply');
    const seen = await until(events, isAnswered);
    await stream.stop();
    using table = openConntrackTable(lab.ref);
    const { entry } = seen.at(-1) as { readonly entry: ConntrackEntry };
    await table.delete([entry]);
    seen.push(...(await until(events, isOf('destroy', entry.original.sourcePort))));
    const life = seen.filter((event) => event.type !== 'lost' && event.entry.id === entry.id);
    expect(life.map(({ type }) => type).filter((type, n, all) => type !== all[n - 1])).toEqual([
      'new',
      'update',
      'destroy',
    ]);
    expect(life[0]).toMatchObject({ entry: { status: expect.not.arrayContaining(['seen-reply']) } });
  });
});

describe('events', () => {
  test('of both families come, of the types asked for, of this namespace only', async () => {
    await using ns = await createNetns();
    await using other = await createNetns();
    using events = openConntrackEvents({ path: ns.path }, { types: ['destroy'] });
    using table = openConntrackTable({ path: ns.path });
    using elsewhere = openConntrackTable({ path: other.path });
    await elsewhere.create([udpEntry(4, 9)]);
    await elsewhere.delete([udpEntry(4, 9)]);
    await table.create([udpEntry(4, 1), udpEntry(6, 2)]);
    await table.delete([udpEntry(6, 2), udpEntry(4, 1)]);
    const seen = await until(events, isOf('destroy', 1));
    expect(seen.map((event) => event.type === 'lost' || [event.type, event.entry.family])).toEqual([
      ['destroy', 6],
      ['destroy', 4],
    ]);
  });

  test('of entries that are older than the listener come when the sysctl says so', async () => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    writeSysctls([{ path: 'net/netfilter/nf_conntrack_events', value: '1' }], { path: ns.path });
    await table.create([udpEntry(4, 1)]);
    using events = openConntrackEvents({ path: ns.path });
    await table.delete([udpEntry(4, 1)]);
    expect(await until(events, isOf('destroy'))).toHaveLength(1);
  });

  test('that do not fit into the buffer are one item, after which nothing is missed', async () => {
    await using ns = await createNetns();
    using events = openConntrackEvents({ path: ns.path }, { receiveBuffer: 16_384 });
    using table = openConntrackTable({ path: ns.path });
    await table.create(Array.from({ length: 3_000 }, (_, port) => udpEntry(4, port)));
    const seen = await until(events, isOf('lost'));
    expect(seen.length).toBeLessThan(3_000);
    await table.create([udpEntry(6, 4_000)]);
    await table.delete([udpEntry(6, 4_000)]);
    const after = await until(events, isOf('destroy'));
    expect(after.map((event) => event.type === 'lost' || [event.type, event.entry.original.sourcePort])).toEqual([
      ['new', 4_000],
      ['destroy', 4_000],
    ]);
  });

  test('that come in a flood all fit into the usual buffer, in order, and let others have their turn', async () => {
    await using ns = await createNetns();
    using events = openConntrackEvents({ path: ns.path });
    using table = openConntrackTable({ path: ns.path });
    const ports = Array.from({ length: 10_000 }, (_, port) => port);
    await table.create(ports.map((port) => udpEntry(6, port)));
    let turns = 0;
    let stop = false;
    const counting = (async () => {
      while (!stop) {
        turns += 1;
        await setImmediate();
      }
    })();
    const seen = await until(events, isOf('new', 9_999));
    stop = true;
    await counting;
    expect(seen.map((event) => (event.type === 'new' ? event.entry.original.sourcePort : event.type))).toEqual(ports);
    expect(turns).toBeGreaterThan(50);
  });

  test('end when the loop is left or the stream is disposed of, for those who wait too', async () => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    const before = readdirSync('/proc/self/fd').length;
    const left = openConntrackEvents({ path: ns.path });
    await table.create([udpEntry(4, 1)]);
    for await (const event of left) {
      expect(event.type).toBe('new');
      break;
    }
    expect(await left.next()).toEqual({ done: true, value: undefined });
    const disposed = openConntrackEvents({ path: ns.path });
    const waiting = disposed.next();
    await setImmediate();
    disposed[Symbol.dispose]();
    disposed[Symbol.dispose]();
    expect(await waiting).toEqual({ done: true, value: undefined });
    await setImmediate();
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  test.each([
    ['an unknown type', { types: ['born'] }, "types: 'born' is none of new, update, destroy"],
    ['a buffer of nothing', { receiveBuffer: 0 }, 'receiveBuffer: must be'],
    ['a buffer of words', { receiveBuffer: 'big' }, 'receiveBuffer: must be'],
  ])('with %s are refused', (_, options, message) => {
    expect(() => openConntrackEvents(undefined, options as object)).toThrow(
      expect.objectContaining({ code: 'EINVAL', syscall: 'encode', message: expect.stringContaining(message) }),
    );
  });
});
