/** What of the agent's own maps changes while programs run. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { RunState } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { NodeMaps } from '#dataplanes/ebpf/node-maps.ts';
import { type EndpointPrograms, loadEndpointPrograms, openFilters } from '#dataplanes/ebpf/programs.ts';
import type { BpfMap, MappedArray } from '#native/bpf.ts';
import { EbpfBed, ebpfObjects } from './ebpf-bed.ts';

let bed: EbpfBed;
beforeEach(async () => {
  bed = await EbpfBed.create();
});
afterEach(async () => {
  await bed[Symbol.asyncDispose]();
});

test('ports to masquerade by are written when they are others: without any, new flows would be netfilter’s for their life', async () => {
  const place = { dir: bed.bpffs, objects: ebpfObjects };
  const config = {
    ipv6Enabled: 1,
    ipipDenied: 0,
    vxlanDenied: 0,
    markSeen: 1,
    markHost: 2,
    markNotLocal: 4,
    markUntracked: 8,
    markPreAccepted: 16,
  };
  using filters = await openFilters(place, {});
  using programs = await loadEndpointPrograms(place, filters, { config, sizes: {} });
  const writes: [number, number][] = [];
  /** `tortie_run`, of which all that is written is noted. */
  const noted: BpfMap = Object.assign(Object.create(programs.map('tortie_run')) as BpfMap, {
    mmap: (): MappedArray => {
      const memory = programs.map('tortie_run').mmap();
      const store32 = memory.store32.bind(memory);
      memory.store32 = (index, offset, value) => {
        writes.push([offset, value]);
        store32(index, offset, value);
      };
      return memory;
    },
  });
  const watched: EndpointPrograms = {
    ...programs,
    map: (name) => (name === 'tortie_run' ? noted : programs.map(name)),
  };
  using maps = new NodeMaps(watched);
  const { natFirst, natLast } = RunState.offsets;
  maps.setNatPorts({ first: 61_000, last: 65_535 });
  // The end of the one before is never beside the beginning of the next.
  expect(writes.splice(0)).toEqual([
    [natFirst, 0],
    [natLast, 65_535],
    [natFirst, 61_000],
  ]);
  maps.setNatPorts({ first: 61_000, last: 65_535 });
  expect(writes).toEqual([]);
  maps.setNatPorts(undefined);
  expect(writes.at(-1)).toEqual([natFirst, 0]);
});
