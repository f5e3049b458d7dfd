/** Flows of pods that went while nobody told them. */
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FlowFlag } from '#dataplanes/ebpf/bpf-types.gen.ts';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { flowShard, shardNames } from '#dataplanes/ebpf/flows/flow-maps.ts';
import { flowElements } from '#dataplanes/ebpf/flows/flow-record.ts';
import { openPinnedMap } from '#native/bpf.ts';
import { EbpfBed } from './ebpf-bed.ts';
import { flowRecord } from './ebpf-flows-bed.ts';

let bed: EbpfBed;
beforeEach(async () => {
  bed = await EbpfBed.create();
});
afterEach(async () => await bed[Symbol.asyncDispose]());

const families = [4, 6] as const;
const outside = { 4: '192.0.2.1', 6: '2001:db8::1' } as const;
const addressOf = (family: 4 | 6, n: number): string => (family === 4 ? `10.65.0.${n}` : `fd65::${n.toString(16)}`);

/** The flow of an address of the node's block with somebody outside, as pinned maps have it. */
function flowOf(family: 4 | 6, n: number) {
  const { egressOk, answered, established, viaStack } = FlowFlag;
  const opener = { address: addressOf(family, n), port: 40_000 };
  const other = { address: outside[family], port: 80 };
  const { record } = flowElements(
    flowRecord(family, 6, egressOk | answered | established | viaStack, 0, { opener, other }),
  );
  const name = shardNames(family)[flowShard(record.key)] as string;
  return { ...record, open: () => openPinnedMap(join(bed.bpffs, 'v2', name)) };
}

function put(n: number): void {
  for (const family of families) {
    const { key, value, open } = flowOf(family, n);
    using map = open();
    map?.set(key, value);
  }
}

const known = (n: number): boolean[] =>
  families.map((family) => {
    const { key, open } = flowOf(family, n);
    using map = open();
    return map?.get(key) !== undefined;
  });

function sayBlocks(dataplane: EbpfDataplane): void {
  for (const dst of ['10.65.0.0/28', 'fd65::/124'])
    dataplane.onUpdate({ type: 'routeUpdate', route: { dst, type: 'localBlock', nodeName: 'node' } });
}

/** Cycles as the agent runs them, until it is so and nothing is due. */
async function settle(dataplane: EbpfDataplane, isSo: () => boolean): Promise<void> {
  for (let cycle = 0; cycle < 4 || !isSo(); cycle += 1) {
    const { promise, resolve } = Promise.withResolvers<void>();
    dataplane.onDisturbed(resolve);
    await dataplane.apply();
    await Promise.race([promise, new Promise((done) => setTimeout(done, 300))]);
  }
}

describe('an agent that comes after another', () => {
  test("forgets flows of its blocks' addresses that nobody has, and no others", async () => {
    const before = await bed.dataplane();
    const one = await bed.pod(1, before);
    await before.activate();
    await before[Symbol.asyncDispose]();
    // 2 was a pod's that went meanwhile; 20 is of no block of this node.
    for (const n of [1, 2, 20]) put(n);
    await bed.host.run([{ op: 'addr.add', link: 'lo', address: '10.65.0.3/32' }]);
    put(3);
    const dataplane = await bed.dataplane([one], { inSync: false });
    sayBlocks(dataplane);
    dataplane.onUpdate({ type: 'inSync' });
    await dataplane.apply();
    await dataplane.activate();
    await settle(dataplane, () => !known(2).includes(true) && !known(3)[1]);
    expect(known(2)).toEqual([false, false]);
    expect(known(1)).toEqual([true, true]);
    expect(known(20)).toEqual([true, true]);
    // The node's own (its tunnel's): of IPv4 only.
    expect(known(3)).toEqual([true, false]);
  });

  test('forgets flows of a pod that goes before it is in the path itself', async () => {
    const before = await bed.dataplane();
    const one = await bed.pod(1, before);
    await before.activate();
    await before[Symbol.asyncDispose]();
    put(1);
    const dataplane = await bed.dataplane([one]);
    dataplane.onUpdate({ type: 'workloadEndpointRemove', id: one.id });
    await settle(dataplane, () => !known(1).includes(true));
    expect(known(1)).toEqual([false, false]);
  });
});
