/** What changes again and again leaves nothing behind: neither handles of this process nor maps, programs and links of the kernel. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { layoutVersion } from '#dataplanes/ebpf/programs.ts';
import { testHostEndpoint } from '#dataplanes/shared/test-config.ts';
import { attachedPrograms, bpfGrace } from '#native/bpf.ts';
import { until } from '#test/lab/until.ts';
import { type BedPod, EbpfBed } from './ebpf-bed.ts';

let bed: EbpfBed;

beforeEach(async () => {
  bed = await EbpfBed.create();
  await bed.node.ip('link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'other0');
  await bed.node.ip('link', 'set', 'eth0', 'up');
  await bed.node.ip('route', 'replace', 'default', 'dev', 'eth0');
});
afterEach(async () => {
  await bed[Symbol.asyncDispose]();
});

/** Handles of BPF that this process has open, by kind. */
function handles(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const fd of readdirSync('/proc/self/fd')) {
    let target: string;
    try {
      target = readlinkSync(join('/proc/self/fd', fd));
    } catch {
      continue; // The directory's own, which is closed by now.
    }
    const kind = /^anon_inode:(?:\[)?(bpf[-_]\w+)/.exec(target)?.[1];
    if (kind !== undefined) counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** The same once the background has closed what it had to close. */
async function quietHandles(): Promise<Record<string, number>> {
  for (let last = JSON.stringify(handles()); ;) {
    // Who waits for a grace period holds two maps meanwhile, however long it takes.
    await bpfGrace();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const now = handles();
    if (JSON.stringify(now) === last) return now;
    last = JSON.stringify(now);
  }
}

/**
 * Maps of this many entries that the kernel has; no other test makes any of these sizes. Not at once: bpftool opens each map, and who opens a
 * program array between its last user's end and the kernel's work behind that leaves it in memory for good (prog_array_map_clear counts a user for
 * each end, and the work, which is queued once, gives back one; seen on 6.18).
 */
async function mapsOf(name: string, maxEntries: number): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, 300));
  const maps = JSON.parse(
    execFileSync('bpftool', ['-j', 'map', 'show'], { encoding: 'utf8', maxBuffer: 64 << 20 }),
  ) as readonly {
    name?: string;
    max_entries: number;
  }[];
  return maps.filter((map) => map.name === name && map.max_entries === maxEntries).length;
}

const sized = (shard: number) => ({ ...bed.config, mapSizes: { ...bed.config.mapSizes, flows: 4 * shard } });

async function apply(dataplane: EbpfDataplane): Promise<void> {
  expect((await dataplane.apply()).failed).toEqual([]);
}

async function started(shard: number): Promise<{ dataplane: EbpfDataplane; pods: BedPod[] }> {
  const dataplane = await bed.dataplane([], { config: sized(shard) });
  await dataplane.activate();
  const pods = [await bed.pod(1, dataplane), await bed.pod(2, dataplane)];
  for (const { id, endpoint } of pods) dataplane.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint });
  await apply(dataplane);
  return { dataplane, pods };
}

test('the maps of a size that is not wanted any more are gone when the others are in force', async () => {
  const { dataplane } = await started(1031);
  expect(await mapsOf('tortie_flow4a', 1031)).toBe(1);
  dataplane.onUpdate({ type: 'configUpdate', config: sized(1033) });
  await apply(dataplane);
  expect(await mapsOf('tortie_flow4a', 1033)).toBe(1);
  await until(async () => (await mapsOf('tortie_flow4a', 1031)) === 0);
});

test('other sizes and other configurations over and over, restarts and flips leave no handle open', async () => {
  const { dataplane, pods } = await started(1039);
  const round = async (): Promise<void> => {
    for (const shard of [1049, 1039]) {
      dataplane.onUpdate({ type: 'configUpdate', config: sized(shard) });
      await apply(dataplane);
    }
    dataplane.onUpdate({ type: 'configUpdate', config: { ...sized(1039), ipv6Support: false } });
    await apply(dataplane);
    dataplane.onUpdate({ type: 'configUpdate', config: sized(1039) });
    await apply(dataplane);
    await dataplane.release();
    await dataplane.activate();
    await apply(dataplane);
  };
  await round();
  const before = await quietHandles();
  expect(before['bpf-map']).toBeGreaterThan(20);
  for (let n = 0; n < 3; n++) await round();
  expect(await quietHandles()).toEqual(before);
  await dataplane[Symbol.asyncDispose]();
  expect(handles()).toEqual({});
  for (let n = 0; n < 2; n++) {
    const next = await bed.dataplane(pods, { config: sized(1039) });
    await next.activate();
    await apply(next);
    await next[Symbol.asyncDispose]();
    expect(handles()).toEqual({});
  }
  await until(async () => (await mapsOf('tortie_flow4a', 1049)) === 0);
  expect(await mapsOf('tortie_flow4a', 1039)).toBe(1);
  await bed.idle().cleanup();
  await until(async () => (await mapsOf('tortie_flow4a', 1039)) === 0);
  expect(existsSync(join(bed.bpffs, layoutVersion))).toBe(false);
});

test('an apply that is asked for while its end is under way opens nothing behind it', async () => {
  const { dataplane } = await started(1039);
  const ended = dataplane[Symbol.asyncDispose]();
  expect(await dataplane.apply()).toEqual({ programmed: [], removed: [], failed: [], repaired: [] });
  await ended;
  expect(handles()).toEqual({});
});

test('a cleanup finds all that a killed agent left: uplinks, host endpoints, XDP, shaped pods, what was put aside', async () => {
  const rulesBefore = await bed.node.exec('nft', 'list', 'ruleset');
  const { dataplane, pods } = await started(1051);
  const [, shaped] = pods;
  await bed.host.run([{ op: 'clsact.del', link: shaped!.device }]);
  await bed.node.exec('tc', 'qdisc', 'add', 'dev', shaped!.device, 'ingress');
  const config = { ...sized(1051), xdp: { enabled: true, generic: true, refreshIntervalMs: 0 } };
  dataplane.onUpdate({ type: 'configUpdate', config });
  const early = [{ name: 'default', defaultAction: 'deny', ingress: ['early'], egress: [] }] as const;
  for (const [id, ifaceName] of Object.entries({ all: '*', up: 'eth0' }))
    dataplane.onUpdate({
      type: 'hostEndpointUpdate',
      id,
      endpoint: testHostEndpoint({ ifaceName, untrackedTiers: early }),
    });
  dataplane.requestResync();
  await apply(dataplane);
  const on = async (): Promise<string[]> => {
    const names = await Promise.all(
      ['eth0', ...pods.map(({ device }) => device)].flatMap((device) =>
        (['ingress', 'egress', 'xdp'] as const).map((hook) =>
          attachedPrograms({ ifindex: bed.host.link(device)!.index, netns: { path: bed.node.path }, hook }),
        ),
      ),
    );
    return names.flat().map(({ name }) => name);
  };
  expect(await on()).toEqual(expect.arrayContaining(['tortie_xdp_in', 'tortie_from_net', 'tortie_from_pod']));
  await dataplane[Symbol.asyncDispose]();
  // One that puts maps aside and is killed before it has entered.
  const next = await bed.dataplane(pods, { config: sized(1061), inSync: false });
  await next.activate();
  await next[Symbol.asyncDispose]();
  expect(readdirSync(join(bed.bpffs, layoutVersion))).toContain('former-1');
  await bed.idle().cleanup();
  expect(await on()).toEqual([]);
  expect((await bed.host.qdiscs()).filter(({ kind }) => kind === 'clsact')).toEqual([]);
  expect(existsSync(bed.bpffs)).toBe(false);
  expect(await bed.node.exec('nft', 'list', 'ruleset')).toBe(rulesBefore);
  for (const entries of [1051, 1061]) await until(async () => (await mapsOf('tortie_flow4a', entries)) === 0);
});
