import { FlowFlag } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { flowLayouts, flowShard } from '#dataplanes/ebpf/flows/flow-maps.ts';
import { flowElements } from '#dataplanes/ebpf/flows/flow-record.ts';
import { sweepPauseMs } from '#dataplanes/ebpf/flows/flow-sweeper.ts';
import { defaultTimeouts, FlowBed, flowRecord, frontend } from '../../test/kernel/ebpf-flows-bed.ts';
import { Collected, type PartResult } from './results.ts';
import type { Run } from './run.ts';

const flows = 1_000_000;
/** More than the hash spreads to any of the four. */
const entries = 600_000;
const { Key, Record, End } = flowLayouts[4];
const { answered, established } = FlowFlag;
/** A record of this age in seconds is over where it is told so by its times or by a timeout of one second; no other is. */
const age = 100;
/** Of which every one is over. */
const partOver = 50;

/** Elements of one hash, joined as the kernel takes them. */
interface Elements {
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

/** Sweeps of a million flows: nothing over, a part, half of the elements pointers, all. */
export async function sweepPart(run: Run): Promise<PartResult> {
  return run.within(async (stack) => {
    const collected = new Collected();
    const plain = stack.use(await FlowBed.make(entries));
    const translated = stack.use(await FlowBed.make(entries));
    const elements = elementsOf(false, flows);
    await write(translated, elementsOf(true, flows / 2));
    for (const round of run.turns('sweep')) {
      const measure = async (name: string, bed: FlowBed, tcpEstablished = defaultTimeouts.tcpEstablished) => {
        collected.add(round, { case: name, side: 'ebpf' }, await sweep(bed, tcpEstablished, round));
      };
      // What the round before deleted.
      await write(plain, elements);
      await measure('nothing over', plain);
      await makeOld(plain);
      await measure('2 % marked', plain);
      await measure('2 % deleted', plain);
      await measure('half of them pointers', translated);
      await measure('all marked', plain, 1);
      await measure('all deleted', plain, 1);
    }
    return {
      name: 'sweep',
      title: 'The sweep of a million flows',
      method: `All four hashes of IPv4 once, ${flows.toLocaleString('en')} elements. CPU is that of the process meanwhile; its part of a core is with the pause of ${sweepPauseMs / 1000} s between two sweeps. What is over is marked by one sweep and deleted by the next.`,
      figures: [
        { key: 'corePercent', title: '% of a core', digits: 1 },
        { key: 'cpuMs', title: 'CPU ms', digits: 0 },
        { key: 'wallMs', title: 'ms', digits: 0 },
        { key: 'longestMs', title: 'longest call ms', digits: 0 },
        { key: 'changed', title: 'marked or deleted', digits: 0 },
      ],
      ratios: [],
      cells: collected.cells([]),
      absent: [],
    };
  });
}

async function sweep(bed: FlowBed, tcpEstablished: number, round: number): Promise<Record<string, number>> {
  const found = { wallMs: 0, longestMs: 0, changed: 0 };
  const before = process.cpuUsage();
  for (const shard of bed.of(4).shards.keys()) {
    const began = performance.now();
    const counts = await bed.sweeper.sweep(4, shard, { ...defaultTimeouts, tcpEstablished }, round);
    const ms = performance.now() - began;
    found.wallMs += ms;
    found.longestMs = Math.max(found.longestMs, ms);
    found.changed += counts.marked + counts.deletedTcp + counts.deletedPointers;
  }
  const { user, system } = process.cpuUsage(before);
  const cpuMs = (user + system) / 1000;
  return { ...found, cpuMs, corePercent: (cpuMs / (sweepPauseMs + found.wallMs)) * 100 };
}

/** Flows that differ in their other end's address only, hash by hash; translated ones are two elements each. */
function elementsOf(isTranslated: boolean, count: number): readonly Elements[] {
  const { record, pointer } = flowElements(
    flowRecord(4, 6, answered | established, age, isTranslated ? { before: frontend[4] } : {}),
  );
  const ofShard = Array.from({ length: 4 }, () => ({ keys: [] as Uint8Array[], values: [] as Uint8Array[] }));
  const add = (key: Uint8Array, value: Uint8Array): void => {
    const shard = ofShard[flowShard(key)];
    shard?.keys.push(key);
    shard?.values.push(value);
  };
  for (let index = 0; index < count; index += 1) {
    // Cookies decide which pointers a round looks at; those of programs are odd.
    for (const value of [record.value, pointer?.value ?? record.value])
      new DataView(value.buffer, value.byteOffset).setUint32(Record.offsets.state + 4, 2 * index + 1, true);
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
  return ofShard.map(({ keys, values }) => ({ keys: joined(keys, Key.size), values: joined(values, Record.size) }));
}

async function write(bed: FlowBed, elements: readonly Elements[]): Promise<void> {
  for (const [shard, each] of elements.entries()) await bed.of(4).shards[shard]?.setMany(each);
}

/** Makes one in fifty of the records older than their time. */
async function makeOld(bed: FlowBed): Promise<void> {
  for (const map of bed.of(4).shards) {
    const { count, keys, values } = await map.dump();
    const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
    const old: { key: Uint8Array; value: Uint8Array }[] = [];
    for (let index = 0; index < count; index += partOver) {
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

function joined(parts: readonly Uint8Array[], size: number): Uint8Array {
  const all = new Uint8Array(parts.length * size);
  for (const [index, part] of parts.entries()) all.set(part, index * size);
  return all;
}
