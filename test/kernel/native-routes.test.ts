import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { openNetlink } from '#native/netlink.ts';
import type { Netlink, Route, RouteOp } from '#native/types.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';

let ns: TestNetns;
let netlink: Netlink;
let v0: number;

beforeEach(async () => {
  ns = await createNetns();
  netlink = openNetlink({ path: ns.path });
  await netlink.run([
    { op: 'link.set', link: 'lo', up: true },
    { op: 'veth.add', name: 'v0', up: true, peer: { name: 'v1', up: true } },
    { op: 'addr.add', link: 'v0', address: '10.0.0.1/24' },
    { op: 'addr.add', link: 'v0', address: 'fd00::1/64', noDad: true },
  ]);
  v0 = netlink.link('v0')!.index;
});
afterEach(async () => {
  netlink[Symbol.dispose]();
  await ns[Symbol.asyncDispose]();
});

type NewRoute = Omit<RouteOp, 'op'>;

/** What is asked for, what our dump says then, and what ip(8) says. */
const forms: { title: string; route: NewRoute; dump: Partial<Route>; ip: object }[] = [
  {
    title: 'by device',
    route: { dst: '10.65.0.3/32', link: 'v0' },
    dump: {
      family: 4,
      dst: '10.65.0.3/32',
      scope: 'link',
      protocol: 4,
      type: 'unicast',
      table: 254,
      onlink: false,
      multipath: false,
    },
    ip: { dst: '10.65.0.3', dev: 'v0', protocol: 'static', scope: 'link' },
  },
  {
    title: 'by gateway',
    route: { dst: '10.9.0.0/16', via: '10.0.0.2', link: 'v0', protocol: 80, metric: 7 },
    dump: { dst: '10.9.0.0/16', via: '10.0.0.2', scope: 'global', protocol: 80, metric: 7 },
    ip: { dst: '10.9.0.0/16', gateway: '10.0.0.2', dev: 'v0', metric: 7, protocol: '80' },
  },
  {
    title: 'by a gateway alone',
    route: { dst: '10.9.0.0/16', via: '10.0.0.2' },
    dump: { dst: '10.9.0.0/16', via: '10.0.0.2' },
    ip: { dst: '10.9.0.0/16', gateway: '10.0.0.2', dev: 'v0' },
  },
  {
    title: 'onlink',
    route: { dst: '10.9.1.0/24', via: '192.0.2.1', link: 'v0', onlink: true },
    dump: { dst: '10.9.1.0/24', via: '192.0.2.1', onlink: true },
    ip: { dst: '10.9.1.0/24', gateway: '192.0.2.1', flags: ['onlink'] },
  },
  {
    title: 'default',
    route: { dst: 'default', family: 4, via: '10.0.0.2' },
    dump: { dst: '0.0.0.0/0', via: '10.0.0.2' },
    ip: { dst: 'default', gateway: '10.0.0.2' },
  },
  {
    title: 'with a source address',
    route: { dst: '10.9.2.0/24', link: 'v0', src: '10.0.0.1', scope: 'global' },
    dump: { dst: '10.9.2.0/24', src: '10.0.0.1', scope: 'global' },
    ip: { dst: '10.9.2.0/24', prefsrc: '10.0.0.1' },
  },
  {
    title: 'by an IPv6 gateway',
    route: { dst: '10.9.3.0/24', via: 'fd00::2', link: 'v0' },
    dump: { dst: '10.9.3.0/24', via: 'fd00::2' },
    ip: { dst: '10.9.3.0/24', via: { family: 'inet6', host: 'fd00::2' } },
  },
  ...(['blackhole', 'unreachable', 'prohibit', 'throw'] as const).map((type) => ({
    title: type,
    route: { dst: '10.65.0.0/26', type, protocol: 80 },
    dump: { dst: '10.65.0.0/26', type, protocol: 80 },
    ip: { type, dst: '10.65.0.0/26' },
  })),
  {
    title: 'IPv6 by device',
    route: { dst: 'fd65::3/128', link: 'v0' },
    dump: { family: 6, dst: 'fd65::3/128', metric: 1024, protocol: 4, type: 'unicast' },
    ip: { dst: 'fd65::3', dev: 'v0', protocol: 'static', metric: 1024 },
  },
  {
    title: 'IPv6 by gateway',
    route: { dst: 'fd09::/64', via: 'fd00::2', link: 'v0', metric: 5, protocol: 80 },
    dump: { dst: 'fd09::/64', via: 'fd00::2', metric: 5, protocol: 80 },
    ip: { dst: 'fd09::/64', gateway: 'fd00::2', metric: 5 },
  },
  {
    title: 'IPv6 default by a link-local gateway',
    route: { dst: 'default', family: 6, via: 'fe80::ecee:eeff:feee:eeee', link: 'v0' },
    dump: { dst: '::/0', via: 'fe80::ecee:eeff:feee:eeee' },
    ip: { dst: 'default', gateway: 'fe80::ecee:eeff:feee:eeee', dev: 'v0' },
  },
  {
    title: 'IPv6 onlink',
    route: { dst: 'fd09:1::/64', via: 'fd77::1', link: 'v0', onlink: true },
    dump: { dst: 'fd09:1::/64', via: 'fd77::1', onlink: true },
    ip: { dst: 'fd09:1::/64', gateway: 'fd77::1', flags: ['onlink'] },
  },
  {
    title: 'IPv6 blackhole',
    route: { dst: 'fd65::/122', type: 'blackhole' },
    dump: { dst: 'fd65::/122', type: 'blackhole' },
    ip: { type: 'blackhole', dst: 'fd65::/122' },
  },
];

const familyOf = (route: NewRoute): 4 | 6 => route.family ?? (route.dst.includes(':') ? 6 : 4);

describe.each([254, 201, 70_000])('routes in table %d', (table) => {
  test.each(forms)('$title: is there as we and ip(8) list it, and goes', async ({ route, dump, ip }) => {
    const family = familyOf(route);
    await netlink.run([{ op: 'route.add', ...route, table }]);
    const mine = (await netlink.routes({ family, table })).filter(({ dst }) => dst === dump.dst);
    expect(mine).toMatchObject([{ ...dump, table }]);
    const listed = await ns.ip(`-${family}`, 'route', 'show', 'table', String(table));
    expect(listed).toContainEqual(expect.objectContaining(ip));

    // Once more is an error; replacing it with itself is none.
    expect(netlink.batchSync([{ op: 'route.add', ...route, table }])).toMatchObject([
      { ok: false, error: { code: 'EEXIST' } },
    ]);
    await netlink.run([{ op: 'route.replace', ...route, table }]);
    expect((await netlink.routes({ family, table })).filter(({ dst }) => dst === dump.dst)).toEqual(mine);

    await netlink.run([{ op: 'route.del', ...route, table }]);
    expect((await netlink.routes({ family, table })).filter(({ dst }) => dst === dump.dst)).toEqual([]);
    expect(netlink.batchSync([{ op: 'route.del', ...route, table }])).toMatchObject([
      { ok: false, error: { code: 'ESRCH' } },
    ]);
  });
});

describe('routes', () => {
  test.each([
    { before: { dst: '10.65.0.0/26', type: 'blackhole' }, after: { dst: '10.65.0.0/26', link: 'v0' } },
    { before: { dst: '10.65.0.3/32', link: 'v0' }, after: { dst: '10.65.0.3/32', link: 'v1' } },
    { before: { dst: 'fd65::3/128', link: 'v0' }, after: { dst: 'fd65::3/128', link: 'v1' } },
  ] satisfies { before: NewRoute; after: NewRoute }[])(
    '$before.dst is replaced by one of another form',
    async ({ before, after }) => {
      await netlink.run([
        { op: 'route.add', ...before },
        { op: 'route.replace', ...after },
      ]);
      const found = (await netlink.routes({ table: 254 })).filter(({ dst }) => dst === after.dst);
      expect(found).toMatchObject([{ type: 'unicast', linkIndex: netlink.link(after.link)!.index }]);
    },
  );

  test('a deletion without metric, protocol and device takes whatever is there', async () => {
    await netlink.run([
      { op: 'route.add', dst: '10.9.0.0/16', link: 'v0', metric: 5, protocol: 80 },
      { op: 'route.del', dst: '10.9.0.0/16' },
    ]);
    expect((await netlink.routes({ family: 4 })).filter(({ dst }) => dst === '10.9.0.0/16')).toEqual([]);
  });

  test('a deletion by device leaves the route of another device', async () => {
    await netlink.run([{ op: 'route.add', dst: '10.65.0.3/32', link: 'v0' }]);
    expect(netlink.batchSync([{ op: 'route.del', dst: '10.65.0.3/32', link: 'v1' }])).toMatchObject([
      { ok: false, error: { code: 'ESRCH' } },
    ]);
    expect((await netlink.routes({ link: 'v0' })).map(({ dst }) => dst)).toContain('10.65.0.3/32');
  });

  test('the dump filters by family, table, device and protocol', async () => {
    await netlink.run([
      { op: 'route.add', dst: '10.1.0.0/16', link: 'v0', protocol: 80 },
      { op: 'route.add', dst: '10.2.0.0/16', link: 'v1', protocol: 80 },
      { op: 'route.add', dst: '10.3.0.0/16', link: 'v0', protocol: 81, table: 201 },
      { op: 'route.add', dst: 'fd01::/64', link: 'v0', protocol: 80 },
    ]);
    const found = async (filter: Parameters<Netlink['routes']>[0]) =>
      (await netlink.routes(filter)).map(({ dst }) => dst).sort();
    expect(await found({ protocol: 80 })).toEqual(['10.1.0.0/16', '10.2.0.0/16', 'fd01::/64']);
    expect(await found({ protocol: 80, family: 4 })).toEqual(['10.1.0.0/16', '10.2.0.0/16']);
    expect(await found({ protocol: 80, link: 'v0' })).toEqual(['10.1.0.0/16', 'fd01::/64']);
    expect(await found({ protocol: 80, link: v0 })).toEqual(['10.1.0.0/16', 'fd01::/64']);
    expect(await found({ table: 201 })).toEqual(['10.3.0.0/16']);
    expect(await found({ table: 4711 })).toEqual([]);
    await expect(netlink.routes({ link: 'nope' })).rejects.toMatchObject({
      code: 'ENODEV',
      object: 'route.dump dev nope',
    });
  });

  test('several next hops of others are seen as such', async () => {
    await ns.ip('route', 'add', '10.9.0.0/16', 'nexthop', 'dev', 'v0', 'nexthop', 'dev', 'v1');
    expect((await netlink.routes({ family: 4 })).filter(({ dst }) => dst === '10.9.0.0/16')).toMatchObject([
      { multipath: true },
    ]);
  });

  test.each([
    [{ dst: '10.9.0.1/24', link: 'v0' }, 'EINVAL', 'Invalid prefix for given prefix length'],
    [{ dst: '10.9.0.0/24', via: '192.0.2.1', link: 'v0' }, 'ENETUNREACH', 'Nexthop has invalid gateway'],
    [{ dst: '10.9.0.0/24', link: 'v0', src: '10.77.0.1' }, 'EINVAL', 'Invalid prefsrc address'],
    [{ dst: 'fd09::/64', via: 'fd00::1', link: 'v0' }, 'EINVAL', 'Gateway can not be a local address'],
  ] as [NewRoute, string, string][])('%j fails with the kernel’s own words', (route, code, extack) => {
    const [result] = netlink.batchSync([{ op: 'route.replace', ...route }]);
    const object = `route.replace ${route.dst}${route.via ? ` via ${route.via}` : ''} dev v0`;
    expect(result).toMatchObject({ ok: false, error: { code, syscall: 'sendmsg', object, extack } });
    expect(result).toMatchObject({
      error: { message: expect.stringMatching(new RegExp(`^${object}: ${code}: .*kernel: ${extack}`)) },
    });
  });

  test('an unknown device is named and nothing is changed', async () => {
    // IPv6 routes come by themselves, with link-local addresses.
    const before = await netlink.routes({ family: 4 });
    expect(netlink.batchSync([{ op: 'route.replace', dst: '10.65.0.3/32', link: 'nope' }])).toMatchObject([
      {
        ok: false,
        error: {
          code: 'ENODEV',
          object: 'route.replace 10.65.0.3/32 dev nope',
          message: expect.stringContaining('no device nope'),
        },
      },
    ]);
    expect(await netlink.routes({ family: 4 })).toEqual(before);
  });
});
