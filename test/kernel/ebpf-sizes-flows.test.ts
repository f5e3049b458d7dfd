/** Maps of flows get another size while somebody tells or forgets flows. */
import { scheduler } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { ApplyReport } from '#dataplanes/contract.ts';
import { FlowFlag } from '#dataplanes/ebpf/bpf-types.gen.ts';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { flowShard, shardNames } from '#dataplanes/ebpf/flows/flow-maps.ts';
import { flowElements } from '#dataplanes/ebpf/flows/flow-record.ts';
import { FlowTable } from '#dataplanes/ebpf/flows/flow-table.ts';
import type { FlowExportItem } from '#dataplanes/flows.ts';
import type { MapSizeSettings } from '#dataplanes/messages.ts';
import { type BedPod, EbpfBed } from './ebpf-bed.ts';
import { flowRecord } from './ebpf-flows-bed.ts';
import { openInUse, pinnedSize } from './ebpf-pinned-flows.ts';

let bed: EbpfBed;
const deleteFlows = Object.getOwnPropertyDescriptor(FlowTable.prototype, 'delete') ?? {};

beforeEach(async () => {
  bed = await EbpfBed.create();
});

afterEach(async () => {
  Object.defineProperty(FlowTable.prototype, 'delete', deleteFlows);
  await bed[Symbol.asyncDispose]();
});

/** A dataplane in force with a pod, of which a connection with somebody outside is known. */
async function start(): Promise<{ dataplane: EbpfDataplane; pod: BedPod }> {
  const dataplane = await bed.dataplane([], { sizes: { flows: 4096 } });
  await dataplane.activate();
  const pod = await bed.pod(1, dataplane);
  dataplane.onUpdate({ type: 'workloadEndpointUpdate', id: pod.id, endpoint: pod.endpoint });
  expect(await dataplane.apply()).toMatchObject({ failed: [] });
  const { record, name } = connection(pod);
  using map = openInUse(bed, name);
  map?.set(record.key, record.value);
  return { dataplane, pod };
}

function connection({ ipv4 }: BedPod) {
  const { egressOk, answered, established, viaStack } = FlowFlag;
  const opener = { address: ipv4, port: 40_000 };
  const other = { address: '192.0.2.1', port: 80 };
  const { record } = flowElements(flowRecord(4, 6, egressOk | answered | established | viaStack, 0, { opener, other }));
  return { record, name: shardNames(4)[flowShard(record.key)] as string };
}

function isKnown(pod: BedPod): boolean {
  const { record, name } = connection(pod);
  using map = openInUse(bed, name);
  return map?.get(record.key) !== undefined;
}

const sizeOfHashes = (): number | undefined => pinnedSize(bed, 'tortie_flow4a');

/** Doubles flows. `whileEmpty` is done once, when the new maps are in use and have no flows yet. */
async function grow(dataplane: EbpfDataplane, whileEmpty: () => Promise<unknown> = () => Promise.resolve()) {
  const links = bed.host.links.bind(bed.host);
  let isDone = false;
  Object.assign(bed.host, {
    // The first that the apply asks when the former maps are closed.
    links: async () => {
      if (!isDone) {
        isDone = true;
        await whileEmpty();
      }
      return await links();
    },
  });
  try {
    return await bed.resize(dataplane, { flows: 8192 });
  } finally {
    Object.assign(bed.host, { links });
  }
}

async function toldBy(items: AsyncIterable<FlowExportItem>): Promise<number> {
  let flows = 0;
  for await (const item of items) if (item.type === 'flows') flows += item.flows.length;
  return flows;
}

test.each([false, true])(
  'an export that begins while the new maps are empty tells all (isLeaving: %s)',
  async (isLeaving) => {
    const { dataplane, pod } = await start();
    let telling: Promise<number> | undefined;
    const { failed } = await grow(dataplane, async () => {
      const scope = { local: new Set([pod.ipv4]), isLeaving };
      telling = toldBy(dataplane.flows.exportFlows(scope, new AbortController().signal));
      await scheduler.wait(200);
    });
    expect([failed, sizeOfHashes()]).toEqual([[], 2048]);
    expect(await telling).toBe(1);
  },
);

test('an export reads its maps to the end, and then they get the size that is wanted', async () => {
  const { dataplane, pod } = await start();
  const { promise: isDue, resolve } = Promise.withResolvers<void>();
  dataplane.onDisturbed(resolve);
  const telling = dataplane.flows.exportFlows({ local: new Set([pod.ipv4]) }, new AbortController().signal);
  const first = await telling.next();
  expect(first.value).toMatchObject({ type: 'flows' });
  expect(await grow(dataplane)).toMatchObject({ failed: [] });
  expect(sizeOfHashes()).toBe(1024);
  for await (const item of telling) expect(item).toEqual({ type: 'whole' });
  await isDue;
  expect(await dataplane.apply()).toMatchObject({ failed: [] });
  expect([sizeOfHashes(), isKnown(pod)]).toEqual([2048, true]);
});

test('flows of a pod that is gone are forgotten, though its deletion met closed maps, and the next one empty ones', async () => {
  const { dataplane, pod } = await start();
  const gate = Promise.withResolvers<void>();
  const { value: deleteAll } = deleteFlows as { value: FlowTable['delete'] };
  Object.assign(FlowTable.prototype, {
    async delete(this: FlowTable, ...args: Parameters<FlowTable['delete']>) {
      await gate.promise;
      return await deleteAll.apply(this, args);
    },
  });
  dataplane.onUpdate({ type: 'workloadEndpointRemove', id: pod.id });
  for (let n = 0; n < 2; n += 1) expect(await dataplane.apply()).toMatchObject({ failed: [], removed: [] });
  const removed: string[] = [];
  const { promise: isGone, resolve } = Promise.withResolvers<void>();
  const take = (report: ApplyReport): void => {
    removed.push(...report.removed);
    if (removed.includes(pod.id)) resolve();
  };
  dataplane.onDisturbed(() => void dataplane.apply().then(take));
  const report = await grow(dataplane, async () => {
    gate.resolve();
    await scheduler.wait(500);
  });
  take(report);
  take(await dataplane.apply());
  await isGone;
  expect([report.failed, sizeOfHashes(), isKnown(pod)]).toEqual([[], 2048, false]);
});

test('what is forgotten while a device has the filters of before does not come back with the next size', async () => {
  const { dataplane, pod } = await start();
  bed.refuseFilters(pod.device);
  const resize = async (sizes: Partial<MapSizeSettings>): Promise<void> => {
    await bed.resize(dataplane, sizes);
    expect((await dataplane.apply()).failed).toMatchObject([{ reason: 'no memory for it' }]);
  };
  await resize({ flows: 8192, devices: 64 });
  expect(isKnown(pod)).toBe(true);
  expect(await dataplane.flows.delete({ addresses: [pod.ipv4] })).toMatchObject({ failed: [] });
  expect(isKnown(pod)).toBe(false);
  await resize({ flows: 16_384, devices: 64 });
  expect([sizeOfHashes(), isKnown(pod)]).toEqual([4096, false]);
});
