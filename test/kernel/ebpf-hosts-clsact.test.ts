import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { HostAttachments, type NetPrograms } from '#dataplanes/ebpf/hosts/host-attachments.ts';
import { HostEnforcement } from '#dataplanes/ebpf/hosts/host-enforcement.ts';
import { PODS_DEVICE } from '#dataplanes/ebpf/hosts/host-slots.ts';
import type { LoadedDataplane } from '#dataplanes/ebpf/loaded-dataplane.ts';
import { loadObject, type LoadedObject } from '#native/bpf.ts';
import { openNetlink } from '#native/netlink.ts';
import type { Netlink } from '#native/types.ts';
import { createNetns, type TestNetns, uniqueName } from '#test/lab/netns.ts';
import { ebpfObjects } from './ebpf-bed.ts';

let first: LoadedObject;
let second: LoadedObject;
let ns: TestNetns;
let host: Netlink;
let dir: string;
let ifindex: number;

const programs = (object: LoadedObject): NetPrograms => ({
  fromNet: object.program('tortie_from_net'),
  toNet: object.program('tortie_to_net'),
});
/** As on a kernel before 6.6. */
const attachments = (): HostAttachments =>
  new HostAttachments({ host, dir: join(dir, 'links'), netns: { path: ns.path }, hasTcx: false });
const filters = async (): Promise<string[]> =>
  (await Promise.all((['ingress', 'egress'] as const).map((direction) => host.filters(ifindex, direction))))
    .flat()
    .map(({ name = '' }) => name.replace(/:.*/, ''));

beforeAll(async () => {
  const elf = join(ebpfObjects, 'attach.bpf.o');
  [first, second] = await Promise.all([loadObject({ name: 'tortie', elf }), loadObject({ name: 'tortie', elf })]);
});
afterAll(() => {
  first[Symbol.dispose]();
  second[Symbol.dispose]();
});
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), `${uniqueName()}-clsact-`));
  ns = await createNetns();
  host = openNetlink({ path: ns.path });
  await host.run([{ op: 'veth.add', name: 'eth0', up: true, peer: { name: 'p0', up: true } }]);
  ifindex = host.link('eth0')?.index ?? 0;
});
afterEach(async () => {
  host[Symbol.dispose]();
  await ns[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true });
});

describe('programs of host endpoints where the kernel has no tcx', () => {
  test('are filters, which are found again, replaced, put back, and go with their qdisc', async () => {
    const one = attachments();
    expect(await one.put(ifindex, programs(first))).toEqual({ kind: 'clsact', outcome: 'attached' });
    expect(await filters()).toEqual(['tortie_from_net', 'tortie_to_net']);
    expect(await attachments().put(ifindex, programs(first))).toEqual({ kind: 'clsact', outcome: 'as they were' });
    expect(await attachments().put(ifindex, programs(second))).toEqual({ kind: 'clsact', outcome: 'replaced' });
    await ns.exec('tc', 'filter', 'del', 'dev', 'eth0', 'egress');
    expect(await one.put(ifindex, programs(second))).toEqual({ kind: 'clsact', outcome: 'attached' });
    expect(await attachments().remove(ifindex)).toBe(true);
    expect(await host.hasClsact(ifindex)).toBe(false);
    expect(await attachments().remove(ifindex)).toBe(false);
  });

  test("leave others' qdisc and filters where they were", async () => {
    await ns.exec('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact');
    const other = { link: ifindex, direction: 'ingress', priority: 5, handle: 1 } as const;
    await host.run([{ op: 'filter.replace', ...other, name: 'other', fd: second.program('tortie_from_net').fd }]);
    await attachments().put(ifindex, programs(first));
    expect(await filters()).toEqual(['tortie_from_net/guest', 'other', 'tortie_to_net/guest']);
    await attachments().removeAll();
    expect(await filters()).toEqual(['other']);
    await host.run([{ op: 'filter.del', ...other }]);
    expect(await host.hasClsact(ifindex)).toBe(true);
  });

  test('a device that is gone is said, and nothing is left to take off', async () => {
    await host.run([{ op: 'link.del', link: 'eth0' }]);
    await expect(attachments().put(ifindex, programs(first))).rejects.toMatchObject({ code: 'ENODEV' });
    expect(await attachments().remove(ifindex)).toBe(false);
  });

  test('are looked for by the next agent also if the first one dies before the second filter', async () => {
    const loaded = {
      filters: programs(first),
      enterHosts: () => Promise.resolve(),
      leaveHosts: () => {},
    } as unknown as LoadedDataplane;
    const enforce = (netlink: Netlink) =>
      new HostEnforcement({ host: netlink, dir, netns: { path: ns.path }, hasTcx: false });
    const eth0 = { ifindex, name: 'eth0', device: PODS_DEVICE, endpoint: 'up' };
    const device = { ...eth0, isUplink: false, isJudged: true, isUntracked: false };
    const dying = {
      links: () => host.links(),
      filtersSync: (...args: Parameters<Netlink['filtersSync']>) => host.filtersSync(...args),
      qdiscs: () => host.qdiscs(),
      batch: async (ops: Parameters<Netlink['batch']>[0]) => {
        const results = await host.batch(ops);
        if (ops.some(({ op }) => op === 'filter.replace')) throw new Error('killed');
        return results;
      },
    } as unknown as Netlink;
    const { failed } = await enforce(dying).keep(loaded, [device], { enabled: false, generic: false });
    expect(failed[0]).toMatchObject({ reason: expect.stringContaining('killed') });
    expect(await filters()).toEqual(['tortie_from_net']);
    const next = enforce(host);
    expect(next.mayBeAttached).toBe(true);
    await next.keep(loaded, [], { enabled: false, generic: false });
    expect(await filters()).toEqual([]);
    expect(await host.hasClsact(ifindex)).toBe(false);
  });
});
