import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { loadObject } from '#native/bpf.ts';
import { openNetlink } from '#native/netlink.ts';
import type { Netlink } from '#native/types.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';

let ns: TestNetns;
let netlink: Netlink;

beforeEach(async () => {
  ns = await createNetns();
  netlink = openNetlink({ path: ns.path });
  await netlink.run([{ op: 'veth.add', name: 'v0', up: true, peer: { name: 'v1', up: true } }]);
});
afterEach(async () => {
  netlink[Symbol.dispose]();
  await ns[Symbol.asyncDispose]();
});

const qdiscs = async (dev: string): Promise<string[]> =>
  (JSON.parse(await ns.exec('tc', '-j', 'qdisc', 'show', 'dev', dev)) as { kind: string }[]).map(({ kind }) => kind);

describe('clsact', () => {
  test('is added once, seen on its device only, and deleted once', async () => {
    expect(await netlink.hasClsact('v0')).toBe(false);
    await netlink.run([{ op: 'clsact.add', link: 'v0' }]);
    expect(await qdiscs('v0')).toContain('clsact');
    expect(await netlink.hasClsact('v0')).toBe(true);
    expect(await netlink.hasClsact(netlink.link('v0')!.index)).toBe(true);
    expect(await netlink.hasClsact('v1')).toBe(false);
    expect(netlink.batchSync([{ op: 'clsact.add', link: 'v0' }])).toMatchObject([
      { ok: false, error: { code: 'EEXIST', object: 'clsact.add v0', extack: expect.any(String) } },
    ]);
    await netlink.run([{ op: 'clsact.del', link: 'v0' }]);
    expect(await qdiscs('v0')).not.toContain('clsact');
    expect(await netlink.hasClsact('v0')).toBe(false);
    expect(netlink.batchSync([{ op: 'clsact.del', link: 'v0' }])).toMatchObject([
      { ok: false, error: { object: 'clsact.del v0' } },
    ]);
  });

  test('another qdisc is none', async () => {
    await ns.exec('tc', 'qdisc', 'add', 'dev', 'v0', 'ingress');
    await ns.exec('tc', 'qdisc', 'add', 'dev', 'v0', 'root', 'pfifo');
    expect(await netlink.hasClsact('v0')).toBe(false);
    expect(netlink.batchSync([{ op: 'clsact.add', link: 'v0' }])).toMatchObject([{ ok: false }]);
    expect(await qdiscs('v0')).toEqual(expect.arrayContaining(['ingress', 'pfifo']));
    const linkIndex = netlink.link('v0')?.index;
    const listed = (await netlink.qdiscs()).filter((qdisc) => qdisc.linkIndex === linkIndex);
    expect(listed).toHaveLength(2);
    expect(listed).toEqual(
      expect.arrayContaining([
        { kind: 'pfifo', linkIndex, isRoot: true },
        { kind: 'ingress', linkIndex, isRoot: false },
      ]),
    );
  });

  test('asking for a device that is not there is ENODEV', async () => {
    await expect(netlink.hasClsact('nope')).rejects.toMatchObject({ code: 'ENODEV', object: 'qdisc.dump dev nope' });
    expect(() => netlink.filtersSync('nope', 'ingress')).toThrow(expect.objectContaining({ code: 'ENODEV' }));
    await expect(netlink.filters('nope', 'ingress')).rejects.toMatchObject({
      code: 'ENODEV',
      object: 'filter.dump dev nope',
    });
  });
});

describe('filters', () => {
  test('come in the batch that makes the device, are listed, replaced in place, and deleted', async () => {
    using object = await loadObject({
      name: 'tortie',
      elf: new URL('../../build/bpf/object.bpf.o', import.meta.url).pathname,
    });
    const from = object.program('tortie_from_pod');
    const to = object.program('tortie_to_pod');
    const place = { priority: 1, handle: 1 } as const;
    await netlink.run([
      { op: 'veth.add', name: 'cali1', peer: { name: 'eth0', up: true } },
      { op: 'clsact.add', link: 'cali1' },
      { op: 'filter.replace', link: 'cali1', direction: 'ingress', ...place, name: 'tortie_from_pod', fd: from.fd },
      { op: 'filter.replace', link: 'cali1', direction: 'egress', ...place, name: 'tortie_to_pod', fd: to.fd },
      { op: 'link.set', link: 'cali1', up: true },
    ]);
    const linkIndex = netlink.link('cali1')!.index;
    expect(await netlink.filters('cali1', 'ingress')).toEqual([
      { linkIndex, direction: 'ingress', ...place, kind: 'bpf', name: 'tortie_from_pod', programId: from.id },
    ]);
    for (const direction of ['ingress', 'egress'] as const)
      expect(netlink.filtersSync('cali1', direction)).toEqual(await netlink.filters(linkIndex, direction));
    expect(await netlink.filters(linkIndex, 'egress')).toEqual([
      { linkIndex, direction: 'egress', ...place, kind: 'bpf', name: 'tortie_to_pod', programId: to.id },
    ]);
    const shown = JSON.parse(await ns.exec('tc', '-j', 'filter', 'show', 'dev', 'cali1', 'ingress')) as object[];
    expect(shown).toContainEqual(
      expect.objectContaining({
        protocol: 'all',
        pref: 1,
        kind: 'bpf',
        options: expect.objectContaining({ 'direct-action': true, bpf_name: 'tortie_from_pod' }),
      }),
    );

    await netlink.run([
      { op: 'filter.replace', link: 'cali1', direction: 'ingress', ...place, name: 'tortie_other', fd: to.fd },
    ]);
    expect(await netlink.filters('cali1', 'ingress')).toMatchObject([{ name: 'tortie_other', programId: to.id }]);

    await netlink.run([{ op: 'filter.del', link: 'cali1', direction: 'ingress', ...place }]);
    expect(await netlink.filters('cali1', 'ingress')).toEqual([]);
    expect(await netlink.filters('cali1', 'egress')).toHaveLength(1);
    expect(netlink.batchSync([{ op: 'filter.del', link: 'cali1', direction: 'ingress', ...place }])).toMatchObject([
      { ok: false, error: { code: 'ENOENT', object: 'filter.del cali1 ingress prio 1 handle 1' } },
    ]);
  });

  test('of other kinds are listed as such, and are left alone', async () => {
    await netlink.run([{ op: 'clsact.add', link: 'v0' }]);
    await ns.exec(
      'tc',
      'filter',
      'add',
      'dev',
      'v0',
      'ingress',
      'pref',
      '5',
      'u32',
      'match',
      'u32',
      '0',
      '0',
      'classid',
      '1:1',
    );
    const filters = await netlink.filters('v0', 'ingress');
    expect(filters).toContainEqual(expect.objectContaining({ kind: 'u32', priority: 5 }));
    expect(filters.filter(({ programId }) => programId !== undefined)).toEqual([]);
    expect(
      netlink.batchSync([{ op: 'filter.del', link: 'v0', direction: 'ingress', priority: 5, handle: 1 }]),
    ).toMatchObject([{ ok: false }]);
    expect(await ns.exec('tc', 'filter', 'show', 'dev', 'v0', 'ingress')).toContain('u32');
  });

  test.each([
    ['a descriptor that is not open', { fd: 100_000 }, /EBADF/],
    ['a descriptor of something else', { fd: 0 }, /EINVAL|EBADF/],
    ['no descriptor', {}, /fd: is missing/],
    ['priority 0', { fd: 0, priority: 0 }, /priority: must be a whole number from 1/],
    ['handle 0', { fd: 0, handle: 0 }, /handle: must be a whole number from 1/],
    ['another direction', { fd: 0, direction: 'sideways' }, /direction: 'sideways' is neither/],
  ])('with %s is an error, and nothing is there', async (_, bad, message) => {
    await netlink.run([{ op: 'clsact.add', link: 'v0' }]);
    const op = { op: 'filter.replace', link: 'v0', direction: 'ingress', priority: 1, handle: 1, ...bad } as never;
    expect(netlink.batchSync([op])).toMatchObject([{ ok: false, error: { message: expect.stringMatching(message) } }]);
    expect(await netlink.filters('v0', 'ingress')).toEqual([]);
  });

  test('on a device without clsact there are none, and none can be set', async () => {
    using object = await loadObject({
      name: 'tortie',
      elf: new URL('../../build/bpf/object.bpf.o', import.meta.url).pathname,
    });
    expect(await netlink.filters('v0', 'egress')).toEqual([]);
    const { fd } = object.program('tortie_to_pod');
    expect(
      netlink.batchSync([{ op: 'filter.replace', link: 'v0', direction: 'egress', priority: 1, handle: 1, fd }]),
    ).toMatchObject([{ ok: false, error: { object: 'filter.replace v0 egress prio 1 handle 1' } }]);
  });
});
