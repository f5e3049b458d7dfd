/** The maps of flows that a bed's dataplanes have pinned and in use, read and filled past them. */
import { join } from 'node:path';
import { FlowFlag } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { flowShard, shardNames } from '#dataplanes/ebpf/flows/flow-maps.ts';
import { flowElements } from '#dataplanes/ebpf/flows/flow-record.ts';
import { layoutVersion } from '#dataplanes/ebpf/programs.ts';
import { type BpfMap, openPinnedMap } from '#native/bpf.ts';
import type { EbpfBed } from './ebpf-bed.ts';
import { client, flowRecord } from './ebpf-flows-bed.ts';

type Pins = Pick<EbpfBed, 'bpffs'>;

/** The pinned map of this name, not only one of flows; whoever opens it closes it. */
export function openInUse({ bpffs }: Pins, name: string): BpfMap | undefined {
  return openPinnedMap(join(bpffs, layoutVersion, name));
}

/** How many elements there is room for in it. */
export function pinnedSize(bed: Pins, name: string): number | undefined {
  using map = openInUse(bed, name);
  return map?.shape.maxEntries;
}

/** How many IPv4 flows are recorded. */
export async function recordedFlows(bed: Pins): Promise<number> {
  let count = 0;
  for (const name of shardNames(4)) {
    using map = openInUse(bed, name);
    count += (await map?.dump())?.count ?? 0;
  }
  return count;
}

/** Writes established IPv4 flows, each of another number. */
export function fillFlows(bed: Pins, from: number, to: number): void {
  using stack = new DisposableStack();
  const maps = shardNames(4).map((name) => stack.use(openInUse(bed, name)!));
  for (let i = from; i < to; i += 1) {
    const opener = { ...client[4], port: 1024 + i };
    const { record } = flowElements(flowRecord(4, 6, FlowFlag.answered | FlowFlag.established, 0, { opener }));
    maps[flowShard(record.key)]!.set(record.key, record.value);
  }
}
