import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
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

describe('addresses', () => {
  test.each([
    { address: '10.65.0.3/32', family: 4, local: '10.65.0.3', prefixlen: 32 },
    { address: '192.168.7.1/24', family: 4, local: '192.168.7.1', prefixlen: 24 },
    { address: 'fd65::3/128', family: 6, local: 'fd65::3', prefixlen: 128 },
    { address: 'fd00:1:2:3::1/64', family: 6, local: 'fd00:1:2:3::1', prefixlen: 64 },
  ] as const)(
    '$address is added, listed as ip(8) lists it, replaced and removed',
    async ({ address, family, local, prefixlen }) => {
      const op = { link: 'v0', address, noDad: true } as const;
      await netlink.run([{ op: 'addr.add', ...op }]);
      const wanted = { linkIndex: netlink.link('v0')!.index, family, address, scope: 'global' };
      const mine = async () =>
        (await netlink.addresses({ link: 'v0', family })).filter((entry) => entry.address === address);
      expect(await mine()).toMatchObject([wanted]);
      const [listed] = await ns.ip<{ addr_info: object[] }[]>(`-${family}`, 'addr', 'show', 'v0');
      expect(listed?.addr_info).toContainEqual(expect.objectContaining({ local, prefixlen, scope: 'global' }));
      expect(netlink.batchSync([{ op: 'addr.add', ...op }])).toMatchObject([
        { ok: false, error: { code: 'EEXIST', object: `addr.add ${address} dev v0` } },
      ]);
      await netlink.run([{ op: 'addr.replace', ...op }]);
      expect(await mine()).toHaveLength(1);
      await netlink.run([{ op: 'addr.del', ...op }]);
      expect(await mine()).toEqual([]);
      expect(netlink.batchSync([{ op: 'addr.del', ...op }])).toMatchObject([
        { ok: false, error: { code: 'EADDRNOTAVAIL' } },
      ]);
    },
  );

  test('an address without duplicate detection is usable at once', async () => {
    await netlink.run([
      { op: 'addr.add', link: 'v0', address: 'fd00::1/64', noDad: true },
      { op: 'addr.add', link: 'v1', address: 'fd01::1/64' },
    ]);
    const flags = async (address: string) =>
      (await netlink.addresses({ family: 6 })).find((entry) => entry.address === address)!.flags;
    expect(await flags('fd00::1/64')).toEqual(expect.arrayContaining(['permanent', 'nodad']));
    expect(await flags('fd00::1/64')).not.toContain('tentative');
    expect(await flags('fd01::1/64')).not.toContain('nodad');
  });

  test('the dump filters by device and family', async () => {
    await netlink.run([
      { op: 'addr.add', link: 'v0', address: '10.0.0.1/24' },
      { op: 'addr.add', link: 'v1', address: '10.0.1.1/24' },
      { op: 'addr.add', link: 'v1', address: 'fd01::1/64', noDad: true },
    ]);
    const of = async (filter: Parameters<Netlink['addresses']>[0]) =>
      (await netlink.addresses(filter)).map(({ address }) => address).filter((address) => !address.startsWith('fe80:'));
    expect(await of({ family: 4 })).toEqual(['10.0.0.1/24', '10.0.1.1/24']);
    expect(await of({ link: 'v1' })).toEqual(['10.0.1.1/24', 'fd01::1/64']);
    expect(await of({ link: netlink.link('v0')!.index })).toEqual(['10.0.0.1/24']);
    expect(await of({})).toEqual(['10.0.0.1/24', '10.0.1.1/24', 'fd01::1/64']);
    await expect(netlink.addresses({ link: 'nope' })).rejects.toMatchObject({ code: 'ENODEV' });
  });
});

describe('neighbours', () => {
  test.each([
    { address: '10.65.0.3', family: 4, state: undefined, listed: 'PERMANENT' },
    { address: '10.65.0.4', family: 4, state: 'reachable', listed: 'REACHABLE' },
    { address: '10.65.0.5', family: 4, state: 'stale', listed: 'STALE' },
    { address: '10.65.0.6', family: 4, state: 'noarp', listed: 'NOARP' },
    { address: 'fd65::3', family: 6, state: undefined, listed: 'PERMANENT' },
  ] as const)('$address $listed is set, changed and removed', async ({ address, family, state, listed }) => {
    const op = { link: 'v0', address, ...(state === undefined ? {} : { state }) } as const;
    const mine = async () =>
      (await netlink.neighbours({ link: 'v0', family, proxy: false })).filter((entry) => entry.address === address);
    await netlink.run([{ op: 'neigh.replace', ...op, mac: '0a:00:00:00:00:01' }]);
    expect(await mine()).toMatchObject([
      { family, mac: '0a:00:00:00:00:01', state: state ?? 'permanent', proxy: false },
    ]);
    expect(await ns.ip(`-${family}`, 'neigh', 'show', 'dev', 'v0', 'nud', 'all')).toContainEqual(
      expect.objectContaining({ dst: address, lladdr: '0a:00:00:00:00:01', state: [listed] }),
    );
    await netlink.run([{ op: 'neigh.replace', ...op, mac: '0a:00:00:00:00:02' }]);
    expect(await mine()).toMatchObject([{ mac: '0a:00:00:00:00:02' }]);
    await netlink.run([{ op: 'neigh.del', ...op }]);
    expect((await mine()).filter((entry) => entry.mac !== undefined && entry.state !== 'failed')).toEqual([]);
  });

  test.each([
    { address: '169.254.1.1', family: 4 },
    { address: 'fe80::1', family: 6 },
  ] as const)('a proxy entry for $address is set, told from others and removed', async ({ address, family }) => {
    await netlink.run([{ op: 'neigh.replace', link: 'v0', address, proxy: true }]);
    const wanted = { address, family, linkIndex: netlink.link('v0')!.index, proxy: true };
    expect(await netlink.neighbours({ proxy: true })).toMatchObject([wanted]);
    expect(await netlink.neighbours({ link: 'v0', family })).toContainEqual(expect.objectContaining(wanted));
    expect((await netlink.neighbours({ proxy: false })).map((entry) => entry.address)).not.toContain(address);
    expect(await ns.ip(`-${family}`, 'neigh', 'show', 'proxy')).toMatchObject([{ dst: address, dev: 'v0' }]);
    await netlink.run([{ op: 'neigh.del', link: 'v0', address, proxy: true }]);
    expect(await netlink.neighbours({ proxy: true })).toEqual([]);
  });

  test('the dump filters by device and family', async () => {
    await netlink.run([
      { op: 'neigh.replace', link: 'v0', address: '10.0.0.1', mac: '0a:00:00:00:00:01' },
      { op: 'neigh.replace', link: 'v1', address: '10.0.0.2', mac: '0a:00:00:00:00:02' },
      { op: 'neigh.replace', link: 'v1', address: 'fd00::2', mac: '0a:00:00:00:00:02' },
    ]);
    const of = async (filter: Parameters<Netlink['neighbours']>[0]) =>
      (await netlink.neighbours(filter))
        .filter(({ state }) => state === 'permanent')
        .map(({ address }) => address)
        .sort();
    expect(await of({ family: 4 })).toEqual(['10.0.0.1', '10.0.0.2']);
    expect(await of({ link: 'v1' })).toEqual(['10.0.0.2', 'fd00::2']);
    expect(await of({ link: 'v1', family: 6 })).toEqual(['fd00::2']);
  });

  test('one without MAC is an error that says so', () => {
    expect(netlink.batchSync([{ op: 'neigh.replace', link: 'v0', address: '10.0.0.1' }])).toMatchObject([
      { ok: false, error: { code: 'EINVAL', message: expect.stringContaining('mac: is missing') } },
    ]);
  });
});
