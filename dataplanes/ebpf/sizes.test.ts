import { describe, expect, test } from '@jest/globals';
import { TEST_CONFIG } from '../shared/test-config.ts';
import { mapShapes } from './bpf-types.gen.ts';
import {
  areSameSizes,
  doublingsFor,
  doublingsToHold,
  mapEntries,
  type MapName,
  mayDouble,
  settingOf,
  shrinkError,
  sizeSetting,
} from './sizes.ts';

const { mapSizes } = TEST_CONFIG;

test.each([
  ['flows over four hashes', { flows: 10 }, { tortie_flow4a: 3, tortie_flow6d: 3 }],
  [
    'an eighth more for those that nobody has answered',
    { flows: 80_000 },
    { tortie_new4: 10_000, tortie_new6: 10_000 },
  ],
  ['these never fewer than the kernel keeps in reserve', { flows: 8 }, { tortie_new4: 1024 }],
  ['flows by processors', { flows: 4, flowsPerCpu: 1000 }, { tortie_flow4a: 2000 }],
  ['Services', { frontends: 7, backends: 9 }, { tortie_front4: 7, tortie_front6: 7, tortie_back4: 9, tortie_back6: 9 }],
  ['addresses, and networks with one to spare', { addresses: 5, networks: 6 }, { tortie_addr4: 5, tortie_net6: 7 }],
  [
    'devices',
    { devices: 10 },
    { tortie_devices: 10, tortie_counters: 10, tortie_slots: 10, tortie_sources: 40, tortie_pods: 21 },
  ],
])('maps have room for %s', (_, wanted, sizes) => {
  expect(mapEntries({ ...mapSizes, ...wanted }, 8)).toMatchObject(sizes);
});

test('every map that a setting makes larger names it, and no other does', () => {
  const small = mapEntries({ ...mapSizes, flows: 65_536 }, 1);
  const { flows, frontends, backends, addresses, networks, devices } = mapSizes;
  const large = mapEntries(
    {
      flows: flows * 2,
      flowsPerCpu: 0,
      doubleFlows: true,
      frontends: frontends * 2,
      backends: backends * 2,
      addresses: addresses * 2,
      networks: networks * 2,
      devices: devices * 2,
    },
    1,
  );
  const grows = (name: MapName): boolean => small[name] !== large[name];
  for (const name of Object.keys(mapShapes) as MapName[])
    expect([name, sizeSetting(name) !== undefined]).toEqual([name, grows(name)]);
  expect(settingOf('tortie_frag4')).toBe('of this build');
});

describe('twice the flows', () => {
  test('is twice the places for answered and for new ones', () => {
    const wanted = { ...mapSizes, flows: 80_000 };
    expect(mapEntries(wanted, 1, 2)).toMatchObject({
      tortie_flow4a: 80_000,
      tortie_flow6d: 80_000,
      tortie_new4: 40_000,
    });
    expect(mapEntries(wanted, 1, 2).tortie_back4).toBe(mapEntries(wanted, 1).tortie_back4);
  });

  test.each([
    ['as often as there are no more than 4 million', { flows: 512_000 }, 1, 3],
    ['by processors', { flows: 8, flowsPerCpu: 100_000 }, 16, 1],
    ['not where the setting has more', { flows: 5_000_000 }, 1, 0],
    ['not where it is switched off', { flows: 512_000, doubleFlows: false }, 1, 0],
  ])('may be had %s', (_, more, cpus, times) => {
    const wanted = { ...mapSizes, ...more };
    expect([0, 1, 2, 3, 4, 5].filter((doublings) => mayDouble(wanted, cpus, doublings))).toHaveLength(times);
    expect(doublingsFor(wanted, cpus, 2 ** 30)).toBe(times);
  });

  test.each([
    [100, 0],
    [128, 0],
    [255, 0],
    [256, 1],
    [1100, 3],
  ])('hashes of %i are those of 128 doubled %i times', (entries, times) => {
    expect(doublingsFor({ ...mapSizes, flows: 512 }, 1, entries)).toBe(times);
  });
});

describe('flows that are in use', () => {
  test.each([
    ['have room as they are', { flows: 5000 }, 0, 1250, 0],
    ['have it in twice the size', { flows: 4500 }, 0, 1250, 1],
    ['in four times the size', { flows: 4096 }, 0, 2049, 2],
    ['never in less than they were given', { flows: 4096 }, 1, 3, 1],
    ['not beyond 4 million', { flows: 1_048_576 }, 0, 1_048_577, undefined],
    ['not where that is switched off', { flows: 4500, doubleFlows: false }, 0, 1250, undefined],
  ])('%s', (_, more, doublings, used, times) => {
    expect(doublingsToHold({ ...mapSizes, ...more }, 1, doublings, used)).toBe(times);
  });
});

test('sizes are the same if all are', () => {
  const sizes = mapEntries(mapSizes, 1);
  expect(areSameSizes(sizes, mapEntries(mapSizes, 2))).toBe(true);
  expect(areSameSizes(sizes, { ...sizes, tortie_back6: 1 })).toBe(false);
});

test('a refusal names map, use and setting', () => {
  expect(shrinkError([{ map: 'tortie_back4', wanted: 1, used: 2 }])).toMatchObject({
    code: 'BPF_MAP_SHRINK',
    message: 'the sizes of before stay: tortie_back4 has 2 entries in use and would get 1 (bpfMapSizeNATBackend)',
  });
});
