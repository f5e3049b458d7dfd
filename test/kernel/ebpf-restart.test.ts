import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { scheduler } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Jump } from '#dataplanes/ebpf/bpf-types.gen.ts';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { ourFilter } from '#dataplanes/ebpf/filters.ts';
import { readU32, u32Key } from '#dataplanes/ebpf/keys.ts';
import { loadEndpointPrograms, openFilters } from '#dataplanes/ebpf/programs.ts';
import { loadObject, openPinnedMap } from '#native/bpf.ts';
import { must } from '#test/lab/exec.ts';
import { Peer } from '#test/lab/peer-client.ts';
import { podConfig } from './bpf-flow-node.ts';
import { type BedPod, EbpfBed, ebpfObjects } from './ebpf-bed.ts';

/* What agents find that come after others, of this build or not, ended in order or in the midst of something. */
let bed: EbpfBed;
const peers: Peer[] = [];

beforeEach(async () => {
  bed = await EbpfBed.create();
});

afterEach(async () => {
  for (const peer of peers.splice(0)) await peer[Symbol.asyncDispose]();
  await bed[Symbol.asyncDispose]();
});

async function twoPods(dataplane?: EbpfDataplane): Promise<{ one: BedPod; two: BedPod; onePeer: Peer }> {
  const one = await bed.pod(1, dataplane);
  const two = await bed.pod(2, dataplane);
  const onePeer = await Peer.start(one.netns.path);
  peers.push(onePeer, await Peer.start(two.netns.path));
  return { one, two, onePeer };
}

/** Programs of ours on a device, by direction. */
async function attachedIds(device: string): Promise<(number | undefined)[]> {
  const filters = [...(await bed.host.filters(device, 'ingress')), ...(await bed.host.filters(device, 'egress'))];
  return filters.filter(({ handle }) => handle === ourFilter.handle).map(({ programId }) => programId);
}

/** Ids of the programs in the jump table. */
function enteredIds(): (number | undefined)[] {
  using jump = openPinnedMap(join(bed.bpffs, 'v2', 'tortie_jump'));
  return [Jump.podOut, Jump.podIn].map((place) => {
    const id = jump?.get(u32Key(place));
    return id === undefined ? undefined : readU32(id);
  });
}

const existing = async (kind: 'prog' | 'map', ids: readonly (number | undefined)[]): Promise<number[]> =>
  (JSON.parse(await must('bpftool', '-j', kind, 'show')) as { id: number }[])
    .map(({ id }) => id)
    .filter((id) => ids.includes(id));

/** Everything pinned, by path. */
function pins(dir = bed.bpffs): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

const place = () => ({
  dir: bed.bpffs,
  objects: ebpfObjects,
  netns: { path: bed.node.path },
});

describe('an agent that comes after another', () => {
  test('changes neither filters nor pins, and the programs of the one before go with their maps', async () => {
    const first = await bed.dataplane();
    await first.activate();
    const { one, two, onePeer } = await twoPods(first);
    for (const { id, endpoint } of [one, two]) first.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint });
    expect(await first.apply()).toMatchObject({ programmed: [one.id, two.id], failed: [] });
    const [filters, entered, pinned] = [await attachedIds('cali1'), enteredIds(), pins()];
    const inode = (): number => statSync(join(bed.bpffs, 'v2', 'tortie_jump')).ino;
    const jump = inode();
    const stream = await onePeer.stream(two.ipv6, 1);
    await first[Symbol.asyncDispose]();
    const second = await bed.dataplane([one, two]);
    expect(enteredIds()).toEqual(entered); // Filled, but not in force.
    await second.activate();
    expect([await attachedIds('cali1'), pins(), inode()]).toEqual([filters, pinned, jump]);
    for (const id of enteredIds()) expect(entered).not.toContain(id);
    // The kernel frees them in its own time. Not at once: what bpftool opens in its last moments may stay for good (ebpf-leaks.test.ts).
    do await scheduler.wait(300);
    while ((await existing('prog', entered)).length > 0);
    const report = await stream.stop();
    expect(report).toMatchObject({ failure: null, answered: report.sent });
  });

  test.each<[string, () => Promise<unknown>]>([
    [
      'loaded filters',
      async () => {
        using filters = await openFilters(place(), {});
        filters.pin();
      },
    ],
    [
      'loaded programs and filled nothing',
      async () => {
        using filters = await openFilters(place(), {});
        using programs = await loadEndpointPrograms(place(), filters, { config: podConfig, sizes: {} });
        filters.pin();
        programs.pin();
      },
    ],
    [
      'entered one direction',
      async () => {
        using filters = await openFilters(place(), {});
        using programs = await loadEndpointPrograms(place(), filters, { config: podConfig, sizes: {} });
        filters.pin();
        programs.pin();
        filters.jump.set(u32Key(Jump.podIn), u32Key(programs.podIn.fd));
      },
    ],
  ])('completes what one did that was killed when it had %s', async (_, interrupted) => {
    const { one, two, onePeer } = await twoPods();
    await bed.idle().probe(); // Mounts the file system.
    await interrupted();
    const dataplane = await bed.dataplane([one, two]);
    await dataplane.activate();
    for (const host of [two.ipv4, two.ipv6]) expect(await onePeer.connect(host, 20_000)).toMatchObject({ ok: true });
    expect(enteredIds()).not.toContain(undefined);
    expect(readdirSync(join(bed.bpffs, 'v2')).filter((name) => name.endsWith('-new'))).toEqual([]);
  });

  test('of a build with other places to jump to leaves former filters what they jump to', async () => {
    await bed.pod(1);
    await bed.idle().probe(); // Mounts the file system.
    const layout = join(bed.bpffs, 'v2');
    await must('mkdir', '-p', layout);
    const netns = { path: bed.node.path };
    const ifindex = bed.host.link('cali1')?.index ?? 0;
    const elf = join(ebpfObjects, 'attach.bpf.o');
    using old = await loadObject({ name: 'tortie', elf, maps: { tortie_jump: { maxEntries: 2 } } });
    using target = await loadObject({ name: 'count', elf: countElf });
    old.map('tortie_devices').set(u32Key(ifindex), u32Key(ifindex), 'any', netns);
    const jump = old.map('tortie_jump');
    jump.set(u32Key(Jump.podOut), u32Key(target.program('count').fd));
    jump.pin(join(layout, 'tortie_jump'));
    jump[Symbol.dispose]();
    const context = new Uint8Array(192);
    new DataView(context.buffer).setUint32(40, ifindex, true); // Of __sk_buff.
    const run = (): number =>
      old.program('tortie_from_pod').testRun({ data: new Uint8Array(64), context, netns }).returned;
    expect(run()).toBe(-1);
    using filters = await openFilters(place(), {});
    filters.pin();
    expect(filters.adopted).toBe(false);
    await scheduler.wait(100); // The kernel would empty the table in the background.
    expect(run()).toBe(-1);
  });

  test('replaces filters of the layout before, which judged by themselves, and removes what it had pinned', async () => {
    const { one, two, onePeer } = await twoPods();
    const idle = bed.idle();
    await idle.probe(); // Mounts the file system.
    const former = join(bed.bpffs, 'v1');
    await must('mkdir', '-p', join(former, 'programs-1'));
    using old = await loadObject({ name: 'count', elf: countElf });
    old.program('count').pin(join(former, 'programs-1', 'tortie_from_pod'));
    old.map('seen').pin(join(former, 'tortie_devices'));
    const { fd } = old.program('count');
    for (const link of ['cali1', 'cali2']) {
      await bed.host.run([
        { op: 'clsact.add', link },
        { op: 'filter.replace', link, direction: 'ingress', ...ourFilter, name: 'tortie_from_pod', fd },
        { op: 'filter.replace', link, direction: 'egress', ...ourFilter, name: 'tortie_to_pod', fd },
      ]);
    }
    const before = await attachedIds('cali1');
    const stream = await onePeer.stream(two.ipv4, 1);
    const next = await bed.dataplane([], { inSync: false });
    await next.activate();
    // It knows no pod yet: what is there judges on.
    expect(await attachedIds('cali1')).toEqual(before);
    for (const { id, endpoint } of [one, two]) next.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint });
    next.onUpdate({ type: 'inSync' });
    expect(await next.apply()).toMatchObject({ programmed: [one.id, two.id], failed: [] });
    for (const id of await attachedIds('cali1')) expect(before).not.toContain(id);
    expect(readdirSync(bed.bpffs)).toEqual(['v2']);
    const report = await stream.stop();
    expect(report).toMatchObject({ failure: null, answered: report.sent });
  });
});

const countElf = new URL('../../build/bpf/count.bpf.o', import.meta.url).pathname;

describe('slots', () => {
  test('that devices had before are used again: more MACs than there is room for', async () => {
    const dataplane = await bed.dataplane([], { sizes: { devices: 1 } });
    await dataplane.activate();
    const one = await bed.pod(1, dataplane);
    for (let n = 1; n <= 6; n++) {
      const endpoint = { ...one.endpoint, mac: `0a:00:00:00:00:0${n}` };
      dataplane.onUpdate({ type: 'workloadEndpointUpdate', id: one.id, endpoint });
      // There are two: the former waits for a grace period, which nobody waits for here.
      while ((await dataplane.apply()).failed.length > 0) await scheduler.wait(5);
    }
  });
});
