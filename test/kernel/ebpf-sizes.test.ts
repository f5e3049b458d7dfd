import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { scheduler } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { ApplyReport } from '#dataplanes/contract.ts';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { layoutVersion } from '#dataplanes/ebpf/programs.ts';
import { backend, service } from '#dataplanes/ebpf/services/twin-for-tests.ts';
import type { FlowExportItem } from '#dataplanes/flows.ts';
import type { MapSizeSettings } from '#dataplanes/messages.ts';
import { peerPort } from '#test/lab/peer.ts';
import { Peer } from '#test/lab/peer-client.ts';
import { type BedPod, denyAll, EbpfBed } from './ebpf-bed.ts';
import { pinnedSize } from './ebpf-pinned-flows.ts';

/* Sizes of maps that change while packets go by them. */
let bed: EbpfBed;
const peers: Peer[] = [];

beforeEach(async () => {
  bed = await EbpfBed.create();
});

afterEach(async () => {
  for (const peer of peers.splice(0)) await peer[Symbol.asyncDispose]();
  await bed[Symbol.asyncDispose]();
});

/** A dataplane in force that knows two pods; what the second's endpoint came to is in `report`. */
async function start(
  sizes: Partial<MapSizeSettings>,
): Promise<{ dataplane: EbpfDataplane; one: BedPod; two: BedPod; onePeer: Peer; report: ApplyReport }> {
  const dataplane = await bed.dataplane([], { sizes });
  await dataplane.activate();
  const [one, two] = [await bed.pod(1, dataplane), await bed.pod(2, dataplane)];
  const onePeer = await Peer.start(one.netns.path);
  peers.push(onePeer, await Peer.start(two.netns.path));
  for (const { id, endpoint } of [one, two]) dataplane.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint });
  return { dataplane, one, two, onePeer, report: await dataplane.apply() };
}

describe('flows', () => {
  test.each<[string, Partial<MapSizeSettings>, number]>([
    ['more of them', { flows: 16_384 }, 4096],
    ['fewer', { flows: 1024 }, 256],
    ['more devices, which are other filters', { flows: 4096, devices: 64 }, 1024],
  ])('known ones go on while there is to be room for %s', async (_, sizes, shard) => {
    const { dataplane, two, onePeer } = await start({ flows: 4096, devices: 32 });
    const streams = [await onePeer.stream(two.ipv4, 1), await onePeer.stream(two.ipv6, 1)];
    for (const stream of streams) while ((await stream.progress()).answered === 0) await scheduler.wait(5);
    dataplane.onUpdate(denyAll);
    await dataplane.apply();
    expect(await onePeer.connect(two.ipv4, 300)).toMatchObject({ ok: false });
    expect((await bed.resize(dataplane, { devices: 32, ...sizes })).failed).toEqual([]);
    expect([pinnedSize(bed, 'tortie_flow4a'), pinnedSize(bed, 'tortie_flow6d')]).toEqual([shard, shard]);
    expect(readdirSync(join(bed.bpffs, layoutVersion)).filter((name) => name.startsWith('former'))).toEqual([]);
    // It was told all of policy: what was denied is.
    expect(await onePeer.connect(two.ipv4, 300)).toMatchObject({ ok: false });
    for (const stream of streams) {
      const report = await stream.stop();
      expect(report).toMatchObject({ failure: null, answered: report.sent });
    }
  });
});

describe('what had no room', () => {
  test('an endpoint opens when the setting that its failure names is raised', async () => {
    const { dataplane, one, two, onePeer, report } = await start({ devices: 1 });
    const [failure] = report.failed;
    expect([report.programmed, failure?.endpoint]).toEqual([[one.id], two.id]);
    expect(failure?.reason).toContain('raise bpfMapSizeIfState');
    expect(await bed.resize(dataplane, { devices: 8 })).toMatchObject({ failed: [] });
    for (const host of [two.ipv4, two.ipv6]) expect(await onePeer.connect(host, 20_000)).toMatchObject({ ok: true });
  });

  test('a Service is served when there is room for its frontend', async () => {
    const { dataplane, two } = await start({ frontends: 1 });
    for (const n of [1, 2]) {
      const said = service(`10.96.0.${n}`, [backend(two.ipv4, peerPort)], { port: 80 });
      dataplane.onUpdate({ type: 'serviceUpdate', id: `default/web${n}`, service: said });
    }
    const { failed } = await dataplane.apply();
    expect(failed.map(({ object }) => object)).toEqual(['service default/web2']);
    expect(failed[0]?.reason).toContain('bpfMapSizeNATFrontend');
    expect(await bed.resize(dataplane, { frontends: 16 })).toMatchObject({ failed: [] });
    const served = dataplane.services.list().flatMap(({ frontends }) => frontends.map(({ backends }) => backends));
    expect(served).toEqual([1, 2].map(() => [expect.objectContaining({ address: two.ipv4 })]));
  });
});

describe('sizes that can not be had', () => {
  test.each<[string, Partial<MapSizeSettings>, string]>([
    [
      'too small for the devices',
      { devices: 1 },
      'tortie_devices has 2 entries in use and would get 1 (bpfMapSizeIfState)',
    ],
    ['too small for the addresses', { addresses: 1 }, 'tortie_addr4'],
    ['too large for any kernel', { backends: 0x7fff_ffff }, 'tortie_back'],
  ])('leave everything as it was: %s', async (_, sizes, words) => {
    const { dataplane, two, onePeer } = await start({ flows: 4096 });
    const stream = await onePeer.stream(two.ipv4, 1);
    const inode = (): number => statSync(join(bed.bpffs, layoutVersion, 'tortie_devices')).ino;
    const before = [inode(), pinnedSize(bed, 'tortie_flow4a')];
    const { failed } = await bed.resize(dataplane, { flows: 8192, ...sizes });
    expect(failed.map(({ object }) => object)).toEqual(['sizes of the BPF maps']);
    expect(failed[0]?.reason).toContain(words);
    expect(failed[0]?.reason).toContain("flows' maps don't grow");
    expect((await dataplane.apply({ retry: false })).failed).toEqual(failed);
    expect([inode(), pinnedSize(bed, 'tortie_flow4a')]).toEqual(before);
    const report = await stream.stop();
    expect(report).toMatchObject({ failure: null, answered: report.sent });
    // What can be had is.
    expect(await bed.resize(dataplane, { flows: 8192 })).toMatchObject({ failed: [] });
    expect(pinnedSize(bed, 'tortie_flow4a')).toBe(2048);
  });
});

test('maps stay as they are while their flows are handed over for good', async () => {
  const { dataplane, one, two, onePeer } = await start({ flows: 4096 });
  const stream = await onePeer.stream(two.ipv4, 1);
  while ((await stream.progress()).answered === 0) await scheduler.wait(5);
  const scope = { local: new Set([one.ipv4, two.ipv4]), isLeaving: true };
  const told = dataplane.flows.exportFlows(scope, new AbortController().signal);
  const { value: first } = await told.next();
  expect(await bed.resize(dataplane, { flows: 8192 })).toMatchObject({ failed: [] });
  expect(pinnedSize(bed, 'tortie_flow4a')).toBe(1024);
  const items: FlowExportItem[] = first === undefined ? [] : [first];
  for await (const item of told) items.push(item);
  expect(items.flatMap((item) => (item.type === 'flows' ? item.flows : [])).length).toBeGreaterThan(0);
  expect(items.at(-1)).toEqual({ type: 'whole' });
  const report = await stream.stop();
  expect(report).toMatchObject({ failure: null, answered: report.sent });
});

test('what was put aside goes when its flows are in the new maps, also while a device has the filters of before', async () => {
  const { dataplane, two, onePeer } = await start({ devices: 32, flows: 4096 });
  const aside = (): string[] => readdirSync(join(bed.bpffs, layoutVersion)).filter((name) => name.startsWith('former'));
  const allow = bed.refuseFilters(two.device);
  await bed.resize(dataplane, { devices: 64, flows: 8192 });
  expect(aside()).toEqual([]);
  expect((await dataplane.apply()).failed).toMatchObject([{ reason: 'no memory for it' }]);
  expect(await onePeer.connect(two.ipv4, 20_000)).toMatchObject({ ok: true });
  allow();
  expect(await dataplane.apply()).toMatchObject({ failed: [] });
  expect(aside()).toEqual([]);
});

test('flows outlive agents that are killed between putting maps aside and entering, whatever sizes the next one has', async () => {
  const { dataplane, one, two, onePeer } = await start({ flows: 4096 });
  const stream = await onePeer.stream(two.ipv4, 1);
  while ((await stream.progress()).answered === 0) await scheduler.wait(5);
  await dataplane[Symbol.asyncDispose]();
  for (const flows of [8192, 16_384]) {
    const killed = await bed.dataplane([one, two], { sizes: { flows }, inSync: false });
    await killed.activate();
    await killed[Symbol.asyncDispose]();
  }
  const next = await bed.dataplane([one, two], { sizes: { flows: 4096, doubleFlows: false }, inSync: false });
  next.onUpdate(denyAll);
  next.onUpdate({ type: 'inSync' });
  await next.apply();
  await next.activate();
  expect(await onePeer.connect(two.ipv4, 300)).toMatchObject({ ok: false });
  expect(pinnedSize(bed, 'tortie_flow4a')).toBe(1024);
  expect(readdirSync(join(bed.bpffs, layoutVersion)).filter((name) => name.startsWith('former'))).toEqual([]);
  const report = await stream.stop();
  expect(report).toMatchObject({ failure: null, answered: report.sent });
});
