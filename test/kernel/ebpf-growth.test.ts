/** Flows that fill their maps: these get twice the size (bpfMapSizeConntrackScaling). */
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { scheduler } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type Clock, systemClock } from '#api/clock.ts';
import type { ApplyFailure } from '#dataplanes/contract.ts';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { sweepPauseMs } from '#dataplanes/ebpf/flows/flow-sweeper.ts';
import { layoutVersion } from '#dataplanes/ebpf/programs.ts';
import type { FlowExportItem } from '#dataplanes/flows.ts';
import type { Logger } from '#dataplanes/logger.ts';
import type { DataplaneConfig, MapSizeSettings } from '#dataplanes/messages.ts';
import { Peer } from '#test/lab/peer-client.ts';
import { createNetns, uniqueName } from '#test/lab/netns.ts';
import { until } from '#test/lab/until.ts';
import { type BedPod, denyAll, ebpfObjects, EbpfBed } from './ebpf-bed.ts';
import { fillFlows, pinnedSize, recordedFlows } from './ebpf-pinned-flows.ts';

let bed: EbpfBed;
let dir: string;
let said: string[];
const peers: Peer[] = [];
/** What was not done, of each apply that the dataplane asked for itself. */
let failures: ApplyFailure[];
/** How far the dataplane's clock is ahead, in ms. */
let aheadMs: number;
/** Called with all that is logged, while it is. */
let onLog: (message: string) => void;

/** Sweeps come nearly without their pause. */
const hasty: Clock = {
  now: () => systemClock.now() + aheadMs,
  sleep: (ms, signal) => systemClock.sleep(ms, signal),
  after: (ms, action) => systemClock.after(ms === sweepPauseMs ? 100 : ms, action),
};

beforeEach(async () => {
  bed = await EbpfBed.create();
  dir = mkdtempSync(join(tmpdir(), `${uniqueName()}-growth-`));
  said = [];
  failures = [];
  aheadMs = 0;
  onLog = () => {};
});

afterEach(async () => {
  for (const peer of peers.splice(0)) await peer[Symbol.asyncDispose]();
  await bed[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

/** Driven as by the agent: an apply follows what it asks for. */
function driven(dataplane: EbpfDataplane): EbpfDataplane {
  dataplane.onDisturbed(() => void dataplane.apply().then(({ failed }) => failures.push(...failed)));
  return dataplane;
}

/** One in force that knows two pods, with a connection between them. */
async function start(
  sizes: Partial<MapSizeSettings>,
  more: { readonly objects?: string; readonly config?: Partial<DataplaneConfig> } = {},
) {
  const say = (message: string): void => {
    said.push(message);
    onLog(message);
  };
  const log: Logger = { debug: () => {}, info: (message) => onLog(message), warn: say, error: say };
  const dataplane = driven(await bed.dataplane([], { sizes, clock: hasty, log, ...more }));
  await dataplane.activate();
  const [one, two] = [await bed.pod(1, dataplane), await bed.pod(2, dataplane)];
  const peer = await Peer.start(one.netns.path);
  peers.push(peer, await Peer.start(two.netns.path));
  for (const { id, endpoint } of [one, two]) dataplane.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint });
  const { failed, programmed } = await dataplane.apply();
  expect(programmed).toHaveLength(2);
  if (more.config === undefined) expect(failed).toEqual([]);
  const stream = await peer.stream(two.ipv4, 1);
  while ((await stream.progress()).answered === 0) await scheduler.wait(5);
  return { dataplane, one, two, peer, stream };
}

async function deny(dataplane: EbpfDataplane, peer: Peer, to: BedPod): Promise<void> {
  dataplane.onUpdate(denyAll);
  await dataplane.apply();
  expect(await peer.connect(to.ipv4, 300)).toMatchObject({ ok: false });
}

const sweepsOf = ({ flows }: EbpfDataplane): number => flows.stats?.sweeps ?? 0;

/** Until more sweeps are over that might have told of full maps. */
async function swept(dataplane: EbpfDataplane, atLeast: number): Promise<void> {
  const sweeps = sweepsOf(dataplane);
  await until(() => sweepsOf(dataplane) >= sweeps + 3 && (dataplane.flows.stats?.[4].elements ?? 0) >= atLeast);
}

/** What was said of full maps, as the places in use and all of them. */
const growths = (): number[][] =>
  said
    .map((message) => /^IPv4 flows take (\d+) of (\d+) places: .* \(bpfMapSizeConntrackScaling\)$/.exec(message))
    .filter((match) => match !== null)
    .map(([, used, size]) => [Number(used), Number(size)]);

/** Room for 4,096 flows of a family, which are so many that it grew; then `count` stand there. */
async function grown(count: number) {
  const started = await start({ flows: 4096 });
  await deny(started.dataplane, started.peer, started.two);
  fillFlows(bed, 0, 3750);
  await until(() => pinnedSize(bed, 'tortie_flow4a') === 2048);
  await until(async () => (await recordedFlows(bed)) >= 3750);
  fillFlows(bed, 3750, count);
  return started;
}

test('what is known stays known, connections go on, and the next agent keeps the size', async () => {
  const { dataplane, one, two, peer, stream } = await start({ flows: 4096 });
  await deny(dataplane, peer, two);
  fillFlows(bed, 0, 3750);
  await until(() => pinnedSize(bed, 'tortie_flow4a') === 2048);
  // Before anything has swept the new ones.
  expect(dataplane.flows.stats?.[4].elements).toBeGreaterThanOrEqual(0.9 * 4096);
  expect(dataplane.flows.stats?.[4].maxElements).toBe(8192);
  expect([pinnedSize(bed, 'tortie_flow6d'), pinnedSize(bed, 'tortie_new4')]).toEqual([2048, 1024]);
  await until(async () => (await recordedFlows(bed)) >= 3750);
  await swept(dataplane, 3750);
  // A sweep may have come while they were written.
  expect(growths()).toEqual([[expect.any(Number), 4096]]);
  expect(said).toHaveLength(1);
  expect(pinnedSize(bed, 'tortie_flow4a')).toBe(2048);
  fillFlows(bed, 3750, 7450);
  await until(() => pinnedSize(bed, 'tortie_flow4a') === 4096);
  await until(async () => (await recordedFlows(bed)) >= 7450);
  await swept(dataplane, 7450);
  expect(growths().slice(1)).toEqual([[expect.any(Number), 8192]]);
  for (const [used = 0, size = 0] of growths()) expect(used).toBeGreaterThanOrEqual(0.9 * size);
  expect([said.length, failures]).toEqual([2, []]);
  await dataplane[Symbol.asyncDispose]();
  const next = driven(await bed.dataplane([one, two], { sizes: { flows: 4096 }, inSync: false }));
  next.onUpdate(denyAll);
  next.onUpdate({ type: 'inSync' });
  await next.apply();
  await next.activate();
  expect(pinnedSize(bed, 'tortie_flow4a')).toBe(4096);
  expect(await recordedFlows(bed)).toBeGreaterThanOrEqual(7450);
  expect(await peer.connect(two.ipv4, 300)).toMatchObject({ ok: false });
  const report = await stream.stop();
  expect(report).toMatchObject({ failure: null, answered: report.sent });
  // Who says another size gets that.
  expect((await bed.resize(next, { flows: 65_536 })).failed).toEqual([]);
  expect(pinnedSize(bed, 'tortie_flow4a')).toBe(16_384);
});

test('a setting that is raised to less than is in use counts twice', async () => {
  const { dataplane, stream } = await grown(5000);
  expect((await bed.resize(dataplane, { flows: 4500 })).failed).toEqual([]);
  expect(pinnedSize(bed, 'tortie_flow4a')).toBe(2250);
  await until(async () => (await recordedFlows(bed)) >= 5000);
  // And they grow again.
  fillFlows(bed, 5000, 8200);
  await until(() => pinnedSize(bed, 'tortie_flow4a') === 4500);
  await until(async () => (await recordedFlows(bed)) >= 8200);
  expect(failures).toEqual([]);
  const report = await stream.stop();
  expect(report).toMatchObject({ failure: null, answered: report.sent });
});

test('so does one that was raised while no agent ran', async () => {
  const { dataplane, one, two, stream } = await grown(5000);
  await dataplane[Symbol.asyncDispose]();
  const next = await bed.dataplane([one, two], { sizes: { flows: 4500 }, inSync: false });
  next.onUpdate(denyAll);
  next.onUpdate({ type: 'inSync' });
  await next.apply();
  await next.activate();
  expect(pinnedSize(bed, 'tortie_flow4a')).toBe(2250);
  expect((await next.apply()).failed).toEqual([]);
  expect(await recordedFlows(bed)).toBeGreaterThanOrEqual(5000);
  const report = await stream.stop();
  expect(report).toMatchObject({ failure: null, answered: report.sent });
});

test('not where it is switched off', async () => {
  const { dataplane, stream } = await start({ flows: 4096, doubleFlows: false });
  fillFlows(bed, 0, 3750);
  await swept(dataplane, 3750);
  expect([pinnedSize(bed, 'tortie_flow4a'), said]).toEqual([1024, []]);
  expect(await stream.stop()).toMatchObject({ failure: null });
});

test('other sizes that are due come first', async () => {
  const { dataplane, stream } = await start({ flows: 4096 });
  dataplane.onDisturbed(() => {});
  fillFlows(bed, 0, 3750);
  await swept(dataplane, 3750);
  expect((await bed.resize(dataplane, { flows: 4096, addresses: 1024 })).failed).toEqual([]);
  expect([pinnedSize(bed, 'tortie_flow4a'), said]).toEqual([1024, []]);
  driven(dataplane);
  await until(() => pinnedSize(bed, 'tortie_flow4a') === 2048);
  await until(async () => (await recordedFlows(bed)) >= 3750);
  expect([said.length, failures]).toEqual([1, []]);
  expect(await stream.stop()).toMatchObject({ failure: null });
});

test('larger maps that can not be had are said once, everything stays, and they are tried again after an hour', async () => {
  const objects = join(dir, 'bpf');
  cpSync(ebpfObjects, objects, { recursive: true });
  const { dataplane, stream } = await start({ flows: 4096 }, { objects });
  rmSync(join(objects, 'endpoint.bpf.o'));
  fillFlows(bed, 0, 3750);
  await until(() => said.length >= 2);
  await swept(dataplane, 3750);
  expect(said).toEqual([
    expect.stringContaining('their maps get twice the size'),
    expect.stringMatching(/^the maps of flows can't get twice the size: .*endpoint\.bpf\.o.*They stay as they are/),
  ]);
  expect(failures).toEqual([]);
  expect(pinnedSize(bed, 'tortie_flow4a')).toBe(1024);
  expect((await dataplane.apply()).failed).toEqual([]);
  cpSync(join(ebpfObjects, 'endpoint.bpf.o'), join(objects, 'endpoint.bpf.o'));
  aheadMs = 3_600_000;
  await until(() => pinnedSize(bed, 'tortie_flow4a') === 2048);
  await until(async () => (await recordedFlows(bed)) >= 3750);
  expect([said.length, failures]).toEqual([3, []]);
  expect(await stream.stop()).toMatchObject({ failure: null });
});

test('not while something keeps maps from being filled, which would keep the new ones from being entered', async () => {
  await using outside = await createNetns();
  await bed.host.run([
    { op: 'veth.add', name: 'eth0', up: true, peer: { name: 'eth0', netns: { path: outside.path } } },
    { op: 'addr.add', link: 'eth0', address: '192.0.2.1/24' },
  ]);
  await outside.ip('link', 'set', 'eth0', 'up');
  await bed.node.ip('route', 'replace', 'default', 'dev', 'eth0');
  const failsafeInbound = Array.from({ length: 1100 }, (_, i) => ({ protocol: 'tcp' as const, port: 1 + i }));
  const { dataplane, two, peer, stream } = await start({ flows: 4096 }, { config: { failsafeInbound } });
  const { failed } = await dataplane.apply();
  expect(failed.map(({ reason }) => reason)).toEqual([expect.stringContaining('map tortie_failsafe is full')]);
  fillFlows(bed, 0, 3750);
  await swept(dataplane, 3750);
  const held = said.filter((message) => message.startsWith('flows fill their maps'));
  expect([pinnedSize(bed, 'tortie_flow4a'), growths(), held.length]).toEqual([1024, [], 1]);
  expect(await peer.connect(two.ipv4, 20_000)).toMatchObject({ ok: true });
  await deny(dataplane, peer, two);
  // As soon as nothing does any more.
  await bed.resize(dataplane, { flows: 4096 });
  await until(() => pinnedSize(bed, 'tortie_flow4a') === 2048);
  await until(async () => (await recordedFlows(bed)) >= 3750);
  expect(await peer.connect(two.ipv4, 300)).toMatchObject({ ok: false });
  const report = await stream.stop();
  expect(report).toMatchObject({ failure: null, answered: report.sent });
});

test('not while a device can not be looked at, where other programs could not be entered', async () => {
  const { dataplane, two } = await start({ flows: 4096 });
  const ifindex = bed.host.link(two.device)?.index;
  const filtersSync = bed.host.filtersSync.bind(bed.host);
  Object.assign(bed.host, {
    filtersSync: (link: number, direction: 'ingress' | 'egress') => {
      if (link === ifindex) throw new Error('no memory for it');
      return filtersSync(link, direction);
    },
  });
  dataplane.requestResync();
  expect((await dataplane.apply()).failed.map(({ reason }) => reason)).toContain('no memory for it');
  fillFlows(bed, 0, 3750);
  await swept(dataplane, 3750);
  expect([pinnedSize(bed, 'tortie_flow4a'), growths()]).toEqual([1024, []]);
  Object.assign(bed.host, { filtersSync });
  expect((await dataplane.apply()).failed).toEqual([]);
  await until(() => pinnedSize(bed, 'tortie_flow4a') === 2048);
});

test('maps that are loaded when flows begin to be taken over put nothing aside', async () => {
  const { dataplane, stream } = await start({ flows: 4096 });
  const over = Promise.withResolvers<FlowExportItem>();
  async function* items(): AsyncGenerator<FlowExportItem, void, undefined> {
    yield await over.promise;
  }
  const imports: Promise<unknown>[] = [];
  onLog = (message) => {
    if (message.endsWith('BPF filters')) imports.push(dataplane.flows.importFlows(items(), { local: new Set() }));
  };
  expect((await bed.resize(dataplane, { flows: 8192 })).failed).toEqual([]);
  onLog = () => {};
  expect(imports).toHaveLength(1);
  const aside = readdirSync(join(bed.bpffs, layoutVersion)).filter((name) => name.startsWith('former'));
  expect([pinnedSize(bed, 'tortie_flow4a'), aside]).toEqual([1024, []]);
  expect(await recordedFlows(bed)).toBeGreaterThan(0);
  over.resolve({ type: 'whole' });
  await Promise.all(imports);
  expect((await dataplane.apply()).failed).toEqual([]);
  expect(pinnedSize(bed, 'tortie_flow4a')).toBe(2048);
  const report = await stream.stop();
  expect(report).toMatchObject({ failure: null, answered: report.sent });
});
