import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Announcements } from './announcements.ts';
import { mapShapes } from './bpf-types.gen.ts';
import { FakeMap } from './fake-map.ts';
import { readSourceKey, readU32, sourceKey, u32Key } from './keys.ts';

function makeMaps(sizes: { devices?: number; sources?: number; counters?: number } = {}) {
  return {
    devices: new FakeMap(mapShapes.tortie_devices, sizes.devices),
    sources: new FakeMap(mapShapes.tortie_sources, sizes.sources),
    counters: new FakeMap(mapShapes.tortie_counters, sizes.counters),
  };
}

type Maps = ReturnType<typeof makeMaps>;

/** Open devices and all sources, as text. */
async function contents(maps: Maps): Promise<{ open: number[]; sources: string[] }> {
  return {
    open: (await maps.devices.entries()).map(({ key }) => readU32(key)).sort((a, b) => a - b),
    sources: (await maps.sources.entries())
      .map(({ key }) => readSourceKey(key))
      .map(({ ifindex, cidr }) => `${ifindex} ${cidr}`)
      .sort(),
  };
}

describe('announcements', () => {
  test('a device opens with its sources and its counters, and closes without a source left', async () => {
    const maps = makeMaps();
    const announcements = new Announcements(maps);
    announcements.announce(7, ['10.65.0.3/32', 'fd65::3/128']);
    expect(await contents(maps)).toEqual({ open: [7], sources: ['7 10.65.0.3/32', '7 fd65::3/128'] });
    expect(maps.counters.size).toBe(1);
    announcements.withdraw(7);
    expect(await contents(maps)).toEqual({ open: [], sources: [] });
    expect(maps.counters.size).toBe(1);
    announcements.forget(7);
    expect(maps.counters.size).toBe(0);
    expect(announcements.known).toEqual([]);
  });

  test('sources are in the map before the device opens, and it closes before they go', () => {
    const maps = makeMaps();
    const order: string[] = [];
    for (const [name, map] of Object.entries(maps)) {
      const set = map.set.bind(map);
      const remove = map.delete.bind(map);
      map.set = (...args) => (order.push(`set ${name}`), set(...args));
      map.delete = (...args) => (order.push(`delete ${name}`), remove(...args));
    }
    const announcements = new Announcements(maps);
    announcements.announce(7, ['10.65.0.3/32']);
    announcements.withdraw(7);
    expect(order).toEqual(['set counters', 'set sources', 'set devices', 'delete devices', 'delete sources']);
  });

  test('on an open device the new address comes before the old one goes', () => {
    const maps = makeMaps();
    const announcements = new Announcements(maps);
    announcements.announce(7, ['10.65.0.3/32']);
    let oldThere: boolean | undefined;
    const set = maps.sources.set.bind(maps.sources);
    maps.sources.set = (...args) => {
      oldThere = maps.sources.get(sourceKey(7, '10.65.0.3/32')) !== undefined;
      set(...args);
    };
    announcements.announce(7, ['10.65.0.4/32']);
    expect(oldThere).toBe(true);
    expect(maps.sources.get(sourceKey(7, '10.65.0.3/32'))).toBeUndefined();
  });

  test.each([['devices'], ['sources'], ['counters']] as const)(
    'without room in %s the device stays closed and leaves nothing',
    async (full) => {
      const maps = makeMaps({ [full]: 1 });
      const announcements = new Announcements(maps);
      announcements.announce(7, ['10.65.0.3/32']);
      expect(() => announcements.announce(8, ['10.65.0.4/32'])).toThrow(
        expect.objectContaining({
          code: 'BPF_MAP_FULL',
          message: expect.stringContaining(`map tortie_${full} is full: all of its 1 entries`),
        }),
      );
      expect(await contents(maps)).toEqual({ open: [7], sources: ['7 10.65.0.3/32'] });
      announcements.forget(7);
      announcements.announce(8, ['10.65.0.4/32']);
      expect(await contents(maps)).toEqual({ open: [8], sources: ['8 10.65.0.4/32'] });
    },
  );

  test('an address that is taken away goes, even if the new ones do not fit', async () => {
    const maps = makeMaps({ sources: 2 });
    const announcements = new Announcements(maps);
    announcements.announce(7, ['10.65.0.1/32', '10.65.0.2/32']);
    expect(() => announcements.announce(7, ['10.65.0.2/32', '10.65.0.3/32', '10.65.0.4/32'])).toThrow(/full/);
    expect((await contents(maps)).sources).toEqual(['7 10.65.0.2/32', '7 10.65.0.3/32']);
  });

  test('what a former device left under the ifindex is gone before the new one opens', async () => {
    const maps = makeMaps();
    new Announcements(maps).announce(7, ['10.65.0.3/32']);
    maps.devices.delete(u32Key(7)); // The kernel does this when the device goes.
    const announcements = new Announcements(maps);
    await announcements.read();
    announcements.announce(7, ['10.65.0.4/32']);
    expect(await contents(maps)).toEqual({ open: [7], sources: ['7 10.65.0.4/32'] });
  });

  test('whatever is announced, withdrawn, forgotten or closed by the kernel, in whatever order and by how many agents: the last word holds', async () => {
    const ifindex = fc.integer({ min: 1, max: 4 });
    const cidrs = fc.uniqueArray(
      fc.constantFrom('10.65.0.1/32', '10.65.0.2/32', '192.0.2.0/24', '192.0.2.0/25', 'fd65::1/128', 'fd65::/64'),
    );
    const step = fc.oneof(
      fc.record({ do: fc.constant('announce' as const), ifindex, cidrs }),
      fc.record({ do: fc.constantFrom('withdraw' as const, 'forget' as const, 'kernel closes' as const), ifindex }),
      fc.record({ do: fc.constant('restart' as const) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const maps = makeMaps();
        let announcements = new Announcements(maps);
        const model = new Map<number, readonly string[]>();
        for (const next of steps) {
          if (next.do === 'restart') {
            announcements = new Announcements(maps);
            await announcements.read();
          } else if (next.do === 'announce') {
            announcements.announce(next.ifindex, next.cidrs);
            model.set(next.ifindex, next.cidrs);
            expect(announcements.matches(next.ifindex, next.cidrs)).toBe(true);
          } else {
            if (next.do === 'kernel closes') maps.devices.delete(u32Key(next.ifindex));
            else announcements[next.do](next.ifindex);
            model.delete(next.ifindex);
            expect(announcements.isOpen(next.ifindex)).toBe(false);
          }
        }
        const { open, sources } = await contents(maps);
        expect(open).toEqual([...model.keys()].sort((a, b) => a - b));
        // What the kernel closed keeps its sources until it is swept: only open devices' count.
        expect(sources.filter((text) => open.includes(Number(text.split(' ')[0])))).toEqual(
          [...model].flatMap(([index, list]) => list.map((cidr) => `${index} ${cidr}`)).sort(),
        );
        for (const index of announcements.known) announcements.forget(index);
        expect([maps.devices.size, maps.sources.size, maps.counters.size]).toEqual([0, 0, 0]);
      }),
      { numRuns: 300 },
    );
  });
});
