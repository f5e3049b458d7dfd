import { describe, expect, test } from '@jest/globals';
import { readdirSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { dumpConntrack } from '#native/conntrack-dump.ts';
import { openConntrackTable } from '#native/conntrack-table.ts';
import { createNetns } from '#test/lab/netns.ts';
import { entriesOf, udpEntry } from './native-conntrack-lab.ts';

/** More than the dump's arrays hold by far. */
const many = 12_000;

const ports = (from: number, count: number): number[] => Array.from({ length: count }, (_, n) => from + n);

describe.each([4, 6] as const)('a dump of IPv%s', (family) => {
  test('has every entry of its family once, in arrays of bounded length', async () => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    await table.create([...ports(0, many).map((port) => udpEntry(family, port)), udpEntry(family === 4 ? 6 : 4, 1)]);
    const seen: number[] = [];
    for await (const item of dumpConntrack(family, { path: ns.path })) {
      if (item.type !== 'entries') throw new Error('nothing changes here');
      expect(item.entries.length).toBeLessThan(2_000);
      for (const entry of item.entries) {
        expect(entry.family).toBe(family);
        seen.push(entry.original.sourcePort!);
      }
    }
    expect(seen.sort((a, b) => a - b)).toEqual(ports(0, many));
  });

  test('has every entry that stays while others come and go, and lets others have their turn', async () => {
    await using ns = await createNetns();
    using table = openConntrackTable({ path: ns.path });
    await table.create(ports(0, many).map((port) => udpEntry(family, port)));
    let stop = false;
    let turns = 0;
    const changing = (async () => {
      while (!stop) {
        const passing = ports(20_000, 500).map((port) => udpEntry(family, port));
        await table.create(passing);
        await table.delete(passing);
        turns += 1;
        await setImmediate();
      }
    })();
    try {
      // On a busy machine the others don't get far during each one.
      const before = turns;
      for (let round = 0; round < 5 || turns === before; round += 1) {
        const staying = new Set<number>();
        for (const { original } of await entriesOf(family, { path: ns.path })) {
          if (original.sourcePort! < many) staying.add(original.sourcePort!);
        }
        expect(staying.size).toBe(many);
      }
    } finally {
      stop = true;
      await changing;
    }
  });
});

test('a dump can be left in its middle: nothing stays open, and the next one is whole', async () => {
  await using ns = await createNetns();
  using table = openConntrackTable({ path: ns.path });
  await table.create(ports(0, many).map((port) => udpEntry(4, port)));
  const before = readdirSync('/proc/self/fd').length;
  for (let round = 0; round < 20; round += 1) {
    for await (const item of dumpConntrack(4, { path: ns.path })) {
      expect(item.type).toBe('entries');
      break;
    }
  }
  expect(readdirSync('/proc/self/fd').length).toBe(before);
  expect(await entriesOf(4, { path: ns.path })).toHaveLength(many);
});

test.each([
  ['a namespace that is not there', 4, { path: '/run/netns/none' }, 'ENOENT'],
  ['a file that is no namespace', 4, { path: '/dev/null' }, 'EINVAL'],
  ['family 5', 5, undefined, 'EINVAL'],
])('a dump of %s fails when it is begun', async (_, family, ns, code) => {
  await expect(dumpConntrack(family as 4, ns).next()).rejects.toMatchObject({ code });
});
