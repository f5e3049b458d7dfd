import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readdirSync } from 'node:fs';
import { openConntrackTable, sameEntryAgain } from '#native/conntrack-table.ts';
import type { ConntrackEntry, ConntrackNat, ConntrackTcp, NewConntrackEntry } from '#native/conntrack-types.ts';
import type { Family } from '#native/types.ts';
import { createNetns } from '#test/lab/netns.ts';
import { entriesOf, udpEntry } from './native-conntrack-lab.ts';

const established: ConntrackTcp = {
  state: 'established',
  original: { flags: ['window-scale', 'sack-perm', 'maxack-set'], windowScale: 7 },
  reply: { flags: ['window-scale', 'close-init'], windowScale: 3 },
};

const addresses = {
  4: { a: '10.9.0.1', b: '10.9.0.2', c: '192.0.2.7' },
  6: { a: 'fd09::1', b: 'fd09::2', c: '2001:db8::7' },
} as const;

const tcpEntry = (family: Family, more: Partial<NewConntrackEntry> = {}): NewConntrackEntry => ({
  family,
  original: {
    source: addresses[family].a,
    destination: addresses[family].b,
    protocol: 6,
    sourcePort: 40_000,
    destinationPort: 80,
  },
  timeoutSeconds: 600,
  tcp: established,
  ...more,
});

const fourTimes = <Item>(item: Item): Item[] => [item, item, item, item];

describe.each([4, 6] as const)('entries made by hand, IPv%s', (family) => {
  const { a, b, c } = addresses[family];

  test('hold what was asked for, with window tracking liberal, and conntrack(8) agrees', async () => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    const entry = tcpEntry(family, {
      nat: { source: { address: c, port: 50_000 }, destination: { address: c, port: 8080 } },
      mark: 0xdeadbeef,
      status: ['seen-reply', 'assured'],
    });
    expect(await table.create([entry])).toEqual([{ ok: true, replaced: [] }]);
    const [made] = await entriesOf(family, { path: ns.path });
    expect(made).toEqual({
      family,
      original: entry.original,
      reply: { source: c, destination: c, protocol: 6, sourcePort: 8080, destinationPort: 50_000 },
      zone: 0,
      zoneDirection: 'both',
      mark: 0xdeadbeef,
      status: ['seen-reply', 'assured', 'confirmed', 'src-nat', 'dst-nat', 'src-nat-done', 'dst-nat-done'],
      timeoutSeconds: expect.any(Number),
      id: expect.any(Number),
      nat: entry.nat,
      tcp: {
        state: 'established',
        original: { flags: ['window-scale', 'sack-perm', 'be-liberal'], windowScale: 7 },
        reply: { flags: ['window-scale', 'close-init', 'be-liberal'], windowScale: 3 },
      },
    });
    expect(made!.timeoutSeconds).toBeGreaterThan(500);
    expect(Object.isFrozen(made) && Object.isFrozen(made!.original) && Object.isFrozen(made!.status)).toBe(true);
    const listed = await ns.exec('sh', '-c', `conntrack -L -f ipv${family} 2>/dev/null`);
    expect(listed).toContain(`src=${a} dst=${b} sport=40000 dport=80 src=${c} dst=${c} sport=8080 dport=50000`);
    expect(listed).toContain('[ASSURED] mark=3735928559');
  });

  test.each<[string, ConntrackNat, ConntrackNat]>([
    ['source only', { source: { address: c, port: 1 } }, { source: { address: c, port: 1 } }],
    ['destination only', { destination: { address: c, port: 1 } }, { destination: { address: c, port: 1 } }],
    ['an address, whose port stays', { source: { address: c } }, { source: { address: c, port: 9999 } }],
  ])('are translated by %s', async (_, nat, wanted) => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    await table.create([udpEntry(family, 9999, { nat })]);
    expect(await entriesOf(family, { path: ns.path })).toMatchObject([{ nat: wanted }]);
  });

  test('take no other port than the one asked for: a reply tuple that is taken is EEXIST', async () => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    const nat = { source: { address: c, port: 7 } };
    const asDestination = { destination: { address: c, port: 7 } };
    const first = udpEntry(family, 1, { nat: asDestination });
    // Another service, the same backend and the same client's port: without a say in the source port the kernel would change it.
    const second = {
      ...udpEntry(family, 1, { nat: asDestination }),
      original: { ...first.original, destinationPort: 54 },
    };
    expect(
      await table.create([first, second, udpEntry(family, 2, { nat }), udpEntry(family, 3, { nat })]),
    ).toMatchObject([
      { ok: true },
      { ok: false, error: { code: 'EEXIST', syscall: 'sendmsg', message: expect.stringContaining('replace') } },
      { ok: true },
      { ok: false, error: { code: 'EEXIST' } },
    ]);
    expect(await table.replace([second])).toEqual([{ ok: true, replaced: ['reply'] }]);
    const ports = (await entriesOf(family, { path: ns.path })).map(({ original }) => original.destinationPort);
    expect(new Set(ports)).toEqual(new Set([53, 54]));
  });

  test('are replaced when the flow was taken up the other way round', async () => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    const nat = { destination: { address: c, port: 8080 } };
    const answer = {
      ...udpEntry(family, 1),
      original: { source: c, destination: a, protocol: 17, sourcePort: 8080, destinationPort: 1 },
    };
    await table.create([answer]);
    expect(await table.replace([udpEntry(family, 1, { nat })])).toEqual([{ ok: true, replaced: ['reply'] }]);
    expect(await entriesOf(family, { path: ns.path })).toMatchObject([{ original: { source: a }, nat }]);
  });

  test('stand apart by zone, also by a zone of one direction', async () => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    const zones = [{}, { zone: 7 }, { zone: 8, zoneDirection: 'original' }] as const;
    const other = { ...udpEntry(family, 2), zone: 9, zoneDirection: 'reply' } as const;
    const entries = zones.map((zone) => ({ ...udpEntry(family, 1), ...zone }));
    // The reply tuple of the third is in zone 0, as the first one's is: so a translation of its own.
    entries[2] = { ...entries[2]!, nat: { source: { address: c } } };
    expect(await table.create([...entries, other])).toMatchObject(fourTimes({ ok: true }));
    const found = await entriesOf(family, { path: ns.path });
    expect(found.map(({ zone, zoneDirection }) => `${zone} ${zoneDirection}`).sort()).toEqual([
      '0 both',
      '7 both',
      '8 original',
      '9 reply',
    ]);
    const without = await table.delete([{ ...udpEntry(family, 1), zone: 6 }]);
    expect(without).toEqual([{ ok: true, existed: false }]);
    expect(await table.delete(found)).toEqual(fourTimes({ ok: true, existed: true }));
    expect(await entriesOf(family, { path: ns.path })).toEqual([]);
  });

  test('are deleted by tuple, or by tuple and id; what is not there is said', async () => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    await table.create([udpEntry(family, 1), udpEntry(family, 2), udpEntry(family, 3)]);
    const found = await entriesOf(family, { path: ns.path });
    const two = found.find(({ original }) => original.sourcePort === 2)!;
    const { original } = two;
    expect(
      await table.delete([
        { family, original: udpEntry(family, 1).original },
        { family, original: udpEntry(family, 1).original },
        { family, original, id: (two.id ^ 1) >>> 0 },
        two,
      ]),
    ).toEqual([
      { ok: true, existed: true },
      { ok: true, existed: false },
      { ok: true, existed: false },
      { ok: true, existed: true },
    ]);
    expect((await entriesOf(family, { path: ns.path })).map(({ original }) => original.sourcePort)).toEqual([3]);
  });

  test('come in thousands, each with an outcome in its place', async () => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    const entries = Array.from({ length: 3_000 }, (_, port) => udpEntry(family, port));
    await table.create([entries[1_777]!]);
    const outcomes = await table.create(entries);
    expect(outcomes.map(({ ok }, place) => (ok ? -1 : place)).filter((place) => place >= 0)).toEqual([1_777]);
    expect(await entriesOf(family, { path: ns.path })).toHaveLength(3_000);
    const replaced = await table.replace(entries);
    expect(replaced.filter((outcome) => outcome.ok && outcome.replaced.join() === 'original')).toHaveLength(3_000);
    expect((await table.delete(entries)).every((outcome) => outcome.ok && outcome.existed)).toBe(true);
  });

  test.each<[string, string, (entry: NewConntrackEntry) => unknown]>([
    [
      'a reply that is translated already',
      'reply: must be the plain inverse',
      (entry) => ({
        ...entry,
        reply: { source: c, destination: a, protocol: 6, sourcePort: 8080, destinationPort: 40_000 },
        nat: { destination: { address: c, port: 8080 } },
      }),
    ],
    [
      'no source',
      'original.source: is missing',
      (entry) => ({ ...entry, original: { ...entry.original, source: undefined } }),
    ],
    ['a prefix', 'original.source:', (entry) => ({ ...entry, original: { ...entry.original, source: `${a}/24` } })],
    [
      'two families',
      'original.destination: must be of IPv',
      (entry) => ({ ...entry, original: { ...entry.original, destination: addresses[family === 4 ? 6 : 4].a } }),
    ],
    [
      'another family in nat',
      'nat.source.address: must be of IPv',
      (entry) => ({ ...entry, nat: { source: { address: addresses[family === 4 ? 6 : 4].a } } }),
    ],
    [
      'no port',
      'original.sourcePort: is missing',
      (entry) => ({ ...entry, original: { ...entry.original, sourcePort: undefined } }),
    ],
    [
      'a port beyond',
      'original.sourcePort: must be',
      (entry) => ({ ...entry, original: { ...entry.original, sourcePort: 65_536 } }),
    ],
    [
      'ports for ESP',
      'original.sourcePort: protocol 50 has no ports',
      (entry) => ({ ...entry, original: { ...entry.original, protocol: 50 }, tcp: undefined }),
    ],
    [
      'ICMP fields for TCP',
      'original.icmp: protocol 6',
      (entry) => ({ ...entry, original: { ...entry.original, icmp: { id: 1, type: 8, code: 0 } } }),
    ],
    [
      'an ICMP type without answer',
      'original.icmp.type: 3 has no answer',
      (entry) => ({
        ...entry,
        tcp: undefined,
        original: { source: a, destination: b, protocol: family === 4 ? 1 : 58, icmp: { id: 1, type: 3, code: 0 } },
      }),
    ],
    ['no timeout', 'timeoutSeconds: is missing', (entry) => ({ ...entry, timeoutSeconds: undefined })],
    ['a timeout of nothing', 'timeoutSeconds: must be', (entry) => ({ ...entry, timeoutSeconds: 0 })],
    ['TCP without its state', 'tcp: is missing', (entry) => ({ ...entry, tcp: undefined })],
    [
      'an unknown state',
      "tcp.state: must be a whole number from 0 to 9, not 'asleep'",
      (entry) => ({ ...entry, tcp: { ...established, state: 'asleep' } }),
    ],
    [
      'a window scale beyond',
      'tcp.reply.windowScale: must be',
      (entry) => ({ ...entry, tcp: { ...established, reply: { flags: [], windowScale: 15 } } }),
    ],
    ['a status that the kernel sets', 'status: can hold', (entry) => ({ ...entry, status: ['src-nat'] })],
    [
      'an unknown status',
      "status: must be a whole number from 0 to 65535, not 'awake'",
      (entry) => ({ ...entry, status: ['awake'] }),
    ],
    ['an unknown zone direction', 'zoneDirection: must be', (entry) => ({ ...entry, zoneDirection: 'up' })],
    ['family 5', 'family: must be 4 or 6', (entry) => ({ ...entry, family: 5 })],
  ])('with %s are refused before the kernel sees them', async (_, message, broken) => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    const bad = broken(tcpEntry(family)) as NewConntrackEntry;
    expect(await table.create([bad, udpEntry(family, 1)])).toMatchObject([
      { ok: false, error: { code: 'EINVAL', syscall: 'encode', message: expect.stringContaining(message) } },
      { ok: true },
    ]);
    expect(await entriesOf(family, { path: ns.path })).toHaveLength(1);
  });
});

describe('entries of other protocols', () => {
  test.each([
    ['SCTP, with its tags', { protocol: 132, sourcePort: 1, destinationPort: 2 }],
    ['GRE', { protocol: 47, sourcePort: 1, destinationPort: 2 }],
    ['ESP, which has no ports', { protocol: 50 }],
    ['ICMP', { protocol: 1, icmp: { id: 77, type: 8, code: 0 } }],
    ['an ICMP timestamp', { protocol: 1, icmp: { id: 77, type: 13, code: 0 } }],
  ])('%s: made, seen, translated, deleted', async (_, of) => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    const entry: NewConntrackEntry = {
      family: 4,
      original: { source: '10.9.0.1', destination: '10.9.0.2', ...of },
      nat: { destination: { address: '10.9.0.3' } },
      timeoutSeconds: 100,
      ...(of.protocol === 132 && { sctp: { state: 'established', originalTag: 0xfffffffe, replyTag: 2 } }),
    };
    expect(await table.create([entry])).toEqual([{ ok: true, replaced: [] }]);
    const [made] = await entriesOf(4, { path: ns.path });
    expect(made).toMatchObject({
      original: entry.original,
      nat: { destination: { address: '10.9.0.3' } },
      ...(entry.sctp && { sctp: entry.sctp }),
    });
    expect(made!.nat!.source).toBeUndefined();
    expect(sameEntryAgain(made!)).toMatchObject({ original: entry.original, nat: made!.nat });
    expect(await table.delete([made!])).toEqual([{ ok: true, existed: true }]);
  });
});

describe('an entry that can not be made again', () => {
  const entry: ConntrackEntry = {
    ...udpEntry(4, 1),
    reply: udpEntry(4, 1).original,
    zone: 0,
    zoneDirection: 'both',
    mark: 0,
    id: 1,
    status: ['confirmed'],
    timeoutSeconds: 9,
  };

  test.each<[string, Partial<ConntrackEntry>]>([
    ['has a helper', { helper: 'ftp' }],
    ['adjusts sequence numbers', { status: ['seq-adjust'] }],
    ['is expected', { status: ['expected'] }],
    ['is a flowtable’s', { status: ['offload'] }],
    ['is dying', { status: ['dying'] }],
    ['has no time left', { timeoutSeconds: 0 }],
    ['is TCP of an unknown state', { original: { ...entry.original, protocol: 6 } }],
  ])('%s', (_, more) => {
    expect(sameEntryAgain(entry)).toMatchObject({ timeoutSeconds: 9 });
    expect(sameEntryAgain({ ...entry, ...more })).toBeUndefined();
  });
});

describe('a table', () => {
  test('takes anything at all as an entry or key: each has an outcome, and none is a crash', async () => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    const fields = [
      ...Object.keys(tcpEntry(4)),
      'reply',
      'nat',
      'zone',
      'zoneDirection',
      'status',
      'mark',
      'sctp',
      'id',
    ];
    const changed = fc
      .tuple(
        fc.constantFrom(4, 6),
        fc.dictionary(fc.constantFrom(...fields), fc.anything({ maxDepth: 2 }), { minKeys: 1 }),
      )
      .map(([family, changes]): unknown => ({ ...tcpEntry(family as 4), ...changes }));
    const entry = fc.oneof({ weight: 5, arbitrary: changed }, fc.anything());
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { maxLength: 30 }), async (entries) => {
        const given = entries as NewConntrackEntry[];
        for (const outcomes of [await table.create(given), await table.replace(given), await table.delete(given)]) {
          expect(outcomes).toHaveLength(given.length);
          for (const outcome of outcomes) {
            if (!outcome.ok) expect(outcome.error).toMatchObject({ code: expect.stringMatching(/^E[A-Z]+$/) });
          }
        }
      }),
      // No time limit: fast-check fails when not even one run fits into it.
      { numRuns: 200 },
    );
  });

  test('that is closed rejects with EBADF, and leaves no descriptor', async () => {
    const before = readdirSync('/proc/self/fd').length;
    const table = openConntrackTable();
    table[Symbol.dispose]();
    table[Symbol.dispose]();
    await expect(table.create([udpEntry(4, 1)])).rejects.toMatchObject({ code: 'EBADF' });
    await expect(table.delete([udpEntry(4, 1)])).rejects.toMatchObject({ code: 'EBADF' });
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  test('of a namespace that is not there says so', () => {
    expect(() => openConntrackTable({ path: '/run/netns/none' })).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });
});
