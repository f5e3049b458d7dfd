/** Flows that fill their maps: these get twice the size (bpfMapSizeConntrackScaling). */
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { scheduler } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type Clock, systemClock } from '#api/clock.ts';
import type { ApplyFailure } from '#dataplanes/contract.ts';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { FlowFlag } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { flowShard } from '#dataplanes/ebpf/flows/flow-maps.ts';
import { flowElements } from '#dataplanes/ebpf/flows/flow-record.ts';
import { sweepPauseMs } from '#dataplanes/ebpf/flows/flow-sweeper.ts';
import { layoutVersion } from '#dataplanes/ebpf/programs.ts';
import type { FlowExportItem } from '#dataplanes/flows.ts';
import type { Logger } from '#dataplanes/logger.ts';
import type { DataplaneConfig, DataplaneUpdate, MapSizeSettings } from '#dataplanes/messages.ts';
import { openPinnedMap } from '#native/bpf.ts';
import { Peer } from '#test/lab/peer-client.ts';
import { createNetns, uniqueName } from '#test/lab/netns.ts';
import { until } from '#test/lab/until.ts';
import { type BedPod, ebpfObjects, EbpfBed } from './ebpf-bed.ts';
import { client, flowRecord } from './ebpf-flows-bed.ts';

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

/** Nothing new is allowed any more: only a flow that is known goes on. */
const denyAll: DataplaneUpdate = { type: 'profileUpdate', id: 'kns.default', profile: { ingress: [], egress: [] } };

async function deny(dataplane: EbpfDataplane, peer: Peer, to: BedPod): Promise<void> {
  dataplane.onUpdate(denyAll);
  await dataplane.apply();
  expect(await peer.connect(to.ipv4, 300)).toMatchObject({ ok: false });
}

async function resize(dataplane: EbpfDataplane, sizes: Partial<MapSizeSettings>) {
  const mapSizes = { ...bed.config.mapSizes, ...sizes };
  dataplane.onUpdate({ type: 'configUpdate', config: { ...bed.config, mapSizes } });
  return await dataplane.apply();
}

const sweepsOf = ({ flows }: EbpfDataplane): number => flows.stats?.sweeps ?? 0;
const shards = ['a', 'b', 'c', 'd'].map((letter) => `tortie_flow4${letter}`);

function pinnedSize(name: string): number | undefined {
  using map = openPinnedMap(join(bed.bpffs, layoutVersion, name));
  return map?.shape.maxEntries;
}

async function recorded(): Promise<number> {
  let count = 0;
  for (const name of shards) {
    using map = openPinnedMap(join(bed.bpffs, layoutVersion, name));
    count += (await map?.dump())?.count ?? 0;
  }
  return count;
}

/** Writes established flows, each of another number, into the maps in use. */
function fill(from: number, to: number): void {
  using stack = new DisposableStack();
  const maps = shards.map((name) => stack.use(openPinnedMap(join(bed.bpffs, layoutVersion, name))!));
  for (let i = from; i < to; i += 1) {
    const opener = { ...client[4], port: 1024 + i };
    const { record } = flowElements(flowRecord(4, 6, FlowFlag.answered | FlowFlag.established, 0, { opener }));
    maps[flowShard(record.key)]!.set(record.key, record.value);
  }
}

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
  fill(0, 3750);
  await until(() => pinnedSize('tortie_flow4a') === 2048);
  await until(async () => (await recorded()) >= 3750);
  fill(3750, count);
  return started;
}

test('what is known stays known, connections go on, and the next agent keeps the size', async () => {
  const { dataplane, one, two, peer, stream } = await start({ flows: 4096 });
  await deny(dataplane, peer, two);
  fill(0, 3750);
  await until(() => pinnedSize('tortie_flow4a') === 2048);
  // Before anything has swept the new ones.
  expect(dataplane.flows.stats?.[4].elements).toBeGreaterThanOrEqual(0.9 * 4096);
  expect(dataplane.flows.stats?.[4].maxElements).toBe(8192);
  expect([pinnedSize('tortie_flow6d'), pinnedSize('tortie_new4')]).toEqual([2048, 1024]);
  await until(async () => (await recorded()) >= 3750);
  await swept(dataplane, 3750);
  // A sweep may have come while they were written.
  expect(growths()).toEqual([[expect.any(Number), 4096]]);
  expect(said).toHaveLength(1);
  expect(pinnedSize('tortie_flow4a')).toBe(2048);
  fill(3750, 7450);
  await until(() => pinnedSize('tortie_flow4a') === 4096);
  await until(async () => (await recorded()) >= 7450);
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
  expect(pinnedSize('tortie_flow4a')).toBe(4096);
  expect(await recorded()).toBeGreaterThanOrEqual(7450);
  expect(await peer.connect(two.ipv4, 300)).toMatchObject({ ok: false });
  const report = await stream.stop();
  expect(report).toMatchObject({ failure: null, answered: report.sent });
  // Who says another size gets that.
  expect((await resize(next, { flows: 65_536 })).failed).toEqual([]);
  expect(pinnedSize('tortie_flow4a')).toBe(16_384);
});

test('a setting that is raised to less than is in use counts twice', async () => {
  const { dataplane, stream } = await grown(5000);
  expect((await resize(dataplane, { flows: 4500 })).failed).toEqual([]);
  expect(pinnedSize('tortie_flow4a')).toBe(2250);
  await until(async () => (await recorded()) >= 5000);
  // And they grow again.
  fill(5000, 8200);
  await until(() => pinnedSize('tortie_flow4a') === 4500);
  await until(async () => (await recorded()) >= 8200);
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
  expect(pinnedSize('tortie_flow4a')).toBe(2250);
  expect((await next.apply()).failed).toEqual([]);
  expect(await recorded()).toBeGreaterThanOrEqual(5000);
  const report = await stream.stop();
  expect(report).toMatchObject({ failure: null, answered: report.sent });
});

test('not where it is switched off', async () => {
  const { dataplane, stream } = await start({ flows: 4096, doubleFlows: false });
  fill(0, 3750);
  await swept(dataplane, 3750);
  expect([pinnedSize('tortie_flow4a'), said]).toEqual([1024, []]);
  expect(await stream.stop()).toMatchObject({ failure: null });
});

test('other sizes that are due come first', async () => {
  const { dataplane, stream } = await start({ flows: 4096 });
  dataplane.onDisturbed(() => {});
  fill(0, 3750);
  await swept(dataplane, 3750);
  expect((await resize(dataplane, { flows: 4096, addresses: 1024 })).failed).toEqual([]);
  expect([pinnedSize('tortie_flow4a'), said]).toEqual([1024, []]);
  driven(dataplane);
  await until(() => pinnedSize('tortie_flow4a') === 2048);
  await until(async () => (await recorded()) >= 3750);
  expect([said.length, failures]).toEqual([1, []]);
  expect(await stream.stop()).toMatchObject({ failure: null });
});

test('larger maps that can not be had are said once, everything stays, and they are tried again after an hour', async () => {
  const objects = join(dir, 'bpf');
  cpSync(ebpfObjects, objects, { recursive: true });
  const { dataplane, stream } = await start({ flows: 4096 }, { objects });
  rmSync(join(objects, 'endpoint.bpf.o'));
  fill(0, 3750);
  await until(() => said.length >= 2);
  await swept(dataplane, 3750);
  expect(said).toEqual([
    expect.stringContaining('their maps get twice the size'),
    expect.stringMatching(/^the maps of flows can't get twice the size: .*endpoint\.bpf\.o.*They stay as they are/),
  ]);
  expect(failures).toEqual([]);
  expect(pinnedSize('tortie_flow4a')).toBe(1024);
  expect((await dataplane.apply()).failed).toEqual([]);
  cpSync(join(ebpfObjects, 'endpoint.bpf.o'), join(objects, 'endpoint.bpf.o'));
  aheadMs = 3_600_000;
  await until(() => pinnedSize('tortie_flow4a') === 2048);
  await until(async () => (await recorded()) >= 3750);
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
  fill(0, 3750);
  await swept(dataplane, 3750);
  const held = said.filter((message) => message.startsWith('flows fill their maps'));
  expect([pinnedSize('tortie_flow4a'), growths(), held.length]).toEqual([1024, [], 1]);
  expect(await peer.connect(two.ipv4, 20_000)).toMatchObject({ ok: true });
  await deny(dataplane, peer, two);
  // As soon as nothing does any more.
  await resize(dataplane, { flows: 4096 });
  await until(() => pinnedSize('tortie_flow4a') === 2048);
  await until(async () => (await recorded()) >= 3750);
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
  fill(0, 3750);
  await swept(dataplane, 3750);
  expect([pinnedSize('tortie_flow4a'), growths()]).toEqual([1024, []]);
  Object.assign(bed.host, { filtersSync });
  expect((await dataplane.apply()).failed).toEqual([]);
  await until(() => pinnedSize('tortie_flow4a') === 2048);
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
  expect((await resize(dataplane, { flows: 8192 })).failed).toEqual([]);
  onLog = () => {};
  expect(imports).toHaveLength(1);
  const aside = readdirSync(join(bed.bpffs, layoutVersion)).filter((name) => name.startsWith('former'));
  expect([pinnedSize('tortie_flow4a'), aside]).toEqual([1024, []]);
  expect(await recorded()).toBeGreaterThan(0);
  over.resolve({ type: 'whole' });
  await Promise.all(imports);
  expect((await dataplane.apply()).failed).toEqual([]);
  expect(pinnedSize('tortie_flow4a')).toBe(2048);
  const report = await stream.stop();
  expect(report).toMatchObject({ failure: null, answered: report.sent });
});
