/** Maps of flows that get another size while there is more in them than the settings alone would have room for: killed, or refused, half-way. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { shardNames } from '#dataplanes/ebpf/flows/flow-maps.ts';
import { isFlowMap } from '#dataplanes/ebpf/flows/older-layout.ts';
import { layoutVersion } from '#dataplanes/ebpf/programs.ts';
import type { MapSizeSettings } from '#dataplanes/messages.ts';
import { BpfMap } from '#native/bpf.ts';
import { EbpfBed } from './ebpf-bed.ts';
import { fillFlows, pinnedSize, recordedFlows } from './ebpf-pinned-flows.ts';

const program = new URL('./ebpf-pin-process.ts', import.meta.url).pathname;
/** What the settings say; the maps have been doubled once, and are nearly full. */
const [flows, doubled, known] = [4096, 8192, 7000];
let bed: EbpfBed;
let layout: string;

beforeEach(async () => {
  bed = await EbpfBed.create();
  layout = join(bed.bpffs, layoutVersion);
});

afterEach(async () => {
  await bed[Symbol.asyncDispose]();
});

const sizesOfHashes = (): (number | undefined)[] => shardNames(4).map((name) => pinnedSize(bed, name));

/** Everything pinned, by path, and which it is. */
function pins(): string[] {
  return readdirSync(bed.bpffs, { recursive: true, withFileTypes: true })
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => `${path} ${statSync(path).ino}`)
    .sort();
}

/** An agent whose maps of flows grew once, and are filled since, ends. */
async function grown(): Promise<void> {
  const dataplane = await bed.dataplane([], { sizes: { flows: doubled } });
  await dataplane.activate();
  fillFlows(bed, 0, known);
  await dataplane[Symbol.asyncDispose]();
}

/** The next agent enters, and nothing is left of the one before. */
async function takeOver(sizes: Partial<MapSizeSettings> = {}): Promise<void> {
  const next = await bed.dataplane([], { sizes: { flows, ...sizes } });
  await next.activate();
  const left = readdirSync(layout).filter((name) => /^former|-new$/.test(name));
  expect(left).toEqual([]);
}

describe('of a growth that was killed no flow is lost', () => {
  test.each<[string, number, number]>([
    ['nothing was put aside', 0, 2048],
    ['one map was put aside', 1, 2048],
    ['all were put aside, and nothing was pinned in their places', 10, 2048],
    ['one of the larger maps was pinned', 11, 4096],
    ['all but one were', 19, 4096],
  ])('%s', async (_, renames, size) => {
    await grown();
    const child = spawn(process.execPath, [program, bed.bpffs, String(2 * doubled), String(renames)], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    expect(await once(child, 'exit')).toEqual([null, 'SIGKILL']);
    await takeOver();
    expect([sizesOfHashes(), await recordedFlows(bed)]).toEqual([[size, size, size, size], known]);
  });

  test.each<[string, string, Partial<MapSizeSettings>]>([
    ['all that is left is put aside', join(layoutVersion, 'former-1'), {}],
    [
      'all that is left is put aside, and nothing is doubled any more',
      join(layoutVersion, 'former-1'),
      { doubleFlows: false },
    ],
    ['all that is left is of another layout', 'v1', {}],
  ])('%s', async (_, place, sizes) => {
    await grown();
    mkdirSync(join(bed.bpffs, place));
    for (const name of readdirSync(layout).filter(isFlowMap))
      renameSync(join(layout, name), join(bed.bpffs, place, name));
    await takeOver(sizes);
    expect([sizesOfHashes(), await recordedFlows(bed)]).toEqual([[2048, 2048, 2048, 2048], known]);
  });
});

test.each(['tortie_flow4a', 'tortie_flow6b'])('the kernel refuses to pin %s: every pin stays', async (refused) => {
  const dataplane = await bed.dataplane([], { sizes: { flows } });
  await dataplane.activate();
  fillFlows(bed, 0, 3000);
  const before = pins();
  const pin = Reflect.get(BpfMap.prototype, 'pin');
  BpfMap.prototype.pin = function (path) {
    if (path.endsWith(`${refused}-new`)) throw Object.assign(new Error('no memory for it'), { code: 'ENOMEM' });
    pin.call(this, path);
  };
  try {
    expect((await bed.resize(dataplane, { flows: doubled })).failed).toMatchObject([
      { object: 'sizes of the BPF maps', reason: expect.stringContaining('no memory for it') },
    ]);
  } finally {
    BpfMap.prototype.pin = pin;
  }
  expect(pins()).toEqual(before);
  expect((await dataplane.apply()).failed).toEqual([]);
  expect([sizesOfHashes(), await recordedFlows(bed)]).toEqual([[2048, 2048, 2048, 2048], 3000]);
});
