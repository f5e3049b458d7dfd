/** What a pod costs in eBPF mode: two filters of programs that are there, a few elements, and no worker, so no grace period either. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { join } from 'node:path';
import { Jump } from '#dataplanes/ebpf/bpf-types.gen.ts';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { readU32, u32Key } from '#dataplanes/ebpf/keys.ts';
import { layoutVersion } from '#dataplanes/ebpf/programs.ts';
import { openPinnedMap } from '#native/bpf.ts';
import { makeWorkersBusy } from '#test/lab/busy-workers.ts';
import { Peer } from '#test/lab/peer-client.ts';
import { type BedPod, EbpfBed } from './ebpf-bed.ts';

let bed: EbpfBed;
let dataplane: EbpfDataplane;

beforeEach(async () => {
  bed = await EbpfBed.create();
  dataplane = await bed.dataplane();
  await dataplane.activate();
});

afterEach(() => bed[Symbol.asyncDispose]());

const say = ({ id, endpoint }: BedPod): void => dataplane.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint });

/** Programs that a device's filters are. */
async function filtersOf(device: string): Promise<(number | undefined)[]> {
  const found = [...(await bed.host.filters(device, 'ingress')), ...(await bed.host.filters(device, 'egress'))];
  return found.map(({ programId }) => programId);
}

/** Programs that the filters go on with. */
function entered(): (number | undefined)[] {
  using jump = openPinnedMap(join(bed.bpffs, layoutVersion, 'tortie_jump'));
  return [Jump.podOut, Jump.podIn].map((place) => {
    const id = jump?.get(u32Key(place));
    return id && readU32(id);
  });
}

test('two filters of programs that are there, and as few elements for the tenth as for the second', async () => {
  const before = entered();
  const costs: number[] = [];
  for (let n = 1; n <= 10; n += 1) {
    const device = `cali${n}`;
    expect(dataplane.podDeviceOps(device).map(({ op }) => op)).toEqual([
      'clsact.add',
      'filter.replace',
      'filter.replace',
    ]);
    const pod = await bed.pod(n, dataplane);
    const written = dataplane.mapWrites;
    say(pod);
    // The one before is looked at again where its device's events come late.
    const programmed = expect.arrayContaining([pod.id]);
    expect(await dataplane.apply()).toMatchObject({ programmed, failed: [], repaired: [] });
    costs.push(dataplane.mapWrites - written);
    expect(await filtersOf(device)).toEqual(await filtersOf('cali1'));
  }
  expect(entered()).toEqual(before);
  // The first one brings the unit that all of them have; the others an element for each of their addresses.
  expect(costs.slice(1)).toEqual(costs.slice(1).map(() => 2));
});

test('is open while every worker is busy: it waits for no grace period, whoever waits for one', async () => {
  const one = await bed.pod(1, dataplane);
  say(one);
  await dataplane.apply();
  const two = await bed.pod(2, dataplane);
  await using peer = await Peer.start(one.netns.path);
  await using _server = await Peer.start(two.netns.path);
  using _busy = makeWorkersBusy();
  say(two);
  expect(await dataplane.apply()).toMatchObject({ programmed: expect.arrayContaining([two.id]), failed: [] });
  for (const host of [two.ipv4, two.ipv6]) expect(await peer.connect(host, 20_000)).toMatchObject({ ok: true });
});
