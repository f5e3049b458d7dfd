/** Flows that fill their maps: these get twice the size (bpfMapSizeConntrackScaling). */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
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
import { layoutVersion } from '#dataplanes/ebpf/programs.ts';
import type { Logger } from '#dataplanes/logger.ts';
import type { MapSizeSettings } from '#dataplanes/messages.ts';
import { openPinnedMap } from '#native/bpf.ts';
import { Peer } from '#test/lab/peer-client.ts';
import { uniqueName } from '#test/lab/netns.ts';
import { until } from '#test/lab/until.ts';
import { ebpfObjects, EbpfBed } from './ebpf-bed.ts';
import { client, flowRecord } from './ebpf-flows-bed.ts';

let bed: EbpfBed;
let dir: string;
let said: string[];
const peers: Peer[] = [];
/** What was not done, of each apply that the dataplane asked for itself. */
let failures: ApplyFailure[];

/** Sweeps come without their pause. */
const hasty: Clock = {
  now: () => systemClock.now(),
  sleep: (ms, signal) => systemClock.sleep(ms, signal),
  after: (ms, action) => systemClock.after(Math.min(ms, 100), action),
};

beforeEach(async () => {
  bed = await EbpfBed.create();
  dir = mkdtempSync(join(tmpdir(), `${uniqueName()}-growth-`));
  said = [];
  failures = [];
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

async function start(sizes: Partial<MapSizeSettings>, objects?: string) {
  const say = (message: string): void => void said.push(message);
  const log: Logger = { debug: () => {}, info: () => {}, warn: say, error: say };
  const dataplane = driven(await bed.dataplane([], { sizes, clock: hasty, log, ...(objects && { objects }) }));
  await dataplane.activate();
  const [one, two] = [await bed.pod(1, dataplane), await bed.pod(2, dataplane)];
  const peer = await Peer.start(one.netns.path);
  peers.push(peer, await Peer.start(two.netns.path));
  for (const { id, endpoint } of [one, two]) dataplane.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint });
  expect((await dataplane.apply()).failed).toEqual([]);
  const stream = await peer.stream(two.ipv4, 1);
  while ((await stream.progress()).answered === 0) await scheduler.wait(5);
  return { dataplane, one, two, stream };
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

/** Writes so many established flows into the maps in use, for 4,096 of which there is room. */
function fill(count: number): void {
  using stack = new DisposableStack();
  const maps = shards.map((name) => stack.use(openPinnedMap(join(bed.bpffs, layoutVersion, name))!));
  for (let i = 0; i < count; i += 1) {
    const opener = { ...client[4], port: 1024 + i };
    const { record } = flowElements(flowRecord(4, 6, FlowFlag.answered | FlowFlag.established, 0, { opener }));
    maps[flowShard(record.key)]!.set(record.key, record.value);
  }
}

test('what is known stays known, connections go on, and the next agent keeps the size', async () => {
  const { dataplane, one, two, stream } = await start({ flows: 4096 });
  fill(3750);
  await until(() => pinnedSize('tortie_flow4a') === 2048);
  expect([pinnedSize('tortie_flow6d'), pinnedSize('tortie_new4')]).toEqual([2048, 1024]);
  expect(said).toEqual([
    expect.stringMatching(/^IPv4 flows take 37\d\d of 4096 places: .* twice the size \(bpfMapSizeConntrackScaling\)$/),
  ]);
  await until(async () => (await recorded()) >= 3750);
  expect(failures).toEqual([]);
  await dataplane[Symbol.asyncDispose]();
  const next = driven(await bed.dataplane([one, two], { sizes: { flows: 4096 } }));
  await next.activate();
  expect(pinnedSize('tortie_flow4a')).toBe(2048);
  expect(await recorded()).toBeGreaterThanOrEqual(3750);
  const report = await stream.stop();
  expect(report).toMatchObject({ failure: null, answered: report.sent });
  // Who says another size gets that.
  const mapSizes = { ...bed.config.mapSizes, flows: 32_768 };
  next.onUpdate({ type: 'configUpdate', config: { ...bed.config, mapSizes } });
  expect((await next.apply()).failed).toEqual([]);
  expect(pinnedSize('tortie_flow4a')).toBe(8192);
});

test('not where it is switched off', async () => {
  const { dataplane, stream } = await start({ flows: 4096, doubleFlows: false });
  fill(3750);
  const sweeps = sweepsOf(dataplane);
  await until(() => sweepsOf(dataplane) >= sweeps + 3 && (dataplane.flows.stats?.[4].elements ?? 0) >= 3750);
  expect([pinnedSize('tortie_flow4a'), said]).toEqual([1024, []]);
  expect(await stream.stop()).toMatchObject({ failure: null });
});

test('larger maps that can not be had are said once, and everything stays', async () => {
  const objects = join(dir, 'bpf');
  cpSync(ebpfObjects, objects, { recursive: true });
  const { dataplane, stream } = await start({ flows: 4096 }, objects);
  rmSync(join(objects, 'endpoint.bpf.o'));
  fill(3750);
  await until(() => said.length >= 2);
  const sweeps = sweepsOf(dataplane);
  await until(() => sweepsOf(dataplane) >= sweeps + 3);
  expect(said).toEqual([
    expect.stringContaining('their maps get twice the size'),
    expect.stringMatching(/^the maps of flows can't get twice the size: .*endpoint\.bpf\.o.*They stay as they are/),
  ]);
  expect(failures).toEqual([]);
  expect(pinnedSize('tortie_flow4a')).toBe(1024);
  expect((await dataplane.apply()).failed).toEqual([]);
  expect(await stream.stop()).toMatchObject({ failure: null });
});
