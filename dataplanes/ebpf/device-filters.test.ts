import { expect, test } from '@jest/globals';
import type { Filter, Link, Netlink } from '#native/types.ts';
import { DeviceFilters } from './device-filters.ts';
import { ourFilter } from './filters.ts';
import type { Filters } from './programs.ts';

const filters = { fromPod: { id: 1, fd: 11 }, toPod: { id: 2, fd: 12 } } as unknown as Filters;
/** Every device has the filters already. */
const host = {
  filtersSync: (_: number, direction: 'ingress' | 'egress') => [
    {
      ...ourFilter,
      direction,
      name: direction === 'ingress' ? 'tortie_from_pod' : 'tortie_to_pod',
      programId: direction === 'ingress' ? 1 : 2,
    } as Filter,
  ],
} as unknown as Netlink;
const links = Array.from({ length: 100 }, (_, index) => ({ index, name: `cali${index}` }) as Link);

test.each<[string, (devices: DeviceFilters) => Promise<unknown>]>([
  ['putting filters on many devices', (devices) => devices.attachAll(links, filters)],
  [
    'looking at many devices',
    async (devices) => {
      for (const { index } of links) await devices.check(index, filters);
    },
  ],
  [
    'looking whether one of many devices has filters',
    () => {
      const none = { ...host, filtersSync: () => [] } as unknown as Netlink;
      return new DeviceFilters({ host: none, links: { dir: '/nowhere' } }).isOnAny(links, filters);
    },
  ],
])("%s lets others have their turn: each look is the kernel's time on the main thread", async (_, work) => {
  let [turns, isOver] = [0, false];
  await using devices = new DeviceFilters({ host, links: { dir: '/nowhere' } });
  const ended = work(devices).finally(() => (isOver = true));
  while (!isOver) {
    await new Promise((resolve) => setImmediate(resolve));
    turns++;
  }
  await ended;
  expect(turns).toBeGreaterThan(4);
});

test('many devices that have lost their filters are looked at with one dump of the qdiscs of all', async () => {
  let dumps = 0;
  const ok = { ok: true };
  const bare = {
    filtersSync: () => [],
    qdiscs: async () => ((dumps += 1), []),
    batch: async (ops: readonly unknown[]) => ops.map(() => ok),
  } as unknown as Netlink;
  await using devices = new DeviceFilters({ host: bare, links: { dir: '/nowhere' } });
  const qdiscs = devices.qdiscsOnce();
  for (const { index } of links) expect(await devices.check(index, filters, qdiscs)).toEqual({ outcome: 'repaired' });
  expect(dumps).toBe(1);
});

test('what happens to a device while it is looked at is looked at again', async () => {
  await using devices = new DeviceFilters({ host, links: { dir: '/nowhere' } });
  devices.suspect(7);
  const check = devices.check(7, filters);
  devices.suspect(7);
  expect(await check).toEqual({ outcome: 'as they were' });
  expect(devices.suspects).toContain(7);
  await devices.check(7, filters);
  expect(devices.suspects).not.toContain(7);
});
