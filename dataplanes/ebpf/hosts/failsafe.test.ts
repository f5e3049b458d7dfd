import { expect, test } from '@jest/globals';
import { FakeMap } from '../fake-map.ts';
import { FailsafeKey4, FailsafeKey6, flowConstants, mapShapes } from '../bpf-types.gen.ts';
import { Failsafes } from './failsafe.ts';

const both = () => ({
  4: new FakeMap(mapShapes.tortie_failsafe4),
  6: new FakeMap(mapShapes.tortie_failsafe6),
});

const keys = async (map: FakeMap, codec: typeof FailsafeKey4 | typeof FailsafeKey6): Promise<string[]> =>
  (await map.entries())
    .map(({ key }) => codec.read(new DataView(key.buffer, key.byteOffset, key.byteLength)))
    .map(({ direction, protocol, port, prefixLen, address }) =>
      [
        direction === flowConstants.failsafeIn ? 'in' : 'out',
        protocol,
        port,
        prefixLen - 32,
        [...address].join('.'),
      ].join(' '),
    )
    .sort();

test('ports are open in both families, those with a network in its own; what the configuration takes back goes', async () => {
  const maps = both();
  const failsafes = new Failsafes(maps);
  failsafes.set({
    failsafeInbound: [
      { protocol: 'tcp', port: 22 },
      { protocol: 'udp', port: 68, net: '10.0.0.0/8' },
    ],
    failsafeOutbound: [{ protocol: 'sctp', port: 65535, net: 'fd00::/16' }],
  });
  expect(await keys(maps[4], FailsafeKey4)).toEqual(['in 17 68 8 10.0.0.0', 'in 6 22 0 0.0.0.0']);
  expect(await keys(maps[6], FailsafeKey6)).toEqual([
    'in 6 22 0 0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0',
    'out 132 65535 16 253.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0',
  ]);
  failsafes.set({ failsafeInbound: [{ protocol: 'tcp', port: 22 }], failsafeOutbound: [] });
  expect(await keys(maps[4], FailsafeKey4)).toEqual(['in 6 22 0 0.0.0.0']);
  expect(await keys(maps[6], FailsafeKey6)).toHaveLength(1);
});

test('more ports than there is room for are said, and the others are open', async () => {
  const maps = { ...both(), 4: new FakeMap({ ...mapShapes.tortie_failsafe4, maxEntries: 1 }) };
  const failsafes = new Failsafes(maps);
  const ports = [1, 2].map((port) => ({ protocol: 'tcp', port }) as const);
  expect(() => failsafes.set({ failsafeInbound: ports, failsafeOutbound: [] })).toThrow(
    expect.objectContaining({ code: 'BPF_MAP_FULL', message: expect.stringContaining('failsafe ports are not open') }),
  );
  expect(await keys(maps[4], FailsafeKey4)).toEqual(['in 6 1 0 0.0.0.0']);
});
