/** Others' programs and filters on uplinks and pods' devices: noticed when they come and when they have gone; then packets pass by them. */
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Jump, mapShapes } from '#dataplanes/ebpf/bpf-types.gen.ts';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import { idAt, layoutVersion } from '#dataplanes/ebpf/programs.ts';
import { attachTcx, loadObject, type LoadedObject, openPinnedMap, probeBpf } from '#native/bpf.ts';
import { openNetlink } from '#native/netlink.ts';
import { exec } from '#test/lab/exec.ts';
import { createNetns } from '#test/lab/netns.ts';
import { until } from '#test/lab/until.ts';
import { type BedPod, drive, EbpfBed } from './ebpf-bed.ts';

const elf = new URL('../../build/bpf/count.bpf.o', import.meta.url).pathname;
const hasTcx = (await probeBpf({ tcx: true })).answer === 'yes';
const viaStack = expect.stringContaining("others' programs");

let cleanup: AsyncDisposableStack;
let bed: EbpfBed;
let other: LoadedObject;
let dataplane: EbpfDataplane;
beforeEach(async () => {
  cleanup = new AsyncDisposableStack();
  bed = cleanup.use(await EbpfBed.create());
  other = cleanup.use(await loadObject({ name: 'count', elf }));
});
afterEach(async () => {
  await cleanup.disposeAsync();
});

/** How many packets the other's program has seen. */
const seen = (): number =>
  Number(new DataView((other.map('seen').get(new Uint8Array(4)) ?? new Uint8Array(8)).buffer).getBigUint64(0, true));
const target = (device: string) => ({ ifindex: bed.host.link(device)?.index ?? 0, netns: { path: bed.node.path } });

/** What others may put on a device, behind ours, and how they take it off. */
const kinds: readonly [string, boolean, (device: string, way: 'ingress' | 'egress') => Promise<() => Promise<void>>][] =
  [
    [
      'a filter',
      true,
      async (device, direction) => {
        const filter = { link: device, direction, priority: 77, handle: 1 } as const;
        await bed.host.batch([{ op: 'clsact.add', link: device }]);
        await bed.host.run([{ op: 'filter.replace', ...filter, name: 'other', fd: other.program('count').fd }]);
        return async () => await bed.host.run([{ op: 'filter.del', ...filter }]);
      },
    ],
    [
      'a tcx program',
      hasTcx,
      async (device, direction) => {
        const link = cleanup.use(await attachTcx(other.program('count'), direction, target(device)));
        return async () => await link[Symbol.asyncDispose]();
      },
    ],
  ];
const present = kinds.filter(([, isThere]) => isThere).map(([name, , put]) => [name, put] as const);

/** As the time of the next comparison brings it about: tcx programs come and go without an event. */
const compare = async () => {
  dataplane.requestResync();
  expect((await dataplane.apply()).failed).toEqual([]);
};

describe('an uplink', () => {
  const words = (): (string | undefined)[] => dataplane.hostDevices.map((state) => state.viaStack);

  beforeEach(async () => {
    const outside = cleanup.use(await createNetns());
    await bed.host.run([
      { op: 'veth.add', name: 'eth0', up: true, peer: { name: 'eth0', netns: { path: outside.path } } },
      { op: 'addr.add', link: 'eth0', address: '192.0.2.1/24' },
    ]);
    using inside = openNetlink({ path: outside.path });
    await inside.run([{ op: 'link.set', link: 'eth0', up: true }]);
    await bed.node.ip('route', 'replace', 'default', 'dev', 'eth0');
    dataplane = await bed.dataplane();
    await dataplane.activate();
    await compare();
    expect(words()).toEqual([undefined]);
  });

  test.each(present)(
    'with %s at its ingress says so until that has gone; one at its egress sees all',
    async (_, put) => {
      const takeOff = await put('eth0', 'ingress');
      await compare();
      expect(words()).toEqual([viaStack]);
      // A later agent looks before it enters.
      await dataplane[Symbol.asyncDispose]();
      dataplane = await bed.dataplane();
      await dataplane.activate();
      expect(words()).toEqual([viaStack]);
      await takeOff();
      await put('eth0', 'egress');
      await compare();
      expect(words()).toEqual([undefined]);
    },
  );

  test('goes on with our programs after somebody has taken them from where filters jump to, and so do pods', async () => {
    using jump = openPinnedMap(join(bed.bpffs, layoutVersion, 'tortie_jump'), mapShapes.tortie_jump);
    if (jump === undefined) throw new Error('tortie_jump is not pinned');
    const places = [Jump.podOut, Jump.podIn, Jump.netIn, Jump.netOut];
    const ids = (): (number | undefined)[] => places.map((place) => idAt(jump, place));
    const before = ids();
    for (const place of places) jump.delete(u32Key(place));
    await compare();
    expect(ids()).toEqual(before);
    expect(before).not.toContain(undefined);
  });

  test('of filters events tell', async () => {
    const [, , put] = kinds[0] ?? [];
    const driven = drive(dataplane);
    const takeOff = await put?.('eth0', 'ingress');
    await until(() => words()[0] !== undefined);
    await takeOff?.();
    await until(() => words()[0] === undefined);
    await driven.idle();
  });
});

describe('a pod’s device', () => {
  let one: BedPod;
  let two: BedPod;

  beforeEach(async () => {
    [one, two] = [await bed.pod(1), await bed.pod(2)];
    dataplane = await bed.dataplane([one, two]);
  });

  const pings = 20;
  /** Pings by flows of their own, both ways; whether the other's program has seen them all. (Neighbours are asked for now and then: all see that.) */
  const isSeen = async (): Promise<boolean> => {
    const before = seen();
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const) {
      const args = ['-c', `${pings}`, '-i', '0.01', '-W', '30', to.ipv4];
      expect(await exec('ip', ['netns', 'exec', from.netns.name, 'ping', ...args])).toMatchObject({ status: 0 });
    }
    return seen() - before >= 2 * pings;
  };

  test.each(
    // (A tcx program at its ingress comes before our filter.)
    present.flatMap(([name, put]) =>
      (['ingress', 'egress'] as const)
        .filter((direction) => name === 'a filter' || direction === 'egress')
        .map((direction) => [name, direction, put] as const),
    ),
  )('with %s at its %s: flows that begin from then on come by it, until it has gone', async (_, direction, put) => {
    await dataplane.activate();
    await compare();
    expect(await isSeen()).toBe(false); // And neighbours are known.
    const takeOff = await put('cali1', direction);
    expect(await isSeen()).toBe(false); // Nobody has looked.
    await compare();
    expect(await isSeen()).toBe(true);
    await takeOff();
    await compare();
    await put('cali1', direction);
    expect(await isSeen()).toBe(false);
  });

  test.each(present)('with %s that was there before us', async (_, put) => {
    await put('cali2', 'ingress');
    await dataplane.activate();
    expect(await isSeen()).toBe(true);
  });
});
