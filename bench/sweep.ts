/**
 * `make bench-sweep`: what the sweep of a million flows costs, in four hashes as on a node with large tables: nothing to do, 2 % over (marked, then
 * deleted), every flow translated (a pointer for each), everything over. Prints a table, and writes build/bench/sweep.json. Needs root and some
 * 500 MB.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { FlowFlag } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { flowLayouts, flowShard } from '#dataplanes/ebpf/flows/flow-maps.ts';
import { flowElements } from '#dataplanes/ebpf/flows/flow-record.ts';
import { defaultTimeouts, FlowBed, flowRecord, frontend } from '../test/kernel/ebpf-flows-bed.ts';
import { machine, printTable } from './lib/report.ts';

const flows = 1_000_000;
/** More than the hash spreads to any of the four. */
const entries = 600_000;
const { Key, Record, End } = flowLayouts[4];
const { answered, established } = FlowFlag;

/** UDP of this age is over. */
const longAgo = 100;

/** Elements of flows that differ in their other end's address only, ready for their hashes. */
async function fill(bed: FlowBed, translated: boolean, count: number): Promise<void> {
  const { record, pointer } = flowElements(
    flowRecord(4, 6, answered | established, longAgo, translated ? { before: frontend[4] } : {}),
  );
  const ofShard = Array.from({ length: 4 }, () => ({ keys: [] as Uint8Array[], values: [] as Uint8Array[] }));
  const add = (key: Uint8Array, value: Uint8Array): void => {
    const shard = ofShard[flowShard(key)];
    shard?.keys.push(key);
    shard?.values.push(value);
  };
  for (let index = 0; index < count; index += 1) {
    const address = [10, 100 + (index >> 16), (index >> 8) & 255, index & 255];
    // End 1 is the larger one: the other end's, of a record and of what was asked for.
    const [key, value] = [record.key.slice(), record.value.slice()];
    key.set(address, End.size);
    value.set(address, End.size);
    add(key, value);
    if (pointer === undefined) continue;
    const asked = pointer.key.slice();
    const points = pointer.value.slice();
    asked.set([10, 200, ...address.slice(2)], End.size);
    new DataView(asked.buffer).setUint16(End.size + End.offsets.port, address[1] ?? 0, true);
    points.set(asked, 0);
    points.set(address, Record.offsets.before);
    add(asked, points);
  }
  for (const [shard, { keys, values }] of ofShard.entries())
    await bed.of(4).shards[shard]?.setMany({ keys: joined(keys, Key.size), values: joined(values, Record.size) });
}

function joined(parts: readonly Uint8Array[], size: number): Uint8Array {
  const all = new Uint8Array(parts.length * size);
  for (const [index, part] of parts.entries()) all.set(part, index * size);
  return all;
}

/** Makes one in fifty of the records older than their time. */
async function age(bed: FlowBed): Promise<void> {
  for (const map of bed.of(4).shards) {
    const { count, keys, values } = await map.dump();
    const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
    const old: { key: Uint8Array; value: Uint8Array }[] = [];
    for (let index = 0; index < count; index += 50) {
      const at = index * Record.size;
      view.setBigUint64(at + Record.offsets.lastSeen, 1n, true);
      view.setBigUint64(at + Record.offsets.created, 1n, true);
      old.push({
        key: keys.slice(index * Key.size, (index + 1) * Key.size),
        value: values.slice(at, at + Record.size),
      });
    }
    await map.setMany(old);
  }
}

const rows: { what: string; elements: number; ms: number; longest: number; marked: number; deleted: number }[] = [];

async function measure(bed: FlowBed, what: string, tcpEstablished = defaultTimeouts.tcpEstablished): Promise<void> {
  const row = { what, elements: 0, ms: 0, longest: 0, marked: 0, deleted: 0 };
  for (const shard of bed.of(4).shards.keys()) {
    const start = performance.now();
    const counts = await bed.sweeper.sweep(4, shard, { ...defaultTimeouts, tcpEstablished });
    const ms = performance.now() - start;
    row.elements += counts.visited;
    row.ms += ms;
    row.longest = Math.max(row.longest, ms);
    row.marked += counts.marked;
    row.deleted += counts.deletedTcp + counts.deletedPointers;
  }
  rows.push(row);
}

{
  using bed = await FlowBed.make(entries);
  await fill(bed, false, flows);
  await measure(bed, 'nothing is over');
  await measure(bed, 'nothing is over, again');
  await age(bed);
  await measure(bed, '2 % are marked');
  await measure(bed, '2 % are deleted');
  await measure(bed, 'all are marked', 1);
  await measure(bed, 'all are deleted', 1);
}
{
  using bed = await FlowBed.make(entries);
  await fill(bed, true, flows / 2);
  await measure(bed, 'half of them pointers, nothing is over');
}
console.log(machine());
printTable([
  ['one sweep of four hashes', 'elements', 'ms', 'longest call', 'marked', 'deleted'],
  ...rows.map(({ what, elements, ms, longest, marked, deleted }) => [
    what,
    String(elements),
    ms.toFixed(0),
    longest.toFixed(0),
    String(marked),
    String(deleted),
  ]),
]);
mkdirSync('build/bench', { recursive: true });
writeFileSync('build/bench/sweep.json', `${JSON.stringify({ machine: machine(), rows }, undefined, 2)}\n`);
