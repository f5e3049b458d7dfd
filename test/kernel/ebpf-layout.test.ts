import { existsSync, mkdirSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { scheduler } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FlowFlag, FlowRecord4 } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { isFlowMap, OlderFlows } from '#dataplanes/ebpf/flows/older-layout.ts';
import { flowMapsOf, shardNames } from '#dataplanes/ebpf/flows/flow-maps.ts';
import { flowElements } from '#dataplanes/ebpf/flows/flow-record.ts';
import { layoutVersion } from '#dataplanes/ebpf/programs.ts';
import { type BpfMap, loadObject, openPinnedMap, type TypeField } from '#native/bpf.ts';
import { Peer } from '#test/lab/peer-client.ts';
import { denyAll, EbpfBed } from './ebpf-bed.ts';
import { client, FlowBed, flowRecord, server } from './ebpf-flows-bed.ts';

/* Flows of maps that another layout of ours has pinned (test/bpf/older-flows.bpf.c). */
const olderElf = new URL('../../build/bpf/older-flows.bpf.o', import.meta.url).pathname;
let bed: EbpfBed;
const peers: Peer[] = [];

beforeEach(async () => {
  bed = await EbpfBed.create();
  await bed.idle().probe(); // Mounts the file system.
});

afterEach(async () => {
  for (const peer of peers.splice(0)) await peer[Symbol.asyncDispose]();
  await bed[Symbol.asyncDispose]();
});

/** A number or bytes at a field of this path. */
function put(bytes: Uint8Array, fields: readonly TypeField[], path: string, value: bigint | number | Uint8Array): void {
  const { offset, size } = fields.find((field) => field.path === path)!;
  if (typeof value === 'object') bytes.set(value, offset);
  else for (let i = 0, rest = BigInt(value); i < size; i++, rest >>= 8n) bytes[offset + i] = Number(rest & 0xffn);
}

const olderFlag = { answered: 1, established: 2, egressOk: 4, ingressOk: 8, opener1: 16, encrypted: 64 } as const;

/** The record as the older layout had it, into one of its maps. */
function putOlder(map: BpfMap, record: FlowRecord4, more = 0): void {
  const { key: keyFields, value: valueFields } = map.types()!;
  const [key, value] = [new Uint8Array(map.shape.keySize), new Uint8Array(map.shape.valueSize)];
  for (const [index, { address, port }] of record.key.end.entries()) {
    put(key, keyFields, `end[${index}].address`, address);
    put(key, keyFields, `end[${index}].port`, port);
    put(value, valueFields, `key.end[${index}].address`, address);
    put(value, valueFields, `key.end[${index}].port`, port);
  }
  put(key, keyFields, 'protocol', record.key.protocol);
  put(value, valueFields, 'key.protocol', record.key.protocol);
  put(value, valueFields, 'last_seen', record.lastSeen);
  put(value, valueFields, 'packets[0]', 7);
  let flags = more;
  for (const [name, bit] of Object.entries(olderFlag))
    if (name !== 'encrypted' && (record.state & BigInt(FlowFlag[name as keyof typeof FlowFlag])) !== 0n) flags |= bit;
  put(value, valueFields, 'state', ((record.state >> 32n) << 32n) | BigInt(flags));
  map.set(key, value);
}

async function recordsOf(map: BpfMap): Promise<FlowRecord4[]> {
  return (await map.entries()).map(({ value }) => FlowRecord4.read(new DataView(value.buffer, value.byteOffset)));
}

/** IPv4 flows in the maps pinned in our layout. */
async function pinnedFlows(): Promise<FlowRecord4[]> {
  const records: FlowRecord4[] = [];
  for (const name of readdirSync(join(bed.bpffs, layoutVersion)).filter((name) => /^tortie_(flow|new)4/.test(name))) {
    using map = openPinnedMap(join(bed.bpffs, layoutVersion, name));
    if (map !== undefined) records.push(...(await recordsOf(map)));
  }
  return records;
}

test('an agent of ours takes them over: they go on where nothing new would be allowed', async () => {
  const first = await bed.dataplane();
  await first.activate();
  const [one, two] = [await bed.pod(1, first), await bed.pod(2, first)];
  for (const { id, endpoint } of [one, two]) first.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint });
  await first.apply();
  const onePeer = await Peer.start(one.netns.path);
  peers.push(onePeer, await Peer.start(two.netns.path));
  const stream = await onePeer.stream(two.ipv4, 1);
  while ((await stream.progress()).answered === 0) await scheduler.wait(5);
  await first[Symbol.asyncDispose]();
  // What it had pinned is of another layout from now on.
  using older = await loadObject({ name: 'older', elf: olderElf });
  const former = join(bed.bpffs, 'v0');
  mkdirSync(former);
  const known = await pinnedFlows();
  expect(known.length).toBeGreaterThan(0);
  for (const [index, record] of known.entries())
    putOlder(older.map(index % 2 === 0 ? 'tortie_flow4_even' : 'tortie_flow4_odd'), record);
  for (const name of ['tortie_new4', 'tortie_flow4_even', 'tortie_flow4_odd']) older.map(name).pin(join(former, name));
  const ours = join(bed.bpffs, layoutVersion);
  for (const name of readdirSync(ours).filter(isFlowMap)) unlinkSync(join(ours, name));

  const next = await bed.dataplane([one, two], { inSync: false });
  next.onUpdate(denyAll);
  next.onUpdate({ type: 'inSync' });
  await next.apply();
  await next.activate();
  expect(existsSync(former)).toBe(false);
  expect(await onePeer.connect(two.ipv4, 300)).toMatchObject({ ok: false });
  const report = await stream.stop();
  expect(report).toMatchObject({ failure: null, answered: report.sent });
  const carried = (await pinnedFlows()).map(({ key }) => key);
  for (const { key } of known) expect(carried).toContainEqual(key);
});

test('what a record means that has a flag without a name today, nobody can say: it is counted, and the others go over', async () => {
  const dataplane = await bed.dataplane();
  using older = await loadObject({ name: 'older', elf: olderElf });
  const former = join(bed.bpffs, 'v0');
  mkdirSync(former);
  const end = (last: number, port: number) => ({ address: new Uint8Array([10, 65, 0, last]), port });
  const record = (port: number, lastSeen: bigint): FlowRecord4 => ({
    key: { end: [end(1, port), end(2, 80)], protocol: 6 },
    before: end(0, 0),
    sourceBefore: end(0, 0),
    created: 0n,
    lastSeen,
    packets: [0n, 0n],
    bytes: [0n, 0n],
    slot: [0, 0],
    state: (9n << 32n) | BigInt(FlowFlag.answered | FlowFlag.egressOk),
  });
  const now = process.hrtime.bigint();
  putOlder(older.map('tortie_flow4_even'), record(1000, now));
  putOlder(older.map('tortie_flow4_odd'), record(1001, now), olderFlag.encrypted);
  for (const name of ['tortie_flow4_even', 'tortie_flow4_odd']) older.map(name).pin(join(former, name));
  using flows = OlderFlows.find(bed.bpffs, layoutVersion);
  using handles = new DisposableStack();
  const maps = flowMapsOf((name) => handles.use(openPinnedMap(join(bed.bpffs, layoutVersion, name))!));
  expect(await flows.carry(maps)).toEqual({
    carried: 1,
    full: 0,
    unreadable: 1,
    reasons: ['it has FLOW_FLAG_ENCRYPTED, which is not known any more'],
  });
  const [found] = await pinnedFlows();
  const { key, state } = record(1000, now);
  expect(found).toMatchObject({ key, state, lastSeen: now, packets: [7n, 0n], before: { port: 0 } });
  // It doesn't say when it was made: now, then.
  expect(found?.created).toBeGreaterThan(now);
  // Once more: what had a packet since, and only that.
  putOlder(older.map('tortie_flow4_even'), record(1002, process.hrtime.bigint()));
  putOlder(older.map('tortie_flow4_even'), record(1003, 1n));
  expect(await flows.carry(maps)).toMatchObject({ carried: 1 });
  expect(new Set((await pinnedFlows()).map(({ key }) => key.end[0]?.port))).toEqual(new Set([1000, 1002]));
  await dataplane[Symbol.asyncDispose]();
});

test('whoever is stopped half-way carries all of it again, what has had no packet since too', async () => {
  await bed.dataplane(); // Pins the maps.
  using older = await loadObject({ name: 'older', elf: olderElf });
  const former = join(bed.bpffs, 'v0');
  mkdirSync(former);
  const end = (last: number, port: number) => ({ address: new Uint8Array([10, 65, 0, last]), port });
  for (let port = 1000; port < 1032; port++)
    putOlder(older.map('tortie_flow4_even'), {
      key: { end: [end(1, port), end(2, 80)], protocol: 6 },
      before: end(0, 0),
      sourceBefore: end(0, 0),
      created: 0n,
      lastSeen: process.hrtime.bigint() - 1_000_000_000n,
      packets: [0n, 0n],
      bytes: [0n, 0n],
      slot: [0, 0],
      state: (9n << 32n) | BigInt(FlowFlag.answered | FlowFlag.egressOk),
    });
  older.map('tortie_flow4_even').pin(join(former, 'tortie_flow4_even'));
  using flows = OlderFlows.find(bed.bpffs, layoutVersion);
  using handles = new DisposableStack();
  const maps = flowMapsOf((name) => handles.use(openPinnedMap(join(bed.bpffs, layoutVersion, name))!));
  const [refusing] = maps[0]!.shards;
  const setMany = refusing!.setMany.bind(refusing);
  refusing!.setMany = () => Promise.reject(Object.assign(new Error('no memory for it'), { code: 'EIO' }));
  await expect(flows.carry(maps)).rejects.toMatchObject({ code: 'EIO' });
  refusing!.setMany = setMany;
  await flows.carry(maps);
  expect(await pinnedFlows()).toHaveLength(32);
});

describe('flows that are in the new maps already', () => {
  const count = 6000;
  let older: FlowBed;
  let newer: FlowBed;
  let calls: number;

  /** Former maps with flows whose last packet was 10 s ago; into hashes of so many. */
  async function make(entries: number): Promise<void> {
    older = await FlowBed.make(2048);
    newer = await FlowBed.make(entries);
    const former = join(bed.bpffs, layoutVersion, 'former-1');
    mkdirSync(former, { recursive: true });
    for (const [index, name] of shardNames(4).entries()) older.of(4).shards[index]!.pin(join(former, name));
    for (let n = 0; n < count; n++) older.put(record(n, 10, 1));
    calls = 0;
    for (const map of newer.of(4).shards) {
      const setMany = map.setMany.bind(map);
      map.setMany = (...args) => (calls++, setMany(...args));
    }
  }

  afterEach(() => {
    older[Symbol.dispose]();
    newer[Symbol.dispose]();
  });

  const record = (n: number, seconds: number, cookie: number) =>
    flowRecord(4, 6, FlowFlag.answered | FlowFlag.established, seconds, {
      opener: { ...client[4], port: 1024 + n },
      cookie,
    });
  /** Whose record each flow has. */
  const cookies = async (): Promise<Map<number, bigint>> => {
    const records = await Promise.all(newer.of(4).shards.map(recordsOf));
    return new Map(
      records.flat().map(({ key, state }) => {
        const ports = key.end.map(({ port }) => port);
        return [ports.find((port) => port !== server[4].port)! - 1024, state >> 32n];
      }),
    );
  };

  test('stay where they had the last packet, and cost no call each', async () => {
    await make(2048);
    for (let n = 0; n < count; n++) if (n % 3 < 2) newer.put(record(n, n % 3 === 0 ? 5 : 20, 2));
    using flows = OlderFlows.find(bed.bpffs, layoutVersion);
    expect(await flows.carry(newer.maps)).toEqual({ carried: 4000, full: 0, unreadable: 0, reasons: [] });
    expect(calls).toBe(4);
    const found = await cookies();
    expect(found.size).toBe(count);
    for (const [n, cookie] of found) expect([n, cookie]).toEqual([n, n % 3 === 0 ? 2n : 1n]);
    // All of it once more, as whoever comes after one that was killed.
    using again = OlderFlows.find(bed.bpffs, layoutVersion);
    expect(await again.carry(newer.maps)).toMatchObject({ carried: 0, full: 0 });
    expect(calls).toBe(8);
  });

  test('are counted where they have no room, by no call each', async () => {
    await make(1024);
    using flows = OlderFlows.find(bed.bpffs, layoutVersion);
    expect(await flows.carry(newer.maps)).toEqual({
      carried: 4 * 1024,
      full: count - 4 * 1024,
      unreadable: 0,
      reasons: [],
    });
    expect(calls).toBe(4);
  });

  test('stay also where a packet has made them since it was looked', async () => {
    await make(2048);
    const { record: late } = flowElements(record(1, 0, 2));
    for (const map of newer.of(4).shards) {
      // One by one from the first on.
      map.setMany = () => Promise.reject(Object.assign(new Error('it is there'), { code: 'EEXIST' }));
      const get = map.get.bind(map);
      map.get = (key) => {
        const found = get(key);
        if (Buffer.from(key).equals(late.key) && found === undefined) map.set(late.key, late.value);
        return found;
      };
    }
    using flows = OlderFlows.find(bed.bpffs, layoutVersion);
    expect(await flows.carry(newer.maps)).toMatchObject({ carried: count - 1, full: 0 });
    expect((await cookies()).get(1)).toBe(2n);
  });
});
